"""Artifacts made by hand, so that what is printed of them is known to the letter."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edge.artifact import KvGroup, Manifest, ModelSpec, Part, Rope
from tests.edge.artifact.samples import VARIANT, entries, write_artifact

SPEC = ModelSpec(
    architecture="qwen2",
    vocab_size=1000,
    hidden_size=64,
    intermediate_size=128,
    layers=3,
    heads=4,
    kv_heads=2,
    head_dim=16,
    context=4096,
    norm_eps=1e-6,
    rope=Rope(),
    tied=False,
    windows=(0, 256, 256),
)
FILES = {
    "tokenizer.json": b"{}" * 600,
    "onnxruntime/model.onnx": b"graph",
    "onnxruntime/weights.bin": b"w" * 2048,
}
MANIFEST_OF_WINDOWED = Manifest(
    name="windowed",
    spec=SPEC,
    recipe={"weights": "int4", "block": 32},
    parts=(
        Part(name="embedding", parameters=64000, bytes=40000),
        Part(name="mlp", parameters=73728, bytes=46080),
        Part(name="head", parameters=64000, bytes=40000),
    ),
    kv=(
        KvGroup(kind="full", layers=(0,), type="float32", window=0, bytes_per_token=256),
        KvGroup(kind="window", layers=(1, 2), type="float32", window=256, bytes_per_token=512),
    ),
    variants=(VARIANT,),
    provenance={"source": "org/windowed@main", "license": "apache-2.0"},
    files=(),
)


def write_windowed(folder: Path) -> Path:
    """Write an artifact that no engine runs, but that is one to `inspect` and `verify`."""
    return write_artifact(folder, replace(MANIFEST_OF_WINDOWED, files=entries(FILES)), FILES)
