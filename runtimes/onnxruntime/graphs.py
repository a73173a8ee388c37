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
# Tensors that an error describes: decoders with their keys and values take many.
_MOST = 4


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
        known = [tensor.name for tensor in graph.outputs]
        # One name is a sequence too, of letters.
        wanted = known if outputs is None else [outputs] if isinstance(outputs, str) else list(outputs)
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
    if not isinstance(feeds, Mapping):
        raise InvalidArgument(
            f"graph {graph.name}: feeds is of type {type(feeds).__name__}; give a dict with {_listed(graph.inputs)}"
        )
    names = [tensor.name for tensor in graph.inputs]
    missing = [tensor for tensor in graph.inputs if tensor.name not in feeds]
    unknown = [str(name) for name in feeds if name not in names]
    if missing or unknown:
        wrong = [f"lacks {_listed(missing)}"] if missing else []
        wrong += [f"has no input {', '.join(unknown)}"] if unknown else []
        raise InvalidArgument(f"graph {graph.name} {' and '.join(wrong)}; it takes {', '.join(names)}")
    arrays = {tensor.name: _fitting(graph, tensor, feeds[tensor.name]) for tensor in graph.inputs}
    _check_sizes(graph, arrays)
    return arrays


def _fitting(graph: GraphEntry, tensor: GraphTensor, value: Any) -> Array:
    """`value` as the graph takes it; Python's own numbers become the type that is asked for."""
    where, takes = f"graph {graph.name}: {tensor.name}", f"the graph takes {_form(tensor)}"
    try:
        array = np.asarray(value) if hasattr(value, "dtype") else _converted(value, np.dtype(tensor.type))
    except (ValueError, TypeError, OverflowError) as e:
        raise InvalidArgument(f"{where} is no array of {tensor.type} ({e}); {takes}") from None
    if array.dtype != np.dtype(tensor.type):
        raise InvalidArgument(f"{where} is {array.dtype}, {takes}; convert it with .astype({tensor.type!r})")
    fits = len(array.shape) == len(tensor.shape) and all(
        isinstance(wanted, str) or size == wanted
        for size, wanted in zip(array.shape, tensor.shape, strict=True)
    )
    if not fits:
        raise InvalidArgument(f"{where} has shape {list(array.shape)}, {takes}")
    return np.asarray(array, order="C")


def _check_sizes(graph: GraphEntry, arrays: Mapping[str, Array]) -> None:
    """Sizes of one name are one number: the engine itself may compute something of others."""
    known: dict[str, tuple[int, str]] = {}
    for tensor in graph.inputs:
        for name, size in zip(tensor.shape, arrays[tensor.name].shape, strict=True):
            if isinstance(name, str) and known.setdefault(name, (size, tensor.name))[0] != size:
                before, other = known[name]
                raise InvalidArgument(
                    f"graph {graph.name}: {tensor.name} has shape {list(arrays[tensor.name].shape)}, the graph takes "
                    f"{_form(tensor)}, and {name} is {before} in {other}; give both the same"
                )


def _converted(value: Any, wanted: np.dtype[Any]) -> Array:
    """Lists of numbers as an array of the type `wanted`; nothing of them is cut off."""
    array, own = np.asarray(value, wanted), np.asarray(value)
    if own.size and (own.dtype.kind not in "biuf" or (own.dtype.kind == "f" and wanted.kind != "f")):
        raise TypeError(f"it holds {own.dtype.name}")
    return array


def _listed(tensors: Sequence[GraphTensor]) -> str:
    told = [f"{tensor.name} ({_form(tensor)})" for tensor in tensors[:_MOST]]
    return ", ".join(told) + (f" and {len(tensors) - _MOST} more" if len(tensors) > _MOST else "")


def _form(tensor: GraphTensor) -> str:
    """Type and shape, such as int64 [batch, 4]."""
    return f"{tensor.type} [{', '.join(map(str, tensor.shape))}]"
