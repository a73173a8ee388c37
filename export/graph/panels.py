"""The byte layout `panels`, version 3: quantized rows as the CPU kernels read them.

Rows stand in panels of 16, the last filled up with rows of zeros. A panel is its codes, then float16 scales
[blocks, 16], then zero points where there are any, then zero bytes up to a multiple of 64. Codes stand in groups of
64 bytes, 4 a row: of 4 bits, byte j of row r in group i holds the codes of inputs 8i + j and, in its high half,
8i + 4 + j; of 8 bits that of input 4i + j. Of 4 + n bits, n being 1 or 2, the lower 4 stand in groups as 4 bits do, and
in front of every 4 / n of these groups stands one of upper bits: those from n·i on in either half of its bytes go with
the same half of the i-th. 4-bit zero points of rows r and r + 8 share a byte, others have one each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from export.quantize.float16 import float16_bits, from_float16_bits
from export.quantize.method import Quantized
from export.quantize.packing import Bytes
from export.quantize.precision import Precision

LAYOUT, VERSION = "panels", 3
ROWS = 16
# Panels start on cache lines.
_ALIGNMENT = 64


@dataclass(frozen=True, kw_only=True)
class Panels:
    """The layout of one matrix: `blocks` blocks of `block` weights a row."""

    bits: int
    block: int
    blocks: int
    zero_points: bool

    @classmethod
    def of(cls, precision: Precision, inputs: int) -> Panels:
        """The layout of a matrix with rows of `inputs` weights."""
        return cls(
            bits=precision.bits,
            block=precision.block,
            blocks=-(-inputs // precision.block),
            zero_points=precision.zero_points,
        )

    def count(self, rows: int) -> int:
        """Panels that `rows` rows take."""
        return -(-rows // ROWS)

    @property
    def nbytes(self) -> int:
        """Bytes of a panel."""
        _, _, zeros, end = self._ends
        return -(-(end if self.zero_points else zeros) // _ALIGNMENT) * _ALIGNMENT

    def pack(self, part: Quantized) -> Bytes:
        """Rows as panels, uint8 [panels, nbytes]; scales are values that float16 holds."""
        rows = len(part.codes)
        count = self.count(rows)
        filling = ((0, count * ROWS - rows), (0, 0))
        panels = np.zeros((count, self.nbytes), np.uint8)
        codes, scales, zeros = self._parts(panels)
        codes[:] = self._pack_codes(np.pad(part.codes.reshape(rows, -1), filling))
        bits = float16_bits(np.pad(part.scales, filling))
        scales[:] = self._across(bits).astype("<u2").view(np.uint8).reshape(count, -1)
        if self.zero_points:
            assert part.zeros is not None
            points = self._across(np.pad(part.zeros, filling))
            if self.bits == 4:
                points = points[..., :8] | points[..., 8:] << np.uint8(4)
            zeros[:] = points.reshape(count, -1)
        return panels

    def unpack(self, panels: Bytes) -> Quantized:
        """What uint8 [panels, nbytes] hold, 16 rows a panel."""
        count = len(panels)
        codes, scales, zeros = self._parts(panels)
        bits = np.ascontiguousarray(scales).view("<u2").reshape(count, self.blocks, ROWS)
        points = None
        if self.zero_points:
            points = zeros.reshape(count, self.blocks, -1)
            if self.bits == 4:
                points = np.concatenate([points & np.uint8(15), points >> np.uint8(4)], axis=-1)
            points = self._along(points)
        return Quantized(
            self._unpack_codes(codes).reshape(count * ROWS, self.blocks, self.block),
            from_float16_bits(self._along(bits)),
            points,
        )

    @property
    def _ends(self) -> tuple[int, int, int, int]:
        """Where codes and scales begin, where they end, and where zero points would."""
        codes = ROWS * self.blocks * self.block * self.bits // 8
        scales = codes + 2 * ROWS * self.blocks
        return 0, codes, scales, scales + ROWS * self.blocks // (2 if self.bits == 4 else 1)

    def _parts(self, panels: Bytes) -> tuple[Bytes, Bytes, Bytes]:
        """Views of codes, scales and zero points."""
        start, codes, scales, zeros = self._ends
        return panels[:, start:codes], panels[:, codes:scales], panels[:, scales:zeros]

    @property
    def _upper(self) -> int:
        """Bits of a code above the lower 4, where these stand apart."""
        return self.bits - 4 if self.bits < 8 else 0

    @property
    def _shifts(self) -> Bytes:
        """Where the upper bits begin that go with each of the groups of lower ones behind them."""
        return np.arange(0, 4, self._upper, dtype=np.uint8)[:, None]

    def _pack_codes(self, codes: Bytes) -> Bytes:
        rows = len(codes)
        if self.bits < 8:
            pairs = codes.reshape(rows, -1, 2, 4)
            codes = _in_halves(pairs & np.uint8(15))
            if self._upper:
                upper = _in_halves(pairs >> np.uint8(4)).reshape(rows, -1, 4 // self._upper, 4)
                upper = np.bitwise_or.reduce(upper << self._shifts, axis=2, keepdims=True)
                codes = np.concatenate([upper, codes.reshape(*upper.shape[:2], -1, 4)], axis=2)
        return codes.reshape(rows // ROWS, ROWS, -1, 4).swapaxes(1, 2).reshape(rows // ROWS, -1)

    def _unpack_codes(self, data: Bytes) -> Bytes:
        rows = len(data) * ROWS
        groups = data.reshape(len(data), -1, ROWS, 4).swapaxes(1, 2).reshape(rows, -1, 4)
        if self._upper:
            runs = groups.reshape(rows, -1, 1 + 4 // self._upper, 4)
            upper = _halves(runs[:, :, :1] >> self._shifts) & np.uint8((1 << self._upper) - 1)
            groups = _halves(runs[:, :, 1:]) | upper << np.uint8(4)
        elif self.bits == 4:
            groups = _halves(groups)
        return groups.reshape(rows, -1)

    def _across(self, values: np.ndarray) -> np.ndarray:
        """[rows, blocks] to [panels, blocks, 16]."""
        return np.ascontiguousarray(values.reshape(-1, ROWS, self.blocks).swapaxes(1, 2))

    def _along(self, values: np.ndarray) -> np.ndarray:
        """[panels, blocks, 16] to [rows, blocks]."""
        return np.ascontiguousarray(values.swapaxes(1, 2)).reshape(-1, self.blocks)


def _in_halves(codes: Bytes) -> Bytes:
    """At most 4 bits each, [..., 2, 4], as bytes [..., 4], the first in low halves."""
    return codes[..., 0, :] | codes[..., 1, :] << np.uint8(4)


def _halves(data: Bytes) -> Bytes:
    """What `_in_halves` was given."""
    return np.stack([data & np.uint8(15), data >> np.uint8(4)], axis=-2)


def alternate(first: Bytes, second: Bytes) -> Bytes:
    """Panels of the two halves of a gated matrix, one of each in turn."""
    return np.stack([first, second], axis=1).reshape(2 * len(first), -1)
