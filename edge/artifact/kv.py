"""How a model's KV is kept: groups of layers, types, bytes."""

from __future__ import annotations

from collections.abc import Iterable

from edge.artifact.fields import shown
from edge.artifact.manifest import KvGroup, Manifest
from edge.artifact.pages import DEFAULT_KV_TYPE, KV_NAMES, KV_TYPES, PAGE_TOKENS, SCALE_GROUP, head_page_bytes
from edge.artifact.spec import ModelSpec
from edge.errors import ArtifactCorrupt, ArtifactTooNew
from edge.version import VERSION

BOARD = "board"
"""Key of the provenance that tells what board an artifact was exported for, and with what KV."""
STATIC_KV_BITS = {"float32": 32, "int8": 8, "int4": 4}
"""What a graph of stock operators can keep KV as, settled at export: bits of a number."""
ENGINE_KV = {
    "cpu": KV_TYPES,
    "onnxruntime": tuple(STATIC_KV_BITS),
    "tensorrt": ("float16", "int8"),
    "portable": ("float16", "int8"),
    "cuda": ("float16",),
}
"""What each engine keeps it as, the closest to exact first."""
GPU_ENGINES = ("tensorrt", "cuda")
"""Those that compute on a GPU, in float16."""


def default_kv(engine: str) -> str:
    """What `engine` keeps KV as where nobody says: int8 in pages, which is as good as exact, else the closest."""
    return DEFAULT_KV_TYPE if engine == "cpu" else ENGINE_KV[engine][0]


def kv_names(engine: str) -> tuple[str, ...]:
    """All that it can keep KV as, by the names that users call them, the closest to exact first."""
    return tuple(name for name, kind in KV_NAMES.items() if kind in ENGINE_KV[engine])


def static_kv_width(kind: str, head_dim: int) -> int:
    """Elements that a head of `head_dim` numbers takes where stock operators keep it: two 4-bit codes are a byte."""
    return head_dim // 2 if kind == "int4" else head_dim


def kv_layers(spec: ModelSpec) -> list[tuple[int, tuple[int, ...]]]:
    """Layers by their window in tokens (0 is full attention), which come first: (window, layers)."""
    by_window: dict[int, list[int]] = {}
    for layer in range(spec.layers):
        by_window.setdefault(spec.window(layer), []).append(layer)
    return [(window, tuple(layers)) for window, layers in sorted(by_window.items())]


def kv_groups(spec: ModelSpec, engine: str, kind: str | None = None) -> tuple[KvGroup, ...]:
    """The KV of `spec` on `engine`: in pages of `kind` on the cpu engine, token by token elsewhere.

    Without `kind` it is `default_kv`.
    """
    paged = engine == "cpu"
    kind = kind or default_kv(engine)
    if paged:
        token = spec.kv_heads * head_page_bytes(kind, spec.head_dim, spec.head_dim) // PAGE_TOKENS
    else:
        token = 2 * spec.kv_heads * spec.head_dim * (16 if kind == "float16" else STATIC_KV_BITS[kind]) // 8
    return tuple(
        KvGroup(
            kind="window" if window else "full",
            layers=layers,
            type=kind,
            window=window,
            bytes_per_token=token * len(layers),
            page_tokens=PAGE_TOKENS if paged else 1,
            scale_group=_scale_group(kind, paged),
        )
        for window, layers in kv_layers(spec)
    )


def stored_kv_type(manifest: Manifest, engine: str) -> str | None:
    """What the graph for `engine` keeps KV as; None on the cpu engine, where a load says.

    Raises:
        ArtifactTooNew: as something that this version does not know.
    """
    if engine == "cpu":
        return None
    # Pages are those of a variant for the cpu engine beside it.
    kinds = [group.type for group in manifest.kv if group.page_tokens == 1]
    if not kinds:
        return "float32"
    if kinds[0] not in ENGINE_KV[engine]:
        raise ArtifactTooNew(
            f"edge.json: KV is kept as {shown(kinds[0])}, which edgewise {VERSION} does not know; "
            "upgrade with pip install --upgrade edgewise"
        )
    return kinds[0]


def planned_kv(manifest: Manifest) -> str | None:
    """What KV is to be kept as by the plan that the export was made by, by the name that users call it.

    None where there was none, or where it is settled in the graph: a load takes it unless it is told otherwise.

    Raises:
        ArtifactCorrupt: the manifest names nothing that there is.
    """
    board = manifest.provenance.get(BOARD)
    if board is None or any(variant.engine != "cpu" for variant in manifest.variants):
        return None
    kv = board.get("kv") if isinstance(board, dict) else board
    if not isinstance(kv, str) or kv not in KV_NAMES:
        raise ArtifactCorrupt(
            f"edge.json: provenance.{BOARD}.kv is {shown(kv)}, expected one of {', '.join(KV_NAMES)}; "
            "export the artifact again"
        )
    return kv


def immovable(spec: ModelSpec, groups: Iterable[KvGroup]) -> str:
    """What keeps keys from being moved to other positions; empty where they can be."""
    if spec.rope.kind == "dynamic":
        return "the model has a dynamic rotary embedding"
    if any(spec.windows):
        return "the model has sliding windows of its own"
    # The codes of a key that is turned would be rounded anew with each turn, by scales that are in the graph alone.
    static = any(group.scale_group == 1 for group in groups)
    return "the artifact keeps keys as codes with scales fixed at export" if static else ""


def _scale_group(kind: str, paged: bool) -> int:
    if not kind.startswith("int"):
        return 0
    return SCALE_GROUP if paged else 1
