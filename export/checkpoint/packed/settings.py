"""Values of a quantization_config that every packing has, checked."""

from __future__ import annotations

from collections.abc import Sequence

from edge.errors import Unsupported
from export.architecture.fields import Fields

INSTEAD = "export the checkpoint it was made from, or a GGUF"


def bits_of(fields: Fields, keys: Sequence[str], known: Sequence[int]) -> int:
    """Bits of a code, under the first of `keys` that is there.

    Raises:
        CheckpointCorrupt: missing, or no whole number from 1 to 32.
        Unsupported: not among `known`.
    """
    key = _present(fields, keys)
    bits = fields.integer(key, most=32)
    if bits not in known:
        raise refuse(fields, f"{key} {bits} is not read, only {' and '.join(map(str, known))}")
    return bits


def group_size_of(fields: Fields, keys: Sequence[str]) -> int:
    """Inputs that share a scale, -1 for all; CheckpointCorrupt where it is missing or neither."""
    key = _present(fields, keys)
    size = fields.integer(key, least=-1)
    if size == 0:
        raise fields.wrong(key, size, "-1 or a whole number from 1 on")
    return size


def text_of(fields: Fields, *keys: str, default: str) -> str:
    """The string under the first of `keys` that is there, in small letters; CheckpointCorrupt for no string."""
    return fields.text(_present(fields, keys), default).lower()


def refuse(fields: Fields, why: str) -> Unsupported:
    """The error for weights that are quantized in a way that is not read."""
    return Unsupported(f"{fields.source}: {why}; {INSTEAD}")


def _present(fields: Fields, keys: Sequence[str]) -> str:
    return next((key for key in keys if key in fields), keys[0])
