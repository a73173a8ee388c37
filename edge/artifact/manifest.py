"""The manifest, edge.json: what an artifact is and which files it is made of."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import Any

from edge.artifact.fields import (
    parse_json,
    read_dataclass,
    read_dataclasses,
    read_free_object,
    read_object,
    shown,
)
from edge.artifact.spec import ModelSpec
from edge.errors import ArtifactCorrupt, ArtifactTooNew
from edge.version import VERSION

# 2: variants name the layout of their weights.
FORMAT = 2
# Readers that know no graphs end at 2, and say that this is too new for them.
GRAPHS, GRAPHS_FORMAT = "graphs", 3
"""The `kind` of a manifest of graphs, and its format; a decoder's has no kind."""
MANIFEST = "edge.json"
FIDELITY = "fidelity.json"
"""The report of how far an artifact is from its source, where there is one."""

VERSION_TEXT = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9}){0,3}")


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """A file of the artifact; `path` is relative to its folder, with forward slashes."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Part:
    """Weights of one kind (embedding, attention, mlp, norms, head): how many and how many bytes."""

    name: str
    parameters: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class KvGroup:
    """Layers whose KV is kept alike; `window` in tokens, 0 for full attention.

    `page_tokens` are allocated together; `scale_group` numbers of a key share a scale, 0 where there is none. 1: each
    number of a head has its own, fixed at export for all tokens.
    """

    kind: str
    layers: tuple[int, ...]
    type: str
    window: int
    bytes_per_token: int
    page_tokens: int = 1
    scale_group: int = 0


@dataclass(frozen=True, kw_only=True)
class Variant:
    """The model for one engine. `requires` is the engine's oldest version that runs it.

    `layout` names the byte layout of quantized weights, "" for that of the engine's stock operators.
    """

    engine: str
    dialect: str
    activation: str
    requires: str
    model: str
    files: tuple[str, ...]
    layout: str = ""
    layout_version: int = 0


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """All of edge.json."""

    name: str
    spec: ModelSpec
    recipe: dict[str, Any]
    parts: tuple[Part, ...]
    kv: tuple[KvGroup, ...]
    variants: tuple[Variant, ...]
    provenance: dict[str, Any]
    files: tuple[FileEntry, ...]
    format: int = FORMAT

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights."""
        return sum(part.bytes for part in self.parts)

    @property
    def decode_bytes(self) -> int:
        """Bytes of weights that one decoded token reads: all but an embedding that is not also the head."""
        skipped = 0 if self.spec.tied else sum(part.bytes for part in self.parts if part.name == "embedding")
        return self.weight_bytes - skipped

    @property
    def bits_per_weight(self) -> float:
        """Scales and zero points included."""
        return 8 * self.weight_bytes / max(1, sum(part.parameters for part in self.parts))

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of KV that one more token takes over all layers."""
        return sum(group.bytes_per_token for group in self.kv)

    def dumps(self) -> str:
        """The text of edge.json."""
        data = {"format": self.format, "edgewise": VERSION, **asdict(self), "spec": self.spec.to_json()}
        return json.dumps(data, indent=1) + "\n"

    @classmethod
    def loads(cls, text: str) -> Manifest:
        """Read what `dumps` wrote, in this version or one of an earlier format.

        Raises:
            ArtifactTooNew: a later format version.
            ArtifactCorrupt: no JSON, a key missing, unknown or of the wrong type, or a contradiction.
        """
        data = read_header(text)
        for key, kind in (("parts", Part), ("kv", KvGroup), ("variants", Variant), ("files", FileEntry)):
            data[key] = read_dataclasses(kind, key, data.get(key))
        for key in ("recipe", "provenance"):
            data[key] = read_free_object(key, data.get(key))
        data["spec"] = ModelSpec.from_json(data.get("spec"))
        manifest = read_dataclass(cls, "the manifest", data)
        manifest._check()
        return manifest

    def _check(self) -> None:
        listed: set[str] = set()
        for entry in self.files:
            if entry.path in listed:
                raise ArtifactCorrupt(f"edge.json lists {shown(entry.path)} twice; export the artifact again")
            listed.add(entry.path)
        if sorted(layer for group in self.kv for layer in group.layers) != list(range(self.spec.layers)):
            raise ArtifactCorrupt(
                f"edge.json: kv does not name each of the {self.spec.layers} layers once; "
                "export the artifact again"
            )
        for variant in self.variants:
            for name in (variant.model, *variant.files):
                if name not in listed:
                    raise ArtifactCorrupt(
                        f"edge.json: variant {shown(variant.engine)} names {shown(name)}, which is not "
                        "listed; export the artifact again"
                    )
            if not VERSION_TEXT.fullmatch(variant.requires):
                raise ArtifactCorrupt(
                    f"edge.json: variant {shown(variant.engine)} requires {shown(variant.requires)}, "
                    "expected a version such as 1.23.2; export the artifact again"
                )


def read_header(text: str) -> dict[str, Any]:
    """The object of an edge.json, its format one that is read here.

    Raises:
        ArtifactTooNew, ArtifactCorrupt
    """
    try:
        data = dict(read_object("the manifest", parse_json(text)))
    except ValueError as e:
        raise ArtifactCorrupt(f"edge.json is not JSON ({e}); export the artifact again") from None
    version, writer = data.get("format"), data.pop("edgewise", "of an unknown version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ArtifactCorrupt(
            f"edge.json: format is {shown(version)}, expected a number from 1; export the artifact again"
        )
    newest = GRAPHS_FORMAT if data.get("kind") == GRAPHS else FORMAT
    if version > newest:
        raise ArtifactTooNew(
            f"edge.json: format {shown(version)} was written by edgewise {shown(writer)}; "
            f"edgewise {VERSION} reads up to format {newest}: upgrade with pip install --upgrade edgewise"
        )
    return data
