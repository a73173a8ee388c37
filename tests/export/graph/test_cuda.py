"""The onnxruntime dialect in float16: every node has a kernel of CUDA's, and what CUDA does not take is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx.helper import get_node_attr_value

from edge.artifact import open_artifact
from edge.artifact.kv import stored_kv_type
from edge.errors import InvalidArgument, TensorError
from export import convert, export
from export.fit.matrices import matrices
from export.fit.options import options, stored_bytes
from export.quantize import Precision, Recipe
from export.variant import chosen_engine, chosen_kv, write_variant
from tests.checkpoints import tiny_folder
from tests.export.graph.test_cpu_dialect import SPEC, Ones
from tests.export.graph.test_portable import LargeNorm

HALVES = {"bfloat16", "float", "float16"}
FLOATS = {*HALVES, "double"}
INTS = {"int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"}
PLACES = {"int32", "int64"}
Types = Mapping[int, set[str]]
KERNELS: dict[tuple[str, str], Types] = {
    ("", "Add"): {0: FLOATS | INTS, 1: FLOATS | INTS},
    ("", "Cast"): {0: FLOATS | INTS | {"bool"}},
    ("", "Gather"): {0: FLOATS | INTS | {"bool"}, 1: PLACES},
    ("", "Mul"): {0: FLOATS | INTS, 1: FLOATS | INTS},
    ("", "Reshape"): {0: FLOATS | INTS | {"bool"}, 1: {"int64"}},
    ("", "SimplifiedLayerNormalization"): {0: FLOATS, 1: FLOATS},
    ("", "Slice"): {0: FLOATS | INTS | {"bool"}, 1: PLACES, 2: PLACES, 3: PLACES},
    ("", "Split"): {0: FLOATS | INTS | {"bool"}, 1: {"int64"}},
    ("", "Squeeze"): {0: FLOATS | INTS | {"bool"}, 1: {"int64"}},
    ("com.microsoft", "FusedMatMul"): {0: FLOATS, 1: FLOATS},
    ("com.microsoft", "GatherBlockQuantized"): {
        0: {"int4", "uint4", "uint8"}, 1: PLACES, 2: HALVES, 3: {"int4", "uint4", "uint8"},
    },
    ("com.microsoft", "GroupQueryAttention"): {
        **{place: {"bfloat16", "float16"} for place in (0, 1, 2, 7, 8)},
        **{place: {"bfloat16", "float16", "int8"} for place in (3, 4)},
        **{place: {"int32"} for place in (5, 6)},
    },
    ("com.microsoft", "MatMulNBits"): {0: HALVES, 1: {"uint8"}, 2: HALVES, 3: HALVES | {"uint8"}, 5: HALVES},
    ("com.microsoft", "QuickGelu"): {0: FLOATS},
    ("com.microsoft", "RotaryEmbedding"): {0: HALVES, 1: {"int64"}, 2: HALVES, 3: HALVES},
    ("com.microsoft", "SkipSimplifiedLayerNormalization"): {0: HALVES, 1: HALVES, 2: HALVES},
}  # fmt: skip
"""Operators of opset 21 that CUDA has kernels for, with the types of their inputs by position.

From the section on CUDAExecutionProvider of docs/OperatorKernels.md in ONNX Runtime's repository, which is made of the
kernels that are registered (commit 001d12d2623f, somewhat before 1.31); and from group_query_attention.cc,
matmul_nbits.cc and gather_block_quantized.cc below onnxruntime/contrib_ops/cuda there.
"""


@dataclass(frozen=True)
class Case:
    """A checkpoint and a recipe."""

    family: str
    weights: str = "int4"
    block: int = 32
    zero_points: bool = False
    options: dict[str, Any] = field(default_factory=dict)


TIED = {"tie_word_embeddings": True}
BIASES = {"attention_bias": True, "mlp_bias": True}
# Rows of 76 weights: the last block is not full.
PADDED = {"hidden_size": 76, "intermediate_size": 90, "head_dim": 16}
WINDOWS = {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1}
CASES: dict[str, Case] = {
    "llama": Case("llama"),
    "llama, biases": Case("llama", block=64, options=BIASES),
    "llama, fp16": Case("llama", "fp16", options={**BIASES, **TIED}),
    "llama, zero points": Case("llama", zero_points=True, options=TIED),
    "llama, int8, zero points": Case("llama", "int8", zero_points=True, options={**PADDED, **TIED}),
    "llama, narrow heads": Case("llama", "int8", options={"head_dim": 24}),
    "mistral, window": Case("mistral", block=128, options={"sliding_window": 6}),
    "qwen2, padded": Case("qwen2", block=64, options={**PADDED, **TIED}),
    "qwen2, windows": Case("qwen2", options=WINDOWS),
    "qwen3": Case("qwen3", options=TIED),
    "qwen3, fp16, narrow heads": Case("qwen3", "fp16", options={"head_dim": 8}),
}


def exported(folder: Path, case: Case, engine: str = "cuda") -> Path:
    if not (folder / "checkpoint").exists():
        tiny_folder(folder / "checkpoint", case.family, **case.options)
    recipe: dict[str, Any] = {"weights": case.weights, "zero_points": case.zero_points}
    if case.weights != "fp16":
        recipe |= {"block": case.block, "method": "rtn"}
    export(folder / "checkpoint", folder / f"{engine}.edge", engine=engine, fidelity=False, **recipe)
    return folder / f"{engine}.edge"


def graph(artifact: Path) -> onnx.GraphProto:
    [variant] = open_artifact(artifact).manifest.variants
    return onnx.load(artifact / variant.model, load_external_data=False).graph


def name_of(kind: int) -> str:
    return str(TensorProto.DataType.Name(kind)).lower()


def types(graph: onnx.GraphProto) -> dict[str, str]:
    """Of every value, in the order of the nodes."""
    found = {tensor.name: name_of(tensor.data_type) for tensor in graph.initializer}
    found |= {value.name: name_of(value.type.tensor_type.elem_type) for value in graph.input}
    for node in graph.node:
        if node.op_type == "Cast":
            result = name_of(get_node_attr_value(node, "to"))
        elif node.op_type == "Shape":
            result = "int64"
        else:
            result = found[node.input[2 if node.op_type == "GatherBlockQuantized" else 0]]
        found |= dict.fromkeys(node.output, result)
        if node.op_type == "GroupQueryAttention":
            found |= dict.fromkeys(node.output[1:], found[node.input[3]])
    return found


def without_kernel(graph: onnx.GraphProto) -> list[str]:
    """Nodes that CUDA would leave to the CPU, with the inputs that it does not take."""
    found, kinds = [], types(graph)
    for node in graph.node:
        taken = KERNELS.get((node.domain, node.op_type), {})
        found += [
            f"{node.op_type} {kinds[name]} at {place}"
            for place, name in enumerate(node.input)
            if name and kinds[name] not in taken.get(place, set())
        ]
    return found


@pytest.mark.parametrize("name", CASES)
def test_every_node_has_a_kernel(name: str, tmp_path: Path) -> None:
    found = graph(exported(tmp_path, CASES[name]))
    assert without_kernel(found) == []
    kinds = types(found)
    assert {kinds[out.name] for out in found.output if out.name != "logits"} == {"float16"}
    assert kinds["logits"] == "float"
    # Both ends of it are what a user of the dialect in float32 knows.
    assert [out.name for out in found.output][-1] == "logits"
    assert "logit_positions" in {value.name for value in found.input}
    for node in found.node:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type in ("MatMulNBits", "GatherBlockQuantized"):
            assert attributes["bits"] in (4, 8)
            assert attributes["block_size"] in (16, 32, 64, 128)
        assert "accuracy_level" not in attributes


def test_the_same_in_float32_has_not(tmp_path: Path) -> None:
    """Its attention is what the CPU would compute."""
    told = without_kernel(graph(exported(tmp_path, CASES["llama, narrow heads"], "onnxruntime")))
    assert "GroupQueryAttention float at 0" in told
    assert any(each.startswith("Shape") for each in told)


def test_the_variant_says_what_it_is(tmp_path: Path) -> None:
    opened = open_artifact(exported(tmp_path, CASES["llama"]))
    opened.verify()
    [variant] = opened.manifest.variants
    assert (variant.engine, variant.dialect, variant.activation) == ("cuda", "onnxruntime", "float16")
    assert variant.requires == "1.31.0"
    assert variant.files == ("cuda/model.onnx", "cuda/weights.bin")
    spec = opened.spec
    assert {group.type for group in opened.manifest.kv} == {"float16"}
    assert stored_kv_type(opened.manifest, "cuda") == "float16"
    assert opened.manifest.kv_bytes_per_token == 2 * 2 * spec.layers * spec.kv_heads * spec.head_dim


@pytest.mark.parametrize(("case", "middle"), [("llama, biases", 0x88), ("llama, narrow heads", 0x80)])
def test_zero_points_of_the_embedding_are_said_outright(case: str, middle: int, tmp_path: Path) -> None:
    """Where they are left out, older CUDA kernels take 0."""
    artifact = exported(tmp_path, CASES[case])
    found = graph(artifact)
    [gather] = [node for node in found.node if node.op_type == "GatherBlockQuantized"]
    points = {tensor.name: tensor for tensor in found.initializer}[gather.input[3]]
    place = {entry.key: entry.value for entry in points.external_data}
    data = (artifact / "cuda" / "weights.bin").read_bytes()[int(place["offset"]) :][: int(place["length"])]
    assert len(data) == np.prod(points.dims)
    assert set(data) == {middle}
    # Those of the rows, whatever way the blocks are counted.
    assert points.dims[0] == open_artifact(artifact).spec.vocab_size


def test_numbers_are_counted_in_its_own_sizes(tmp_path: Path) -> None:
    """Scales are float16 in the file and in what mixed precisions are reckoned with."""
    assert [(each.bits, each.block) for each in options("cuda")] == [
        (bits, block) for bits in (4, 8) for block in (128, 64, 32)
    ]
    spec = open_artifact(exported(tmp_path, CASES["llama"])).spec
    parts = {part.name: part.bytes for part in open_artifact(tmp_path / "cuda.edge").manifest.parts}
    whole = sum(stored_bytes(matrix, Precision(4, 32, False), "cuda") for matrix in matrices(spec))
    norms = 2 * spec.hidden_size * (2 * spec.layers + 1)
    assert sum(parts.values()) == whole + norms


REFUSED: list[tuple[Recipe, str]] = [
    (Recipe(weights="fp32"), r"engine cuda computes in float16.*--weights fp16, int8 or int4"),
    (
        Recipe(tensors={"model.layers.0.self_attn.o_proj": Precision(6, 32)}),
        r"4 and 8 bits, and model\.layers\.0\.self_attn\.o_proj has 6; export it for cuda",
    ),
    (Recipe(tensors={"lm_head": Precision(5, 64)}), r"4 and 8 bits, and lm_head has 5"),
]


@pytest.mark.parametrize(("recipe", "words"), REFUSED)
def test_what_cuda_does_not_take_is_refused(recipe: Recipe, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        chosen_engine("cuda", recipe)


@pytest.mark.parametrize("method", ["rtn", "hqq", "gptq"])
def test_zero_points_that_cuda_reads_wrongly_are_refused(method: str, tmp_path: Path) -> None:
    """Three blocks of 32: a row's zero points end within a byte, and CUDA counts on through the next row's.

    Before hours of calibration, and with nothing left behind.
    """
    tiny_folder(tmp_path / "checkpoint", "llama", hidden_size=96)
    words = r"model\.embed_tokens has 4-bit zero points and 3 blocks of 32 a row.*--block, int8, or no --zero-points"
    with pytest.raises(InvalidArgument, match=words):
        export(tmp_path / "checkpoint", tmp_path / "m.edge", engine="cuda", zero_points=True, method=method)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
    export(
        tmp_path / "checkpoint", tmp_path / "stock.edge", engine="onnxruntime", zero_points=True, method="rtn"
    )
    with pytest.raises(InvalidArgument, match=words):
        convert(tmp_path / "stock.edge", tmp_path / "m.edge", engine="cuda")
    assert not (tmp_path / "m.edge").exists()


def test_kv_is_float16() -> None:
    assert chosen_kv(None, "cuda") == chosen_kv("fp16", "cuda") == "float16"
    with pytest.raises(InvalidArgument, match="kv is 'int8'; engine cuda keeps KV as fp16"):
        chosen_kv("int8", "cuda")


def test_a_number_that_float16_does_not_hold_is_named(tmp_path: Path) -> None:
    words = r"model\.layers\.0\.post_attention_layernorm\.weight holds a number of size 70000.*another engine"
    with pytest.raises(TensorError, match=words):
        write_variant(tmp_path, "cuda", SPEC, Recipe(), LargeNorm())


def test_the_float32_dialect_has_no_such_bound(tmp_path: Path) -> None:
    write_variant(tmp_path, "onnxruntime", SPEC, Recipe(), LargeNorm())
    write_variant(tmp_path, "cuda", SPEC, Recipe(), Ones())


@pytest.mark.parametrize("case", ["llama, zero points", "qwen2, padded"])
@pytest.mark.parametrize("source", ["cpu", "onnxruntime"])
def test_converting_gives_what_exporting_does(source: str, case: str, tmp_path: Path) -> None:
    ours = exported(tmp_path, CASES[case])
    convert(exported(tmp_path, CASES[case], source), tmp_path / "to.edge", engine="cuda")
    for name in ("model.onnx", "weights.bin"):
        assert (tmp_path / "to.edge/cuda" / name).read_bytes() == (ours / "cuda" / name).read_bytes(), name


@pytest.mark.parametrize("case", ["llama, zero points", "qwen2, padded"])
def test_converting_there_and_back_keeps_codes_and_scales(case: str, tmp_path: Path) -> None:
    convert(exported(tmp_path, CASES[case]), tmp_path / "back.edge", engine="onnxruntime")
    back, before = (
        {
            t.name: (path / "weights.bin").read_bytes()[int(entries["offset"]) :][: int(entries["length"])]
            for t in onnx.load(path / "model.onnx", load_external_data=False).graph.initializer
            if t.name.endswith((".codes", ".scales", ".zeros", ".rows", ".row_scales", ".row_zeros"))
            for entries in [{entry.key: entry.value for entry in t.external_data}]
        }
        for path in (
            tmp_path / "back.edge/onnxruntime",
            exported(tmp_path, CASES[case], "onnxruntime") / "onnxruntime",
        )
    )
    assert back == before
