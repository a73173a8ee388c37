"""The graph that an engine is built from: the form that a TensorRT reads, for a cache of one capacity."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import onnx
from onnx import TensorProto

from edge.artifact import Artifact, Variant
from edge.errors import ArtifactCorrupt, EngineTooOld, InvalidArgument
from export.graph.capacity import with_capacity
from export.graph.portable_form import FORMS
from export.portable_variant import TENSORRT
from runtimes.tensorrt.header import TENSORRT_RTX, Shapes, title

# Protobuf's own limit.
_LARGEST = (2 << 30) - 1

Dims = tuple[int, ...]


def chosen_variant(artifact: Artifact, flavour: str, version: str, form: str | None) -> Variant:
    """The variant in `form`, by default in the newest that this TensorRT reads and the artifact has.

    Raises:
        EngineError: the artifact has none for TensorRT.
        InvalidArgument: it has none in that form.
        EngineTooOld: this TensorRT reads none of its forms.
    """
    artifact.variant(TENSORRT)
    names = {f"portable-{known.name}": known.name for known in FORMS}
    have = {
        names[variant.dialect]: variant
        for variant in artifact.manifest.variants
        if variant.engine == TENSORRT and variant.dialect in names
    }
    if form is not None and form not in have:
        raise InvalidArgument(f"{artifact.path} has no form {form}; it has: {', '.join(have) or 'none'}")
    wanted = [form] if form is not None else [known.name for known in FORMS if known.name in have]
    for name in wanted:
        # TensorRT for RTX counts its own versions, and all of them read all forms.
        if flavour == TENSORRT_RTX or _numbers(version) >= _numbers(have[name].requires):
            return have[name]
    needs = min((have[name].requires for name in wanted), key=_numbers, default="a newer one")
    raise EngineTooOld(
        f"{title(flavour, version)} reads none of {', '.join(wanted) or 'the forms'} of {artifact.path}: that takes "
        f"TensorRT {needs}, which JetPack 6.1 and newer have"
    )


def form_name(variant: Variant) -> str:
    """Of the portable dialect, such as opset24."""
    return variant.dialect.removeprefix("portable-")


def read_graph(path: Path, capacity: int | None = None) -> onnx.ModelProto:
    """The graph in `path`, its weights left in their file; for a cache of `capacity` tokens where that is said.

    Raises:
        ArtifactCorrupt: it is larger than Protobuf reads, or no graph.
        InvalidArgument: the model's context has no `capacity` tokens.
    """
    size = path.stat().st_size
    if size > _LARGEST:
        raise ArtifactCorrupt(
            f"{path} has {size} bytes, and a graph of 2 GB or more cannot be read; weights belong in a file beside "
            "it, as external data: export the artifact again"
        )
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception:  # Protobuf's own, which has no name in onnx
        raise ArtifactCorrupt(f"{path} is no ONNX graph; export the artifact again") from None
    return model if capacity is None else with_capacity(model, capacity)


def kv_type(model: onnx.ModelProto) -> str:
    """What the graph keeps KV as."""
    kinds = {TensorProto.FLOAT16: "float16", TensorProto.INT8: "int8"}
    past = next(value for value in model.graph.input if value.name.startswith("past."))
    return kinds[past.type.tensor_type.elem_type]


def input_shapes(model: onnx.ModelProto, capacity: int, profile: Shapes) -> dict[str, tuple[Dims, Dims]]:
    """The least and the largest shape of each input in a profile."""
    free = {
        "tokens": (1, profile.tokens),
        "positions": (1, profile.logits),
        "keys": (capacity + 1, capacity + profile.tokens),
    }
    found = {}
    for value in model.graph.input:
        dims = [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        least, most = (tuple(free[d][end] if isinstance(d, str) else d for d in dims) for end in (0, 1))
        found[value.name] = (least, most)
    return found


def profiles(capacity: int, chunk: int, logits: int) -> tuple[Shapes, ...]:
    """The one for prompts first, then the one for single tokens."""
    tokens = min(chunk, capacity)
    several = (Shapes(tokens, min(logits, tokens)),) if tokens > 1 else ()
    return (*several, Shapes(1, 1))


def check_capacities(capacities: Sequence[int], context: int) -> None:
    """Raises InvalidArgument where a bucket is none that the model's context has."""
    for capacity in capacities:
        if not 1 <= capacity <= context:
            raise InvalidArgument(f"context is {capacity}; this model takes from 1 to {context} tokens")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)))
