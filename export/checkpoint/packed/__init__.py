"""Checkpoints that are quantized already: the parts of a packed matrix, read as one tensor with its codes.

A packing is a file: what its configuration says, which tensors make up a matrix, and how their words unpack.
"""

from __future__ import annotations

from export.checkpoint.packed.packed_tensor import PackedTensor
from export.checkpoint.packed.packing import packing_from_config, unpacked

__all__ = ["PackedTensor", "packing_from_config", "unpacked"]
