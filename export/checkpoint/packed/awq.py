"""AWQ's packing `gemm`: AutoAWQ's `qweight`, `qzeros` and `scales`.

Inputs run down, and words pack outputs: qweight int32 [inputs, outputs ÷ 8], qzeros int32 [groups, outputs ÷ 8],
scales [groups, outputs]. From the lowest bits up a word holds the outputs 0, 2, 4, 6, 1, 3, 5, 7 of its eight.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from export.architecture.fields import Fields
from export.checkpoint.packed.packed_tensor import PackedTensor
from export.checkpoint.packed.parts import SCALES, WORDS, Parts, group_count, matrix, require_shape
from export.checkpoint.packed.settings import bits_of, group_size_of, refuse, text_of
from export.checkpoint.packed.words import Codes, unpacked
from export.checkpoint.tensor import Floats

BITS = 4
WORD_CODES = 8
# Where in a word the outputs 0 to 7 are.
_PLACES = (0, 4, 1, 5, 2, 6, 3, 7)


@dataclass(frozen=True)
class AwqPacking:
    """What a `quantization_config` of AWQ says of every matrix."""

    METHOD: ClassVar[str] = "awq"
    PARTS: ClassVar[tuple[str, ...]] = ("qweight", "qzeros", "scales")

    group_size: int
    """Inputs of a group, -1 for all."""

    @classmethod
    def from_config(cls, fields: Fields) -> AwqPacking:
        """Read `quantization_config`.

        Raises:
            CheckpointCorrupt: a value is missing or wrong.
            Unsupported: other bits than 4, or another packing than gemm.
        """
        version = text_of(fields, "version", "checkpoint_format", "format", default="gemm")
        backend = text_of(fields, "backend", default="auto")
        if version != "gemm" or backend == "llm-awq":
            named = version if version != "gemm" else backend
            raise refuse(fields, f"its packing {named!r:.80} is not read, only gemm")
        bits_of(fields, ("bits", "w_bit"), (BITS,))
        return cls(group_size_of(fields, ("group_size", "q_group_size")))

    @property
    def kept_bits(self) -> int:
        """See `Packing.kept_bits`."""
        return BITS

    def tensor(self, module: str, parts: Parts) -> AwqTensor:
        """The matrix `module`; TensorError and CheckpointCorrupt where its parts do not go together."""
        codes = matrix(module, parts, "qweight", WORDS)
        inputs, outputs = codes.shape[0], codes.shape[1] * WORD_CODES
        groups = group_count(module, inputs, BITS, self.group_size)
        why = f"{inputs} inputs, {outputs} outputs, 4 bits and group_size {self.group_size}"
        require_shape(matrix(module, parts, "scales", SCALES), (groups, outputs), why)
        require_shape(matrix(module, parts, "qzeros", WORDS), (groups, codes.shape[1]), why)
        return AwqTensor(module, (outputs, inputs), BITS, groups, parts)


class AwqTensor(PackedTensor):
    """A matrix as AWQ packs it."""

    def _codes(self, rows: slice) -> Codes:
        return self._unpacked("qweight", rows)

    def _scales(self, rows: slice) -> Floats:
        return self._parts["scales"].part(slice(None), rows).T.astype(np.float32)

    def _zeros(self, rows: slice) -> Codes:
        return self._unpacked("qzeros", rows)

    def _unpacked(self, part: str, rows: slice) -> Codes:
        start, stop, _ = rows.indices(self.shape[0])
        first = start // WORD_CODES
        words: NDArray[Any] = self._parts[part].part(slice(None), slice(first, -(-stop // WORD_CODES)))
        codes = unpacked(words, BITS).reshape(*words.shape, WORD_CODES)[..., _PLACES].reshape(len(words), -1)
        skipped = start - first * WORD_CODES
        return np.ascontiguousarray(codes[:, skipped : skipped + stop - start].T)
