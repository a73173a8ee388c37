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
    return _find("model_type", model_type, {name: f for f in FAMILIES for name in f.model_types})


def family_for_gguf(architecture: str) -> Family:
    """The family of a GGUF's `general.architecture`.

    Raises:
        Unsupported: no family goes by that name.
    """
    by_name = {name: f for f in FAMILIES for name in f.gguf_architectures}
    return _find("general.architecture", architecture, by_name)


def _find(key: str, value: str, by_name: dict[str, Family]) -> Family:
    if value not in by_name:
        # Optimum reads no GGUF.
        advice = "; what is no decoder goes through edge export --via optimum" if key == "model_type" else ""
        raise Unsupported(
            f"{key} {value!r:.80} is not an architecture Edgewise knows; "
            f"choose a checkpoint of one of these: {', '.join(sorted(by_name))}{advice}"
        )
    return by_name[value]
