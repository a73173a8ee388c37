"""The `cpu` engine: ONNX Runtime with our own operators for linear layers, embeddings and attention."""

from __future__ import annotations

from typing import Any

from edge.artifact import Artifact, Variant
from edge.errors import EngineFailed
from runtimes.kernels.cache import CpuCache
from runtimes.kernels.library import load_library
from runtimes.kernels.weights import map_weights
from runtimes.onnxruntime.engine import OnnxRuntimeEngine
from runtimes.onnxruntime.session import session_options


class CpuEngine(OnnxRuntimeEngine):
    """See `runtimes.protocol.Engine`."""

    name = "cpu"
    runs_without_logits = True
    cache_type = CpuCache
    returns_cache = False
    # What the session reads in place; released after it.
    _weights: list[Any] | None = None

    def close(self) -> None:
        """See `Engine.close`."""
        super().close()
        self._weights = None

    def _options(self, artifact: Artifact, variant: Variant, threads: int) -> Any:
        library = load_library()
        library.check_layout(variant.layout, variant.layout_version, artifact.path)
        # All work is in the kernels: a pool of ONNX Runtime's own would only share their cores.
        options = session_options(self._ort, 1, spin=False)
        library.register(options, threads)
        self._give_weights(options, artifact, variant)
        self.isa = library.isa
        return options

    def _give_weights(self, options: Any, artifact: Artifact, variant: Variant) -> None:
        weights = map_weights(artifact, variant)
        if not weights:
            return
        # Each value keeps its array, and so the map.
        self._weights = [self._ort.OrtValue.ortvalue_from_numpy(array) for array in weights.values()]
        try:
            for name, value in zip(weights, self._weights, strict=True):
                # Not add_external_initializers: it copies them.
                options.add_initializer(name, value)
        except Exception as e:
            raise EngineFailed(
                f"onnxruntime {self._ort.__version__} refuses the weights of {artifact.path} ({e}); "
                "verify the artifact with: edge verify"
            ) from e
