"""The C functions of the library of kernels, with numpy arrays for pointers."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


class _Shape(ctypes.Structure):
    _fields_ = (
        ("rows", ctypes.c_int64),
        ("inputs", ctypes.c_int64),
        ("bits", ctypes.c_int32),
        ("block", ctypes.c_int32),
        ("zero_points", ctypes.c_int32),
        ("gated", ctypes.c_int32),
    )


class _Heads(ctypes.Structure):
    _fields_ = (
        ("heads", ctypes.c_int32),
        ("kv_heads", ctypes.c_int32),
        ("dim", ctypes.c_int32),
        ("value_dim", ctypes.c_int32),
        ("scale", ctypes.c_float),
        ("window", ctypes.c_int64),
        ("epsilon", ctypes.c_float),
        ("cap", ctypes.c_float),
        ("layer", ctypes.c_int32),
    )


class _Pool(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("pages", ctypes.c_int64),
        ("page_bytes", ctypes.c_int64),
        ("type", ctypes.c_int32),
        ("summary", ctypes.c_int32),
    )


def _at(array: Array | None) -> ctypes.c_void_p | None:
    if array is None:
        return None
    assert array.flags.c_contiguous
    return array.ctypes.data_as(ctypes.c_void_p)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """See layout.h."""

    rows: int
    inputs: int
    bits: int
    block: int
    zero_points: bool
    gated: bool = False

    @property
    def as_c(self) -> _Shape:
        """The structure that C takes."""
        return _Shape(self.rows, self.inputs, self.bits, self.block, self.zero_points, self.gated)


@dataclass(frozen=True, kw_only=True)
class Heads:
    """See attention.h."""

    heads: int
    kv_heads: int
    dim: int
    scale: float
    window: int
    epsilon: float = 1e-5


class Functions:
    """See c_api.h."""

    def __init__(self, c: ctypes.CDLL) -> None:
        self._c = c
        c.edgewise_bytes.restype = c.edgewise_page_bytes.restype = ctypes.c_int64
        c.edgewise_isas.restype = ctypes.c_char_p

    @property
    def isas(self) -> list[str]:
        """Instruction sets that run here."""
        names: bytes = self._c.edgewise_isas()
        return names.decode().split(",")

    def use(self, isa: str) -> None:
        """Choose an instruction set."""
        assert self._c.edgewise_set_isa(isa.encode()) == 0

    def nbytes(self, shape: Shape) -> int:
        """Bytes of a matrix, -1 where there is no such shape."""
        return int(self._c.edgewise_bytes(ctypes.byref(shape.as_c)))

    def linear(
        self,
        shape: Shape,
        weights: Array,
        x: Array,
        *,
        norm: Array | None = None,
        bias: Array | None = None,
        residual: Array | None = None,
        threads: int = 2,
    ) -> Array:
        """float32 [len(x), outputs]."""
        out = np.full((len(x), shape.rows // (2 if shape.gated else 1)), np.nan, np.float32)
        outcome = self._c.edgewise_linear(
            ctypes.byref(shape.as_c), _at(weights), _at(x), ctypes.c_int64(len(x)), _at(norm),
            ctypes.c_float(1e-5), _at(bias), _at(residual), _at(out), threads,
        )  # fmt: skip
        assert outcome == 0
        return out

    def embedding(self, shape: Shape, weights: Array, ids: Array) -> tuple[int, Array]:
        """What the function returns, and float32 [len(ids), inputs]."""
        out = np.full((len(ids), shape.inputs), np.nan, np.float32)
        count = ctypes.c_int64(len(ids))
        outcome = self._c.edgewise_embedding(
            ctypes.byref(shape.as_c), _at(weights), _at(ids), count, _at(out)
        )
        return int(outcome), out

    def page_bytes(self, kind: int, dim: int, value_dim: int) -> int:
        """Bytes of one KV head of a page, -1 where there is no such type or size."""
        return int(self._c.edgewise_page_bytes(kind, dim, value_dim, 0))

    def attention(
        self, heads: Heads, kind: int, pool: Array, table: Array, held: int, qkv: Array, threads: int = 2
    ) -> Array:
        """float32 [tokens, heads · dim] of qkv [tokens, (heads + 2 · kv_heads) · dim] of one sequence.

        `pool` uint8 [pages, page_bytes] is written, `table` int32 names the sequence's pages.
        """
        out = np.full((len(qkv), heads.heads * heads.dim), np.nan, np.float32)
        c = _Heads(
            heads.heads, heads.kv_heads, heads.dim, heads.dim, heads.scale, heads.window, heads.epsilon, 0.0, 0
        )  # fmt: skip
        memory = _Pool(pool.ctypes.data, *pool.shape, kind, 0)
        starts, before = np.array([0, len(qkv)], np.int32), np.array([held], np.int32)
        outcome = self._c.edgewise_attention(
            ctypes.byref(c), ctypes.byref(memory), _at(qkv), ctypes.c_int64(len(qkv)), ctypes.c_int64(1), _at(starts),
            _at(before), _at(table), ctypes.c_int64(len(table)), None, None, None, None,
            ctypes.c_int64(0), None, None, _at(out), threads,
        )  # fmt: skip
        assert outcome == 0
        return out
