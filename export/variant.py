"""A variant: the graph and the weights for one engine, in a folder of the artifact named after it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx

from edge.artifact import ModelSpec, Part, Variant
from edge.artifact.kv import default_kv, kv_names
from edge.artifact.pages import KV_NAMES
from edge.errors import InvalidArgument
from export.architecture.decoder import describe
from export.cuda_variant import CUDA, check_embedding, check_half
from export.graph.balanced_keys import BalancedKeys
from export.graph.cpu_dialect import CpuDialect
from export.graph.graph import newest
from export.graph.onnxruntime_dialect import OnnxRuntimeDialect
from export.graph.panels import LAYOUT, VERSION
from export.graph.static_kv import OLDEST_FOR_STATIC_KV, Largest, quantize_kv
from export.graph.weight_source import WeightSource
from export.graph.weight_store import WeightStore
from export.graph.weights_file import WeightsFile, writing
from export.graph.weights_index import NAME as INDEX
from export.graph.weights_index import weights_index
from export.portable_variant import TENSORRT, check_symmetric, graph_name, variants, write_forms
from export.quantize import Recipe

CPU, ONNXRUNTIME = "cpu", "onnxruntime"
ENGINES = (CPU, ONNXRUNTIME, TENSORRT, CUDA)
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
    if engine == TENSORRT:
        check_symmetric(recipe)
    if engine == CUDA:
        check_half(recipe)
    return engine


def chosen_kv(kv: str | None, engine: str) -> str | None:
    """The type that a graph for `engine` is to keep KV as, by the name that users call it; None where a load says.

    Raises:
        InvalidArgument: there is no such type, or it is none to choose at export.
    """
    if engine != CPU:
        able = kv_names(engine)
        if kv is not None and kv not in able:
            one = "one of " if len(able) > 1 else ""
            raise InvalidArgument(f"kv is {kv!r}; engine {engine} keeps KV as {one}{', '.join(able)}")
        return KV_NAMES[kv] if kv is not None else default_kv(engine)
    if kv is not None:
        raise InvalidArgument(
            f"kv is {kv!r}, and engine {CPU} is told what to keep KV as when it loads (edge run --kv {kv}); "
            f"leave it out, or export with --engine {ONNXRUNTIME}"
        )
    return None


def write_variant(
    folder: Path,
    engine: str,
    spec: ModelSpec,
    recipe: Recipe,
    source: WeightSource,
    calibrate: Callable[[Path], list[Largest]] | None = None,
    kv: str = "float32",
) -> tuple[tuple[Part, ...], tuple[Variant, ...]]:
    """Write the variants of `source` for `engine` below the artifact's `folder`; what their weights are made of.

    Where there is `calibrate`, KV is kept as codes of the type `kv`: it is given the path of the onnxruntime graph that
    keeps float32, which is written first, and says how large keys and values get.

    Raises:
        InvalidArgument, Unsupported, TensorError, StorageError, and what `calibrate` raises
    """
    if engine == CUDA:
        check_embedding(spec, recipe)
    place = folder / engine
    with writing(place):
        place.mkdir()
    if recipe.bits:
        source = BalancedKeys(source, spec, recipe)
    if engine == TENSORRT:
        largest = None
        if calibrate is not None:
            # KV is calibrated on a graph that runs here.
            with TemporaryDirectory(prefix=".calibration-", dir=folder) as scratch:
                write_variant(Path(scratch), ONNXRUNTIME, spec, recipe, source)
                largest = calibrate(Path(scratch) / ONNXRUNTIME / GRAPH)
        parts, forms = write_forms(place, WEIGHTS, spec, recipe, source, largest)
        for form, model in forms.items():
            _write_graph(place / graph_name(form), model)
        return parts, variants(forms, WEIGHTS)
    with WeightsFile(place / WEIGHTS) as file:
        store = WeightStore(source, recipe, file, "float16" if engine == CUDA else "float32")
        dialect = (CpuDialect if engine == CPU else OnnxRuntimeDialect)(spec, store)
        describe(spec, dialect)
        graph = dialect.model()
    _write_graph(place / GRAPH, graph)
    requires = dialect.requires
    if calibrate is not None:
        quantize_kv(graph, calibrate(place / GRAPH), kv)
        requires = newest(requires, OLDEST_FOR_STATIC_KV)
        _write_graph(place / GRAPH, graph)
    names = [GRAPH, WEIGHTS]
    if engine == CPU:
        with writing(place / INDEX):
            (place / INDEX).write_text(weights_index(graph.graph), encoding="utf-8")
        names.append(INDEX)
    variant = Variant(
        engine=engine,
        dialect=CPU if engine == CPU else ONNXRUNTIME,
        activation="float16" if engine == CUDA else "int8" if recipe.bits else "float32",
        requires=requires,
        model=f"{engine}/{GRAPH}",
        files=tuple(f"{engine}/{name}" for name in names),
        layout=LAYOUT if engine == CPU else "",
        layout_version=VERSION if engine == CPU else 0,
    )
    return store.parts, (variant,)


def _write_graph(path: Path, graph: onnx.ModelProto) -> None:
    with writing(path):
        path.write_bytes(graph.SerializeToString())
