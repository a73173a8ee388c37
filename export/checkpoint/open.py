"""open_checkpoint: what a source is, decided by what it looks like."""

from __future__ import annotations

from pathlib import Path

from edge.errors import CheckpointNotFound, Unsupported
from export.checkpoint.checkpoint import Checkpoint
from export.checkpoint.folder import PICKLES, open_folder
from export.checkpoint.gguf_file import open_gguf
from export.checkpoint.gguf_header import MAGIC
from export.checkpoint.hub import HUB_ID, Progress, open_hub

ACCEPTED = (
    "a folder with config.json and safetensors, a .gguf file, or a hub id: org/name or org/name@revision"
)


def open_checkpoint(source: str | Path, *, progress: Progress | None = None) -> Checkpoint:
    """Open a Hugging Face folder, a GGUF file or a hub id, and check it; its weights are not read yet.

    `progress` is called with ("download", bytes fetched, bytes to fetch) where the source is a hub id.

    Raises:
        CheckpointNotFound: nothing of that name, here or on the hub.
        CheckpointCorrupt: truncated, wrong magic, lengths past the end, no JSON, a key missing or wrong.
        TensorError: a tensor is missing, of another shape, or not expected.
        Unsupported: an architecture, an option, a type of weights or a tokenizer that Edgewise does not know.
        MissingExtra: the `export` extra is not installed.
    """
    path, name = Path(source), str(source)
    try:
        is_folder, is_file, exists = path.is_dir(), path.is_file(), path.exists()
    except (OSError, ValueError) as e:
        raise CheckpointNotFound(f"{name!r:.200} is no file or folder ({e}); name {ACCEPTED}") from e
    try:
        if is_folder:
            return open_folder(path, name)
        if is_file:
            return _open_file(path, name)
    except OSError as e:
        raise CheckpointNotFound(f"{name}: cannot be read ({e}); check its permissions") from e
    if exists:
        raise Unsupported(f"{name}: neither a file nor a folder; name {ACCEPTED}")
    if HUB_ID.fullmatch(name) and not name.endswith((".gguf", ".safetensors", *PICKLES)):
        return open_hub(name, progress)
    raise CheckpointNotFound(f"{name!r:.200}: no such file or folder; name {ACCEPTED}")


def _open_file(path: Path, name: str) -> Checkpoint:
    with path.open("rb") as file:
        start = file.read(4)
    if path.suffix.lower() == ".gguf" or start == MAGIC:
        return open_gguf(path, name)
    if path.suffix.lower() in PICKLES or start.startswith((b"PK\x03\x04", b"\x80")):
        raise Unsupported(
            f"{name}: a pickle, which can run code and is never loaded; convert it to safetensors first"
        )
    if path.suffix.lower() in (".safetensors", ".json"):
        raise Unsupported(f"{name}: one file of a checkpoint; name the folder it is in: {path.parent}")
    raise Unsupported(f"{name}: not a checkpoint that Edgewise knows; name {ACCEPTED}")
