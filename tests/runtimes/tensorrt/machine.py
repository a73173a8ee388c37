"""A computer with a stand-in for a GPU, and an artifact with engines of the stand-in for TensorRT."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edge.artifact import Artifact, open_artifact
from runtimes.static.bindings import Interface
from runtimes.static.form import FORMS
from runtimes.tensorrt.engine import TensorRtEngine
from runtimes.tensorrt.header import EngineHeader, Shapes, artifact_fingerprint
from runtimes.tensorrt.library import this_platform
from tests.runtimes.tensorrt.fake_cuda import FakeCuda
from tests.runtimes.tensorrt.fake_trt import FakeTensorRT, plan_bytes

CAPACITIES = (256, 512, 2048)


@dataclass
class Machine:
    """A computer with a GPU, and an artifact with engines for it."""

    artifact: Artifact
    cuda: FakeCuda = field(default_factory=FakeCuda)
    form: str = "opset24"
    kind: type[FakeTensorRT] = FakeTensorRT
    trt: FakeTensorRT = field(init=False)

    def __post_init__(self) -> None:
        form = next(form for form in FORMS if form.name == self.form)
        self.trt = self.kind(self.cuda, Interface(self.artifact.spec, form, "float16"))

    def open(self, context: int | None = None, kv_budget: int | None = None) -> TensorRtEngine:
        return TensorRtEngine(self.artifact, 1, context or self.artifact.spec.context, kv_budget)


def build(path: Path, form: str, capacities: tuple[int, ...] = CAPACITIES, **changes: Any) -> Artifact:
    """Engines of the stand-in in an artifact, and in its manifest."""
    artifact = open_artifact(path)
    variant = next(v for v in artifact.manifest.variants if v.dialect == f"portable-{form}")
    manifest = json.loads((path / "edge.json").read_text())
    for capacity in capacities:
        plan = plan_bytes(path / variant.model, capacity)
        header = EngineHeader(
            flavour="tensorrt",
            version=FakeTensorRT.__version__,
            sms=("8.9",),
            platform=this_platform(),
            artifact=artifact_fingerprint(artifact, variant),
            form=form,
            capacity=capacity,
            profiles=(Shapes(128, 8), Shapes(1, 1)),
            weights=("int4",),
            kv="float16",
            built=1_790_000_000,
            activation_bytes=0,
            plan_bytes=len(plan),
            plan_sha256=hashlib.sha256(plan).hexdigest(),
        )
        header = replace(header, **changes)
        name = f"tensorrt/engines/sm89/{form}-{capacity}.engine"
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        data = header.dumps() + plan
        (path / name).write_bytes(data)
        entry = {"path": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        manifest["files"] = [*(each for each in manifest["files"] if each["path"] != name), entry]
    (path / "edge.json").write_text(json.dumps(manifest))
    return open_artifact(path)


Built = Callable[..., Machine]
