"""Graphs packed into an artifact: their weights in one file, an entry for each in the manifest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from edge.artifact import MANIFEST, GraphEntry, GraphsManifest
from export.folder import list_files, write_text
from export.graph.graph import OLDEST_ENGINE, newest
from export.graph.weights_file import WeightsFile, writing
from export.optimum.graph_pass import PassReport, quantize_graph
from export.optimum.interface import graph_entry
from export.optimum.run import FloatGraph
from export.optimum.shared_weights import SharedWeights
from export.optimum.source_graph import SourceGraph
from export.progress import Counter, Progress
from export.quantize import Recipe

_FOLDER = "graphs"
_WEIGHTS = f"{_FOLDER}/weights.bin"


@dataclass(frozen=True, kw_only=True)
class Packed:
    """What lies in the folder of an artifact that has no manifest yet."""

    entries: tuple[GraphEntry, ...]
    passed: dict[str, PassReport]
    """By the names of the graphs."""
    matrices: int
    parameters: int
    weight_bytes: int

    def write_manifest(self, folder: Path, progress: Progress, **told: Any) -> tuple[GraphsManifest, int]:
        """Hash all of `folder` and write its edge.json with what is `told`; it, and the bytes of all files with it.

        Raises:
            StorageError
        """
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        manifest = GraphsManifest(
            requires=newest(OLDEST_ENGINE, *(passed.requires for passed in self.passed.values())),
            parameters=self.parameters,
            weight_bytes=self.weight_bytes,
            weights=_WEIGHTS,
            graphs=self.entries,
            files=list_files(folder, Counter(progress, "checksums", size).add),
            **told,
        )
        return manifest, size + write_text(folder / MANIFEST, manifest.dumps())


def pack(folder: Path, graphs: Sequence[FloatGraph], recipe: Recipe, progress: Progress) -> Packed:
    """Write the graphs into `folder`, a graph at a time in memory.

    Raises:
        CheckpointError, StorageError
    """
    with writing(folder):
        (folder / _FOLDER).mkdir()
    sizes = [graph.path.stat().st_size for graph in graphs]
    counter = Counter(progress, "quantize" if recipe.bits else "write", sum(sizes))
    entries: list[GraphEntry] = []
    passed: dict[str, PassReport] = {}
    with WeightsFile(folder / _WEIGHTS) as file:
        shared = SharedWeights(recipe, file)
        for graph, size in zip(graphs, sizes, strict=True):
            source = SourceGraph(graph.path)
            try:
                model, passed[graph.name] = quantize_graph(source, shared)
            finally:
                source.close()
            name = f"{_FOLDER}/{graph.name}.onnx"
            with writing(folder / name):
                onnx.save_model(model, folder / name)
            entries.append(graph_entry(graph.name, name, model.graph))
            counter.add(size)
    return Packed(
        entries=tuple(entries),
        passed=passed,
        matrices=shared.matrices,
        parameters=shared.parameters,
        weight_bytes=shared.nbytes,
    )
