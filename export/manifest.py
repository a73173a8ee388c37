"""The manifest of an artifact that is otherwise written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge.artifact import MANIFEST, KvGroup, Manifest, ModelSpec, Part, Variant
from export.folder import list_files, write_text
from export.progress import Counter, Progress

_KV_TYPE, _KV_BYTES = "float32", 4


def write_manifest(
    folder: Path,
    progress: Progress,
    *,
    name: str,
    spec: ModelSpec,
    recipe: dict[str, Any],
    parts: tuple[Part, ...],
    variant: Variant,
    provenance: dict[str, Any],
) -> tuple[Manifest, int]:
    """Hash all of `folder` and write its edge.json; it, and the bytes of all files with it.

    Raises:
        StorageError
    """
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    manifest = Manifest(
        name=name,
        spec=spec,
        recipe=recipe,
        parts=parts,
        kv=_kv_groups(spec),
        variants=(variant,),
        provenance=provenance,
        files=list_files(folder, Counter(progress, "checksums", size).add),
    )
    return manifest, size + write_text(folder / MANIFEST, manifest.dumps())


def _kv_groups(spec: ModelSpec) -> tuple[KvGroup, ...]:
    """Layers by their window, full attention first."""
    by_window: dict[int, list[int]] = {}
    for layer in range(spec.layers):
        by_window.setdefault(spec.window(layer), []).append(layer)
    token = 2 * spec.kv_heads * spec.head_dim * _KV_BYTES
    return tuple(
        KvGroup(
            kind="window" if window else "full",
            layers=tuple(layers),
            type=_KV_TYPE,
            window=window,
            bytes_per_token=token * len(layers),
        )
        for window, layers in sorted(by_window.items())
    )
