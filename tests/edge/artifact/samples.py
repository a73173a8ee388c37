"""A small artifact made by hand, and specs, ropes and manifests to draw from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from hypothesis import strategies as st

from edge.artifact import FileEntry, KvGroup, Manifest, ModelSpec, Part, Rope, Variant
from edge.artifact.spec import RopeKind

FILES = {
    "generation.json": b'{"eos_token_id": [2]}',
    "onnxruntime/model.onnx": b"graph",
    "onnxruntime/weights.bin": b"w" * 100,
    "tokenizer.json": b"{}",
}
VARIANT = Variant(
    engine="onnxruntime",
    dialect="onnxruntime",
    activation="int8",
    requires="1.23.2",
    model="onnxruntime/model.onnx",
    files=("onnxruntime/weights.bin",),
)


def sample_manifest() -> Manifest:
    """The manifest of FILES: two layers, the second with a window."""
    return Manifest(
        name="sample",
        spec=ModelSpec(
            architecture="llama",
            vocab_size=10,
            hidden_size=8,
            intermediate_size=12,
            layers=2,
            heads=4,
            kv_heads=2,
            head_dim=4,
            context=64,
            norm_eps=1e-5,
            rope=Rope(),
            tied=True,
            windows=(0, 16),
        ),
        recipe={"weights": "int4", "block": 32},
        parts=(Part(name="embedding", parameters=80, bytes=50),),
        kv=(
            KvGroup(kind="full", layers=(0,), type="float32", window=0, bytes_per_token=64),
            KvGroup(kind="window", layers=(1,), type="float32", window=16, bytes_per_token=64),
        ),
        variants=(VARIANT,),
        provenance={"source": "org/sample"},
        files=entries(FILES),
    )


def write_sample(folder: Path) -> Path:
    """Write the sample artifact to `folder`, a new one."""
    return write_artifact(folder, sample_manifest(), FILES)


def entries(files: Mapping[str, bytes]) -> tuple[FileEntry, ...]:
    """What a manifest says of `files`."""
    return tuple(
        FileEntry(path=path, size=len(data), sha256=hashlib.sha256(data).hexdigest())
        for path, data in files.items()
    )


def write_artifact(folder: Path, manifest: Manifest, files: Mapping[str, bytes]) -> Path:
    """Write `files` and the manifest to `folder`, a new one."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    (folder / "edge.json").write_text(manifest.dumps())
    return folder


def sample_json() -> dict[str, Any]:
    """The sample's edge.json as an object to spoil."""
    value: dict[str, Any] = json.loads(sample_manifest().dumps())
    return value


def put(data: dict[str, Any], key: str, value: Any) -> None:
    """Set `spec.rope.theta` or `files.0.path` in nested JSON."""
    *way, last = key.split(".")
    inner: Any = data
    for step in way:
        inner = inner[int(step)] if isinstance(inner, list) else inner[step]
    inner[int(last) if isinstance(inner, list) else last] = value


counts = st.integers(0, (1 << 63) - 1)
sizes = st.integers(1, 1 << 31)
positive = st.floats(min_value=0, exclude_min=True, allow_infinity=False, allow_nan=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
free_objects = st.dictionaries(st.text(max_size=8), json_values, max_size=4)


@st.composite
def ropes(draw: st.DrawFn, head_dim: int) -> Rope:
    kind: Any = draw(st.sampled_from(get_args(RopeKind)))
    pairs = head_dim // 2 if kind == "factors" else 0
    return Rope(
        theta=draw(positive),
        kind=kind,
        factor=draw(positive),
        original_context=draw(counts),
        low_freq_factor=draw(positive),
        high_freq_factor=draw(positive),
        beta_fast=draw(positive),
        beta_slow=draw(positive),
        truncate=draw(st.booleans()),
        attention_factor=draw(positive),
        factors=tuple(draw(st.lists(positive, min_size=pairs, max_size=pairs))),
    )


@st.composite
def specs(draw: st.DrawFn) -> ModelSpec:
    layers, kv_heads = draw(st.integers(1, 6)), draw(st.integers(1, 1 << 10))
    head_dim = 2 * draw(st.integers(1, 64))
    flags = {name: draw(st.booleans()) for name in ("tied", "qkv_bias", "output_bias", "mlp_bias", "qk_norm")}
    return ModelSpec(
        architecture=draw(st.text(max_size=10)),
        vocab_size=draw(sizes),
        hidden_size=draw(sizes),
        intermediate_size=draw(sizes),
        layers=layers,
        heads=kv_heads * draw(st.integers(1, 1 << 10)),
        kv_heads=kv_heads,
        head_dim=head_dim,
        context=draw(st.integers(1, 1 << 24)),
        norm_eps=draw(positive),
        rope=draw(ropes(head_dim)),
        windows=tuple(draw(st.just([]) | st.lists(counts, min_size=layers, max_size=layers))),
        **flags,
    )


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    spec = draw(specs())
    short = st.text(max_size=12)
    paths = draw(st.lists(short, unique=True, min_size=1, max_size=4))
    cut = draw(st.integers(0, spec.layers))
    order = draw(st.permutations(range(spec.layers)))
    return Manifest(
        name=draw(short),
        spec=spec,
        recipe=draw(free_objects),
        parts=tuple(draw(st.lists(st.builds(Part, name=short, parameters=counts, bytes=counts), max_size=3))),
        kv=tuple(
            KvGroup(
                kind=draw(short),
                layers=tuple(layers),
                type=draw(short),
                window=draw(counts),
                bytes_per_token=1,
            )
            for layers in (order[:cut], order[cut:])
        ),
        variants=tuple(
            Variant(
                engine=engine,
                dialect=engine,
                activation=draw(short),
                requires=".".join(map(str, draw(st.lists(st.integers(0, 99), min_size=1, max_size=4)))),
                model=draw(st.sampled_from(paths)),
                files=tuple(draw(st.lists(st.sampled_from(paths), max_size=3))),
                layout=draw(short),
                layout_version=draw(counts),
            )
            for engine in draw(st.lists(short, max_size=2))
        ),
        provenance=draw(free_objects),
        files=tuple(FileEntry(path=path, size=draw(counts), sha256=draw(short)) for path in paths),
    )
