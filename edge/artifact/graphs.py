"""The manifest of graphs that are no decoder of ours: an encoder, the three of Whisper, an embedding model."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from edge.artifact.fields import (
    read_dataclass,
    read_dataclasses,
    read_free_object,
    read_list,
    read_object,
    shown,
)
from edge.artifact.manifest import GRAPHS, GRAPHS_FORMAT, VERSION_TEXT, FileEntry, read_header
from edge.errors import ArtifactCorrupt
from edge.version import VERSION

TENSOR_TYPES = (
    "float32",
    "float16",
    "float64",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "bool",
)
"""Of inputs and outputs, by their names in NumPy."""


@dataclass(frozen=True, kw_only=True)
class GraphTensor:
    """An input or output of a graph; a size is a number, or a name where any will do."""

    name: str
    type: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True, kw_only=True)
class GraphEntry:
    """A graph: its file, and the tensors that it takes and gives."""

    name: str
    model: str
    inputs: tuple[GraphTensor, ...]
    outputs: tuple[GraphTensor, ...]


@dataclass(frozen=True, kw_only=True)
class GraphsManifest:
    """All of edge.json where its kind is `graphs`. `requires` is the oldest ONNX Runtime that runs them.

    `weights` is the file that all graphs read their weights from; sizes in bytes.
    """

    name: str
    architecture: str
    task: str
    recipe: dict[str, Any]
    requires: str
    parameters: int
    weight_bytes: int
    weights: str
    graphs: tuple[GraphEntry, ...]
    provenance: dict[str, Any]
    files: tuple[FileEntry, ...]
    kind: str = GRAPHS
    format: int = GRAPHS_FORMAT

    @property
    def bits_per_weight(self) -> float:
        """Scales, zero points and what stays float included."""
        return 8 * self.weight_bytes / max(1, self.parameters)

    def dumps(self) -> str:
        """The text of edge.json."""
        data = {"format": self.format, "kind": self.kind, "edgewise": VERSION, **asdict(self)}
        return json.dumps(data, indent=1) + "\n"

    @classmethod
    def loads(cls, text: str) -> GraphsManifest:
        """Read what `dumps` wrote.

        Raises:
            ArtifactTooNew: a later format version.
            ArtifactCorrupt: no JSON, a key missing, unknown or of the wrong type, or a contradiction.
        """
        data = read_header(text)
        if data.get("kind") != GRAPHS:
            raise ArtifactCorrupt(
                f"edge.json: kind is {shown(data.get('kind'))}, expected {GRAPHS!r}; export the artifact again"
            )
        data["files"] = read_dataclasses(FileEntry, "files", data.get("files"))
        for key in ("recipe", "provenance"):
            data[key] = read_free_object(key, data.get(key))
        graphs = read_list("graphs", data.get("graphs"))
        data["graphs"] = tuple(_graph(f"graphs[{i}]", graph) for i, graph in enumerate(graphs))
        manifest = read_dataclass(cls, "the manifest", data)
        manifest._check()
        return manifest

    def _check(self) -> None:
        paths, names = [entry.path for entry in self.files], [graph.name for graph in self.graphs]
        for what, listed in (("file", paths), ("graph", names)):
            twice = next((name for name, count in Counter(listed).items() if count > 1), None)
            if twice is not None:
                raise ArtifactCorrupt(
                    f"edge.json lists the {what} {shown(twice)} twice; export the artifact again"
                )
        if not names:
            raise ArtifactCorrupt("edge.json lists no graph; export the artifact again")
        for name in (self.weights, *(graph.model for graph in self.graphs)):
            if name not in paths:
                raise ArtifactCorrupt(
                    f"edge.json names {shown(name)}, which is not listed; export the artifact again"
                )
        if not VERSION_TEXT.fullmatch(self.requires):
            raise ArtifactCorrupt(
                f"edge.json: requires is {shown(self.requires)}, expected a version such as 1.23.2; "
                "export the artifact again"
            )


def _graph(where: str, data: Any) -> GraphEntry:
    values = dict(read_object(where, data))
    for key in ("inputs", "outputs"):
        tensors = read_list(f"{where}.{key}", values.get(key))
        values[key] = tuple(_tensor(f"{where}.{key}[{i}]", tensor) for i, tensor in enumerate(tensors))
    return read_dataclass(GraphEntry, where, values)


def _tensor(where: str, data: Any) -> GraphTensor:
    values = dict(read_object(where, data))
    sizes = read_list(f"{where}.shape", values.get("shape"))
    for size in sizes:
        whole = isinstance(size, int) and not isinstance(size, bool) and 0 <= size < 1 << 63
        if not whole and not isinstance(size, str):
            raise ArtifactCorrupt(
                f"edge.json: {where}.shape holds {shown(size)}, expected sizes and names; export the artifact again"
            )
    # Checked above; a union is no type that fields are read as.
    tensor = read_dataclass(GraphTensor, where, {**values, "shape": ()})
    if tensor.type not in TENSOR_TYPES:
        raise ArtifactCorrupt(
            f"edge.json: {where}.type is {shown(tensor.type)}, expected one of {', '.join(TENSOR_TYPES)}; "
            "export the artifact again"
        )
    return GraphTensor(name=tensor.name, type=tensor.type, shape=tuple(sizes))
