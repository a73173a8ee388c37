"""The ggml types whose blocks are codes and a scale of ours: Q4_0, Q5_0 and Q8_0, 32 weights each.

A block is a float16 scale d, then, for Q5_0, the fifth bits of all codes in 4 bytes, then the codes: 4-bit ones in 16
bytes, the first half of the block in low nibbles. A weight is (code − 8) · d, (code − 16) · d, or a signed byte · d.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from export.quantize import Precision, Quantized

Bytes = NDArray[np.uint8]

BLOCK = 32
GRIDS = {
    "Q4_0": Precision(4, BLOCK),
    "Q5_0": Precision(5, BLOCK),
    "Q8_0": Precision(8, BLOCK),
}


def codes_of(raw: Bytes, kind: str) -> Quantized:
    """Rows of stored bytes [rows, nbytes] of one of GRIDS as codes. Scales may be anything that 16 bits can be."""
    each = 2 + BLOCK * GRIDS[kind].bits // 8
    blocks = raw.reshape(len(raw), raw.shape[1] // each, each)
    scales = np.ascontiguousarray(blocks[..., :2]).view("<f2")[..., 0].astype(np.float32)
    data = blocks[..., 2:]
    if kind == "Q8_0":
        codes = data ^ np.uint8(128)
    else:
        nibbles = data[..., -BLOCK // 2 :]
        codes = np.concatenate([nibbles & np.uint8(15), nibbles >> np.uint8(4)], axis=-1)
        if kind == "Q5_0":
            codes |= np.unpackbits(data[..., :4], axis=-1, bitorder="little") << np.uint8(4)
    return Quantized(codes, scales, None)
