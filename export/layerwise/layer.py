"""One decoder layer as a session of its own, whose linear layers can be listened to."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, NamedTuple

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
"""What goes into the linear layers [tokens, inputs], or comes out, by the names of their weights joined with `+`."""


class Heard(NamedTuple):
    """What was asked to be told of a run; empty what was not."""

    inputs: Taps
    outputs: Taps


FULL_PRECISION = Recipe(weights="fp32")


class Layer:
    """Layer `index` of `spec` with float32 weights from `source`, over sequences of up to `tokens` tokens.

    `taps` names what is to be told of its linear layers: inputs, outputs.
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
        taps: Collection[str] = (),
    ) -> None:
        self._spec = replace(spec, context=tokens)
        self._index = index
        # What is told under which name, and the two that the layer's output is the sum of.
        self._taps: dict[str, dict[str, Value]] = {}
        self._sum: tuple[Value, Value] = ("", "")
        self._folder = TemporaryDirectory(dir=folder, prefix="layer-")
        try:
            self._session = open_session(self._write(source, taps), self._folder.name)
        except BaseException:
            self._folder.cleanup()
            raise
        shape = (1, spec.kv_heads, tokens, spec.head_dim)
        self._caches = {kind: np.zeros(shape, np.float32) for kind in ("key", "value")}

    def _write(self, source: WeightSource, taps: Collection[str]) -> bytes:
        spec, index = self._spec, self._index
        with WeightsFile(Path(self._folder.name) / "weights.bin") as file:
            dialect = _LayerDialect(spec, WeightStore(source, FULL_PRECISION, file))
            stream, update = describe_layer(spec, dialect, index, dialect.stream(), None)
            self._sum = stream, update
            told = {"inputs": 1, "outputs": 2}
            self._taps = {
                kind: {"+".join(heard[0]): str(heard[told[kind]]) for heard in dialect.heard} for kind in taps
            }
            model = dialect.finished(self._outputs())
        return bytes(model.SerializeToString())

    def _outputs(self) -> list[Value]:
        return list(
            dict.fromkeys([*self._sum, *(v for names in self._taps.values() for v in names.values())])
        )

    def run(self, hidden: Floats) -> tuple[Floats, Heard]:
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
        outputs = self._outputs()
        with running():
            values = self._session.run(outputs, {name: feeds[name] for name in wanted})
        found = {name: x.reshape(tokens, -1) for name, x in zip(outputs, values, strict=True)}
        stream, update = (found[name] for name in self._sum)
        taps = {
            kind: {name: found[value] for name, value in told.items()} for kind, told in self._taps.items()
        }
        return stream + update, Heard(taps.get("inputs", {}), taps.get("outputs", {}))

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
    """The dialect, keeping in mind what goes into which weights, and comes out."""

    def __init__(self, spec: ModelSpec, weights: WeightStore) -> None:
        super().__init__(spec, weights)
        self.heard: list[tuple[Sequence[str], Value, Value]] = []

    def stream(self) -> Value:
        """The hidden states that go into the layer."""
        return self._graph.input("stream", [1, "tokens", self._spec.hidden_size])

    def linear(self, x: Value, weights: Sequence[str], *, bias: bool) -> Value:
        """See `Builder.linear`."""
        y = super().linear(x, weights, bias=bias)
        self.heard.append((weights, x, y))
        return y

    def wanted(self, x: Value) -> Value:
        """See `Builder.wanted`: all are, in a sequence of one batch."""
        return x

    def finished(self, outputs: Sequence[Value]) -> Any:
        """The graph with `outputs` for its own, which may hold the same value twice."""
        for value in dict.fromkeys(outputs):
            self._graph.output(value, ["batch", "tokens", "width"])
        return self.model()
