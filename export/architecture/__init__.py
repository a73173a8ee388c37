"""The decoder families, a file each, and how to find one by name."""

from __future__ import annotations

from edge.errors import Unsupported
from export.architecture import llama, qwen2, qwen3
from export.architecture.family import Family

FAMILIES: tuple[Family, ...] = (llama.FAMILY, qwen2.FAMILY, qwen3.FAMILY)


def family_for_model_type(model_type: str) -> Family:
    """The family of a config.json's `model_type`.

    Raises:
        Unsupported: no family goes by that name.
    """
    for family in FAMILIES:
        if model_type in family.model_types:
            return family
    known = sorted(name for family in FAMILIES for name in family.model_types)
    raise _unknown("model_type", model_type, known)


def family_for_gguf(architecture: str) -> Family:
    """The family of a GGUF's `general.architecture`.

    Raises:
        Unsupported: no family goes by that name.
    """
    for family in FAMILIES:
        if architecture in family.gguf_architectures:
            return family
    known = sorted(name for family in FAMILIES for name in family.gguf_architectures)
    raise _unknown("general.architecture", architecture, known)


def _unknown(key: str, value: str, known: list[str]) -> Unsupported:
    return Unsupported(
        f"{key} {value!r:.80} is not an architecture Edgewise knows; "
        f"choose a checkpoint of one of these: {', '.join(known)}"
    )
