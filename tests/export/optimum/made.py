"""Float graphs made by hand, and a run of optimum in place of the real one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.optimum.run import FloatGraph, FloatGraphs

Array = NDArray[Any]
VOCAB, WIDTH, HIDDEN = 96, 64, 128


def weight(seed: int, *shape: int) -> Array:
    return (np.random.default_rng(seed).standard_normal(shape) * 0.1).astype(np.float32)


def model(
    nodes: Sequence[onnx.NodeProto],
    weights: dict[str, Array],
    inputs: dict[str, tuple[int, Sequence[int | str]]],
    outputs: dict[str, Sequence[int | str]],
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "made",
        [helper.make_tensor_value_info(name, kind, list(shape)) for name, (kind, shape) in inputs.items()],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))
            for name, shape in outputs.items()
        ],
        initializer=[numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def encoder(seed: int = 0) -> onnx.ModelProto:
    """An embedding tied to its head, MatMul, Gemm with a bias, Conv, and a matrix too small to quantize."""
    embedding = weight(seed, VOCAB, WIDTH)
    nodes = [
        helper.make_node("Gather", ["embedding", "ids"], ["rows"]),
        helper.make_node("MatMul", ["rows", "up"], ["wide"]),
        helper.make_node("Tanh", ["wide"], ["curved"]),
        helper.make_node("Reshape", ["curved", "flat_shape"], ["flat"]),
        helper.make_node("Gemm", ["flat", "down", "down_bias"], ["narrow"], transB=1),
        helper.make_node("MatMul", ["narrow", "small"], ["tiny"]),
        helper.make_node("Identity", ["embedding"], ["shared"]),
        helper.make_node("Transpose", ["shared"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["narrow", "turned"], ["logits"]),
        helper.make_node("Transpose", ["rows"], ["channels"], perm=[0, 2, 1]),
        helper.make_node("Conv", ["channels", "kernel"], ["convolved"], kernel_shape=[1]),
    ]
    weights = {
        "embedding": embedding,
        "up": weight(seed + 1, WIDTH, HIDDEN),
        "flat_shape": np.array([-1, HIDDEN]),
        "down": weight(seed + 2, WIDTH, HIDDEN),
        "down_bias": weight(seed + 3, WIDTH),
        "small": weight(seed + 4, WIDTH, 4),
        "kernel": weight(seed + 5, WIDTH, WIDTH, 1),
    }
    return model(
        nodes,
        weights,
        {"ids": (TensorProto.INT64, ["batch", "length"])},
        {"logits": ["tokens", VOCAB], "tiny": ["tokens", 4], "convolved": ["batch", WIDTH, "length"]},
    )


def ids(seed: int = 0, batch: int = 2, length: int = 5) -> Array:
    return np.random.default_rng(seed).integers(0, VOCAB, (batch, length))


def run(source: onnx.ModelProto | Path, feeds: dict[str, Array]) -> dict[str, Array]:
    """All outputs of a graph."""
    given = str(source) if isinstance(source, Path) else source.SerializeToString()
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(given, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def save_reference(path: Path, feeds: dict[str, Array], outputs: dict[str, Array]) -> None:
    path.parent.mkdir(exist_ok=True)
    arrays = {f"in.{k}": v for k, v in feeds.items()} | {f"out.{k}": v for k, v in outputs.items()}
    np.savez(path, **arrays)  # type: ignore[arg-type]


def made_run(
    out: Path, models: dict[str, onnx.ModelProto], off: float = 0.0, external: bool = False
) -> FloatGraphs:
    """What a run of optimum leaves in `out`; torch's outputs are those of the float graphs, `off` too large."""
    out.mkdir(parents=True, exist_ok=True)
    graphs = []
    for name, made in models.items():
        feeds = {"ids": ids()}
        outputs = {key: value * (1 + off) for key, value in run(made, feeds).items()}
        reference = out / "references" / f"{name}.0.npz"
        save_reference(reference, feeds, outputs)
        path = out / f"{name}.onnx"
        onnx.save_model(made, path, save_as_external_data=external, location=f"{name}.onnx_data")
        graphs.append(FloatGraph(name=name, path=path, references=(reference,)))
    (out / "config.json").write_text('{"model_type": "made"}')
    (out / "pytorch_model.bin").write_text("not wanted")
    return FloatGraphs(
        folder=out,
        graphs=tuple(graphs),
        task="feature-extraction",
        architecture="made",
        versions={"optimum": "0"},
    )
