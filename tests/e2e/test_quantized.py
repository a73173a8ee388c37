"""Quantized artifacts beside transformers on the weights that their codes stand for: only activations differ."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from edge.errors import KernelsMissing
from export import convert, export
from export.quantize import Precision, RoundToNearest
from runtimes.kernels.library import load_library
from tests.checkpoints import tiny_folder
from tests.e2e.oracle import PROMPT, TOKENS, reference_logits, reference_model
from tests.logits import engine_logits, opened, relative_error

# Of the largest logit. Activations of 8 bits are off by up to 1/254 of the largest in their block, in every layer anew.
WORST, TYPICAL = 5e-2, 5e-3
# Larger weights would make attention so sharp that it blows up any rounding.
RANGE = 0.05
# Of the largest output of one product.
PRODUCT = 3.5e-2
EXACT = 1e-4


@dataclass(frozen=True)
class Case:
    """A checkpoint and a recipe."""

    weights: str
    block: int = 32
    zero_points: bool = False
    family: str = "llama"
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def bits(self) -> int:
        return int(self.weights.removeprefix("int"))


TIED = {"tie_word_embeddings": True}
# Rows of 76, 64 and 90 weights: the last block of most is not full.
PADDED = {
    "hidden_size": 76,
    "intermediate_size": 90,
    "head_dim": 16,
    "attention_bias": True,
    "mlp_bias": True,
}
WIDE = {"hidden_size": 128, "intermediate_size": 192}

CASES: dict[str, Case] = {
    "int4": Case("int4"),
    "int4, tied": Case("int4", options=TIED),
    "int4, block 64": Case("int4", 64, options=WIDE),
    "int4, block 128": Case("int4", 128, options=WIDE),
    "int4, block 128, tied": Case("int4", 128, options={**WIDE, **TIED}),
    "int4, zero points": Case("int4", zero_points=True),
    "int4, zero points, tied": Case("int4", zero_points=True, options={**WIDE, **TIED}),
    "int4, zero points, block 64": Case("int4", 64, True, options=WIDE),
    "int4, zero points, block 128": Case("int4", 128, True, options=WIDE),
    "int4, padded": Case("int4", options=PADDED),
    "int4, padded, zero points, tied": Case("int4", 32, True, options={**PADDED, **TIED}),
    "int4, padded, block 128, tied": Case("int4", 128, options={**PADDED, **TIED}),
    "int4, padded, block 128, zero points": Case("int4", 128, True, options=PADDED),
    "int4, qwen2": Case("int4", family="qwen2", options=TIED),
    "int4, qwen3": Case("int4", family="qwen3", options={"attention_bias": True}),
    "int8": Case("int8"),
    "int8, tied": Case("int8", options=TIED),
    "int8, block 64": Case("int8", 64, options=WIDE),
    "int8, block 128": Case("int8", 128, options=WIDE),
    "int8, zero points, tied": Case("int8", 32, True, options=TIED),
    "int8, zero points, block 128": Case("int8", 128, True, options=WIDE),
    "int8, padded": Case("int8", options=PADDED),
    "int8, padded, zero points, tied": Case("int8", 64, True, options={**PADDED, **TIED}),
    "int8, qwen3": Case("int8", family="qwen3", options=TIED),
}


@dataclass(frozen=True)
class Exported:
    """An artifact, and transformers' model with every matrix replaced by what its codes stand for."""

    artifact: Path
    model: Any


@pytest.fixture(scope="module", params=CASES)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    case, folder = CASES[request.param], tmp_path_factory.mktemp("quantized")
    tiny_folder(folder / "checkpoint", case.family, **{"initializer_range": RANGE, **case.options})
    artifact = folder / "model.edge"
    export(
        folder / "checkpoint",
        artifact,
        weights=case.weights,
        block=case.block,
        zero_points=case.zero_points,
        engine="onnxruntime",
    )
    model = reference_model(folder / "checkpoint")
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.copy_(torch.from_numpy(dequantized(parameter.numpy(), case)))
    return Exported(artifact, model)


def dequantized(rows: NDArray[np.float32], case: Case) -> NDArray[np.float32]:
    padded = np.pad(rows, ((0, 0), (0, -rows.shape[1] % case.block)))
    found = RoundToNearest().quantize(padded, Precision(case.bits, case.block, case.zero_points))
    return found.dequantize(case.bits)[:, : rows.shape[1]]


def float_activations(artifact: Path) -> None:
    """Have every product of the graph work on float32 activations; the files keep their sizes."""
    path = artifact / "onnxruntime" / "model.onnx"
    graph = onnx.load(path, load_external_data=False)
    for node in graph.graph.node:
        for attribute in node.attribute:
            if attribute.name == "accuracy_level":
                attribute.i = 0
    path.write_bytes(graph.SerializeToString())


def test_only_the_activations_differ(exported: Exported, tmp_path: Path) -> None:
    expected = reference_logits(exported.model, TOKENS, PROMPT)
    with opened(exported.artifact) as engine:
        ours = engine_logits(engine, TOKENS, PROMPT)
    assert relative_error(ours, expected) <= WORST
    assert np.abs(ours - expected).mean() / np.abs(expected).max() <= TYPICAL

    exact = tmp_path / "exact.edge"
    shutil.copytree(exported.artifact, exact)
    float_activations(exact)
    with opened(exact) as engine:
        assert relative_error(engine_logits(engine, TOKENS, PROMPT), expected) <= EXACT


def test_on_our_kernels_only_the_activations_differ(exported: Exported, tmp_path: Path) -> None:
    try:
        load_library()
    except KernelsMissing as e:
        pytest.skip(str(e))
    expected = reference_logits(exported.model, TOKENS, PROMPT)
    convert(exported.artifact, tmp_path / "cpu.edge", engine="cpu")
    with opened(tmp_path / "cpu.edge") as engine:
        assert engine.name == "cpu"
        ours = engine_logits(engine, TOKENS, PROMPT)
    assert relative_error(ours, expected) <= WORST
    assert np.abs(ours - expected).mean() / np.abs(expected).max() <= TYPICAL


def test_every_product_is_that_of_the_dequantized_weights(exported: Exported, tmp_path: Path) -> None:
    state = {key: value.numpy() for key, value in exported.model.state_dict().items()}
    copy = tmp_path / "copy.edge"
    shutil.copytree(exported.artifact, copy)
    products = run_products(copy, TOKENS[:PROMPT])
    assert len(products) == 4 * exported.model.config.num_hidden_layers + 1
    for names, x, y in products:
        weight = np.concatenate([state[f"{part}.weight"] for part in names]).astype(np.float64)
        bias = [state[f"{part}.bias"] for part in names if f"{part}.bias" in state]
        expected = x @ weight.T + (np.concatenate(bias) if bias else 0)
        assert np.abs(y - expected).max() <= PRODUCT * np.abs(expected).max(), names


Products = list[tuple[list[str], NDArray[np.float32], NDArray[np.float32]]]


def run_products(artifact: Path, tokens: list[int]) -> Products:
    """For each product of the graph the names of its weights, what went in and what came out, rows first."""
    path = artifact / "onnxruntime" / "model.onnx"
    graph = onnx.load(path, load_external_data=False)
    nodes = [node for node in graph.graph.node if node.op_type == "MatMulNBits"]
    shown = [value for node in nodes for value in (node.input[0], node.output[0])]
    for value in dict.fromkeys(shown):
        if value not in {output.name for output in graph.graph.output}:
            graph.graph.output.add(name=value)
    probed = path.with_name("probed.onnx")
    probed.write_bytes(graph.SerializeToString())
    session = onnxruntime.InferenceSession(str(probed), providers=["CPUExecutionProvider"])
    feeds: dict[str, Any] = {
        "input_ids": np.array([tokens]),
        "seqlens_k": np.array([len(tokens) - 1], np.int32),
        "total_sequence_length": np.array([len(tokens)], np.int32),
        "logit_positions": np.arange(len(tokens)),
    }
    for value in session.get_inputs():
        if value.name.startswith("past."):
            feeds[value.name] = np.zeros((1, value.shape[1], len(tokens), value.shape[3]), np.float32)
    values = dict(zip(shown, session.run(shown, feeds), strict=True))
    products = []
    for node in nodes:
        # The codes are named after the weights whose rows they hold.
        names = node.input[1].removesuffix(".codes").split("+")
        x, y = (values[value].reshape(len(tokens), -1) for value in (node.input[0], node.output[0]))
        products.append((names, x, y))
    return products
