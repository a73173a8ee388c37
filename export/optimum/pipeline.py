"""export_graphs(): a model of optimum's becomes an artifact of graphs."""

from __future__ import annotations

import os
import re
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edge.errors import InvalidArgument
from edge.version import VERSION
from export.folder import artifact_folder
from export.layerwise.session import onnxruntime
from export.optimum.pack import pack
from export.optimum.run import FloatGraph, run_optimum
from export.optimum.source_graph import SourceGraph
from export.optimum.texts import copy_texts
from export.optimum.verify import Reference, check_float, graph_errors
from export.progress import Progress
from export.quantize import AUTO, Recipe
from export.usage import peak_rss_bytes

WEIGHTS = ("int4", "int8", "fp32")
METHODS = ("rtn", "hqq")


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
    weights: str = "int8",
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
        progress: called with (stage, parts done, parts in all).

    Raises:
        OutputExists: `out` is there and `force` is not given, or is no artifact.
        InvalidArgument, CheckpointError, StorageError, MissingExtra, EngineError
    """
    started = time.perf_counter()
    recipe = _recipe(weights, block, zero_points, method)
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", task):
        raise InvalidArgument(f"task {task!r} is none; give one such as feature-extraction, or auto")
    # What is missing is told before optimum has worked for minutes.
    onnxruntime()
    report, out = progress or (lambda stage, done, total: None), Path(out)
    name = Path(os.path.abspath(out)).name.removesuffix(".edge")
    with artifact_folder(out, force=force) as folder:
        made = folder / ".optimum"
        floats = run_optimum(str(source), task, made, report)
        references = {graph.name: tuple(map(Reference.read, graph.references)) for graph in floats.graphs}
        exact: dict[str, Any] = {}
        for done, graph in enumerate(floats.graphs):
            report("compare floats with torch", done, len(floats.graphs))
            exact[graph.name] = _float_errors(graph, references[graph.name])
        packed = pack(folder, floats.graphs, recipe, report)
        coded: dict[str, Any] = dict.fromkeys(exact)
        for done, entry in enumerate(packed.entries if recipe.bits else ()):
            report("compare codes with torch", done, len(packed.entries))
            coded[entry.name] = graph_errors(folder / entry.model, references[entry.name])
        copy_texts(made, folder)
        shutil.rmtree(made)
        manifest, file_bytes = packed.write_manifest(
            folder,
            report,
            name=name,
            architecture=floats.architecture,
            task=floats.task,
            recipe=recipe.to_json(),
            provenance={
                "source": _origin(source),
                "edgewise": VERSION,
                "via": floats.versions,
                "errors": {key: {"float": exact[key], "quantized": coded[key]} for key in exact},
            },
        )
    return GraphsReport(
        path=str(out),
        source=str(source),
        architecture=manifest.architecture,
        task=manifest.task,
        weights=weights,
        block=block if recipe.bits else None,
        method=recipe.method if recipe.bits else None,
        parameters=manifest.parameters,
        matrices=packed.matrices,
        bits_per_weight=manifest.bits_per_weight,
        graphs=tuple(
            GraphReport(
                name=key,
                products=passed.products,
                embeddings=passed.embeddings,
                floats=dict(passed.floats),
                float_errors=exact[key],
                quantized_errors=coded[key],
            )
            for key, passed in packed.passed.items()
        ),
        file_bytes=file_bytes,
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


def _float_errors(graph: FloatGraph, references: tuple[Reference, ...]) -> dict[str, float]:
    # Read with care before ONNX Runtime is given it.
    SourceGraph(graph.path).close()
    errors = graph_errors(graph.path, references)
    check_float(graph.name, errors)
    return errors


def _origin(source: str | Path) -> str:
    """Of a folder its name: a path says where someone keeps his files."""
    path = Path(source)
    return path.resolve().name if path.is_dir() else str(source)
