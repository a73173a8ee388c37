"""A made-up artifact of some 100 MB for the cpu engine, written in a second or two."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edge.artifact import ModelSpec, Rope
from export.architecture.expected import expected_tensors
from export.folder import artifact_folder
from export.manifest import write_manifest
from export.quantize import Quantized, Recipe
from export.quantize.method import Rows
from export.variant import CPU, write_variant

RECIPE = Recipe(weights="int8", block=128, zero_points=False)
SPEC = ModelSpec(
    architecture="llama",
    vocab_size=512,
    hidden_size=1024,
    intermediate_size=4096,
    layers=6,
    heads=16,
    kv_heads=16,
    head_dim=64,
    context=1024,
    norm_eps=1e-5,
    rope=Rope(),
    tied=True,
)


class _Noise:
    """A `WeightSource` whose rows are all alike."""

    def shape(self, name: str) -> tuple[int, ...]:
        return expected_tensors(SPEC)[name]

    def vector(self, name: str) -> Rows:
        return np.ones(self.shape(name), np.float32)

    def floats(self, name: str) -> Iterator[Rows]:
        raise NotImplementedError

    def quantized(self, name: str) -> Iterator[Quantized]:
        rows, inputs = self.shape(name)
        row = np.random.default_rng(0).integers(0, 256, (1, inputs // RECIPE.block, RECIPE.block), np.uint8)
        for start in range(0, rows, 256):
            count = min(256, rows - start)
            scales = np.full((count, inputs // RECIPE.block), 2.0**-12, np.float32)
            yield Quantized(np.repeat(row, count, axis=0), scales, None)


def write_large_artifact(out: Path) -> Path:
    """Write it to `out`, as an export does."""

    def silent(stage: str, done: int, total: int) -> None:
        pass

    with artifact_folder(out, force=False) as folder:
        parts, variants = write_variant(folder, CPU, SPEC, RECIPE, _Noise())
        write_manifest(
            folder,
            silent,
            name="large",
            spec=SPEC,
            recipe=RECIPE.to_json(),
            parts=parts,
            variants=variants,
            provenance={},
        )
    return out
