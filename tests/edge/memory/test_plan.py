from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.artifact import ModelSpec
from edge.artifact.pages import KV_NAMES
from edge.errors import InvalidArgument, MemoryBudgetError
from edge.memory import needs as needs_module
from edge.memory.admission import check
from edge.memory.needs import PREFILL_SLICE, Needs
from edge.memory.plan import LEAST_CONTEXT, Plan, make_plan
from edge.memory.suggest import suggestions
from edge.memory.weights import WEIGHTS, engine_for, weight_bytes
from runtimes.onnxruntime.engine import CHUNK
from tests.edge.memory.sizes import R1_DISTILL_QWEN_1_5B, SMOLLM2

MIB, GIB = 1 << 20, 1 << 30


def needs(spec: ModelSpec = SMOLLM2, weights: str = "int4", kv: str | None = None) -> Needs:
    return Needs.of(spec, weight_bytes(spec, weights), weights, engine_for(weights), kv)


def test_the_chunk_is_the_engines() -> None:
    assert needs_module.CHUNK == CHUNK
    assert PREFILL_SLICE % CHUNK == 0


def test_the_parts_of_a_plan() -> None:
    plan = make_plan(needs(), 2 * GIB, 4096)
    r = plan.required
    assert plan.fits
    assert r.kv == 64 * (4096 // 64) * plan.needs.kv_bytes_per_token + 64 * (-64 * 12060 % 4096)
    assert r.total == r.weights + r.kv + r.workspace + r.runtime + r.prefix_cache + r.reserve
    assert r.reserve == 2 * GIB // 20
    assert r.prefix_cache == r.kv
    assert plan.kv_budget == plan.available - r.total + r.kv + r.prefix_cache
    assert plan.max_context == SMOLLM2.context


def test_the_prefix_cache_has_what_nothing_else_wants() -> None:
    free = make_plan(needs(), 2 * GIB, 4096, prefix_cache=0)
    assert free.required.prefix_cache == 0
    tight = make_plan(needs(), free.required.total - free.required.reserve + 40 * MIB, 4096)
    assert tight.fits
    assert 0 < tight.required.prefix_cache < tight.required.kv
    assert tight.max_context == make_plan(needs(), tight.available, 4096, prefix_cache=0).max_context
    # What was asked for comes before a longer context.
    asked = make_plan(needs(), tight.available, prefix_cache=16 * MIB)
    assert asked.required.prefix_cache == 16 * MIB
    assert asked.max_context < tight.max_context
    assert make_plan(needs(replace(SMOLLM2, windows=(256,) * 30)), 2 * GIB).required.prefix_cache == 0


def test_a_board_of_eight_gigabytes_holds_the_type_specimen() -> None:
    plan = make_plan(needs(R1_DISTILL_QWEN_1_5B), 6 * GIB)
    assert plan.fits
    assert plan.context == plan.max_context == R1_DISTILL_QWEN_1_5B.context
    small = make_plan(needs(R1_DISTILL_QWEN_1_5B), 2 * GIB)
    assert 32768 < small.context < R1_DISTILL_QWEN_1_5B.context


def test_numbers_of_numpy_are_numbers() -> None:
    """Of 32 bits they would run over."""
    plan = make_plan(needs(kv="float32"), np.int64(GIB), np.int32(8192), np.int16(6))  # type: ignore[arg-type]
    assert plan == make_plan(needs(kv="float32"), GIB, 8192, 6)
    assert not plan.fits


def test_an_engine_that_does_not_forget_needs_all_of_a_window() -> None:
    spec = replace(SMOLLM2, windows=(256,) * 30)
    assert needs(spec, "fp32").kv(8192) == needs(SMOLLM2, "fp32").kv(8192)


def test_a_change_of_the_engine_is_told() -> None:
    """INT4 weights that the stock operators keep twice."""
    model = Needs.of(SMOLLM2, weight_bytes(SMOLLM2, "int4"), "int4", "onnxruntime")
    plan = make_plan(model, 400 * MIB, 8192)
    assert {"weights": "int4", "engine": "cpu"} in [s.change for s in suggestions(plan)]


def test_windows_need_no_more_than_they_keep() -> None:
    spec = replace(SMOLLM2, windows=(512,) * 15 + (0,) * 15)
    windowed = needs(spec)
    full = needs()
    most = 512 + PREFILL_SLICE + 64
    assert windowed.kv(most) == pytest.approx(full.kv(most), rel=0.01)
    assert windowed.kv(8192) == pytest.approx(full.kv(8192) / 2 + full.kv(most) / 2, rel=0.01)


@given(
    available=st.integers(1, 8 * GIB),
    sessions=st.integers(1, 9),
    kv=st.sampled_from(["float32", "float16", "int8", "int4"]),
    spec=st.sampled_from([SMOLLM2, R1_DISTILL_QWEN_1_5B, replace(SMOLLM2, windows=(512,) * 30)]),
)
def test_the_largest_context_fits_and_one_more_token_does_not(
    available: int, sessions: int, kv: str, spec: ModelSpec
) -> None:
    model = needs(spec, kv=kv)
    most = make_plan(model, available, None, sessions).max_context
    if most:
        assert make_plan(model, available, most, sessions).fits
    if most < spec.context:
        assert not make_plan(model, available, most + 1, sessions).fits


@given(
    available=st.integers(1, 4 * GIB),
    context=st.integers(1, 8192),
    sessions=st.integers(1, 9),
    weights=st.sampled_from(WEIGHTS),
    kv=st.sampled_from(["float32", "float16", "int8", "int4"]),
    spec=st.sampled_from([SMOLLM2, R1_DISTILL_QWEN_1_5B]),
)
def test_what_is_suggested_fits(
    available: int, context: int, sessions: int, weights: str, kv: str, spec: ModelSpec
) -> None:
    plan = make_plan(
        needs(spec, weights, kv if engine_for(weights) == "cpu" else None), available, context, sessions
    )
    if plan.fits:
        return
    for suggestion in suggestions(plan):
        changed = applied(plan, suggestion.change)
        assert changed.fits
        assert changed.required.total == suggestion.required <= suggestion.available == available


def applied(plan: Plan, change: dict[str, str | int]) -> Plan:
    """The plan with the change of a suggestion, put together by hand."""
    model = plan.needs
    if "weights" in change:
        kind = str(change["weights"])
        model = Needs.of(model.spec, weight_bytes(model.spec, kind), kind, engine_for(kind), None)
        if model.engine == plan.needs.engine:
            model = model.with_kv(plan.needs.kv_type)
    if "kv" in change:
        model = model.with_kv(KV_NAMES[str(change["kv"])])
    sessions, context = int(change.get("sessions", plan.sessions)), int(change.get("context", plan.context))
    return make_plan(model, plan.available, context, sessions, plan.required.prefix_cache)


@pytest.mark.parametrize(
    ("available", "context", "sessions", "weights", "kv", "expected"),
    [
        (290, 8192, 1, "int4", None, [{"kv": "int4"}, {"context": 4928}]),
        (380, 4096, 4, "int4", None, [{"kv": "int4"}, {"sessions": 3}, {"context": 3200}]),
        (400, 2048, 1, "fp16", None, [{"weights": "int8", "engine": "cpu"}]),
        (
            290,
            8192,
            1,
            "int8",
            None,
            [{"weights": "int4", "kv": "int4"}, {"weights": "int4", "context": 4928}],
        ),
        (100, 8192, 1, "int4", None, []),
    ],
)
def test_suggestions(
    available: int,
    context: int,
    sessions: int,
    weights: str,
    kv: str | None,
    expected: list[dict[str, str | int]],
) -> None:
    plan = make_plan(needs(SMOLLM2, weights, kv), available * MIB, context, sessions)
    assert not plan.fits
    found = [suggestion.change for suggestion in suggestions(plan)]
    assert sorted(map(str, found)) == sorted(map(str, expected))


def test_a_refusal_names_what_is_needed_what_there_is_and_what_would_fit() -> None:
    with pytest.raises(
        MemoryBudgetError,
        match=r"a conversation of 8192 tokens needs \d+ MiB \(weights 73, KV 95, workspace \d+, runtime 124, "
        r"reserve 32\) and there are 290; what would fit: kv int4 \(\d+ MiB\); context \d+ \(\d+ MiB\)",
    ):
        check(make_plan(needs(), 290 * MIB, 8192))
    with pytest.raises(
        MemoryBudgetError, match="there are 90; what would fit: free memory, or take a smaller"
    ):
        check(make_plan(needs(), 90 * MIB))


def test_the_owner_of_codes_for_tensorrt_is_sent_to_the_kernels_of_the_cpu() -> None:
    model = Needs.of(SMOLLM2, weight_bytes(SMOLLM2, "int4"), "int4", "portable")
    plan = make_plan(model, 400 * MIB, 2048)
    [suggestion] = suggestions(plan)
    assert suggestion.change == {"engine": "cpu"}
    assert suggestion.required < 400 * MIB < plan.required.total
    with pytest.raises(
        MemoryBudgetError,
        match=r"would fit: engine cpu \(\d+ MiB\): edge convert 'my q.edge' -o 'my q-cpu.edge' --engine cpu$",
    ):
        check(plan, Path("my q.edge"))
    # Floats have no such kernels: other weights do.
    floats = Needs.of(SMOLLM2, weight_bytes(SMOLLM2, "fp16"), "fp16", "portable")
    assert [s.change for s in suggestions(make_plan(floats, 400 * MIB, 2048))] == [
        {"weights": "int8", "engine": "cpu"}
    ]


def test_a_context_that_nobody_asked_for_is_not_made_tiny() -> None:
    plan = make_plan(needs(), make_plan(needs(), 2 * GIB, 64).required.total - 2 * GIB // 20 + 32 * MIB)
    assert 0 < plan.max_context < LEAST_CONTEXT
    assert plan.context == LEAST_CONTEXT
    assert not plan.fits


@pytest.mark.parametrize(
    ("available", "context", "sessions", "message"),
    [
        (GIB, 0, 1, "context is 0; this model takes from 1 to 8192 tokens"),
        (GIB, -5, 1, "context is -5; this model takes from 1 to 8192 tokens"),
        (GIB, 8193, 1, "context is 8193; this model takes from 1 to 8192 tokens"),
        (GIB, None, 0, "sessions is 0; give 1 or more"),
        (GIB, None, -1, "sessions is -1; give 1 or more"),
        (GIB, None, 1 << 60, "sessions is 1152921504606846976; give 1 or more, at most 1048576"),
        (GIB, None, 1.5, "sessions is 1.5; give 1 or more"),
        (GIB, None, "2", "sessions is '2'; give 1 or more"),
        (GIB, 512.0, 1, "context is 512.0; this model takes from 1 to 8192 tokens"),
        (GIB, True, 1, "context is True; this model takes from 1 to 8192 tokens"),
        (math.nan, None, 1, "memory is nan; give auto, bytes from 1 on"),
        (0, None, 1, "memory is 0; give auto, bytes from 1 on, or a size such as 6GiB"),
    ],
)
def test_bad_values(available: Any, context: Any, sessions: Any, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        make_plan(needs(), available, context, sessions)


def test_the_engines_for_tensorrts_graphs() -> None:
    """On a GPU weights are what they are in the artifact; on a CPU they lie dequantized beside it."""
    weights = weight_bytes(SMOLLM2, "int4")
    on_gpu, on_cpu = (
        Needs.of(SMOLLM2, weights, "int4", name, "float16") for name in ("tensorrt", "portable")
    )
    assert on_gpu.weights == weights
    # 0.95 GB of SmolLM2-135M were measured, of which runtime and tokenizer take 0.13.
    assert 0.8e9 < on_cpu.weights < 0.95e9
    assert on_gpu.kv_bytes_per_token == on_cpu.kv_bytes_per_token


def test_onnxruntime_on_a_gpu() -> None:
    """KV is float16; a tied embedding is there twice, and a prompt has the largest matrix as float16 beside it all."""
    weights = weight_bytes(SMOLLM2, "int4")
    cuda, stock = (Needs.of(SMOLLM2, weights, "int4", name) for name in ("cuda", "onnxruntime"))
    assert SMOLLM2.tied
    assert cuda.weights == weights + SMOLLM2.vocab_size * SMOLLM2.hidden_size * 9 // 16
    assert Needs.of(replace(SMOLLM2, tied=False), weights, "int4", "cuda").weights == weights
    assert Needs.of(SMOLLM2, weights, "fp16", "cuda").weights == weights
    assert (cuda.kv_type, 2 * cuda.kv_bytes_per_token) == ("float16", stock.kv_bytes_per_token)
    # Rotary tables are constants of the graph: of the whole context, in float16.
    tables = (2 * SMOLLM2.context - 4 * 4096) * SMOLLM2.head_dim
    assert (
        cuda.workspace(4096) - stock.workspace(4096) == tables + 2 * SMOLLM2.vocab_size * SMOLLM2.hidden_size
    )


@pytest.mark.parametrize(
    ("vocabulary", "hidden", "rows"),
    [
        (151_936, 576, 151_936),
        (151_936, 896, 32_768),
        # 250 MiB and all of it, more than 256 MiB and a part.
        (128_256, 1024, 128_256),
        (151_936, 1536, 32_768),
        (60_000, 4096, 60_000),
    ],
)
def test_what_is_float16_for_a_prompt(vocabulary: int, hidden: int, rows: int) -> None:
    """As ONNX Runtime's matmul_nbits.cc cuts it."""
    spec = replace(SMOLLM2, vocab_size=vocabulary, hidden_size=hidden, intermediate_size=hidden)
    cuda, tensorrt = (Needs.of(spec, 1, "int4", name) for name in ("cuda", "tensorrt"))
    tables = 2 * spec.context * spec.head_dim - 4 * 100 * spec.head_dim
    assert cuda.workspace(100) - tensorrt.workspace(100) == tables + 2 * rows * hidden
