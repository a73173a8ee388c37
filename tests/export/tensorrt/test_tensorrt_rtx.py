"""What TensorRT for RTX itself does: real builds without a GPU, and every refusal that is known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge.artifact import open_artifact
from edge.errors import EngineFailed, MemoryBudgetError
from export import export
from export.tensorrt.build import build
from export.tensorrt.job import Job
from export.tensorrt.process import run
from runtimes.tensorrt.header import PLAN_OFFSET, Here, Shapes, artifact_fingerprint, engines, mismatch
from runtimes.tensorrt.library import this_platform
from tests.checkpoints import tiny_folder

trt = pytest.importorskip(
    "tensorrt_rtx", reason="TensorRT for RTX is not installed: pip install 'edgewise[tensorrt]'"
)

SMS = ("8.6", "8.9", "12.0")
HALF, FLOAT, INT4, INT8, UINT8, INT64 = (
    TensorProto.FLOAT16,
    TensorProto.FLOAT,
    TensorProto.INT4,
    TensorProto.INT8,
    TensorProto.UINT8,
    TensorProto.INT64,
)


def job(graph: Path, out: Path, **options: Any) -> Job:
    out.write_bytes(b"")
    given = {
        "flavour": "tensorrt_rtx",
        "graph": str(graph),
        "capacity": 64,
        "profiles": (Shapes(8, 4), Shapes(1, 1)),
        "sms": ("8.9",),
        "out": str(out),
        "workspace": 1 << 28,
        "memory": None,
    }
    return Job(**{**given, **options})


@pytest.mark.parametrize("form", ["opset24", "opset21"])
def test_a_tiny_model_is_built_for_three_gpus(artifact: Path, form: str) -> None:
    (engine,) = build(artifact, ["sm86,sm89,sm120"], contexts=[64], chunk=16, form=form).engines
    opened = open_artifact(artifact)
    opened.verify()
    ((_, header),) = engines(opened)
    assert (header.sms, header.version, header.form) == (SMS, trt.__version__, form)
    # Scores of float32 for 16 tokens and 64 keys are the least of it.
    assert 4 * opened.spec.heads * 16 * 64 < header.activation_bytes < 16 << 20
    assert header.plan_bytes > opened.manifest.weight_bytes / 2
    assert 0 < engine.peak_rss_bytes < 2 << 30
    variant = next(v for v in opened.manifest.variants if v.dialect == f"portable-{form}")
    here = Here(
        flavour="tensorrt_rtx",
        version=trt.__version__,
        sm="12.0",
        platform=this_platform(),
        artifact=artifact_fingerprint(opened, variant),
    )
    assert mismatch(header, here, artifact) is None


def test_kv_in_int8_has_the_older_form_alone(tmp_path: Path) -> None:
    tiny_folder(tmp_path / "checkpoint", "qwen2")
    out = tmp_path / "m.edge"
    export(tmp_path / "checkpoint", out, engine="tensorrt", method="rtn", fidelity=False, kv="int8")
    (engine,) = build(out, ["sm121"], contexts=[64], chunk=16).engines
    assert (engine.header.form, engine.header.kv) == ("opset21", "int8")


# A case is nodes, inputs beside "x" [1, 64] of float16, and constants; y comes out.
X = helper.make_tensor_value_info("x", HALF, [1, 64])
CACHE = helper.make_tensor_value_info("cache", HALF, [1, 2, 64, 16])
NEW = helper.make_tensor_value_info("new", HALF, [1, 2, 4, 16])
QUERY = helper.make_tensor_value_info("q", HALF, [1, 2, 4, 16])
WRITE = helper.make_tensor_value_info("at", INT64, [1])
ADDED = helper.make_tensor_value_info("mask", HALF, [1, 1, 4, 64])


def weights(kind: int, zero: int | None = None) -> list[TensorProto]:
    codes = helper.make_tensor("codes", kind, [64, 64], np.ones(4096, np.int8))
    scales = numpy_helper.from_array(np.ones((64, 2), np.float16), "scales")
    if zero is None:
        return [codes, scales]
    return [codes, scales, helper.make_tensor("zero", kind, [64, 2], np.full(128, zero, np.int8))]


def product(names: Sequence[str]) -> list[onnx.NodeProto]:
    return [
        helper.make_node("DequantizeLinear", list(names), ["w"], axis=1, block_size=32),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]


def node(kind: str, inputs: Sequence[str], outputs: Sequence[str] = ("y",), **attributes: Any) -> Any:
    return [helper.make_node(kind, list(inputs), list(outputs), **attributes)]


CODED = ("codes", "scales")
KV = ("q", "cache", "cache")
REFUSED: dict[str, tuple[list[Any], list[Any], list[TensorProto], str]] = {
    "a zero point": (
        product((*CODED, "zero")),
        [X],
        weights(INT4, 1),
        "Non-zero zero point is not supported",
    ),
    "UINT4": (product(CODED), [X], weights(TensorProto.UINT4), "Failed to import initializer"),
    "UINT8": (product(CODED), [X], weights(UINT8), "UINT8"),
    "present of Attention": (
        node("Attention", ["q", "new", "new", "", "cache", "cache"], ["y", "k", "v"]),
        [QUERY, NEW, CACHE],
        [],
        "only supports Attention nodes with one output",
    ),
    "past of Attention": (
        node("Attention", ["q", "new", "new", "", "cache", "cache"]),
        [QUERY, NEW, CACHE],
        [],
        "Setting past_key",
    ),
    "causal and mask": (
        node("Attention", [*KV, "mask"], is_causal=1),
        [QUERY, CACHE, ADDED],
        [],
        "mask cannot be used together with CausalMaskKind",
    ),
    "circular TensorScatter": (
        node("TensorScatter", ["cache", "new", "at"], axis=2, mode="circular"),
        [CACHE, NEW, WRITE],
        [],
        "Only linear mode",
    ),
    "int8 TensorScatter": (
        node("TensorScatter", ["cache", "new", "at"], axis=2),
        [
            helper.make_tensor_value_info("cache", INT8, [1, 2, 64, 16]),
            helper.make_tensor_value_info("new", INT8, [1, 2, 4, 16]),
            WRITE,
        ],
        [],
        "must have type Float, Half, or BFloat16",
    ),
    "a dropped length": (
        node("Attention", [*KV, "", "", "", "at"]),
        [QUERY, CACHE, WRITE],
        [],
        "drops an input in silence",
    ),
    **{
        name: (
            node(name, ["x", "codes", "scales"], domain="com.microsoft", **attributes),
            [X],
            weights(UINT8),
            "",
        )
        for name, attributes in {
            "MatMulNBits": {"K": 64, "N": 64, "bits": 4, "block_size": 32},
            "GatherBlockQuantized": {"block_size": 32},
            "GroupQueryAttention": {"num_heads": 2, "kv_num_heads": 1},
        }.items()
    },
    "DynamicQuantizeLinear": (
        node("DynamicQuantizeLinear", ["x32"], ["y", "s", "z"]),
        [helper.make_tensor_value_info("x32", FLOAT, [1, 64])],
        [],
        "",
    ),
}


def save(path: Path, nodes: Any, inputs: Any, constants: Any) -> Path:
    kind = {"TensorScatter": inputs[0].type.tensor_type.elem_type, "DynamicQuantizeLinear": UINT8}
    shape = None
    if nodes[0].op_type == "TensorScatter":
        shape = [1, 2, 64, 16]
    elif nodes[0].op_type in ("Attention", "DynamicQuantizeLinear"):
        shape = [1, 2, 4, 16] if nodes[0].op_type == "Attention" else [1, 64]
    output = helper.make_tensor_value_info("y", kind.get(nodes[0].op_type, HALF), shape or [1, 64])
    graph = helper.make_graph(nodes, "g", inputs, [output], constants)
    opsets = [helper.make_opsetid("", 24), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=11), path)
    return path


@pytest.mark.parametrize("case", REFUSED)
def test_what_it_refuses_is_told_in_its_words(case: str, tmp_path: Path) -> None:
    nodes, inputs, constants, words = REFUSED[case]
    graph = save(tmp_path / "g.onnx", nodes, inputs, constants)
    with pytest.raises(EngineFailed) as raised:
        run(job(graph, tmp_path / "out"), lambda *_: None)
    assert words in str(raised.value)
    assert str(graph) in str(raised.value)


def test_symmetric_int4_is_what_it_takes(tmp_path: Path) -> None:
    graph = save(tmp_path / "g.onnx", product(CODED), [X], weights(INT4))
    built = run(job(graph, tmp_path / "out", sms=SMS), lambda *_: None)
    assert (tmp_path / "out").stat().st_size == PLAN_OFFSET + built.plan_bytes


@pytest.mark.parametrize(
    ("kind", "sm"),
    [(INT4, "7.5"), (TensorProto.FLOAT8E4M3FN, "8.6"), (TensorProto.FLOAT4E2M1, "8.9")],
)
def test_what_the_gate_keeps_from_it(kind: int, sm: str, tmp_path: Path) -> None:
    if kind == TensorProto.FLOAT8E4M3FN:
        scale = numpy_helper.from_array(np.float16(1), "scales")
        codes = helper.make_tensor("codes", kind, [64, 64], np.ones(4096, np.float32))
        nodes = [
            helper.make_node("QuantizeLinear", ["x", "scales"], ["xq"], output_dtype=kind),
            helper.make_node("DequantizeLinear", ["xq", "scales"], ["xd"]),
            helper.make_node("DequantizeLinear", list(CODED), ["w"]),
            helper.make_node("MatMul", ["xd", "w"], ["y"]),
        ]
        graph = save(tmp_path / "g.onnx", nodes, [X], [codes, scale])
    else:
        graph = save(tmp_path / "g.onnx", product(CODED), [X], weights(kind))
    with pytest.raises(EngineFailed, match=rf"Cannot compile for target\(s\) sm{sm.replace('.', '')}"):
        run(job(graph, tmp_path / "out", sms=(sm,)), lambda *_: None)


@pytest.mark.parametrize("megabytes", [160, 220])
def test_a_build_keeps_to_its_memory(artifact: Path, tmp_path: Path, megabytes: int) -> None:
    graph = artifact / "tensorrt/opset24.onnx"
    with pytest.raises(MemoryBudgetError, match="ran out of memory while it built"):
        run(job(graph, tmp_path / "out", memory=megabytes << 20), lambda *_: None)


def test_a_gpu_that_it_does_not_build_for(artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(
        EngineFailed, match=r"RTX 1\.\d+ builds for sm75, .*sm120.*, not for sm87; upgrade it"
    ):
        run(job(artifact / "tensorrt/opset24.onnx", tmp_path / "out", sms=("8.7",)), lambda *_: None)
