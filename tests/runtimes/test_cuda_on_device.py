"""What only a GPU can say of engine cuda: that every node runs there, in place, and what the numbers are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge.artifact import open_artifact
from edge.errors import EngineTooOld, GpuMissing, MissingExtra
from runtimes import Engine, open_engine
from tests.logits import engine_logits, relative_error
from tests.runtimes.conformance import EngineConformance, OpenEngine, text
from tests.runtimes.on_the_host import on_the_host
from tests.runtimes.tensorrt_artifact import write_artifact

# float16 on both sides, rounded in other places.
BOUND = 1e-2

pytestmark = pytest.mark.gpu


def on_the_gpu(path: Path, **options: Any) -> Engine:
    """The engine of the artifact at `path`; skips where it cannot be here."""
    try:
        return open_engine(open_artifact(path), engine="cuda", **options)
    except (MissingExtra, GpuMissing, EngineTooOld) as e:
        pytest.skip(str(e))


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"head_dim": 8, "num_attention_heads": 8, "num_key_value_heads": 4},
        {"model_type": "mistral", "sliding_window": 24},
    ],
    ids=["llama", "narrow heads", "window"],
)
def test_logits_are_those_of_the_cpu(config: dict[str, Any], tmp_path: Path) -> None:
    path, tokens = write_artifact(tmp_path, engine="cuda", **config), text(60)
    ours = engine_logits(on_the_gpu(path), tokens, 40)
    assert relative_error(ours, engine_logits(on_the_host(path), tokens, 40)) < BOUND


class TestCudaOnDevice(EngineConformance):
    tolerance = BOUND

    @pytest.fixture
    def open_engine(self, exported_for_cuda: Path) -> OpenEngine:
        return lambda **options: on_the_gpu(exported_for_cuda, **options)
