"""Artifacts made by hand, so that what is printed of them is known to the letter."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from edge.artifact import MANIFEST, FileEntry, KvGroup, Manifest, ModelSpec, Part, Rope, Variant

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
    variants=(
        Variant(
            engine="onnxruntime",
            dialect="onnxruntime",
            activation="int8",
            requires="1.23.2",
            model="onnxruntime/model.onnx",
            files=("onnxruntime/weights.bin",),
        ),
    ),
    provenance={"source": "org/windowed@main", "license": "apache-2.0"},
    files=(),
)


def write_windowed(folder: Path) -> Path:
    """Write an artifact that no engine runs, but that is one to `inspect` and `verify`."""
    entries = []
    for name, data in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        entries.append(FileEntry(path=name, size=len(data), sha256=hashlib.sha256(data).hexdigest()))
    (folder / MANIFEST).write_text(replace(MANIFEST_OF_WINDOWED, files=tuple(entries)).dumps())
    return folder
