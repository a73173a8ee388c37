"""Graphs that are no decoder of ours on ONNX Runtime: a plain session each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.artifact import GraphArtifact, GraphEntry, GraphTensor
from edge.errors import ArtifactCorrupt, EngineFailed, InvalidArgument
from runtimes.onnxruntime.session import check_version, failed, load_graph, onnxruntime, session_options

Array = NDArray[Any]
_TYPES = {"float": "float32", "double": "float64"}
"""Of tensors, where ONNX Runtime names them otherwise than NumPy."""


class GraphSessions:
    """A session for each graph of an artifact, opened when the graph is first run. Safe to use from several threads.

    Raises:
        MissingExtra, EngineTooOld, EngineFailed
    """

    def __init__(self, artifact: GraphArtifact, threads: int) -> None:
        self._ort = onnxruntime()
        check_version(self._ort.__version__, artifact.manifest.requires)
        self._artifact, self._threads = artifact, threads
        self._sessions: dict[str, Any] = {}
        self._lock = Lock()
        self._closed = False

    def run(
        self, graph: GraphEntry, feeds: Mapping[str, Any], outputs: Sequence[str] | None = None
    ) -> dict[str, Array]:
        """The named outputs of `graph`, by default all of them.

        Raises:
            InvalidArgument: inputs or outputs that the graph does not have, or of another type or shape.
            ArtifactCorrupt, EngineFailed
        """
        wanted = [tensor.name for tensor in graph.outputs] if outputs is None else list(outputs)
        known = [tensor.name for tensor in graph.outputs]
        for name in wanted:
            if name not in known:
                raise InvalidArgument(f"graph {graph.name} has no output {name!r}; it has {', '.join(known)}")
        arrays = _checked(graph, feeds)
        session = self._session(graph)
        try:
            found = session.run(wanted, arrays)
        except Exception as e:
            raise failed(f"run graph {graph.name}", e) from e
        return dict(zip(wanted, found, strict=True))

    def close(self) -> None:
        """Release the sessions; nothing can be run afterwards."""
        with self._lock:
            self._closed = True
            self._sessions.clear()

    def _session(self, graph: GraphEntry) -> Any:
        with self._lock:
            if self._closed:
                raise EngineFailed("the graphs are closed; load the artifact again")
            if graph.name not in self._sessions:
                options = session_options(self._ort, self._threads, spin=False)
                files = [self._artifact.manifest.weights]
                session = load_graph(self._ort, self._artifact, graph.model, files, options)
                self._check(session, graph)
                self._sessions[graph.name] = session
            return self._sessions[graph.name]

    def _check(self, session: Any, graph: GraphEntry) -> None:
        """Check that the graph is the manifest's."""
        for what, listed, found in (
            ("inputs", graph.inputs, session.get_inputs()),
            ("outputs", graph.outputs, session.get_outputs()),
        ):
            there = {value.name: _type(value.type) for value in found}
            if there != {tensor.name: tensor.type for tensor in listed}:
                raise ArtifactCorrupt(
                    f"{self._artifact.path / graph.model}: its {what} are {there}, not those of the manifest; "
                    "export the artifact again"
                )


def _type(text: str) -> str:
    """NumPy's name of `tensor(...)`."""
    name = text.removeprefix("tensor(").removesuffix(")")
    return _TYPES.get(name, name)


def _checked(graph: GraphEntry, feeds: Mapping[str, Any]) -> dict[str, Array]:
    names = [tensor.name for tensor in graph.inputs]
    unknown = [str(name) for name in feeds if name not in names]
    missing = [name for name in names if name not in feeds]
    if unknown or missing:
        what = f"lacks {', '.join(missing)}" if missing else f"has no input {', '.join(unknown)}"
        raise InvalidArgument(f"graph {graph.name} {what}; it takes {', '.join(names)}")
    return {tensor.name: _fitting(graph, tensor, feeds[tensor.name]) for tensor in graph.inputs}


def _fitting(graph: GraphEntry, tensor: GraphTensor, value: Any) -> Array:
    """`value` as the graph takes it; Python's own numbers become the type that is asked for."""
    where = f"graph {graph.name}: {tensor.name}"
    try:
        array = np.asarray(value) if hasattr(value, "dtype") else np.asarray(value, tensor.type)
    except (ValueError, TypeError, OverflowError) as e:
        raise InvalidArgument(f"{where} is no array of {tensor.type} ({e})") from None
    if array.dtype != np.dtype(tensor.type):
        raise InvalidArgument(
            f"{where} is {array.dtype}, the graph takes {tensor.type}; convert it with .astype({tensor.type!r})"
        )
    fits = len(array.shape) == len(tensor.shape) and all(
        isinstance(wanted, str) or size == wanted
        for size, wanted in zip(array.shape, tensor.shape, strict=True)
    )
    if not fits:
        shape = ", ".join(map(str, tensor.shape))
        raise InvalidArgument(f"{where} has shape {list(array.shape)}, the graph takes [{shape}]")
    return np.asarray(array, order="C")
