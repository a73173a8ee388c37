"""Keys of like size: nothing that is computed changes, and 8 bits hold them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from edge.artifact import ModelSpec, Rope, open_artifact
from export import export, variant
from export.graph.balanced_keys import BalancedKeys
from export.quantize import Quantized, Recipe
from export.quantize.float16 import round_float16
from export.quantize.method import Rows
from runtimes import open_engine
from tests.checkpoints import tiny_folder
from tests.logits import Logits
from tests.runtimes.conformance import fresh, text

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"attention_bias": True},
    "qwen2": {},
    "qwen3": {},
}


def checkpoint(folder: Path, family: str) -> Path:
    """A tiny checkpoint with a few numbers in its keys that are far larger than the others."""
    tiny_folder(folder, family, **FAMILIES[family])
    [path] = folder.glob("*.safetensors")
    tensors = load_file(path)
    rng = np.random.default_rng(0)
    for name, tensor in tensors.items():
        if name.endswith(("k_norm.weight", "k_proj.bias")):
            tensor[rng.permutation(len(tensor))[:2]] *= 40
        if name.endswith("k_proj.weight"):
            tensor[rng.permutation(len(tensor))[:3]] *= 40
    save_file(tensors, path, metadata={"format": "pt"})
    return folder


def unbalanced(source: Any, spec: ModelSpec, recipe: Recipe) -> Any:
    return source


def logits(artifact: Path, **options: Any) -> Logits:
    return fresh(open_engine(open_artifact(artifact), threads=2, **options), text(150))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("engine", ["cpu", "onnxruntime"])
@pytest.mark.usefixtures("kernels")
def test_nothing_that_is_computed_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str, engine: str
) -> None:
    """Powers of two cancel out in every product."""
    source = checkpoint(tmp_path / "checkpoint", family)
    export(source, tmp_path / "balanced.edge", engine=engine)
    monkeypatch.setattr(variant, "BalancedKeys", unbalanced)
    export(source, tmp_path / "plain.edge", engine=engine)
    weights = [
        (tmp_path / f"{name}.edge" / engine / "weights.bin").read_bytes() for name in ("balanced", "plain")
    ]
    assert weights[0] != weights[1]
    balanced, plain = (logits(tmp_path / f"{name}.edge", kv="fp32") for name in ("balanced", "plain"))
    assert np.array_equal(balanced, plain)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.usefixtures("kernels")
def test_eight_bits_come_nearer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str) -> None:
    source = checkpoint(tmp_path / "checkpoint", family)
    off = {}
    for name in ("balanced", "plain"):
        if name == "plain":
            monkeypatch.setattr(variant, "BalancedKeys", unbalanced)
        artifact = tmp_path / f"{name}.edge"
        export(source, artifact)
        exact, coded = logits(artifact, kv="fp32"), logits(artifact, kv="int8")
        off[name] = float(np.square(coded - exact).mean())
    assert off["balanced"] < off["plain"]


class Keys:
    """Queries of four heads over two of keys, 16 numbers each, of a model of hidden size 32."""

    def __init__(self, size: float = 1.0) -> None:
        rng = np.random.default_rng(1)
        self.rows = {
            name: rng.standard_normal((count, 32), np.float32) * np.float32(size)
            for name, count in (("q", 64), ("k", 32))
        }
        self.rows["k"][3] *= 100
        self.reads: list[str] = []

    def shape(self, name: str) -> tuple[int, ...]:
        return (0,)

    def vector(self, name: str) -> Rows:
        self.reads.append(name)
        return np.ones(32, np.float32)

    def floats(self, name: str) -> Iterator[Rows]:
        raise NotImplementedError

    def quantized(self, name: str) -> Iterator[Quantized]:
        self.reads.append(name)
        rows = self.rows[name.split(".")[-2][0]]
        scales = round_float16(np.abs(rows).max(1, keepdims=True) / 127)
        codes = np.rint(rows / scales + 128).astype(np.uint8)[:, None]
        for start in range(0, len(rows), 10):
            part = slice(start, start + 10)
            yield Quantized(codes[part], scales[part], None)


SPEC = ModelSpec(
    architecture="llama",
    vocab_size=16,
    hidden_size=32,
    intermediate_size=16,
    layers=1,
    heads=4,
    kv_heads=2,
    head_dim=16,
    context=8,
    norm_eps=1e-5,
    rope=Rope(),
    tied=True,
)
Q, K = (f"model.layers.0.self_attn.{name}_proj.weight" for name in "qk")


def factors(source: Any, name: str, before: Any) -> np.ndarray:
    new = np.concatenate([part.scales for part in source.quantized(name)])
    old = np.concatenate([part.scales for part in before.quantized(name)])
    return (new / old)[:, 0]


def test_factors_are_powers_of_two_that_cancel_out() -> None:
    balanced = BalancedKeys(Keys(), SPEC, Recipe(weights="int8"))
    k = factors(balanced, K, Keys()).reshape(2, 16)
    q = factors(balanced, Q, Keys()).reshape(2, 2, 16)
    assert np.array_equal(np.log2(k), np.rint(np.log2(k)))
    assert np.array_equal(q, np.broadcast_to(1 / k[:, None], q.shape))
    # Both halves of a rotated pair.
    assert np.array_equal(k[:, :8], k[:, 8:])
    # Number 3 was a hundred times the others, seven bits; seven tenths go over.
    assert k[0, 3] == k[0, 11] == 1 / 16
    assert (k[0, [0, 1, 2, 4, 5, 6, 7]] >= 0.5).all()


def test_what_is_balanced_stays_as_it_is() -> None:
    recipe = Recipe(weights="int8")
    twice = BalancedKeys(BalancedKeys(Keys(), SPEC, recipe), SPEC, recipe)
    assert (factors(twice, K, BalancedKeys(Keys(), SPEC, recipe)) == 1).all()


@pytest.mark.parametrize("size", [1e-3, 0.1, 1e3, 1e5])
def test_scales_stay_float16(size: float) -> None:
    """Near either end of what float16 holds a factor is shared out otherwise, or smaller."""
    balanced = BalancedKeys(Keys(size), SPEC, Recipe(weights="int8"))
    for name in (Q, K):
        scales = np.concatenate([part.scales for part in balanced.quantized(name)])
        assert np.array_equal(scales, round_float16(scales))
    k, q = (factors(balanced, name, Keys(size)).reshape(2, -1, 16) for name in (K, Q))
    assert (k * q == 1).all()
    if size in (0.1, 1e3):
        assert k[0, 0, 3] / np.median(k[0, 0]) <= 1 / 16


def test_everything_is_read_once() -> None:
    """A progress bar counts what is read."""
    source = Keys()
    balanced = BalancedKeys(source, SPEC, Recipe(weights="int8"))
    norm = "model.layers.0.input_layernorm.weight"
    balanced.vector(norm)
    for name in (Q, K):
        list(balanced.quantized(name))
    assert sorted(source.reads) == sorted([norm, Q, K])
