"""A real model and one in the shape of a 1.5B: what TensorRT for RTX reads of them, and builds for three GPUs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.tensorrt_build import synthetic
from edge.artifact import open_artifact
from export import export
from export.tensorrt.build import build
from export.tensorrt.graph import read_graph
from runtimes.tensorrt.header import engines
from tests.export.network import check_values, parsed, trt
from tests.models import smollm2

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Shaped:
    artifact: Path
    context: int
    memory: int
    """Bytes that a build may allocate."""
    bits: tuple[float, float]
    """A parameter's bits in the weights file, and the most in a plan, which has the code of all layers as well."""


@pytest.fixture(scope="module", params=["SmolLM2-135M", "1.5B-shaped"])
def shaped(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shaped]:
    folder = tmp_path_factory.mktemp("shaped")
    if request.param == "1.5B-shaped":
        yield Shaped(synthetic(folder), 4096, 3_000_000_000, (4.13, 4.4))
    else:
        out = folder / "m.edge"
        export(smollm2(), out, engine="tensorrt", method="rtn", fidelity=False, block=64)
        yield Shaped(out, 1024, 950_000_000, (4.25, 6.6))


@pytest.mark.parametrize("form", ["opset24", "opset21"])
def test_it_is_read_as_it_is_and_built_for_three_gpus(shaped: Shaped, form: str) -> None:
    artifact = open_artifact(shaped.artifact)
    path = artifact.file(next(v.model for v in artifact.manifest.variants if v.dialect == f"portable-{form}"))
    found = parsed(path, read_graph(path, shaped.context))
    in_place = form == "opset24"
    check_values(found, artifact.spec, shaped.context, in_place=in_place, kv=trt.DataType.HALF)
    del found

    (engine,) = build(
        shaped.artifact, ["sm86,sm89,sm120"], contexts=[shaped.context], form=form, memory=shaped.memory
    ).engines
    least, most = shaped.bits
    assert least < engine.bits_per_parameter < most
    opened = open_artifact(shaped.artifact)
    opened.verify()
    assert [header.sms for _, header in engines(opened)] == [("8.6", "8.9", "12.0")]
