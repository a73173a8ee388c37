"""A small artifact of graphs: `sum` adds two inputs, `scale` multiplies by a weight that lies in the weights file."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from edge.artifact import FileEntry, GraphEntry, GraphsManifest, GraphTensor

SCALE = np.arange(1, 5, dtype=np.float32)


def graph_artifact(folder: Path, tokenizer: str | None = None) -> Path:
    """Write it into the new folder `folder`."""
    (folder / "graphs").mkdir(parents=True)
    (folder / "graphs/weights.bin").write_bytes(SCALE.tobytes())
    if tokenizer is not None:
        (folder / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
    entries = (_write(folder, "sum", _sum()), _write(folder, "scale", _scale()))
    manifest = GraphsManifest(
        name="made",
        architecture="bert",
        task="feature-extraction",
        recipe={"weights": "int4", "block": 32},
        requires="1.23.2",
        parameters=4,
        weight_bytes=16,
        weights="graphs/weights.bin",
        graphs=entries,
        provenance={
            "source": "org/made",
            "errors": {
                "sum": {"float": {"total": 1e-8}, "quantized": None},
                "scale": {"float": {"y": 2e-8}, "quantized": {"y": 0.0123}},
            },
        },
        files=tuple(
            FileEntry(
                path=path.relative_to(folder).as_posix(),
                size=path.stat().st_size,
                sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            )
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        ),
    )
    (folder / "edge.json").write_text(manifest.dumps(), encoding="utf-8")
    return folder


def _write(folder: Path, name: str, graph: onnx.GraphProto) -> GraphEntry:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    (folder / f"graphs/{name}.onnx").write_bytes(model.SerializeToString())

    def tensors(values: list[onnx.ValueInfoProto]) -> tuple[GraphTensor, ...]:
        return tuple(
            GraphTensor(
                name=value.name,
                type=helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name,
                shape=tuple(d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim),
            )
            for value in values
        )

    return GraphEntry(
        name=name,
        model=f"graphs/{name}.onnx",
        inputs=tensors(list(graph.input)),
        outputs=tensors(list(graph.output)),
    )


def _sum() -> onnx.GraphProto:
    info = helper.make_tensor_value_info
    return helper.make_graph(
        [helper.make_node("Add", ["a", "b"], ["total"]), helper.make_node("Sub", ["a", "b"], ["rest"])],
        "sum",
        [info("a", TensorProto.INT64, ["n", 2]), info("b", TensorProto.INT64, ["n", 2])],
        [info("total", TensorProto.INT64, ["n", 2]), info("rest", TensorProto.INT64, ["n", 2])],
    )


def _scale() -> onnx.GraphProto:
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "weights.bin"), ("offset", "0"), ("length", "16")):
        weight.external_data.add(key=key, value=value)
    info = helper.make_tensor_value_info
    return helper.make_graph(
        [helper.make_node("Mul", ["x", "w"], ["y"])],
        "scale",
        [info("x", TensorProto.FLOAT, ["n", 4])],
        [info("y", TensorProto.FLOAT, ["n", 4])],
        initializer=[weight],
    )
