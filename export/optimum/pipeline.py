"""export_graphs(): a model of optimum's becomes an artifact of graphs."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx

from edge.artifact import MANIFEST
from edge.artifact.graphs import GraphsManifest
from edge.errors import InvalidArgument
from edge.version import VERSION
from export.folder import artifact_folder, list_files, write_text
from export.graph.graph import OLDEST_ENGINE, newest
from export.graph.weights_file import WeightsFile, writing
from export.optimum.graph_pass import PassReport, quantize_graph
from export.optimum.interface import graph_entry
from export.optimum.run import FloatGraph, run_optimum
from export.optimum.shared_weights import SharedWeights
from export.optimum.source_graph import SourceGraph
from export.optimum.texts import copy_texts
from export.optimum.verify import Reference, check_float, graph_errors
from export.progress import Counter, Progress
from export.quantize import AUTO, Recipe
from export.usage import peak_rss_bytes

WEIGHTS = ("int4", "int8", "fp32")
METHODS = ("rtn", "hqq")
FOLDER, WEIGHTS_FILE = "graphs", "weights.bin"


@dataclass(frozen=True, kw_only=True)
class GraphReport:
    """What became of a graph: nodes that read codes, weights that stay float, and how far its outputs are from torch.

    Errors are relative, by output; `quantized_errors` is None where weights are floats.
    """

    name: str
    products: int
    embeddings: int
    floats: dict[str, int]
    float_errors: dict[str, float]
    quantized_errors: dict[str, float] | None


@dataclass(frozen=True, kw_only=True)
class GraphsReport:
    """What an export did. Sizes in bytes."""

    path: str
    source: str
    architecture: str
    task: str
    weights: str
    block: int | None
    method: str | None
    parameters: int
    matrices: int
    """Those that are quantized; what several graphs read is one."""
    bits_per_weight: float
    graphs: tuple[GraphReport, ...]
    file_bytes: int
    seconds: float
    peak_rss_bytes: int

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON object."""
        return asdict(self)


def export_graphs(
    source: str | Path,
    out: str | Path,
    *,
    weights: str = "int4",
    block: int = 32,
    zero_points: bool = False,
    method: str | None = None,
    task: str = "auto",
    force: bool = False,
    progress: Progress | None = None,
) -> GraphsReport:
    """Write the artifact `out` from a model that optimum exports: a folder of transformers, or a hub id.

    Optimum is run by the Python that EDGEWISE_OPTIMUM names, or the one at work. Its float graphs are compared with
    torch and refused where they differ; then products and embeddings are quantized, and compared again.

    Args:
        source: folder or `org/name[@revision]`, with safetensors.
        out: the artifact's folder.
        weights: int4, int8 or fp32.
        block: weights that share a scale: 32, 64 or 128.
        zero_points: a zero point beside each scale.
        method: rtn or hqq; auto, the default, is rtn, and hqq where there are zero points.
        task: what the model is for, in optimum's words, such as feature-extraction; auto finds it out.
        force: replace an artifact at `out`.
        progress: called with (stage, bytes done, bytes in all).

    Raises:
        InvalidArgument, CheckpointError, StorageError, MissingExtra, EngineError
    """
    started = time.perf_counter()
    recipe = _recipe(weights, block, zero_points, method)
    if not task or not task.replace("-", "").isalnum():
        raise InvalidArgument(f"task {task!r} is none; give one such as feature-extraction, or auto")
    report, out = progress or (lambda stage, done, total: None), Path(out)
    with artifact_folder(out, force=force) as folder:
        made = folder / ".optimum"
        report("torch to ONNX", 0, 1)
        with writing(folder):
            floats = run_optimum(str(source), task, made)
        references = {
            graph.name: [Reference.read(path) for path in graph.references] for graph in floats.graphs
        }
        wrong = {
            graph.name: _float_errors(graph, references[graph.name], report) for graph in floats.graphs
        }
        with writing(folder):
            (folder / FOLDER).mkdir()
        entries, passed, requires = [], {}, OLDEST_ENGINE
        total = sum(graph.path.stat().st_size for graph in floats.graphs)
        counter = Counter(report, "quantize" if recipe.bits else "write", total)
        with WeightsFile(folder / FOLDER / WEIGHTS_FILE) as file:
            shared = SharedWeights(recipe, file)
            for graph in floats.graphs:
                size = graph.path.stat().st_size
                entry, passed[graph.name] = _write(folder, graph, shared)
                requires = newest(requires, passed[graph.name].requires)
                entries.append(entry)
                counter.add(size)
        graphs = tuple(
            GraphReport(
                name=graph.name,
                products=passed[graph.name].products,
                embeddings=passed[graph.name].embeddings,
                floats=dict(passed[graph.name].kept),
                float_errors=wrong[graph.name],
                quantized_errors=graph_errors(
                    folder / FOLDER / f"{graph.name}.onnx", references[graph.name]
                )
                if recipe.bits
                else None,
            )
            for graph in floats.graphs
        )
        copy_texts(made, folder)
        shutil.rmtree(made)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        manifest = GraphsManifest(
            name=Path(os.path.abspath(out)).name.removesuffix(".edge"),
            architecture=floats.architecture,
            task=floats.task,
            recipe=recipe.to_json(),
            requires=requires,
            parameters=shared.parameters,
            weight_bytes=shared.nbytes,
            weights=f"{FOLDER}/{WEIGHTS_FILE}",
            graphs=tuple(entries),
            provenance={
                "source": _origin(source),
                "edgewise": VERSION,
                "via": floats.versions,
                "errors": {
                    graph.name: {"float": graph.float_errors, "quantized": graph.quantized_errors}
                    for graph in graphs
                },
            },
            files=list_files(folder, Counter(report, "checksums", size).add),
        )
        size += write_text(folder / MANIFEST, manifest.dumps())
    return GraphsReport(
        path=str(out),
        source=str(source),
        architecture=manifest.architecture,
        task=manifest.task,
        weights=weights,
        block=block if recipe.bits else None,
        method=recipe.method if recipe.bits else None,
        parameters=shared.parameters,
        matrices=shared.matrices,
        bits_per_weight=manifest.bits_per_weight,
        graphs=graphs,
        file_bytes=size,
        seconds=time.perf_counter() - started,
        peak_rss_bytes=peak_rss_bytes(),
    )


def _recipe(weights: str, block: int, zero_points: bool, method: str | None) -> Recipe:
    if weights not in WEIGHTS:
        raise InvalidArgument(
            f"weights {weights!r} are not offered for graphs of optimum; choose one of {', '.join(WEIGHTS)}"
        )
    if method in (None, AUTO):
        method = "hqq" if zero_points else "rtn"
    if method not in METHODS:
        raise InvalidArgument(
            f"method {method!r} reads a text, which only decoders of ours do; choose one of {', '.join(METHODS)}"
        )
    return Recipe(weights=weights, block=block, zero_points=zero_points, method=method)


def _float_errors(graph: FloatGraph, references: list[Reference], progress: Progress) -> dict[str, float]:
    # Read with care before ONNX Runtime is given it.
    SourceGraph(graph.path).close()
    progress("compare with torch", 0, 1)
    errors = graph_errors(graph.path, references)
    check_float(graph.name, errors)
    return errors


def _write(folder: Path, graph: FloatGraph, shared: SharedWeights) -> tuple[Any, PassReport]:
    """Quantize a graph into the artifact; its entry in the manifest."""
    source = SourceGraph(graph.path)
    try:
        model, passed = quantize_graph(source, shared)
    finally:
        source.close()
    name = f"{FOLDER}/{graph.name}.onnx"
    with writing(folder / name):
        onnx.save_model(model, folder / name)
    return graph_entry(graph.name, name, model.graph), passed


def _origin(source: str | Path) -> str:
    """Of a folder its name: a path says where someone keeps his files."""
    path = Path(source)
    return path.resolve().name if path.is_dir() else str(source)
