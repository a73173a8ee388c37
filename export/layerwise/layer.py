"""One decoder layer as a session of its own, whose linear layers can be listened to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.artifact import ModelSpec
from export.architecture.decoder import describe_layer
from export.graph.builder import Value
from export.graph.onnxruntime_dialect import OnnxRuntimeDialect
from export.graph.weight_source import WeightSource
from export.graph.weight_store import WeightStore
from export.graph.weights_file import WeightsFile
from export.layerwise.session import open_session, running
from export.quantize import Recipe

Floats = NDArray[np.float32]
Taps = dict[str, Floats]
"""What goes into the linear layers [tokens, inputs], by the names of their weights joined with `+`."""

FULL_PRECISION = Recipe(weights="fp32")


class Layer:
    """Layer `index` of `spec` with float32 weights from `source`, over sequences of up to `tokens` tokens.

    A context manager. Its weights are a file in a temporary folder below `folder`, mapped while it is open.

    Raises:
        MissingExtra: onnxruntime is not installed.
        EngineFailed: it does not run the layer.
        StorageError: the disk is full.
    """

    def __init__(
        self,
        spec: ModelSpec,
        index: int,
        source: WeightSource,
        tokens: int,
        folder: Path,
        *,
        taps: bool = False,
    ) -> None:
        self._spec = replace(spec, context=tokens)
        self._index = index
        self._taps: list[str] = []
        self._folder = TemporaryDirectory(dir=folder, prefix="layer-")
        try:
            self._session = open_session(self._write(source, taps), self._folder.name)
        except BaseException:
            self._folder.cleanup()
            raise
        shape = (1, spec.kv_heads, tokens, spec.head_dim)
        self._caches = {kind: np.zeros(shape, np.float32) for kind in ("key", "value")}

    def _write(self, source: WeightSource, taps: bool) -> bytes:
        spec, index = self._spec, self._index
        with WeightsFile(Path(self._folder.name) / "weights.bin") as file:
            dialect = _LayerDialect(spec, WeightStore(source, FULL_PRECISION, file))
            stream, update = describe_layer(spec, dialect, index, dialect.stream(), None)
            outputs = [stream, update]
            if taps:
                self._taps = ["+".join(weights) for weights, _ in dialect.heard]
                outputs += [x for _, x in dialect.heard]
            model = dialect.finished(outputs)
        return bytes(model.SerializeToString())

    def run(self, hidden: Floats) -> tuple[Floats, Taps]:
        """Output of the layer for one sequence, float32 [tokens, hidden_size] both, and what was heard."""
        tokens = len(hidden)
        feeds: dict[str, Any] = {
            "input_ids": np.zeros((1, tokens), np.int64),
            "stream": hidden[None],
            "logit_positions": np.arange(tokens),
            "seqlens_k": np.array([tokens - 1], np.int32),
            "total_sequence_length": np.array([tokens], np.int32),
            **{f"past.{self._index}.{kind}": cache for kind, cache in self._caches.items()},
        }
        wanted = {value.name for value in self._session.get_inputs()}
        outputs = [
            value.name for value in self._session.get_outputs() if not value.name.startswith("present.")
        ]
        with running():
            found = self._session.run(outputs, {name: feeds[name] for name in wanted})
        stream, update, *heard = (x.reshape(tokens, -1) for x in found)
        return stream + update, dict(zip(self._taps, heard, strict=True))

    def close(self) -> None:
        """Let go of the session and of its file."""
        del self._session
        self._folder.cleanup()

    def __enter__(self) -> Layer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _LayerDialect(OnnxRuntimeDialect):
    """The dialect, keeping in mind what goes into which weights."""

    def __init__(self, spec: ModelSpec, weights: WeightStore) -> None:
        super().__init__(spec, weights)
        self.heard: list[tuple[Sequence[str], Value]] = []

    def stream(self) -> Value:
        """The hidden states that go into the layer."""
        return self._graph.input("stream", [1, "tokens", self._spec.hidden_size])

    def linear(self, x: Value, weights: Sequence[str], *, bias: bool) -> Value:
        """See `Builder.linear`."""
        self.heard.append((weights, x))
        return super().linear(x, weights, bias=bias)

    def wanted(self, x: Value) -> Value:
        """See `Builder.wanted`: all are, in a sequence of one batch."""
        return x

    def finished(self, outputs: Sequence[Value]) -> Any:
        """The graph with `outputs` for its own, which may hold the same value twice."""
        for value in dict.fromkeys(outputs):
            self._graph.output(value, ["batch", "tokens", "width"])
        return self.model()
