"""What `auto` passes over is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge.artifact import open_artifact
from edge.cli import options
from edge.errors import KernelsMissing
from runtimes import open_engine, select
from runtimes.onnxruntime import OnnxRuntimeEngine


class NotBuilt(OnnxRuntimeEngine):
    def __init__(self, *args: Any) -> None:
        raise KernelsMissing("the CPU kernels are not built")


def test_an_engine_that_was_passed_over_is_told(tiny_artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = open_artifact(tiny_artifact)
    assert open_engine(artifact).passed_over == ""
    [variant] = artifact.manifest.variants
    both = (type(variant)(**{**vars(variant), "engine": "cpu"}), variant)
    monkeypatch.setitem(vars(artifact.manifest), "variants", both)
    monkeypatch.setitem(select.ENGINES, "cpu", NotBuilt)
    engine = open_engine(artifact)
    assert (engine.name, engine.passed_over) == ("onnxruntime", "cpu (the CPU kernels are not built)")
    assert open_engine(artifact, engine="onnxruntime").passed_over == ""


def test_names_that_the_command_line_spells_out() -> None:
    assert ("auto", *select.ENGINES) == options.ENGINES
    assert tuple(dict.fromkeys(each.variant for each in select.ENGINES.values())) == options.VARIANTS


@pytest.mark.parametrize("engine", ["portable", "auto"])
def test_an_artifact_for_tensorrt_runs_without_a_gpu_and_says_how(exported: Path, engine: str) -> None:
    opened = open_engine(open_artifact(exported), engine=engine)
    assert opened.name == "portable"
    assert opened.passed_over.startswith("tensorrt (") is (engine == "auto")
