"""The layout `panels`, beside a slow loop written from its description."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.graph.panels import Panels, alternate
from export.quantize import Quantized
from export.quantize.float16 import from_float16_bits
from export.quantize.packing import Bytes


def random_rows(panels: Panels, rows: int, seed: int) -> Quantized:
    rng, top = np.random.default_rng(seed), 1 << panels.bits
    shape = (rows, panels.blocks)
    return Quantized(
        rng.integers(0, top, (*shape, panels.block), np.uint8),
        # Any finite bits, negative ones too.
        from_float16_bits(
            (rng.integers(0, 0x7C00, shape) | rng.integers(0, 2, shape) << 15).astype(np.uint16)
        ),
        rng.integers(0, top, shape, np.uint8) if panels.zero_points else None,
    )


def one_by_one(panels: Panels, part: Quantized) -> bytes:
    rows, blocks, block = part.codes.shape
    data = bytearray()

    def code(r: int, k: int) -> int:
        return int(part.codes[r, k // block, k % block]) if r < rows else 0

    for first in range(0, rows, 16):
        panel = bytearray()
        if panels.bits == 4:
            for i in range(blocks * block // 8):
                group = bytearray(64)
                for r in range(16):
                    for j in range(4):
                        group[4 * r + j] = code(first + r, 8 * i + j) | code(first + r, 8 * i + 4 + j) << 4
                panel += group
        elif panels.bits == 8:
            for i in range(blocks * block // 4):
                group = bytearray(64)
                for r in range(16):
                    for j in range(4):
                        group[4 * r + j] = code(first + r, 4 * i + j)
                panel += group
        else:
            upper = panels.bits - 4
            for run in range(0, blocks * block, 32 // upper):
                lines = [bytearray(64) for _ in range(1 + 4 // upper)]
                for k in range(run, run + 32 // upper):
                    for r in range(16):
                        i, half, j = (k - run) // 8, k % 8 // 4 * 4, k % 4
                        lines[0][4 * r + j] |= code(first + r, k) >> 4 << upper * i + half
                        lines[1 + i][4 * r + j] |= (code(first + r, k) & 15) << half
                for line in lines:
                    panel += line
        for b in range(blocks):
            for r in range(first, first + 16):
                panel += np.float16(part.scales[r, b] if r < rows else 0).tobytes()
        if part.zeros is not None:
            for b in range(blocks):
                zero = [int(part.zeros[r, b]) if r < rows else 0 for r in range(first, first + 16)]
                panel += (
                    bytes(zero[r] | zero[r + 8] << 4 for r in range(8)) if panels.bits == 4 else bytes(zero)
                )
        data += panel + bytes(-len(panel) % 64)
    return bytes(data)


layouts = st.builds(
    Panels,
    bits=st.sampled_from([4, 5, 6, 8]),
    block=st.sampled_from([32, 64, 128]),
    blocks=st.integers(1, 5),
    zero_points=st.booleans(),
)


@given(layouts, st.integers(1, 50), st.integers(0, 9))
def test_every_byte_is_where_the_layout_says(panels: Panels, rows: int, seed: int) -> None:
    part = random_rows(panels, rows, seed)
    packed = panels.pack(part)
    assert packed.shape == (-(-rows // 16), panels.nbytes)
    assert packed.tobytes() == one_by_one(panels, part)


@given(layouts, st.integers(1, 50), st.integers(0, 9))
def test_rows_come_back(panels: Panels, rows: int, seed: int) -> None:
    part = random_rows(panels, rows, seed)
    back = panels.unpack(panels.pack(part))
    np.testing.assert_array_equal(back.codes[:rows], part.codes)
    assert back.scales[:rows].tobytes() == part.scales.tobytes()
    assert not back.codes[rows:].any()
    assert not back.scales[rows:].any()
    assert (back.zeros is None) == (part.zeros is None)
    if back.zeros is not None and part.zeros is not None:
        np.testing.assert_array_equal(back.zeros[:rows], part.zeros)
        assert not back.zeros[rows:].any()


@pytest.mark.parametrize("bits", [4, 5, 6, 8])
def test_gate_and_up_alternate(bits: int) -> None:
    panels = Panels(bits=bits, block=32, blocks=2, zero_points=True)
    gate, up = (panels.pack(random_rows(panels, 40, seed)) for seed in (1, 2))
    both: Bytes = alternate(gate, up)
    assert both.tobytes() == b"".join(half[i].tobytes() for i in range(3) for half in (gate, up))


@pytest.mark.parametrize(
    ("bits", "block", "blocks", "zero_points", "nbytes"),
    [
        (4, 32, 1, False, 320),
        (4, 32, 2, False, 576),
        (4, 32, 2, True, 640),
        (5, 32, 1, False, 384),
        (5, 32, 3, True, 1152),
        (6, 128, 2, True, 3200),
        (8, 64, 1, True, 1088),
        (8, 128, 4, False, 8320),
    ],
)
def test_the_size_of_a_panel(bits: int, block: int, blocks: int, zero_points: bool, nbytes: int) -> None:
    assert Panels(bits=bits, block=block, blocks=blocks, zero_points=zero_points).nbytes == nbytes
