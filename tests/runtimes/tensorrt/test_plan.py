"""What is decided of a run before a device is asked: properties of buckets, chunks, masks and binding tables."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.artifact import ModelSpec, Rope
from edge.errors import ArtifactCorrupt, ArtifactTooNew, ContextExceeded
from runtimes.static.bindings import Binding, Found, Interface, cache_names, check_table
from runtimes.static.buckets import SMALLEST, bucket, ladder
from runtimes.static.chunks import Profile, chunks
from runtimes.static.feeds import fill, room
from runtimes.static.form import FORMS, Form, form_of
from runtimes.static.masks import MASK, fill_mask, keys, mask_windows

FORM = st.sampled_from(FORMS)
SPEC = ModelSpec(
    architecture="llama",
    vocab_size=16,
    hidden_size=32,
    intermediate_size=16,
    layers=1,
    heads=2,
    kv_heads=2,
    head_dim=16,
    context=64,
    norm_eps=1e-5,
    rope=Rope(),
    tied=True,
)


@given(st.integers(1, 200_000))
def test_buckets_double_up_to_the_context(context: int) -> None:
    found = ladder(context)
    assert found[-1] == context
    assert list(found) == sorted(set(found))
    assert all(b <= 2 * a for a, b in itertools.pairwise(found))
    assert found[0] <= SMALLEST


@given(st.sets(st.integers(1, 5000), min_size=1), st.integers(0, 6000))
def test_the_bucket_is_the_smallest_that_holds_the_tokens(capacities: set[int], tokens: int) -> None:
    given_order = tuple(capacities)
    if tokens > max(capacities):
        with pytest.raises(ContextExceeded, match=f"{tokens} tokens do not fit"):
            bucket(given_order, tokens)
        return
    found = bucket(given_order, tokens)
    assert found == 0 if not tokens else found in capacities
    assert found >= tokens
    assert not tokens or all(c >= found or c < tokens for c in capacities)


@given(st.data())
def test_chunks_are_the_step_and_its_logits(data: st.DataObject) -> None:
    tokens = data.draw(st.integers(1, 300))
    wanted = data.draw(st.lists(st.integers(0, tokens - 1), max_size=60))
    profile = Profile(data.draw(st.integers(1, 130)), data.draw(st.integers(1, 20)))
    found = list(chunks(tokens, wanted, profile))
    assert [(a.stop, b.start) for a, b in itertools.pairwise(found)] == [(a.stop, a.stop) for a in found[:-1]]
    assert (found[0].start, found[-1].stop) == (0, tokens)
    rows: dict[int, int] = {}
    for chunk in found:
        assert 1 <= chunk.stop - chunk.start <= profile.tokens
        assert len(chunk.positions) <= profile.logits
        assert len(set(chunk.positions.tolist())) == len(chunk.positions)
        for row, of in zip(chunk.rows.tolist(), chunk.of.tolist(), strict=True):
            assert row not in rows
            rows[row] = chunk.start + int(chunk.positions[of])
    assert [rows[row] for row in range(len(wanted))] == wanted


@given(FORM, st.data())
def test_a_token_sees_itself_and_those_before_it(form: Form, data: st.DataObject) -> None:
    capacity = data.draw(st.integers(1, 40))
    held = data.draw(st.integers(0, capacity - 1))
    tokens = data.draw(st.integers(1, capacity - held))
    window = data.draw(st.integers(1, 50))
    whole = np.ones((1, 1, tokens, keys(form, tokens, capacity)), bool)
    fill_mask(whole, form, held, capacity, window)
    [[seen]] = whole
    # The position that stands behind each key of the graph.
    stands = list(range(capacity)) if form.in_place else [*range(capacity), *range(held, held + tokens)]
    assert seen.shape == (tokens, len(stands))
    for row, position in enumerate(range(held, held + tokens)):
        sees = [stands[key] for key in np.flatnonzero(seen[row])]
        assert sorted(sees) == list(range(max(0, position - window + 1), position + 1))
    if not form.in_place:
        assert not seen[:, held:capacity].any(), "rows of the cache that hold no token of this sequence"


def test_masks_are_those_of_the_layers_windows() -> None:
    def names(*windows: int) -> dict[str, int]:
        return mask_windows(replace(SPEC, layers=len(windows), windows=windows))

    assert names(0, 0) == {MASK: 64}
    assert names(8, 8) == {f"{MASK}.8": 8}
    assert names(8, 0, 16) == {MASK: 64, f"{MASK}.8": 8, f"{MASK}.16": 16}
    # Where the context ends before the window does, it sees all.
    assert names(64, 100) == {MASK: 64}


@given(FORM, st.sampled_from(["float16", "int8"]), st.data())
def test_feeds_fill_the_table(form: Form, kv: str, data: st.DataObject) -> None:
    interface = Interface(SPEC, form, kv)
    capacity = data.draw(st.integers(1, 64))
    held = data.draw(st.integers(0, capacity - 1))
    tokens = data.draw(st.integers(1, capacity - held))
    wanted = sorted(data.draw(st.sets(st.integers(0, tokens - 1))))
    table = interface.table(tokens, capacity, max(1, len(wanted)))
    given_feeds = room(table)
    assert set(given_feeds) == {name for name, binding in table.items() if binding.where == "fed"}
    for array in given_feeds.values():
        # What an earlier call left there.
        array[...] = 1
    fill(given_feeds, interface, list(range(tokens)), held, capacity, wanted)
    for name, array in given_feeds.items():
        assert (array.shape, array.dtype) == (table[name].shape, table[name].dtype)
    assert given_feeds["input_ids"].tolist() == [list(range(tokens))]
    assert given_feeds["logit_positions"].tolist() == (wanted or [0])
    assert given_feeds["position_ids"].tolist() == [list(range(held, held + tokens))]
    if form.in_place:
        assert given_feeds["write_indices"].tolist() == [held]
    for name in cache_names(SPEC):
        past = table[f"past.{name}"]
        assert past.nbytes == SPEC.kv_heads * capacity * interface.row_bytes
        if form.in_place:
            assert table[f"present.{name}"].shape == past.shape
        else:
            assert table[f"new.{name}"].nbytes == SPEC.kv_heads * tokens * interface.row_bytes


def found_of(table: dict[str, Binding]) -> list[Found]:
    return [Found(b.name, b.shape, b.dtype.name, b.output) for b in table.values()]


@pytest.mark.parametrize("form", FORMS, ids=[form.name for form in FORMS])
def test_an_engine_of_another_graph_is_refused(form: Form) -> None:
    table = Interface(SPEC, form, "float16").table(1, 32, 1)
    found = found_of(table)
    check_table(table, found, "m.engine")
    free = [replace(each, shape=tuple(-1 for _ in each.shape)) for each in found]
    check_table(table, free, "m.engine")

    def refused(match: str, *changed: Found) -> None:
        with pytest.raises(ArtifactCorrupt, match=match):
            check_table(table, changed, "m.engine")

    refused("m.engine has no input_ids", *(each for each in found if each.name != "input_ids"))
    refused("m.engine has an other", *found, Found("other", (1,), "float16", False))
    for change, match in (
        ({"shape": (1, SPEC.kv_heads, 16, SPEC.head_dim)}, "past.0.key is float16"),
        ({"dtype": "float32"}, "past.0.key is float32"),
        ({"output": True}, "past.0.key is float16"),
    ):
        options: dict[str, Any] = change
        refused(match, *(replace(e, **options) if e.name == "past.0.key" else e for e in found))


def test_a_dialect_of_later_is_refused() -> None:
    from edge.artifact import Variant

    variant = Variant(
        engine="tensorrt",
        dialect="portable-opset30",
        activation="float16",
        requires="12.0",
        model="tensorrt/opset30.onnx",
        files=(),
    )
    with pytest.raises(ArtifactTooNew, match="portable-opset30"):
        form_of(variant)
