"""Plans against reality: what a process reaches, and what it is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import edge
from bench.memory_limit import sweep
from bench.memory_plan import run
from edge.errors import EngineError, InvalidArgument, MemoryBudgetError


@pytest.mark.parametrize(
    ("context", "kv"),
    [
        (512, "int8"),
        (4096, "fp16"),
        pytest.param(8192, "int8", marks=pytest.mark.slow),
        pytest.param(8192, "fp32", marks=pytest.mark.slow),
    ],
)
def test_the_peak_is_within_a_tenth_of_the_plan(
    kernels: None, smollm2_int4: Path, context: int, kv: str
) -> None:
    peak = run(str(smollm2_int4), context, kv)
    assert peak.ratio == pytest.approx(1, abs=0.1)
    assert peak.kv_bytes == peak.planned_kv


def test_the_stock_engine_too(smollm2_fp32: Path) -> None:
    assert run(str(smollm2_fp32), 512).ratio == pytest.approx(1, abs=0.1)


def test_memory_bounds_the_context(kernels: None, smollm2_int4: Path) -> None:
    with edge.load(smollm2_int4) as model:
        assert model.engine.context == model.spec.context
    with edge.load(smollm2_int4, memory="260MiB") as model:
        assert model.plan is not None
        context = model.engine.context
        assert context == model.plan.context == model.plan.max_context < model.spec.context
        first = model.generate(list(range(3, context)), max_tokens=2, temperature=0)
        assert len(list(first.tokens())) <= 2
    with pytest.raises(MemoryBudgetError, match=rf"there are 260; what would fit: .*context {context} "):
        edge.load(smollm2_int4, memory=260 << 20, context=8192)
    with pytest.raises(MemoryBudgetError, match="4 conversations of 8192 tokens"):
        edge.load(smollm2_int4, memory="400MiB", context=8192, sessions=4)


def test_below_the_weights_nothing_is_loaded(smollm2_int4: Path) -> None:
    """In a process of its own: no engine is imported before the refusal."""
    code = (
        "import sys, edge\n"
        "try:\n"
        "    edge.load(sys.argv[1], memory=64 << 20)\n"
        "except edge.errors.MemoryBudgetError as e:\n"
        "    print('onnxruntime' in sys.modules, e)\n"
    )
    command = [sys.executable, "-c", code, str(smollm2_int4)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    assert done.stdout.startswith("False a conversation of 256 tokens needs ")
    assert "and there are 64; what would fit: free memory, or take a smaller model" in done.stdout


def test_an_engine_that_the_artifact_is_not_for(smollm2_int4: Path) -> None:
    """Told before memory is: no size of it would help."""
    with pytest.raises(EngineError, match="has no variant for engine 'onnxruntime'"):
        edge.load(smollm2_int4, engine="onnxruntime", memory="64MiB")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"memory": "plenty"}, "'plenty' is no size"),
        ({"memory": 0}, "memory is 0; give auto"),
        ({"memory": -1}, "memory is -1; give auto"),
        ({"memory": 1.5}, "memory is 1.5; give auto, bytes from 1 on, or a size"),
        ({"memory": True}, "memory is True"),
        ({"sessions": -1}, "sessions is -1; give 1 or more"),
        ({"sessions": 0}, "sessions is 0; give 1 or more"),
        ({"context": 0}, "context is 0; this model takes from 1 to 8192 tokens"),
        ({"context": 8193}, "context is 8193; this model takes from 1 to 8192 tokens"),
        ({"context": "512"}, "context is '512'"),
        ({"at_limit": "forget"}, "at_limit is 'forget'; choose one of stop, window, error"),
        ({"kv": "int2"}, "kv is 'int2'; choose one of fp32"),
    ],
)
def test_bad_values(smollm2_int4: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        edge.load(smollm2_int4, **options)  # type: ignore[arg-type]


@pytest.mark.slow
def test_under_a_hard_limit_every_run_answers_or_refuses(kernels: None, smollm2_int4: Path) -> None:
    """From where nothing loads upward: nobody is killed, nothing hangs, and what is accepted is not slowed down."""
    seen = []
    for limit, outcome, ratio in sweep(str(smollm2_int4), 64 << 20, 288 << 20, 32 << 20):
        seen.append(outcome.kind)
        assert outcome.kind in ("answered", "refused"), (limit, outcome)
        if outcome.kind == "refused":
            assert "MiB (weights 73" in outcome.message
        else:
            # Mapped weights that did not fit would be read again for every token: tens of times slower.
            assert ratio > 0.2
    assert seen[0] == "refused"
    assert seen[-1] == "answered"
    assert seen == sorted(seen, reverse=True)


def test_memory_goes_back_to_the_system(kernels: None, smollm2_int4: Path) -> None:
    """Two hundred conversations of unlike length leave no more behind than the first twenty."""
    code = (
        "import sys, edge\n"
        "from edge.memory.usage import resident\n"
        "with edge.load(sys.argv[1], context=1024) as model:\n"
        "    for i in range(200):\n"
        "        ids = [3 + (7 * i + j) % 40000 for j in range(5 + i * 37 % 300)]\n"
        "        for _ in model.generate(ids, max_tokens=4, ignore_eos=True).tokens(): pass\n"
        "        if i in (19, 199): print(resident().anonymous + resident().file)\n"
    )
    command = [sys.executable, "-c", code, str(smollm2_int4)]
    early, late = map(
        int, subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    )
    assert late == pytest.approx(early, rel=0.03)
