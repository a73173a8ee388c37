"""The `cpu` engine: ONNX Runtime with our own operators for linear layers, embeddings and attention."""

from __future__ import annotations

from typing import Any

from edge.artifact import Artifact, Variant
from runtimes.kernels.cache import CpuCache
from runtimes.kernels.library import load_library
from runtimes.onnxruntime.engine import OnnxRuntimeEngine
from runtimes.onnxruntime.session import session_options


class CpuEngine(OnnxRuntimeEngine):
    """See `runtimes.protocol.Engine`."""

    name = "cpu"
    runs_without_logits = True
    cache_type = CpuCache
    returns_cache = False

    def _options(self, artifact: Artifact, variant: Variant, threads: int) -> Any:
        library = load_library()
        library.check_layout(variant.layout, variant.layout_version, artifact.path)
        # ONNX Runtime's own threads sleep as soon as they are idle: they share the cores with the kernels' team.
        options = session_options(self._ort, threads, spin=False)
        library.register(options, threads)
        self.isa = library.isa
        return options
