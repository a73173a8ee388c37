"""How a model's KV is kept: groups of layers, types, bytes."""

from __future__ import annotations

from edge.artifact.manifest import KvGroup
from edge.artifact.pages import DEFAULT_KV_TYPE, PAGE_TOKENS, SCALE_GROUP, head_page_bytes
from edge.artifact.spec import ModelSpec


def kv_layers(spec: ModelSpec) -> list[tuple[int, tuple[int, ...]]]:
    """Layers by their window in tokens (0 is full attention), which come first: (window, layers)."""
    by_window: dict[int, list[int]] = {}
    for layer in range(spec.layers):
        by_window.setdefault(spec.window(layer), []).append(layer)
    return [(window, tuple(layers)) for window, layers in sorted(by_window.items())]


def kv_groups(spec: ModelSpec, engine: str, kind: str | None = None) -> tuple[KvGroup, ...]:
    """The KV of `spec` on `engine`: in pages of `kind` on the cpu engine, float32 token by token elsewhere."""
    paged = engine == "cpu"
    kind = kind or (DEFAULT_KV_TYPE if paged else "float32")
    if paged:
        token = spec.kv_heads * head_page_bytes(kind, spec.head_dim, spec.head_dim) // PAGE_TOKENS
    else:
        token = 2 * spec.kv_heads * spec.head_dim * 4
    return tuple(
        KvGroup(
            kind="window" if window else "full",
            layers=layers,
            type=kind,
            window=window,
            bytes_per_token=token * len(layers),
            page_tokens=PAGE_TOKENS if paged else 1,
            scale_group=SCALE_GROUP if kind.startswith("int") else 0,
        )
        for window, layers in kv_layers(spec)
    )
