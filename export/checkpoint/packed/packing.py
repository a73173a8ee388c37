"""Packing: how a quantized checkpoint stores its matrices, and the tensors that come of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol

from edge.errors import TensorError, Unsupported
from export.architecture.fields import Fields
from export.checkpoint.packed.awq import AwqPacking
from export.checkpoint.packed.compressed_tensors import CompressedTensorsPacking
from export.checkpoint.packed.gptq import GptqPacking
from export.checkpoint.packed.packed_tensor import PackedTensor
from export.checkpoint.packed.parts import AGAIN, Parts
from export.checkpoint.packed.settings import INSTEAD
from export.checkpoint.safetensors_file import SafetensorsTensor, require_floats
from export.checkpoint.tensor import LazyTensor


class Packing(Protocol):
    """One way to store quantized matrices."""

    METHOD: ClassVar[str]
    """The quant_method that means it."""
    PARTS: ClassVar[tuple[str, ...]]
    """Last parts of the names of what a matrix is made of; the first is the codes."""

    @property
    def kept_bits(self) -> int | None:
        """Bits of codes that an artifact can hold as they are; None where inputs of a group are not neighbours."""

    def tensor(self, module: str, parts: Parts) -> PackedTensor:
        """The matrix of `module`.

        Raises:
            TensorError, CheckpointCorrupt: a part is missing, misshapen or of another type.
        """


_READERS: dict[str, Callable[[Fields], Packing]] = {
    GptqPacking.METHOD: GptqPacking.from_config,
    AwqPacking.METHOD: AwqPacking.from_config,
    CompressedTensorsPacking.METHOD: CompressedTensorsPacking.from_config,
}
KNOWN = ", ".join(_READERS)

_REASONS = {
    "bitsandbytes": "whose NF4 and LLM.int8 codes no operator here holds",
    "fp8": "whose codes are floats, which no operator here holds",
    "fbgemm_fp8": "whose codes are floats, which no operator here holds",
    "mxfp4": "whose codes are floats, which no operator here holds",
    "nvfp4": "whose codes are floats, which no operator here holds",
    "aqlm": "whose codes are entries of a codebook, which no operator here holds",
    "vptq": "whose codes are entries of a codebook, which no operator here holds",
}
_OTHER = "a layout that is not read"


def packing_from_config(config: Mapping[str, Any]) -> Packing | None:
    """How the weights beside a config.json are packed; None where it does not say that they are quantized.

    Raises:
        CheckpointCorrupt: a value of quantization_config is missing or wrong.
        Unsupported: a method or an option whose codes are not read.
    """
    fields = _settings(Fields("config.json", config))
    if fields is None:
        return None
    method = _method(fields)
    if method not in _READERS:
        raise Unsupported(
            f"{fields.source}: the checkpoint is quantized by {method!r:.80}, {_REASONS.get(method, _OTHER)}; "
            f"known are {KNOWN}; {INSTEAD}"
        )
    return _READERS[method](fields)


def unpacked(packing: Packing | None, tensors: Mapping[str, SafetensorsTensor]) -> Mapping[str, LazyTensor]:
    """The tensors of a checkpoint, the parts of each packed matrix as one tensor `….weight`.

    Raises:
        TensorError, CheckpointCorrupt: parts that do not go together, or a matrix that is there twice.
        Unsupported: integers that belong to no packed matrix.
    """
    if packing is None:
        require_floats(tensors.values())
        return tensors
    merged: dict[str, LazyTensor] = {}
    modules: dict[str, dict[str, SafetensorsTensor]] = {}
    for name, tensor in tensors.items():
        module, _, last = name.rpartition(".")
        if last in packing.PARTS:
            modules.setdefault(module, {})[last] = tensor
        else:
            merged[name] = tensor
    for module, parts in modules.items():
        matrix = packing.tensor(module, parts)
        if matrix.name in merged:
            raise TensorError(
                f"tensor {matrix.name:.200} is there as it is, and packed beside it as {packing.PARTS[0]}; "
                f"{AGAIN}"
            )
        merged[matrix.name] = matrix
    require_floats(merged.values())
    return merged


def _settings(fields: Fields) -> Fields | None:
    settings = fields.inner("quantization_config") or fields.inner("compression_config")
    nested = None if settings is None else settings.inner("quantization_config")
    if settings is None or nested is None:
        return settings
    # compressed-tensors may put what it quantizes beside what it leaves out.
    sparsity = {"sparsity_config": settings.raw("sparsity_config")}
    return Fields(nested.source, {**sparsity, **settings.raw("quantization_config")})


def _method(fields: Fields) -> str:
    # bitsandbytes had no quant_method at first.
    if "quant_method" not in fields and any(fields.raw(f"load_in_{bits}bit") is True for bits in (4, 8)):
        return "bitsandbytes"
    return fields.text("quant_method").lower()
