"""A GGUF, in one file or split: its metadata and its tensors under Hugging Face names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.errors import CheckpointCorrupt, CheckpointNotFound, TensorError
from export.architecture import family_for_gguf
from export.architecture.fields import Fields
from export.architecture.names import hugging_face_name
from export.checkpoint.check import checked_tensors
from export.checkpoint.checkpoint import Checkpoint
from export.checkpoint.gguf_header import GgufHeader, read_gguf_header
from export.checkpoint.gguf_tensor import GgufTensor, gguf_tensors

_PART = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")
# The divisors of RoPE's frequencies go into the spec.
_IN_SPEC = ("rope_freqs.weight",)
_PERMUTED = re.compile(r"blk\.\d+\.attn_[qk]\.(weight|bias)")


@dataclass(frozen=True)
class Gguf:
    """What a GGUF holds, all parts of a split one together."""

    metadata: dict[str, Any]
    tensors: dict[str, GgufTensor]
    """By GGUF name, rows as they are stored."""


def open_gguf(path: Path, source: str) -> Checkpoint:
    """The checkpoint in a GGUF file, `source` being what the user called it.

    Raises:
        CheckpointNotFound: a part of a split GGUF is missing.
        CheckpointCorrupt, TensorError, Unsupported: see `export.checkpoint.open_checkpoint`.
    """
    from export.checkpoint.tokenizer import text_from_gguf

    gguf = read_gguf(path)
    general = Fields(str(path), gguf.metadata)
    family = family_for_gguf(general.text("general.architecture"))
    spec = family.spec_from_gguf(gguf.metadata, gguf.tensors)
    tensors: dict[str, GgufTensor] = {}
    for stored_name, tensor in gguf.tensors.items():
        if stored_name in _IN_SPEC:
            continue
        name = hugging_face_name(stored_name) or stored_name
        if name in tensors:
            raise TensorError(
                f"{path}: tensors {tensors[name].stored_name} and {stored_name} are both {name}"
            )
        permuted = family.interleaved and _PERMUTED.fullmatch(stored_name) is not None
        tensors[name] = tensor.renamed(name, spec.head_dim if permuted else 0)
    provenance = {"format": "gguf"}
    for key in ("name", "license", "quantized_by"):
        value = gguf.metadata.get(f"general.{key}")
        if isinstance(value, str):
            provenance[key] = value
    return Checkpoint(
        source=source,
        spec=spec,
        tensors=checked_tensors(source, spec, tensors),
        text=text_from_gguf(gguf.metadata),
        provenance=provenance,
    )


def read_gguf(path: Path) -> Gguf:
    """Read the header of a GGUF, and those of the parts that belong to it.

    Raises:
        CheckpointNotFound: a part is missing.
        CheckpointCorrupt: see `read_gguf_header` and `gguf_tensors`; or parts that do not belong together.
        Unsupported: see `read_gguf_header` and `gguf_tensors`.
    """
    header = read_gguf_header(path)
    count = _split(path, header, "split.count", 1)
    if count <= 1:
        return Gguf(header.metadata, gguf_tensors(path, header))
    metadata: dict[str, Any] = {}
    tensors: dict[str, GgufTensor] = {}
    for number, part in enumerate(_parts(path, count)):
        header = read_gguf_header(part)
        if (_split(part, header, "split.count", 1), _split(part, header, "split.no", 0)) != (count, number):
            raise CheckpointCorrupt(
                f"{part}: its split.no and split.count are not {number} and {count}; get all parts again"
            )
        metadata = metadata or header.metadata
        for name, tensor in gguf_tensors(part, header).items():
            if name in tensors:
                raise CheckpointCorrupt(f"{part}: tensor {name:.80} is in {tensors[name].path.name} too")
            tensors[name] = tensor
    return Gguf(metadata, tensors)


def _parts(path: Path, count: int) -> list[Path]:
    match = _PART.fullmatch(path.name)
    if match is None or int(match[3]) != count:
        raise CheckpointCorrupt(
            f"{path}: split.count says there are {count} parts, so the file should be named like "
            f"NAME-00001-of-{count:05}.gguf with the other parts beside it; give the parts their names back"
        )
    parts = [path.with_name(f"{match[1]}-{number:05}-of-{count:05}.gguf") for number in range(1, count + 1)]
    for part in parts:
        if not part.is_file():
            raise CheckpointNotFound(
                f"{part}: this part of a GGUF of {count} (split.count) is missing; get it too"
            )
    return parts


def _split(path: Path, header: GgufHeader, key: str, default: int) -> int:
    return Fields(str(path), header.metadata).integer(key, default, least=0, most=99999)
