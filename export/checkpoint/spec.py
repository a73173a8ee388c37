"""read_spec: what a decoder is made of, from its config alone."""

from __future__ import annotations

from pathlib import Path

from edge.artifact import ModelSpec
from edge.errors import CheckpointNotFound
from export.architecture import family_for_gguf, family_for_model_type
from export.architecture.fields import Fields
from export.checkpoint.folder import read_config
from export.checkpoint.hub import HUB_ID, download
from export.checkpoint.json_file import read_json
from export.checkpoint.packed import packing_from_config

ACCEPTED = "a config.json or its folder, a .gguf file, or a hub id: org/name or org/name@revision"


def read_spec(source: str | Path) -> ModelSpec:
    """The ModelSpec of a config.json, a folder with one, a GGUF file or a hub id; weights need not be there.

    Of a hub id config.json is fetched and nothing else.

    Raises:
        CheckpointNotFound, CheckpointCorrupt, Unsupported: see `open_checkpoint`.
        MissingExtra: the source wants a library of the `export` extra.
    """
    path, name = Path(source), str(source)
    try:
        if path.is_dir():
            return _from_config(read_config(path))
        if path.suffix.lower() == ".gguf" and path.is_file():
            return _from_gguf(path)
        if path.is_file():
            return _from_config(read_json(path))
    except OSError as e:
        raise CheckpointNotFound(f"{name}: cannot be read ({e}); check its permissions") from e
    except ValueError as e:  # a NUL in the name
        raise CheckpointNotFound(f"{name!r:.200} is no file or folder ({e}); name {ACCEPTED}") from e
    match = HUB_ID.fullmatch(name)
    if match is None or name.endswith((".gguf", ".json")):
        raise CheckpointNotFound(f"{name!r:.200}: no such file or folder; name {ACCEPTED}")
    return _from_config(read_config(download(match[1], match[2], lambda *_: None, ["config.json"])))


def _from_config(config: dict[str, object]) -> ModelSpec:
    family = family_for_model_type(Fields("config.json", config).text("model_type"))
    packing_from_config(config)  # refuses what an export would
    return family.spec_from_config(config)


def _from_gguf(path: Path) -> ModelSpec:
    from export.checkpoint.gguf_file import read_gguf

    gguf = read_gguf(path)
    family = family_for_gguf(Fields(str(path), gguf.metadata).text("general.architecture"))
    return family.spec_from_gguf(gguf.metadata, gguf.tensors)
