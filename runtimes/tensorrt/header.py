"""The header of an engine file: what TensorRT's plan behind it was built with, of what and for which GPU.

The first page of the file, then the plan:

    8 bytes   EDGETRT and a zero
    4 bytes   version of this format, little-endian
    4 bytes   bytes of the JSON
    32 bytes  sha256 of the JSON
    the JSON  the fields of `EngineHeader`
    zeros     up to PLAN_OFFSET

TensorRT ties a plan to its own version, to the GPU's compute capability and to the platform, and says of another one
only that it cannot be read. The header says which it was, before TensorRT is asked.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import struct
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from edge.artifact import Artifact, FileEntry, Variant
from edge.artifact.engine_files import build_again, is_engine, target_name
from edge.artifact.kv import ENGINE_KV
from edge.errors import EngineDamaged, EngineError, EngineMismatch
from edge.version import VERSION

MAGIC = b"EDGETRT\0"
FORMAT = 1
PLAN_OFFSET = 4096
"""Where the plan begins: a page, so that it can be mapped."""

TENSORRT, TENSORRT_RTX = "tensorrt", "tensorrt_rtx"
"""The flavours, named after their Python modules."""
TITLES = {TENSORRT: "TensorRT", TENSORRT_RTX: "TensorRT-RTX"}

_FIXED = struct.Struct("<8sII32s")
_CHUNK = 4 << 20
_KINDS: dict[str, Callable[[Any], bool]] = {
    "str": lambda value: isinstance(value, str) and 0 < len(value) <= 200 and value.isprintable(),
    "int": lambda value: isinstance(value, int) and not isinstance(value, bool) and value > 0,
    "Whole": lambda value: value == 0 or _KINDS["int"](value),
    "tuple[str, ...]": lambda value: _all(value, _KINDS["str"]),
    "tuple[Shapes, ...]": lambda value: _all(value, _is_shapes),
}


Whole = int
"""A number that may be 0."""


@dataclass(frozen=True)
class Shapes:
    """What a call in one optimization profile may have: from 1 to `tokens` tokens, of them `logits` wanted."""

    tokens: int
    logits: int


@dataclass(frozen=True, kw_only=True)
class EngineHeader:
    """What a plan is. Its profiles are in the order in which TensorRT numbers them."""

    flavour: str
    version: str
    """Of TensorRT, such as 1.7.1.116."""
    sms: tuple[str, ...]
    """Compute capabilities it is for, such as 8.9."""
    platform: str
    """Such as linux-x86_64."""
    artifact: str
    """`artifact_fingerprint` of what it was built from."""
    form: str
    """Of the portable dialect, opset24 or opset21."""
    capacity: int
    """The bucket: tokens that the cache holds."""
    profiles: tuple[Shapes, ...]
    weights: tuple[str, ...]
    """Types of the weights that are codes, int4 or int8; float16 where none is."""
    kv: str
    """float16 or int8."""
    built: int
    """When, in seconds since 1970: where several can run, the newest does."""
    activation_bytes: Whole
    """What a context for each profile takes of the GPU's memory, in all; 0 where TensorRT did not say."""
    plan_bytes: int
    plan_sha256: str
    edgewise: str = VERSION

    @property
    def title(self) -> str:
        """Flavour and version: TensorRT-RTX 1.7."""
        return title(self.flavour, self.version)

    def dumps(self) -> bytes:
        """The first PLAN_OFFSET bytes of the file."""
        text = json.dumps(asdict(self)).encode()
        head = _FIXED.pack(MAGIC, FORMAT, len(text), hashlib.sha256(text).digest()) + text
        assert len(head) <= PLAN_OFFSET
        return head.ljust(PLAN_OFFSET, b"\0")


@dataclass(frozen=True, kw_only=True)
class Here:
    """What an engine is to run on: the installed TensorRT, this GPU, this platform, this artifact."""

    flavour: str
    version: str
    sm: str
    platform: str
    artifact: str


def read_header(path: Path) -> EngineHeader:
    """The header of the engine file `path`, whose size is checked; `check_plan` checks what is in it.

    Raises:
        EngineDamaged: it is no engine file, or truncated or altered.
        EngineMismatch: a later version of Edgewise wrote it.
    """
    if path.exists() and not path.is_file():
        raise EngineDamaged(f"{path} is no regular file; {build_again(path)}")
    try:
        with path.open("rb") as file:
            page, size = file.read(PLAN_OFFSET), path.stat().st_size
    except OSError as e:
        raise EngineDamaged(f"{path} cannot be read ({e.strerror}); {build_again(path)}") from None
    if not page.startswith(MAGIC):
        raise EngineDamaged(
            f"{path} is no engine file of Edgewise: it does not begin as one; {build_again(path)}"
        )
    if len(page) < PLAN_OFFSET:
        raise EngineDamaged(
            f"{path} is truncated: it has {size} bytes, not even a header; {build_again(path)}"
        )
    _, version, length, digest = _FIXED.unpack_from(page)
    if version > FORMAT:
        raise EngineMismatch(
            f"{path} is in format {version} of engine files, and edgewise {VERSION} reads up to {FORMAT}: "
            "upgrade with pip install --upgrade edgewise"
        )
    text = page[_FIXED.size : _FIXED.size + length]
    if hashlib.sha256(text).digest() != digest:
        raise EngineDamaged(f"{path} is altered: its header is not what was written; {build_again(path)}")
    header = _parsed(text, path)
    if size != PLAN_OFFSET + header.plan_bytes:
        what = "truncated" if size < PLAN_OFFSET + header.plan_bytes else "altered"
        raise EngineDamaged(
            f"{path} is {what}: it has {size} bytes, its header says {PLAN_OFFSET + header.plan_bytes}; "
            f"{build_again(path)}"
        )
    return header


def check_plan(path: Path, header: EngineHeader, progress: Callable[[int], None] | None = None) -> None:
    """Hash the plan; `progress` is told the bytes since the last call.

    Raises:
        EngineDamaged: it is not what was written.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            file.seek(PLAN_OFFSET)
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                if progress is not None:
                    progress(len(chunk))
    except OSError as e:
        raise EngineDamaged(f"{path} cannot be read ({e.strerror}); {build_again(path)}") from None
    if digest.hexdigest() != header.plan_sha256:
        raise EngineDamaged(f"{path} is altered: its plan is not what was written; {build_again(path)}")


def mismatch(header: EngineHeader, here: Here, artifact: Path | str) -> str | None:
    """Why the engine cannot run `here`, in a sentence with the command that builds one that can; None where it can."""
    run = f"run: {rebuild(artifact, here.sm, header.capacity)}"
    if header.artifact != here.artifact:
        return f"built from another artifact than {artifact}: {run}"
    told = title(here.flavour, here.version)
    same = header.flavour == here.flavour
    if same and header.version != here.version and header.title == told:
        was, told = (f"{TITLES.get(here.flavour, here.flavour)} {v}" for v in (header.version, here.version))
    else:
        was = header.title
    if not same or header.version != here.version or here.sm not in header.sms:
        gpus = " and ".join(map(sm_name, header.sms))
        return f"built for {gpus} with {was}; this is {sm_name(here.sm)} with {told}: {run}"
    if header.platform != here.platform:
        return f"built for {header.platform}; this is {here.platform}: {run}"
    return None


def check_here(path: Path, header: EngineHeader, here: Here, artifact: Path | str) -> None:
    """Raises EngineMismatch where the engine cannot run `here`."""
    if why := mismatch(header, here, artifact):
        raise EngineMismatch(f"{path} is {why}")


def rebuild(artifact: Path | str, sm: str, capacity: int | None = None) -> str:
    """The command that builds an engine for a compute capability."""
    context = f" --context {capacity}" if capacity else ""
    return f"edge build {shlex.quote(str(artifact))} --target {target_name(sm)}{context}"


def survey(artifact: Artifact) -> tuple[list[tuple[str, EngineHeader]], list[tuple[str, EngineError]]]:
    """The engine files of an artifact by the names in its manifest: those that are of use, with their headers, and
    those that are not, damaged or of another artifact, with why and the command that builds them again.
    """
    whole: list[tuple[str, EngineHeader]] = []
    spoilt: list[tuple[str, EngineError]] = []
    for entry in artifact.manifest.files:
        if is_engine(entry.path):
            try:
                whole.append((entry.path, read_listed(artifact, entry)))
            except EngineError as e:
                spoilt.append((entry.path, e))
    return whole, spoilt


def engines(artifact: Artifact) -> list[tuple[str, EngineHeader]]:
    """Those of them that are of use."""
    return survey(artifact)[0]


def read_listed(artifact: Artifact, entry: FileEntry) -> EngineHeader:
    """The header of an engine of an artifact, sure to be built from it and to be the file that its manifest lists.

    Raises:
        EngineDamaged, EngineMismatch
    """
    path = artifact.path / entry.path
    header = read_header(path)
    own = (artifact_fingerprint(artifact, v) for v in artifact.manifest.variants if v.engine == TENSORRT)
    if header.artifact not in own:
        raise EngineMismatch(
            f"{path} is built from another artifact than {artifact.path}; {build_again(path)}"
        )
    if PLAN_OFFSET + header.plan_bytes != entry.size:
        raise EngineDamaged(
            f"{path} is altered: it has {PLAN_OFFSET + header.plan_bytes} bytes, the manifest says {entry.size}; "
            f"{build_again(path)}"
        )
    return header


def artifact_fingerprint(artifact: Artifact, variant: Variant) -> str:
    """32 hexadecimal digits of the graph and the weights that a variant is made of."""
    hashes = {entry.path: entry.sha256 for entry in artifact.manifest.files}
    names = sorted({variant.model, *variant.files})
    return hashlib.sha256(json.dumps([hashes[name] for name in names]).encode()).hexdigest()[:32]


def title(flavour: str, version: str) -> str:
    """A TensorRT as people call it: TensorRT-RTX 1.7."""
    return f"{TITLES.get(flavour, flavour)} {'.'.join(version.split('.')[:2])}"


def sm_name(sm: str) -> str:
    """Compute capability 8.9 as sm_89."""
    return f"sm_{sm.replace('.', '')}"


def _parsed(text: bytes, path: Path) -> EngineHeader:
    # Its checksum is right, so that what is wrong was written so.
    wrong = EngineDamaged(f"{path} is altered: its header is none of Edgewise; {build_again(path)}")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        raise wrong from None
    kinds = {field.name: str(field.type) for field in fields(EngineHeader)}
    if not isinstance(data, dict) or set(data) != set(kinds):
        raise wrong
    if not all(_KINDS[kind](data[name]) for name, kind in kinds.items()):
        raise wrong
    if data["kv"] not in ENGINE_KV[TENSORRT] or not all(
        re.fullmatch(r"\d{1,3}\.\d", sm) for sm in data["sms"]
    ):
        raise wrong
    shapes = tuple(Shapes(**shape) for shape in data["profiles"])
    return EngineHeader(
        **{
            **data,
            "sms": tuple(data["sms"]),
            "weights": tuple(data["weights"]),
            "profiles": shapes,
        }
    )


def _all(value: Any, right: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and bool(value) and all(map(right, value))


def _is_shapes(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == {"tokens", "logits"}
        and all(map(_KINDS["int"], value.values()))
    )
