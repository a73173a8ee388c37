"""The manifest of an artifact that is otherwise written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge.artifact import MANIFEST, Manifest, ModelSpec, Part, Variant, kv_groups
from export.folder import list_files, write_text
from export.progress import Counter, Progress


def write_manifest(
    folder: Path,
    progress: Progress,
    *,
    name: str,
    spec: ModelSpec,
    recipe: dict[str, Any],
    parts: tuple[Part, ...],
    variants: tuple[Variant, ...],
    provenance: dict[str, Any],
    kv: str | None = None,
) -> tuple[Manifest, int]:
    """Hash all of `folder` and write its edge.json; it, and the bytes of all files with it.

    `variants` are for one engine; `kv` is the type that KV is kept as, None the engine's default.

    Raises:
        StorageError
    """
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    manifest = Manifest(
        name=name,
        spec=spec,
        recipe=recipe,
        parts=parts,
        kv=kv_groups(spec, variants[0].engine, kv),
        variants=variants,
        provenance=provenance,
        files=list_files(folder, Counter(progress, "checksums", size).add),
    )
    return manifest, size + write_text(folder / MANIFEST, manifest.dumps())
