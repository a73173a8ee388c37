"""GPTQ's packing: AutoGPTQ's and GPTQModel's `qweight`, `qzeros`, `scales` and `g_idx`.

Inputs run down. qweight int32 [inputs · bits ÷ 32, outputs] packs neighbouring inputs, qzeros int32
[groups, outputs · bits ÷ 32] neighbouring outputs, scales are [groups, outputs]. `g_idx` int32 [inputs] is
the group of each input, which are not neighbours where the columns were quantized in order of their activation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from export.architecture.fields import Fields
from export.checkpoint.packed.packed_tensor import PackedTensor
from export.checkpoint.packed.parts import (
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

FORMATS = ("gptq", "gptq_v2")


@dataclass(frozen=True)
class GptqPacking:
    """What a `quantization_config` of GPTQ says of every matrix."""

    METHOD: ClassVar[str] = "gptq"
    PARTS: ClassVar[tuple[str, ...]] = ("qweight", "qzeros", "scales", "g_idx")

    bits: int
    group_size: int
    """Inputs of a group, -1 for all."""
    zero_offset: int
    """What is added to a stored zero point: 1, in gptq_v2 0."""
    reordered: bool
    """Whether a matrix cannot be read without its g_idx."""

    @classmethod
    def from_config(cls, fields: Fields) -> GptqPacking:
        """Read `quantization_config`.

        Raises:
            CheckpointCorrupt: a value is missing or wrong.
            Unsupported: 2 or 3 bits, bits by module, or a layout of some engine's kernels.
        """
        stored = (
            "marlin"
            if fields.flag("is_marlin_format", False)
            else text_of(fields, "checkpoint_format", "format", default="gptq")
        )
        if stored not in FORMATS:
            raise refuse(fields, f"its layout {stored!r:.80} is not read, only {' and '.join(FORMATS)}")
        words = text_of(fields, "pack_dtype", default="int32").removeprefix("torch.")
        if words != "int32":
            raise refuse(fields, f"pack_dtype {words!r:.80} is not read, only int32")
        overrides = fields.raw("dynamic") or {}
        if not isinstance(overrides, dict):
            raise fields.wrong("dynamic", overrides, "an object")
        if changed := [name for name in overrides if not str(name).startswith("-")]:
            raise refuse(fields, f"dynamic gives {changed[0]!r:.80} bits of its own, and one kind is read")
        return cls(
            bits=bits_of(fields, ("bits",), (4, 8)),
            group_size=group_size_of(fields, ("group_size",)),
            zero_offset=int(stored == "gptq"),
            reordered=fields.flag("desc_act", False),
        )

    @property
    def kept_bits(self) -> int | None:
        """See `Packing.kept_bits`."""
        return None if self.reordered else self.bits

    def tensor(self, module: str, parts: Parts) -> GptqTensor:
        """The matrix `module`; TensorError and CheckpointCorrupt where its parts do not go together."""
        codes = matrix(module, parts, "qweight", WORDS)
        inputs, outputs = codes.shape[0] * WORD_BITS // self.bits, codes.shape[1]
        groups = group_count(module, inputs, self.bits, self.group_size)
        why = f"{inputs} inputs, {outputs} outputs, bits {self.bits} and group_size {self.group_size}"
        require_shape(matrix(module, parts, "scales", SCALES), (groups, outputs), why)
        require_shape(matrix(module, parts, "qzeros", WORDS), (groups, words_for(outputs, self.bits)), why)
        if self.reordered or "g_idx" in parts:
            require_shape(part(module, parts, "g_idx", ("I32", "I64")), (inputs,), why)
        return GptqTensor(module, (outputs, inputs), self.bits, groups, parts, self.zero_offset)


class GptqTensor(PackedTensor):
    """A matrix as GPTQ packs it."""

    def __init__(
        self, module: str, shape: tuple[int, int], bits: int, groups: int, parts: Parts, zero_offset: int
    ) -> None:
        super().__init__(module, shape, bits, groups, parts)
        self._zero_offset = zero_offset

    def _codes(self, rows: slice) -> Codes:
        words = self._parts["qweight"].part(slice(None), rows)
        return unpacked(words.T, self.bits)

    def _scales(self, rows: slice) -> Floats:
        return self._parts["scales"].part(slice(None), rows).T.astype(np.float32)

    def _zeros(self, rows: slice) -> Codes:
        start, stop, _ = rows.indices(self.shape[0])
        first = start * self.bits // WORD_BITS
        words = self._parts["qzeros"].part(slice(None), slice(first, words_for(stop, self.bits)))
        skipped = start - first * WORD_BITS // self.bits
        zeros = unpacked(words, self.bits)[:, skipped : skipped + stop - start]
        # The sum wraps as the readers of the format have it: a stored 15 of 4 bits is a zero point of 0.
        return (zeros + np.uint8(self._zero_offset)).T & np.uint8((1 << self.bits) - 1)

    def _stored_groups(self) -> NDArray[Any] | None:
        return self._parts["g_idx"].part(slice(None)) if "g_idx" in self._parts else None
