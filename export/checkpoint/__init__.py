"""Checkpoints: every source gives one ModelSpec and one lazy mapping of Hugging Face tensor names."""

from __future__ import annotations

from export.checkpoint.checkpoint import QUANTIZATION, Checkpoint
from export.checkpoint.open import open_checkpoint
from export.checkpoint.spec import Described, describe, read_spec
from export.checkpoint.tensor import LazyTensor
from export.checkpoint.text import TextFiles

__all__ = [
    "QUANTIZATION",
    "Checkpoint",
    "Described",
    "LazyTensor",
    "TextFiles",
    "describe",
    "open_checkpoint",
    "read_spec",
]
