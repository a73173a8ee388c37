"""compressed-tensors' packing `pack-quantized`, as llm-compressor writes W4A16 and W8A16.

Rows stay rows: weight_packed int32 [outputs, words] packs neighbouring inputs, weight_scale is [outputs, groups],
weight_shape the two sizes. weight_zero_point, where the codes are not symmetric, packs neighbouring outputs, int32
[words, groups]. Codes and zero points are stored with the middle code added. weight_g_idx int32 [inputs] is as GPTQ's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edge.errors import TensorError
from export.architecture.fields import Fields
from export.checkpoint.packed.packed_tensor import PackedTensor
from export.checkpoint.packed.parts import (
    AGAIN,
    SCALES,
    WORDS,
    Parts,
    group_count,
    matrix,
    part,
    require_shape,
)
from export.checkpoint.packed.settings import bits_of, group_size_of, refuse, text_of
from export.checkpoint.packed.words import WORD_BITS, Codes, unpacked, words_for
from export.checkpoint.tensor import Floats

FORMAT = "pack-quantized"
# What stands where nothing is meant.
_NOTHING: tuple[object, ...] = (None, False, {}, [])


@dataclass(frozen=True)
class Scheme:
    """How the matrices of one group of layers are quantized."""

    bits: int
    group_size: int
    """Inputs of a group, -1 for all."""
    symmetric: bool
    reordered: bool
    """Whether a matrix cannot be read without its weight_g_idx."""

    def fits(self, inputs: int, parts: Parts) -> bool:
        """Whether a matrix of `inputs` has the parts and the widths of this scheme."""
        groups = 1 if self.group_size == -1 else -(-inputs // self.group_size)
        return (
            parts["weight_packed"].shape[1] == words_for(inputs, self.bits)
            and parts["weight_scale"].shape[1] == groups
            and ("weight_zero_point" in parts) != self.symmetric
        )


@dataclass(frozen=True)
class CompressedTensorsPacking:
    """What a `quantization_config` of compressed-tensors says of every matrix."""

    METHOD: ClassVar[str] = "compressed-tensors"
    PARTS: ClassVar[tuple[str, ...]] = (
        "weight_packed",
        "weight_scale",
        "weight_zero_point",
        "weight_shape",
        "weight_g_idx",
    )

    schemes: tuple[Scheme, ...]

    @classmethod
    def from_config(cls, fields: Fields) -> CompressedTensorsPacking:
        """Read `quantization_config`.

        Raises:
            CheckpointCorrupt: a value is missing or wrong.
            Unsupported: another format, quantized activations or caches, sparsity, transforms, codes that are no
                integers, other bits than 4 and 8, scales of whole tensors or of blocks.
        """
        for key in ("sparsity_config", "transform_config", "kv_cache_scheme"):
            value = fields.raw(key)
            dense = isinstance(value, dict) and value.get("format") == "dense"
            if value not in _NOTHING and not dense:
                raise refuse(
                    fields, f"{key} {str(value)!r:.80} changes how the model is computed, and is not read"
                )
        groups = fields.inner("config_groups")
        if groups is None:
            raise fields.wrong(
                "config_groups", fields.raw("config_groups"), "an object with a scheme at least"
            )
        whole = text_of(fields, "format", default=FORMAT)
        schemes = [_scheme(groups.inner(name), whole) for name in fields.raw("config_groups")]
        known = tuple(dict.fromkeys(scheme for scheme in schemes if scheme is not None))
        if not known:
            raise refuse(fields, "config_groups quantizes no weights")
        return cls(known)

    @property
    def kept_bits(self) -> int | None:
        """See `Packing.kept_bits`."""
        if any(scheme.reordered for scheme in self.schemes):
            return None
        return max(scheme.bits for scheme in self.schemes)

    def tensor(self, module: str, parts: Parts) -> CompressedTensor:
        """The matrix `module`; TensorError and CheckpointCorrupt where its parts do not go together."""
        words = matrix(module, parts, "weight_packed", WORDS)
        scales = matrix(module, parts, "weight_scale", SCALES)
        outputs, inputs = _shape(module, parts)
        scheme = next((scheme for scheme in self.schemes if scheme.fits(inputs, parts)), self.schemes[0])
        groups = group_count(module, inputs, scheme.bits, scheme.group_size)
        why = f"{inputs} inputs, {outputs} outputs, num_bits {scheme.bits} and group_size {scheme.group_size}"
        require_shape(words, (outputs, words_for(inputs, scheme.bits)), why)
        require_shape(scales, (outputs, groups), why)
        if not scheme.symmetric:
            zeros = part(module, parts, "weight_zero_point", (*WORDS, "I8"))
            packed = zeros.dtype != "I8"
            require_shape(zeros, (words_for(outputs, scheme.bits) if packed else outputs, groups), why)
        elif "weight_zero_point" in parts:
            raise TensorError(
                f"tensor {module:.200}.weight_zero_point is there, and quantization_config says symmetric; "
                f"{AGAIN}, or correct the value"
            )
        if scheme.reordered or "weight_g_idx" in parts:
            require_shape(part(module, parts, "weight_g_idx", ("I32", "I64")), (inputs,), why)
        return CompressedTensor(module, (outputs, inputs), scheme.bits, groups, parts)


class CompressedTensor(PackedTensor):
    """A matrix as compressed-tensors packs it."""

    def _codes(self, rows: slice) -> Codes:
        return unpacked(self._parts["weight_packed"].part(rows), self.bits)[:, : self.shape[1]]

    def _scales(self, rows: slice) -> Floats:
        return self._parts["weight_scale"].part(rows).astype(np.float32)

    def _zeros(self, rows: slice) -> Codes | None:
        if "weight_zero_point" not in self._parts:
            return None
        zeros = self._parts["weight_zero_point"]
        if zeros.dtype == "I8":
            return (zeros.part(rows).view(np.uint8) + np.uint8(self._middle)) & np.uint8((1 << self.bits) - 1)
        start, stop, _ = rows.indices(self.shape[0])
        first = start * self.bits // WORD_BITS
        codes = unpacked(zeros.part(slice(first, words_for(stop, self.bits))).T, self.bits).T
        skipped = start - first * WORD_BITS // self.bits
        return codes[skipped : skipped + stop - start]

    def _stored_groups(self) -> NDArray[Any] | None:
        if "weight_g_idx" not in self._parts:
            return None
        groups = self._parts["weight_g_idx"].part(slice(None))
        # A writer leaves -1 everywhere where it did not reorder.
        return None if (groups == -1).all() else groups


def _scheme(group: Fields | None, whole: str) -> Scheme | None:
    if group is None:
        return None
    for key in ("input_activations", "output_activations"):
        if key in group:
            raise refuse(group, f"{key} are quantized as well, and only W4A16 and W8A16 are read")
    weights = group.inner("weights")
    if weights is None:
        return None
    stored = text_of(group, "format", default=whole)
    if stored != FORMAT:
        raise refuse(group, f"its format {stored!r:.80} is not read, only {FORMAT}")
    kind = text_of(weights, "type", default="int")
    if kind != "int":
        raise refuse(weights, f"codes of the type {kind!r:.80} are not read, only int")
    width = group_size_of(weights, ("group_size",)) if "group_size" in weights else None
    inferred = "tensor" if width is None else "channel" if width == -1 else "group"
    strategy = text_of(weights, "strategy", default=inferred)
    if strategy not in ("group", "channel"):
        raise refuse(weights, f"scales by {strategy!r:.80} are not read, only group and channel")
    if strategy == "group" and (width is None or width == -1):
        raise weights.wrong("group_size", width, "a whole number from 1 on")
    return Scheme(
        bits=bits_of(weights, ("num_bits",), (4, 8)),
        group_size=-1 if strategy == "channel" or width is None else width,
        symmetric=weights.flag("symmetric", True),
        reordered=weights.raw("actorder") in ("group", "dynamic", True),
    )


def _shape(module: str, parts: Parts) -> tuple[int, int]:
    """Outputs and inputs, as weight_shape says."""
    stored = part(module, parts, "weight_shape", ("I64", "I32"))
    require_shape(stored, (2,), "the two sizes of a matrix")
    outputs, inputs = (int(size) for size in stored.part(slice(None)))
    if outputs < 1 or inputs < 1:
        raise TensorError(
            f"{stored.path}: tensor {stored.name:.200} is {outputs}, {inputs}, no sizes of a matrix; {AGAIN}"
        )
    return outputs, inputs
