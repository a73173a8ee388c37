"""An artifact on disk: opened with its manifest checked, verified with every hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from edge.artifact.manifest import MANIFEST, FileEntry, Manifest, Variant
from edge.artifact.spec import ModelSpec
from edge.errors import ArtifactCorrupt, ArtifactNotFound, EngineError, UnsafePath

_LARGEST_MANIFEST = 64 << 20
_CHUNK = 4 << 20


@dataclass(frozen=True)
class Artifact:
    """An artifact whose manifest was read and whose files are all there with the sizes it names."""

    path: Path
    manifest: Manifest

    @property
    def spec(self) -> ModelSpec:
        """What the decoder is made of."""
        return self.manifest.spec

    @cached_property
    def tokenizer_json(self) -> str:
        """The tokenizer, in the format of the `tokenizers` library."""
        return self._text("tokenizer.json")

    @cached_property
    def chat_template(self) -> str | None:
        """The Jinja chat template, or None where the checkpoint has none."""
        return self._text("chat_template.jinja") if self.has("chat_template.jinja") else None

    @cached_property
    def generation(self) -> dict[str, Any]:
        """Generation defaults: `eos_token_id` (a list) and Hugging Face's sampling keys."""
        try:
            data = json.loads(self._text("generation.json"))
        except ValueError as e:
            raise ArtifactCorrupt(
                f"{self.path / 'generation.json'} is not JSON ({e}); export it again"
            ) from None
        if not isinstance(data, dict):
            raise ArtifactCorrupt(
                f"{self.path / 'generation.json'} holds no object; export the artifact again"
            )
        return data

    def has(self, name: str) -> bool:
        """Whether the manifest lists the file `name`."""
        return any(entry.path == name for entry in self.manifest.files)

    def file(self, name: str) -> Path:
        """Path of a file that the manifest lists.

        Raises:
            ArtifactCorrupt: it is not listed.
            UnsafePath: it leads out of the folder.
        """
        if not self.has(name):
            raise ArtifactCorrupt(f"{self.path}: edge.json lists no {name}; export the artifact again")
        return inside(self.path, name)

    def variant(self, engine: str) -> Variant:
        """The variant for `engine`.

        Raises:
            EngineError: there is none.
        """
        for variant in self.manifest.variants:
            if variant.engine == engine:
                return variant
        have = ", ".join(v.engine for v in self.manifest.variants) or "none"
        raise EngineError(
            f"{self.path} has no variant for engine {engine!r} (it has: {have}); export it for that engine"
        )

    def faults(self, progress: Callable[[int], None] | None = None) -> Iterator[str]:
        """What is wrong with each bad file, a message each; `progress` is told the bytes hashed since the last call."""
        for entry in self.manifest.files:
            try:
                check_file(self.path, entry)
                if _sha256(inside(self.path, entry.path), progress) != entry.sha256:
                    yield f"{self.path / entry.path} has changed: its sha256 is not that of the manifest"
            except ArtifactCorrupt as e:
                yield str(e)
            except OSError as e:
                yield f"{self.path / entry.path} cannot be read ({e.strerror})"

    def verify(self, progress: Callable[[int], None] | None = None) -> None:
        """Hash every file.

        Raises:
            ArtifactCorrupt: naming every file that is missing, shortened or changed.
        """
        faults = list(self.faults(progress))
        if faults:
            raise ArtifactCorrupt("; ".join(faults) + "; export or copy the artifact again")

    def _text(self, name: str) -> str:
        try:
            return self.file(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as e:
            raise ArtifactCorrupt(
                f"{self.path / name} cannot be read ({e}); export the artifact again"
            ) from None


def open_artifact(path: str | Path, *, check_files: bool = True) -> Artifact:
    """Open the artifact at `path`: manifest read, every file there with its size. Hashes are `verify`'s work.

    Without `check_files` only the manifest is read, for `faults` to find all that is wrong.

    Raises:
        ArtifactNotFound, ArtifactCorrupt, ArtifactTooNew, UnsafePath
    """
    folder = Path(path)
    manifest_path = folder / MANIFEST
    if not folder.is_dir():
        what = "is a file, not an artifact folder" if folder.exists() else "does not exist"
        raise ArtifactNotFound(f"{folder} {what}; make one with: edge export SOURCE -o {folder}")
    if not manifest_path.is_file():
        raise ArtifactNotFound(
            f"{folder} holds no {MANIFEST}, so it is no artifact; make one with: edge export SOURCE"
        )
    if manifest_path.stat().st_size > _LARGEST_MANIFEST:
        raise ArtifactCorrupt(
            f"{manifest_path} is larger than {_LARGEST_MANIFEST >> 20} MiB; export it again"
        )
    try:
        manifest = Manifest.loads(manifest_path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as e:
        raise ArtifactCorrupt(f"{manifest_path} is not UTF-8 ({e}); export the artifact again") from None
    listed = [entry.path for entry in manifest.files]
    for entry in manifest.files:
        if check_files:
            check_file(folder, entry)
    for variant in manifest.variants:
        for name in (variant.model, *variant.files):
            if name not in listed:
                raise ArtifactCorrupt(
                    f"{manifest_path}: variant {variant.engine} names {name}, which is not listed"
                )
    return Artifact(folder, manifest)


def check_file(folder: Path, entry: FileEntry) -> None:
    """Check that the file is there, inside the folder, with its size.

    Raises:
        ArtifactCorrupt, UnsafePath
    """
    path = inside(folder, entry.path)
    if not path.is_file():
        raise ArtifactCorrupt(f"{folder / entry.path} is missing; copy or export the artifact again")
    size = path.stat().st_size
    if size != entry.size:
        raise ArtifactCorrupt(
            f"{folder / entry.path} has {size} bytes, the manifest says {entry.size}; copy or export the artifact again"
        )


def inside(folder: Path, name: str) -> Path:
    """`folder`/`name`, sure not to lead out of the folder, by its text or by a link.

    Raises:
        UnsafePath
    """
    pure = PurePosixPath(name)
    if not name or pure.is_absolute() or ".." in pure.parts or "\\" in name or "\0" in name:
        raise UnsafePath(
            f"{folder / MANIFEST} names {name!r}, which is outside of the artifact; do not use this artifact"
        )
    path = folder / pure
    if not path.resolve().is_relative_to(folder.resolve()):
        raise UnsafePath(
            f"{path} is a link out of the artifact, to {path.resolve()}; do not use this artifact"
        )
    return path


def _sha256(path: Path, progress: Callable[[int], None] | None) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            if progress is not None:
                progress(len(chunk))
    return digest.hexdigest()
