"""The recipe that a board gets: closest that fits and is fast enough, else the fastest that fits."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import boards
from boards.board import Figure
from edge.artifact import ModelSpec, kv_groups
from edge.artifact.kv import ENGINE_KV, default_kv, kv_names
from edge.artifact.pages import KV_NAMES
from edge.errors import InvalidArgument
from edge.memory.choice import CONTEXT, ENOUGH, Choice, choose, measure
from edge.memory.recipe import Held, Wishes, every, recipes
from edge.memory.room import Room, room_of
from edge.memory.weights import weight_bytes
from tests.edge.memory.sizes import R1_DISTILL_QWEN_1_5B, SMOLLM2

MIB, GIB = 1 << 20, 1 << 30
R1 = R1_DISTILL_QWEN_1_5B


def room(gib: float, gb_s: float | None, board: str = "jetson-nano", reserve: int = 512 * MIB) -> Room:
    """Of that board, with other memory and bandwidth."""
    bandwidth = Figure(gb_s * 1e9, "a test") if gb_s else None
    return replace(room_of(boards.profile(board)), whole=int(gib * GIB), reserve=reserve, bandwidth=bandwidth)


def chosen(
    there: Room,
    spec: ModelSpec = R1,
    context: int | None = None,
    wishes: Wishes | None = None,
    held: Held | None = None,
) -> Choice:
    return choose(recipes(spec, there.engine, wishes, held), there, context=context, held=held)


def name(choice: Choice) -> tuple[str, str, int]:
    return choice.recipe.weights_text, choice.recipe.kv, choice.plan.context


def test_the_ceiling_is_bandwidth_by_bytes() -> None:
    choice = chosen(room_of(boards.profile("jetson-orin-nano-super-8gb")))
    short, whole = choice.ceilings
    embedding = weight_bytes(R1, "int8") - weight_bytes(replace(R1, tied=True), "int8")
    # Hidden by no rounding: an untied embedding is read a row at a time.
    read = weight_bytes(R1, "int8") - embedding
    assert (short.context, whole.context) == (512, CONTEXT)
    assert short.bytes_per_token == read + 512 * 14896
    assert whole.tokens_per_s == 102e9 / (read + CONTEXT * 14896)
    assert choice.plan.required.reserve == 768 * MIB
    assert choice.plan.available == int(7.6 * GIB)


@pytest.mark.parametrize(
    ("gib", "gb_s", "expected"),
    [
        (8, 102, ("int8", "int8", CONTEXT)),  # fast enough with the closest
        (8, 45, ("6 bits", "int8", CONTEXT)),  # int8 would be too slow
        (8, 34, ("5 bits", "int8", CONTEXT)),
        (8, 17, ("int4", "int8", CONTEXT)),  # nothing is fast enough: the fastest
        (8, None, ("int4", "int8", CONTEXT)),  # nor known to be
        (2.4, 102, ("6 bits", "int8", CONTEXT)),  # int8 does not fit
        (1.8, 102, ("int4", "int8", CONTEXT)),
        (1.72, 102, ("int4", "int8", CONTEXT // 4)),  # with a whole context no recipe fits
        (1.66, 102, ("int4", "int8", 512)),  # nor with any in blocks of 32
    ],
)
def test_fidelity_where_it_is_fast_enough_else_speed(
    gib: float, gb_s: float | None, expected: tuple[str, str, int]
) -> None:
    choice = chosen(room(gib, gb_s))
    assert choice.fits
    assert name(choice) == expected
    assert any(f"{expected[2]} tokens" in reason for reason in choice.reasons)


def test_kv_in_int4_only_for_what_was_asked_and_nothing_else_fits() -> None:
    there = room(2.0, 102)
    assert chosen(there, context=16384).recipe.kv == "int8"
    tight = chosen(there, context=40000)
    assert tight.fits
    assert tight.recipe.kv == "int4"
    assert any("KV int4: nothing else leaves room for 40000 tokens" in reason for reason in tight.reasons)


def test_larger_blocks_before_that() -> None:
    fits_32 = next(gib / 100 for gib in range(150, 300) if chosen(room(gib / 100, 17), context=8192).fits)
    below = chosen(room(fits_32 - 0.001, 17), context=8192)
    assert below.fits
    assert (below.recipe.stored.block, below.recipe.kv) in ((128, "int8"), (32, "int4"), (128, "int4"))


def test_nothing_fits() -> None:
    choice = chosen(room(1, 102))
    assert not choice.fits
    assert choice.missing == choice.plan.required.total - GIB > 0
    assert choice.reasons[0].startswith("it needs the least, ")
    least = min(m.missing for m in (measure(r, choice.room, context=256) for r in every(R1, "cpu")))
    assert choice.missing <= least


def test_what_is_asked_stays() -> None:
    there = room(8, 17)
    assert name(chosen(there, wishes=Wishes(weights="int8"))) == ("int8", "int8", CONTEXT)
    assert name(chosen(there, wishes=Wishes(kv="fp16")))[1] == "fp16"
    assert name(chosen(there, wishes=Wishes(bits=5.5)))[0] == "5.5 bits"
    assert chosen(there, wishes=Wishes(nbytes=10**9)).recipe.needs.weights == 10**9
    # Bits cannot be placed by what measures nothing, and blocks are of types.
    fast = room(8, 45)
    assert name(chosen(fast, wishes=Wishes(typed=True)))[0] == "int4"
    assert chosen(fast, wishes=Wishes(block=64)).recipe.stored.block == 64
    assert chosen(there, wishes=Wishes(weights="fp16")).recipe.engine == "onnxruntime"
    assert not chosen(room(3, 17), wishes=Wishes(weights="fp32")).fits


def test_codes_that_are_there_are_not_made_larger() -> None:
    choice = chosen(room(8, 102), held=Held(4.5, 4))
    assert name(choice)[0] == "int4"
    assert "the source's codes are taken over" in choice.reasons[0]
    # More bits than the source has are no target of an export.
    assert name(chosen(room(8, 45), held=Held(5.7, None)))[0] == "5 bits"


@pytest.mark.parametrize(("engine", "kinds"), [(None, {"fp16", "int8"}), ("cuda", {"fp16"})])
def test_a_card_computes_in_float16_and_has_its_own_memory(engine: str | None, kinds: set[str]) -> None:
    there = room_of(boards.profile("rtx-4090"))
    choice = chosen(there, wishes=Wishes(engine=engine))
    assert (choice.recipe.engine, choice.recipe.kv) == (engine or "tensorrt", "fp16")
    assert {recipe.kv for recipe in recipes(R1, there.engine, Wishes(engine=engine)).all} == kinds
    assert {recipe.kv for recipe in every(R1, choice.recipe.engine)} == kinds
    # What stays in the computer's memory takes nothing of the card's.
    required = choice.plan.required
    assert (required.runtime, required.prefix_cache, required.reserve) == (0, 0, there.reserve)
    assert choice.plan.available == 24 * 10**9
    told = f"engine {choice.recipe.engine}: it computes on the card, unverified on device"
    assert told in choice.reasons
    assert choice.recipe_json()["targets"] == [{"engine": "tensorrt", "sm": "8.9", "built": False}]


def test_the_default_of_an_engine_is_what_it_keeps() -> None:
    for engine, kinds in ENGINE_KV.items():
        assert default_kv(engine) in kinds
        assert [KV_NAMES[name] for name in kv_names(engine)] == list(kinds)
        assert kv_groups(SMOLLM2, engine)[0].type == default_kv(engine)


def test_what_a_board_cannot_run_is_told() -> None:
    nano, card = room_of(boards.profile("jetson-nano")), room_of(boards.profile("rtx-3060"))
    assert nano.lacks("tensorrt").startswith("Jetson Nano cannot run engine tensorrt: its TensorRT is 8.x")
    assert not nano.lacks("cuda")
    pi = room_of(boards.profile("raspberry-pi-5-8gb"))
    assert "no NVIDIA GPU of it is known" in pi.lacks("cuda")
    assert not any(card.lacks(engine) for engine in ("tensorrt", "cuda", "onnxruntime", "cpu"))
    # Where an artifact is for such an engine already, the plan says so.
    assert pi.lacks("cuda") in chosen(pi, wishes=Wishes(engine="cuda")).reasons
    # Of a card that TensorRT 10 is too new for.
    figure = replace(card.board.engines, value=("onnxruntime", "cpu"))
    assert replace(card, board=replace(card.board, engines=figure)).engine == "cuda"
    beside = chosen(card, wishes=Wishes(engine="cpu"))
    assert any("computes on the CPU, in the computer's own memory" in reason for reason in beside.reasons)


def test_a_context_beyond_the_models() -> None:
    with pytest.raises(InvalidArgument, match="context is 9000; this model takes from 1 to 8192 tokens"):
        chosen(room(8, 17), SMOLLM2, context=9000)


def test_short_contexts_have_two_lengths_too() -> None:
    assert [c.context for c in chosen(room(8, 17), context=400).ceilings] == [200, 400]
    assert [c.context for c in chosen(room(8, 17), context=1).ceilings] == [1, 1]
    assert chosen(room(8, 17), replace(SMOLLM2, context=100)).plan.context == 100


@given(
    gib=st.floats(0.2, 16),
    gb_s=st.floats(1, 2000),
    reserve=st.integers(0, 2 * GIB),
    context=st.none() | st.integers(1, 8192),
    spec=st.sampled_from([R1, SMOLLM2, replace(SMOLLM2, windows=(512,) * 30)]),
    board=st.sampled_from(["jetson-nano", "rtx-4090"]),
)
def test_the_rule(
    gib: float, gb_s: float, reserve: int, context: int | None, spec: ModelSpec, board: str
) -> None:
    there = room(gib, gb_s, board, reserve)
    offered = recipes(spec, there.engine)
    choice = choose(offered, there, context=context)
    beside = [measure(recipe, there, context=choice.plan.context) for recipe in offered.good]
    fitting = [other for other in beside if other.fits]
    assert choice.fits == (choice.missing == 0)
    if choice.fits:
        assert choice.plan.required.total <= there.whole
        assert choice.plan.required.reserve == reserve
    if not choice.fits:
        assert not fitting
        assert not any(measure(r, there, context=choice.plan.context).fits for r in offered.all)
    elif choice.recipe in offered.good:
        enough = [other for other in fitting if (other.speed or 0) >= ENOUGH]
        best = enough[0] if enough else max(fitting, key=lambda other: other.speed or 0)
        assert choice.speed == best.speed
        assert choice.recipe == best.recipe
    else:
        assert not fitting
