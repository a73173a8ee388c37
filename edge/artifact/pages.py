"""The layout `pages`, version 1: bytes of the KV cache's pages on the cpu engine.

Which byte is which is told in `runtimes/kernels/src/pages.h`.
"""

from __future__ import annotations

PAGES_VERSION = 1
PAGE_TOKENS = 64
KV_TYPES = ("float32", "float16", "int8", "int4")
"""Of keys and values on the cpu engine, in the order of their numbers in the operator."""
KV_NAMES = {"fp32": "float32", "fp16": "float16", "int8": "int8", "int4": "int4"}
"""What users call them."""
DEFAULT_KV_TYPE = "int8"
SCALE_GROUP = 32
"""Numbers of a key that share a scale where keys are codes."""

_PANEL = 16
_LINE = 64


def head_page_bytes(kind: str, dim: int, value_dim: int) -> int:
    """Bytes of one KV head of one layer in a page of 64 tokens: keys of `dim` numbers, values of `value_dim`."""
    if kind in ("float32", "float16"):
        return PAGE_TOKENS * (dim + value_dim) * (4 if kind == "float32" else 2)
    bits = 8 if kind == "int8" else 4
    groups = -(-dim // SCALE_GROUP)
    key_panel = _PANEL * groups * (SCALE_GROUP * bits // 8 + 2)
    panels = -(-value_dim // _PANEL)
    value_groups = 1 if bits == 8 else -(-value_dim // SCALE_GROUP)
    return (
        PAGE_TOKENS // _PANEL * (-(-key_panel // _LINE) * _LINE)
        + panels * PAGE_TOKENS * _PANEL * bits // 8
        + 2 * PAGE_TOKENS * value_groups
    )
