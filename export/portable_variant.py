"""The variants for TensorRT: both forms of the portable dialect, over one weights file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import onnx

from edge.artifact import ModelSpec, Part, Variant
from edge.errors import InvalidArgument
from export.architecture.decoder import describe
from export.graph.portable_dialect import PortableDialect
from export.graph.portable_form import FORMS, Form
from export.graph.portable_tables import RopeTables
from export.graph.positive_scales import PositiveScales
from export.graph.static_kv import Largest
from export.graph.weight_source import WeightSource
from export.graph.weight_store import WeightStore
from export.graph.weights_file import WeightsFile
from export.quantize import Precision, Recipe

TENSORRT = "tensorrt"
BITS = (4, 8)
_ADVICE = "leave out --zero-points, or export with --no-keep where the checkpoint has them"


def check_symmetric(recipe: Recipe) -> None:
    """What TensorRT's DequantizeLinear does not take is refused.

    Raises:
        InvalidArgument: naming the first tensor with zero points, or codes of other than 4 or 8 bits.
    """
    if recipe.weights == "fp32":
        raise InvalidArgument(
            f"engine {TENSORRT} computes in float16, and weights are fp32; choose --weights fp16, int8 or int4"
        )
    if recipe.bits:
        _check("model.embed_tokens", recipe.of("model.embed_tokens"))
        _check("every matrix that is not named", recipe.precision)
    for name, precision in recipe.tensors.items():
        _check(name, precision)


def _check(tensor: str, precision: Precision) -> None:
    if precision.zero_points:
        raise InvalidArgument(f"engine {TENSORRT} takes no zero points, and {tensor} has them; {_ADVICE}")
    if precision.bits not in BITS:
        raise InvalidArgument(
            f"engine {TENSORRT} takes codes of 4 and 8 bits, and {tensor} has {precision.bits}; "
            f"export it for {TENSORRT} from the checkpoint"
        )


def graph_name(form: Form) -> str:
    """The file of a form's graph, in the variant's folder."""
    return f"{form.name}.onnx"


def write_forms(
    folder: Path,
    weights: str,
    spec: ModelSpec,
    recipe: Recipe,
    source: WeightSource,
    kv: Sequence[Largest] | None = None,
) -> tuple[tuple[Part, ...], dict[Form, onnx.ModelProto]]:
    """Write the file `weights` in `folder`; what it is made of, and the graph of each form, which are not written.

    With `kv`, how large keys and values get, KV is int8, and there are only the forms that hold such.

    Raises:
        InvalidArgument, TensorError, StorageError
    """
    check_symmetric(recipe)
    if recipe.bits:
        source = PositiveScales(source, recipe)
    with WeightsFile(folder / weights) as file:
        store = WeightStore(source, recipe, file, "float16")
        tables = RopeTables.stored(spec, store)
        graphs = {
            form: _graph(spec, store, form, tables, kv) for form in FORMS if kv is None or not form.in_place
        }
    return store.parts, graphs


def _graph(
    spec: ModelSpec, store: WeightStore, form: Form, tables: RopeTables, kv: Sequence[Largest] | None
) -> onnx.ModelProto:
    dialect = PortableDialect(spec, store, form, tables, kv)
    describe(spec, dialect)
    return dialect.model()


def variants(forms: Iterable[Form], weights: str) -> tuple[Variant, ...]:
    """Of `forms`, as the manifest has them: one each, since they ask for different versions."""
    return tuple(
        Variant(
            engine=TENSORRT,
            dialect=f"portable-{form.name}",
            activation="float16",
            requires=form.requires,
            model=f"{TENSORRT}/{graph_name(form)}",
            files=(f"{TENSORRT}/{graph_name(form)}", f"{TENSORRT}/{weights}"),
        )
        for form in forms
    )
