"""Sliding windows: which layers see only the last tokens."""

from __future__ import annotations

from edge.errors import CheckpointCorrupt, Unsupported
from export.architecture.config import layer_types, layers_of
from export.architecture.fields import Fields

_FULL, _SLIDING = "full_attention", "sliding_attention"


def windows_by_layer(fields: Fields) -> tuple[int, ...]:
    """Windows of a Qwen config.json in tokens, a layer each; empty where every layer sees all.

    Without `layer_types` the window holds from layer `max_window_layers` on.

    Raises:
        CheckpointCorrupt: a key of the wrong type, or a sliding layer without a window.
    """
    layers, kinds = layers_of(fields), layer_types(fields)
    window = 0
    if fields.flag("use_sliding_window", False) and not fields.is_null("sliding_window"):
        window = fields.integer("sliding_window", 4096)
    if kinds is None:
        first = fields.integer("max_window_layers", 28, least=0)
        kinds = [_SLIDING if window and layer >= first else _FULL for layer in range(layers)]
    if _SLIDING not in kinds:
        return ()
    if not window:
        raise CheckpointCorrupt(
            "config.json: layer_types has sliding_attention, but use_sliding_window or sliding_window says "
            "there is no window; get the checkpoint again from its publisher"
        )
    return tuple(window if kind == _SLIDING else 0 for kind in kinds)


def windows_from_gguf(metadata: Fields, layers: int, *, everywhere: bool) -> tuple[int, ...]:
    """Windows of a GGUF in tokens, a layer each; empty where every layer sees all.

    `attention.sliding_window_pattern` says for each layer whether it slides; without one the window holds for
    every layer of a family where it does so `everywhere`.

    Raises:
        CheckpointCorrupt: a key of the wrong type.
        Unsupported: nothing says which layers slide.
    """
    window = metadata.integer("attention.sliding_window", 0, least=0)
    if not window:
        return ()
    key = "attention.sliding_window_pattern"
    if key not in metadata:
        if everywhere:
            return (window,) * layers
        raise Unsupported(
            f"{metadata.source}: attention.sliding_window is {window}, but no {key} says for which layers; "
            "export from the Hugging Face checkpoint instead"
        )
    pattern = metadata.raw(key)
    if (
        not isinstance(pattern, list)
        or len(pattern) != layers
        or not all(isinstance(slides, bool) for slides in pattern)
    ):
        raise metadata.wrong(key, pattern, f"a list of {layers} booleans")
    return tuple(window if slides else 0 for slides in pattern) if any(pattern) else ()
