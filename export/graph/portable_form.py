"""The two forms of the portable dialect: which operators of ONNX it may use."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Form:
    """`opset` and `ir` are versions of ONNX, `requires` the oldest TensorRT that reads the form.

    In an `in_place` form the graph writes keys and values into the cache, by TensorScatter; otherwise it returns the
    new rows alone, and the runtime writes them.
    """

    name: str
    opset: int
    ir: int
    requires: str
    in_place: bool


OPSET24 = Form("opset24", 24, 11, "10.16.0", in_place=True)
"""Attention, TensorScatter, RMSNormalization and RotaryEmbedding: TensorRT from 10.16 on, TensorRT for RTX."""
OPSET21 = Form("opset21", 21, 10, "10.3.0", in_place=False)
"""Operators that TensorRT 10.3 has, the one of JetPack 6."""
FORMS = (OPSET24, OPSET21)
"""The newest first."""
