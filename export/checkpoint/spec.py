"""describe, read_spec: what a checkpoint is made of, from its config alone."""

from __future__ import annotations

from dataclasses import dataclass
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


@dataclass(frozen=True)
class Described:
    """A checkpoint as its config describes it."""

    spec: ModelSpec
    bits: float | None = None
    """Bits a weight where it is a file that is quantized; None where that is not known, or of no matter."""
    codes: int | None = None
    """Bits of the codes that most matrices have and an artifact can hold as they are; None where there are none."""


def read_spec(source: str | Path) -> ModelSpec:
    """The ModelSpec of what `describe` describes."""
    return describe(source).spec


def describe(source: str | Path) -> Described:
    """A config.json, a folder with one, a GGUF file or a hub id; weights need not be there.

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


def _from_config(config: dict[str, object]) -> Described:
    family = family_for_model_type(Fields("config.json", config).text("model_type"))
    packing = packing_from_config(config)  # refuses what an export would
    codes = packing.kept_bits if packing else None
    return Described(family.spec_from_config(config), None if codes is None else float(codes), codes)


def _from_gguf(path: Path) -> Described:
    from export.checkpoint.gguf_codes import GRIDS
    from export.checkpoint.gguf_file import read_gguf

    gguf = read_gguf(path)
    family = family_for_gguf(Fields(str(path), gguf.metadata).text("general.architecture"))
    spec = family.spec_from_gguf(gguf.metadata, gguf.tensors)
    by_kind: dict[str, int] = {}
    for tensor in gguf.tensors.values():
        by_kind[tensor.dtype] = by_kind.get(tensor.dtype, 0) + tensor.nbytes
    most = max(by_kind, key=lambda kind: by_kind[kind], default="")
    grid = GRIDS.get(most)
    return Described(spec, 8 * sum(by_kind.values()) / spec.parameters, grid.bits if grid else None)
