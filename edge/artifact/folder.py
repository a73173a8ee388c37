"""An artifact on disk: opened with its manifest checked, verified with every hash."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from edge.artifact.engine_files import build_again, is_engine
from edge.artifact.fields import parse_json, shown
from edge.artifact.graphs import GraphsManifest
from edge.artifact.manifest import MANIFEST, FileEntry, Manifest, Variant, read_header
from edge.artifact.spec import ModelSpec
from edge.errors import ArtifactCorrupt, ArtifactNotFound, EngineError, NotADecoder, UnsafePath

_LARGEST_MANIFEST = 64 << 20
_CHUNK = 4 << 20


class Stored:
    """A folder whose manifest was read and whose files are all there with the sizes it names, engines apart."""

    path: Path

    @property
    def entries(self) -> tuple[FileEntry, ...]:
        """The files that the manifest lists."""
        raise NotImplementedError

    def optional(self, name: str) -> bool:
        """Whether the artifact can be used without the file `name`."""
        return False

    def has(self, name: str) -> bool:
        """Whether the manifest lists the file `name`."""
        return any(entry.path == name for entry in self.entries)

    def file(self, name: str) -> Path:
        """Path of a file that the manifest lists.

        Raises:
            ArtifactCorrupt: it is not listed, or not there with its size.
            UnsafePath: it leads out of the folder.
        """
        for entry in self.entries:
            if entry.path == name:
                return check_file(self.path, entry)
        raise ArtifactCorrupt(f"{self.path}: edge.json lists no {name}; export the artifact again")

    def faults(
        self, progress: Callable[[int], None] | None = None, only: Collection[str] | None = None
    ) -> Iterator[str]:
        """A message for each bad file, or of those that `only` names, with what to do.

        `progress` is told the bytes hashed since the last call.
        """
        for entry in self.entries:
            if only is not None and entry.path not in only:
                continue
            try:
                if _sha256(check_file(self.path, entry), progress) != entry.sha256:
                    yield (
                        f"{self.path / entry.path} has changed: its sha256 is not that of the manifest; "
                        f"{_again(self.path, entry)}"
                    )
            except ArtifactCorrupt as e:
                yield str(e)
            except OSError as e:
                yield f"{self.path / entry.path} cannot be read ({e.strerror}); {_again(self.path, entry)}"

    def verify(
        self, progress: Callable[[int], None] | None = None, only: Collection[str] | None = None
    ) -> None:
        """Hash every file, or those that `only` names.

        Raises:
            ArtifactCorrupt: naming every file that is missing, shortened or changed.
        """
        faults = list(self.faults(progress, only))
        if faults:
            raise ArtifactCorrupt("; ".join(faults))

    def text(self, name: str) -> str:
        """The UTF-8 text of a file that the manifest lists.

        Raises:
            ArtifactCorrupt: it cannot be read.
            UnsafePath: it leads out of the folder.
        """
        try:
            return self.file(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as e:
            raise ArtifactCorrupt(
                f"{self.path / name} cannot be read ({e}); export the artifact again"
            ) from None


@dataclass(frozen=True)
class Artifact(Stored):
    """A decoder: the artifact that a Model is made of."""

    path: Path
    manifest: Manifest

    @property
    def entries(self) -> tuple[FileEntry, ...]:
        """See `Stored.entries`."""
        return self.manifest.files

    def optional(self, name: str) -> bool:
        """Engines are, which are built again from the graphs."""
        return is_engine(name) and not any(name in (v.model, *v.files) for v in self.manifest.variants)

    @property
    def spec(self) -> ModelSpec:
        """What the decoder is made of."""
        return self.manifest.spec

    @cached_property
    def tokenizer_json(self) -> str:
        """The tokenizer, in the format of the `tokenizers` library."""
        return self.text("tokenizer.json")

    @cached_property
    def chat_template(self) -> str | None:
        """The Jinja chat template, or None where the checkpoint has none."""
        return self.text("chat_template.jinja") if self.has("chat_template.jinja") else None

    @cached_property
    def generation(self) -> dict[str, Any]:
        """Generation defaults: `eos_token_id` (a list) and Hugging Face's sampling keys."""
        where = self.path / "generation.json"
        try:
            data = parse_json(self.text("generation.json"))
        except ValueError as e:
            raise ArtifactCorrupt(f"{where} is not JSON ({e}); export the artifact again") from None
        if not isinstance(data, dict):
            raise ArtifactCorrupt(f"{where} holds no object; export the artifact again")
        return data

    def variant(self, engine: str) -> Variant:
        """The variant for `engine`.

        Raises:
            EngineError: there is none.
        """
        for variant in self.manifest.variants:
            if variant.engine == engine:
                return variant
        have = ", ".join(dict.fromkeys(v.engine for v in self.manifest.variants)) or "none"
        raise EngineError(
            f"{self.path} has no variant for engine {engine!r} (it has: {have}); export it for that engine"
        )


@dataclass(frozen=True)
class GraphArtifact(Stored):
    """Graphs that are no decoder of ours."""

    path: Path
    manifest: GraphsManifest

    @property
    def entries(self) -> tuple[FileEntry, ...]:
        """See `Stored.entries`."""
        return self.manifest.files


def open_artifact(path: str | Path, *, check_files: bool = True) -> Artifact:
    """Open the decoder at `path`; see `open_any`.

    Raises:
        ArtifactNotFound, ArtifactCorrupt, ArtifactTooNew, UnsafePath
        NotADecoder: it holds other graphs.
    """
    opened = open_any(path, check_files=check_files)
    if isinstance(opened, GraphArtifact):
        names = ", ".join(graph.name for graph in opened.manifest.graphs)
        raise NotADecoder(
            f"{opened.path} holds graphs of {opened.manifest.architecture} ({names}), no decoder that edge generates "
            f"text with; run them from Python: edge.load({str(opened.path)!r}).run(feeds, graph), "
            f"and see what they take with: edge inspect {opened.path}"
        )
    return opened


def open_any(path: str | Path, *, check_files: bool = True) -> Artifact | GraphArtifact:
    """Open the artifact at `path`: manifest read, every file there with its size, engines apart. Hashes are
    `verify`'s work.

    Without `check_files` only the manifest is read, for `faults` to find all that is wrong.

    Raises:
        ArtifactNotFound, ArtifactCorrupt, ArtifactTooNew, UnsafePath
    """
    folder = Path(path)
    if not os.path.isdir(folder):
        what = "is a file, not an artifact folder" if os.path.lexists(folder) else "does not exist"
        raise ArtifactNotFound(f"{folder} {what}; make one with: edge export SOURCE -o {folder}")
    text = _manifest_text(folder)
    opened: Artifact | GraphArtifact
    if read_header(text).get("kind") is None:
        opened = Artifact(folder, Manifest.loads(text))
    else:
        opened = GraphArtifact(folder, GraphsManifest.loads(text))
    for entry in opened.entries:
        if check_files and not opened.optional(entry.path):
            check_file(folder, entry)
        else:
            inside(folder, entry.path)
    return opened


def check_file(folder: Path, entry: FileEntry) -> Path:
    """Path of the file, sure to be there, inside the folder, with its size.

    Raises:
        ArtifactCorrupt, UnsafePath
    """
    path = inside(folder, entry.path)
    try:
        found = path.stat()
    except OSError as e:
        raise ArtifactCorrupt(f"{path} is missing ({e.strerror}); {_again(folder, entry)}") from None
    if not stat.S_ISREG(found.st_mode):
        raise ArtifactCorrupt(f"{path} is no regular file; {_again(folder, entry)}")
    if found.st_size != entry.size:
        raise ArtifactCorrupt(
            f"{path} has {found.st_size} bytes, the manifest says {entry.size}; {_again(folder, entry)}"
        )
    return path


def inside(folder: Path, name: str) -> Path:
    """`folder`/`name`, sure not to lead out of the folder, by its text or by a link.

    Raises:
        UnsafePath
    """
    pure = PurePosixPath(name)
    plain = name.isprintable() and "\\" not in name and str(pure) == name != "."
    if not plain or pure.is_absolute() or ".." in pure.parts:
        raise UnsafePath(
            f"{folder / MANIFEST} names {shown(name)}, which is no plain path inside the artifact; "
            "do not use this artifact"
        )
    path = folder / pure
    # os.path.realpath, unlike Path.resolve, also answers for links that go in circles.
    real = os.path.realpath(path)
    if not Path(real).is_relative_to(os.path.realpath(folder)):
        raise UnsafePath(f"{path} is a link out of the artifact, to {real}; do not use this artifact")
    return path


def _again(folder: Path, entry: FileEntry) -> str:
    if is_engine(entry.path):
        return build_again(folder / entry.path)
    return "copy or export the artifact again"


def _manifest_text(folder: Path) -> str:
    path = folder / MANIFEST
    if not os.path.isfile(path):
        raise ArtifactNotFound(
            f"{folder} holds no {MANIFEST}, so it is no artifact; make one with: edge export SOURCE -o OUT"
        )
    try:
        with inside(folder, MANIFEST).open("rb") as file:
            data = file.read(_LARGEST_MANIFEST + 1)
        if len(data) > _LARGEST_MANIFEST:
            raise ArtifactCorrupt(
                f"{path} is larger than {_LARGEST_MANIFEST >> 20} MiB; export the artifact again"
            )
        return data.decode("utf-8")
    except OSError as e:
        raise ArtifactCorrupt(
            f"{path} cannot be read ({e.strerror}); copy or export the artifact again"
        ) from None
    except UnicodeDecodeError as e:
        raise ArtifactCorrupt(f"{path} is not UTF-8 ({e}); export the artifact again") from None


def _sha256(path: Path, progress: Callable[[int], None] | None) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            if progress is not None:
                progress(len(chunk))
    return digest.hexdigest()
