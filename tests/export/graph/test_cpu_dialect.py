"""The cpu dialect: its graph computes what the onnxruntime one does, with everything fused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from edge.artifact import ModelSpec, Rope, open_artifact
from edge.artifact.pages import KV_TYPES, head_page_bytes
from export import export
from export.graph.builder import Value
from export.graph.cpu_dialect import DOMAIN, CpuDialect
from export.graph.panels import VERSION, Panels
from export.graph.weight_store import WeightStore
from export.graph.weights_file import WeightsFile
from export.quantize import Quantized, Recipe
from export.quantize.method import Rows
from runtimes.kernels.library import load_library
from tests.checkpoints import tiny_folder
from tests.logits import Logits

TOKENS = [5, 100, 7, 200, 31, 8, 64, 3, 250]
# Of the largest logit; both graphs compute in float32.
BOUND = 1e-4


def dequantized(weights: Path, tensor: onnx.TensorProto, node: onnx.NodeProto) -> Rows:
    """Rows × inputs that a tensor of panels stands for, as the attributes of `node` say."""
    has = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    place = {entry.key: entry.value for entry in tensor.external_data}
    data = np.fromfile(weights, np.uint8, int(place["length"]), offset=int(place["offset"]))
    assert has["layout"] == VERSION
    layout = Panels(
        bits=has["bits"],
        block=has["block"],
        blocks=-(-has["inputs"] // has["block"]),
        zero_points=bool(has["zero_points"]),
    )
    panels = data.reshape(-1, layout.nbytes)
    halves = [panels[0::2], panels[1::2]] if has.get("gated") else [panels]
    rows = has["rows"] // len(halves)
    assert all(len(half) == layout.count(rows) for half in halves)
    parts = [layout.unpack(half).dequantize(has["bits"])[:rows, : has["inputs"]] for half in halves]
    return np.concatenate(parts)


def stock_nodes(node: onnx.NodeProto, name: str) -> Iterator[onnx.NodeProto]:
    """What one of our nodes stands for, in operators of ONNX and a weight `name`, [rows, inputs]."""
    (out,) = node.output
    if node.op_type == "Embedding":
        yield helper.make_node("Gather", [name, node.input[0]], [out])
        return
    x, _, norm, bias, residual = [*node.input, "", "", ""][:5]
    has = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if norm:
        yield helper.make_node(
            "SimplifiedLayerNormalization", [x, norm], [f"{out}.n"], axis=-1, epsilon=has["epsilon"]
        )
        x = f"{out}.n"
    steps = [("FusedMatMul", [x, name])]
    if bias:
        steps.append(("Add", ["", bias]))
    if has["gated"]:
        steps.append(("Gate", [""]))
    if residual:
        steps.append(("Add", ["", residual]))
    before = x
    for i, (op, inputs) in enumerate(steps):
        after = out if i == len(steps) - 1 else f"{out}.{i}"
        inputs = [given or before for given in inputs]
        if op == "FusedMatMul":
            yield helper.make_node(op, inputs, [after], domain="com.microsoft", transB=1)
        elif op == "Gate":
            g, u, s = f"{after}.g", f"{after}.u", f"{after}.s"
            yield helper.make_node("Split", inputs, [g, u], axis=-1, num_outputs=2)
            yield helper.make_node("QuickGelu", [g], [s], domain="com.microsoft", alpha=1.0)
            yield helper.make_node("Mul", [s, u], [after])
        else:
            yield helper.make_node(op, inputs, [after])
        before = after


def expanded(artifact: Path) -> Path:
    """The cpu graph with stock operators and float weights for all but attention."""
    path = artifact / "cpu" / "model.onnx"
    model = onnx.load(path, load_external_data=False)
    graph, tensors, nodes = model.graph, {t.name: t for t in model.graph.initializer}, []
    for node in graph.node:
        if node.domain != DOMAIN or node.op_type == "Attention":
            nodes.append(node)
            continue
        name = f"{node.output[0]}.float"
        rows = dequantized(path.with_name("weights.bin"), tensors[node.input[1]], node)
        graph.initializer.append(numpy_helper.from_array(rows, name))
        nodes += stock_nodes(node, name)
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.save(model, path.with_name("expanded.onnx"))
    return path.with_name("expanded.onnx")


def float_activations(artifact: Path) -> Path:
    """The onnxruntime graph with products of float32 activations."""
    path = artifact / "onnxruntime" / "model.onnx"
    model = onnx.load(path, load_external_data=False)
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "accuracy_level":
                attribute.i = 0
    path.with_name("exact.onnx").write_bytes(model.SerializeToString())
    return path.with_name("exact.onnx")


def logits(graph: Path, positions: list[int]) -> Logits:
    options = onnxruntime.SessionOptions()
    if graph.name == "expanded.onnx":
        load_library().register(options, threads=1)
    session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    feeds: dict[str, Any] = {
        "input_ids": np.array([TOKENS]),
        "logit_positions": np.array(positions, np.int64),
    }
    if graph.name == "expanded.onnx":
        spec = open_artifact(graph.parent.parent).spec
        page = spec.layers * spec.kv_heads * head_page_bytes("float32", spec.head_dim, spec.head_dim)
        feeds |= {
            "kv_format": np.array([KV_TYPES.index("float32"), 0], np.int32),
            "sequence_starts": np.array([0, len(TOKENS)], np.int32),
            "held": np.zeros(1, np.int32),
            "pool.0": np.zeros((1, page), np.uint8),
            "block_table.0": np.zeros((1, 1), np.int32),
        }
    else:
        feeds |= {
            "seqlens_k": np.array([len(TOKENS) - 1], np.int32),
            "total_sequence_length": np.array([len(TOKENS)], np.int32),
        }
    for value in session.get_inputs():
        if value.name.startswith("past."):
            feeds[value.name] = np.zeros([0 if n == "capacity" else n for n in value.shape], np.float32)
    result: Logits = session.run(["logits"], feeds)[0]
    return result


@dataclass(frozen=True)
class Case:
    family: str = "llama"
    options: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)


TIED = {"tie_word_embeddings": True}
ODD = {
    "hidden_size": 76,
    "intermediate_size": 90,
    "head_dim": 24,
    "num_key_value_heads": 1,
    "attention_bias": True,
    "mlp_bias": True,
}
CASES = {
    "int4": Case(),
    "int4, tied": Case(options=TIED),
    "int4, odd sizes, biases": Case(options=ODD),
    "int4, odd sizes, zero points, tied": Case(options={**ODD, **TIED}, recipe={"zero_points": True}),
    "int4, block 128": Case(options=ODD, recipe={"block": 128}),
    "int8": Case(recipe={"weights": "int8"}),
    "int8, odd sizes, zero points": Case(
        options=ODD, recipe={"weights": "int8", "zero_points": True, "block": 64}
    ),
    "qwen2, one layer": Case("qwen2", {**TIED, "num_hidden_layers": 1}),
    "qwen3": Case("qwen3", {"attention_bias": True, **TIED}),
}


@pytest.fixture(scope="module", params=CASES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One checkpoint as `cpu.edge` and as `onnxruntime.edge`."""
    case, folder = CASES[request.param], tmp_path_factory.mktemp("dialects")
    tiny_folder(folder / "checkpoint", case.family, **case.options)
    for engine in ("cpu", "onnxruntime"):
        export(folder / "checkpoint", folder / f"{engine}.edge", engine=engine, **case.recipe)
    return folder


@pytest.mark.parametrize("positions", [[len(TOKENS) - 1], [0, 3, 4], list(range(len(TOKENS)))])
@pytest.mark.usefixtures("kernels")
def test_both_dialects_compute_the_same(folder: Path, positions: list[int]) -> None:
    expected = logits(float_activations(folder / "onnxruntime.edge"), positions)
    ours = logits(expanded(folder / "cpu.edge"), positions)
    assert ours.shape == expected.shape == (len(positions), expected.shape[1])
    assert np.abs(ours - expected).max() <= BOUND * np.abs(expected).max()


def test_everything_is_fused(folder: Path) -> None:
    spec = open_artifact(folder / "cpu.edge").spec
    graph = onnx.load(folder / "cpu.edge/cpu/model.onnx", load_external_data=False).graph
    nodes = Counter((node.domain, node.op_type) for node in graph.node)
    ours = {"Embedding": 1, "Linear": 4 * spec.layers + 1, "Attention": spec.layers}
    assert {op: n for (domain, op), n in nodes.items() if domain == DOMAIN} == ours
    assert not {domain for domain, _ in nodes} - {"", DOMAIN}
    assert {op for domain, op in nodes if not domain} == {"Squeeze", "Gather"}
    assert (
        len({node.input[1] for node in graph.node if node.op_type in ("Linear", "Embedding")})
        == 4 * spec.layers + 2 - spec.tied
    )


def test_the_variant_names_its_layout(folder: Path) -> None:
    (cpu,) = open_artifact(folder / "cpu.edge").manifest.variants
    assert (cpu.engine, cpu.dialect, cpu.activation) == ("cpu", "cpu", "int8")
    assert (cpu.layout, cpu.layout_version, cpu.requires) == ("panels", 3, "1.23.2")
    assert cpu.files == ("cpu/model.onnx", "cpu/weights.bin", "cpu/weights.json")
    (stock,) = open_artifact(folder / "onnxruntime.edge").manifest.variants
    assert (stock.layout, stock.layout_version) == ("", 0)


class Ones:
    """A source of matrices of 16 × 32 and vectors of 32."""

    def shape(self, name: str) -> tuple[int, ...]:
        return (16, 32) if "norm" not in name else (32,)

    def vector(self, name: str) -> Rows:
        return np.ones(32, np.float32)

    def floats(self, name: str) -> Iterator[Rows]:
        raise NotImplementedError

    def quantized(self, name: str) -> Iterator[Quantized]:
        yield Quantized(np.zeros((16, 1, 32), np.uint8), np.ones((16, 1), np.float32), None)


SPEC = ModelSpec(
    architecture="llama",
    vocab_size=16,
    hidden_size=32,
    intermediate_size=16,
    layers=1,
    heads=1,
    kv_heads=1,
    head_dim=16,
    context=8,
    norm_eps=1e-5,
    rope=Rope(),
    tied=True,
)


@pytest.fixture
def dialect(tmp_path: Path) -> Iterator[CpuDialect]:
    with WeightsFile(tmp_path / "weights.bin") as file:
        yield CpuDialect(SPEC, WeightStore(Ones(), Recipe(), file))


def emitted(dialect: CpuDialect) -> list[tuple[str, list[Value], list[Value]]]:
    return [(node.op_type, list(node.input), list(node.output)) for node in dialect.model().graph.node]


def test_a_norm_that_no_product_takes_is_a_node_of_its_own(dialect: CpuDialect) -> None:
    normed, stream = dialect.norm("x", None, "norm")
    assert stream == "x"
    assert emitted(dialect) == []
    for _ in range(2):
        dialect.attention(0, normed, "a")
    ops = [op for op, _, _ in emitted(dialect)]
    assert ops.count("SimplifiedLayerNormalization") == 1


def test_a_sum_that_no_product_takes_is_a_node_of_its_own(dialect: CpuDialect) -> None:
    """An update that is in the graph already, and one that has a residual."""
    _, stream = dialect.norm("x", "y", "norm")
    assert emitted(dialect) == [("Add", ["x", "y"], ["norm.sum"])]
    update = dialect.linear(stream, ["o"], bias=False)
    _, stream = dialect.norm(stream, update, "norm2")
    assert stream == update
    _, stream = dialect.norm("z", update, "norm3")
    assert [op for op, _, _ in emitted(dialect)] == ["Add", "Linear", "Add"]
