"""Choosing and opening an engine for an artifact."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from edge.artifact import Artifact
from edge.errors import EngineError, EngineTooOld, GpuMissing, InvalidArgument, MissingExtra
from runtimes.cuda import CudaEngine
from runtimes.kernels.engine import CpuEngine
from runtimes.onnxruntime import OnnxRuntimeEngine
from runtimes.portable import PortableEngine
from runtimes.protocol import Engine, Grant
from runtimes.site import Site
from runtimes.tensorrt.engine import TensorRtEngine
from runtimes.threads import default_threads


class EngineClass(Protocol):
    """The class of an engine, called with artifact, threads, context, bytes for KV, and what KV is kept as."""

    name: str
    variant: str

    def __call__(
        self, artifact: Artifact, threads: int, context: int, kv_budget: int | None, kv: str | None = None, /
    ) -> Engine:
        """Open it."""

    def kv_type(self, kv: str | None, artifact: Artifact) -> str:
        """See `runtimes.kv_choice.chosen_kv`."""

    def site(self, artifact: Artifact) -> Site:
        """Where it would put the artifact; raises as opening it does."""


# What no device has run is not chosen by itself where something else runs the same.
_CLASSES: tuple[EngineClass, ...] = (CpuEngine, OnnxRuntimeEngine, TensorRtEngine, PortableEngine, CudaEngine)
ENGINES: dict[str, EngineClass] = {engine.name: engine for engine in _CLASSES}
"""The engines by name, the fastest first."""


def open_engine(
    artifact: Artifact,
    engine: str = "auto",
    threads: int | None = None,
    context: int | None = None,
    kv_budget: int | None = None,
    kv: str | None = None,
    admit: Callable[[str, str, Site], Grant] | None = None,
) -> Engine:
    """Open the artifact's variant for `engine`; `auto` takes the fastest that can be opened here.

    Args:
        artifact: what to run.
        engine: `auto` or an engine's name.
        threads: threads of a run; by default the physical cores available.
        context: tokens a sequence may have, at most the model's own context, which is the default.
        kv_budget: bytes that all caches together may take; None is no limit.
        kv: what keys and values are kept as: fp32, fp16, int8 or int4; None is what the artifact has where that was
            settled at export, else the engine's default.
        admit: asked with the engine's name, its type of KV and its site before anything is loaded; what it grants
            takes the place of `context` and `kv_budget`, and what it raises is passed on.

    Raises:
        InvalidArgument, MissingExtra, EngineError, ArtifactError
    """
    if threads is not None and threads < 1:
        raise InvalidArgument(f"threads is {threads}; give 1 or more, or none for the cores available")
    longest = artifact.spec.context
    if context is not None and not 1 <= context <= longest:
        raise InvalidArgument(f"context is {context}; this model takes from 1 to {longest} tokens")
    if engine != "auto" and engine not in ENGINES:
        raise InvalidArgument(f"engine {engine!r} is unknown; choose auto or one of {', '.join(ENGINES)}")
    held = {variant.engine for variant in artifact.manifest.variants}
    names = [name for name, each in ENGINES.items() if each.variant in held] if engine == "auto" else [engine]
    refusal: MissingExtra | EngineTooOld | GpuMissing | None = None
    for name in names:
        artifact.variant(ENGINES[name].variant)
        grant = Grant(context or longest, kv_budget)
        try:
            if admit is not None:
                grant = admit(name, ENGINES[name].kv_type(kv, artifact), ENGINES[name].site(artifact))
            opened = ENGINES[name](artifact, threads or default_threads(), grant.context, grant.kv_budget, kv)
        except (MissingExtra, EngineTooOld, GpuMissing) as e:
            # What is not there is passed over; anything else that goes wrong is told.
            refusal = refusal or e
            continue
        if refusal is not None:
            opened.passed_over = f"{names[0]} ({refusal})"
        return opened
    if refusal is not None:
        raise refusal
    variants = ", ".join(dict.fromkeys(each.variant for each in ENGINES.values()))
    raise EngineError(f"{artifact.path} has no variant for any of {variants}; export it again")
