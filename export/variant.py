"""A variant: the graph and the weights for one engine, in a folder of the artifact named after it."""

from __future__ import annotations

from pathlib import Path

from edge.artifact import ModelSpec, Part, Variant
from edge.errors import InvalidArgument
from export.architecture.decoder import describe
from export.graph.balanced_keys import BalancedKeys
from export.graph.cpu_dialect import CpuDialect
from export.graph.onnxruntime_dialect import OnnxRuntimeDialect
from export.graph.panels import LAYOUT, VERSION
from export.graph.weight_source import WeightSource
from export.graph.weight_store import WeightStore
from export.graph.weights_file import WeightsFile, writing
from export.graph.weights_index import NAME as INDEX
from export.graph.weights_index import weights_index
from export.quantize import Recipe

CPU, ONNXRUNTIME = "cpu", "onnxruntime"
ENGINES = (CPU, ONNXRUNTIME)
GRAPH, WEIGHTS = "model.onnx", "weights.bin"


def chosen_engine(engine: str | None, recipe: Recipe) -> str:
    """`engine`, or where it is None the one that runs weights of this recipe the fastest on a CPU.

    Raises:
        InvalidArgument: there is no such engine, or it does not take these weights.
    """
    if engine is None:
        return CPU if recipe.bits else ONNXRUNTIME
    if engine not in ENGINES:
        raise InvalidArgument(f"engine {engine!r} is unknown; choose one of {', '.join(ENGINES)}")
    if engine == CPU and not recipe.bits:
        raise InvalidArgument(
            f"engine {CPU} takes int4 and int8 weights, not {recipe.weights}; "
            f"choose such weights, or engine {ONNXRUNTIME}"
        )
    return engine


def write_variant(
    folder: Path, engine: str, spec: ModelSpec, recipe: Recipe, source: WeightSource
) -> tuple[tuple[Part, ...], Variant]:
    """Write the variant of `source` for `engine` below the artifact's `folder`; what its weights are made of.

    Raises:
        Unsupported, TensorError, StorageError
    """
    place = folder / engine
    with writing(place):
        place.mkdir()
    if recipe.bits:
        source = BalancedKeys(source, spec, recipe)
    with WeightsFile(place / WEIGHTS) as file:
        store = WeightStore(source, recipe, file)
        dialect = (CpuDialect if engine == CPU else OnnxRuntimeDialect)(spec, store)
        describe(spec, dialect)
        graph = dialect.model()
    with writing(place / GRAPH):
        (place / GRAPH).write_bytes(graph.SerializeToString())
    names = [GRAPH, WEIGHTS]
    if engine == CPU:
        with writing(place / INDEX):
            (place / INDEX).write_text(weights_index(graph.graph), encoding="utf-8")
        names.append(INDEX)
    return store.parts, Variant(
        engine=engine,
        dialect=engine,
        activation="int8" if recipe.bits else "float32",
        requires=dialect.requires,
        model=f"{engine}/{GRAPH}",
        files=tuple(f"{engine}/{name}" for name in names),
        layout=LAYOUT if engine == CPU else "",
        layout_version=VERSION if engine == CPU else 0,
    )
