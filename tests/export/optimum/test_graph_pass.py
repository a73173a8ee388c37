"""The pass over float graphs: what it quantizes, that its codes are those of the method, and what it leaves alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edge.errors import TensorError, Unsupported
from export.graph.checkpoint_weights import STREAMED
from export.graph.onnxruntime_dialect import OLDEST_FOR_ODD_ZEROS
from export.graph.weights_file import WeightsFile
from export.optimum.constants import Constants
from export.optimum.graph_pass import PassReport, quantize_graph
from export.optimum.interface import graph_entry
from export.optimum.ranks import ranks
from export.optimum.shared_weights import SharedWeights
from export.optimum.source_graph import SourceGraph
from export.quantize import Recipe
from tests.export.optimum.made import HIDDEN, VOCAB, WIDTH, Array, encoder, ids, model, run, weight

# 8-bit activations: half a step of 127, on values of their size.
ACTIVATIONS = 0.02


def quantized(
    folder: Path, source: onnx.ModelProto, recipe: Recipe, name: str = "graph"
) -> tuple[Path, PassReport, SharedWeights]:
    """The graph beside its weights file, as an artifact has them."""
    folder.mkdir(exist_ok=True)
    path = folder / f"source-{name}.onnx"
    onnx.save_model(source, path)
    with WeightsFile(folder / "weights.bin") as file:
        shared = SharedWeights(recipe, file)
        made, report = quantize_graph(SourceGraph(path), shared)
    onnx.save_model(made, folder / f"{name}.onnx")
    return folder / f"{name}.onnx", report, shared


def rounded(rows: Array, recipe: Recipe) -> Array:
    """Rows as their codes stand for them."""
    precision = recipe.precision
    found = STREAMED[recipe.method].quantize(precision.padded(rows), precision)
    return found.dequantize(recipe.bits)[:, : rows.shape[1]]


def operators(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path, load_external_data=False).graph.node]


def close(found: Array, wanted: Array) -> bool:
    return bool(np.abs(found - wanted).max() <= ACTIVATIONS * np.abs(wanted).max())


@pytest.mark.parametrize("weights", ["int4", "int8"])
@pytest.mark.parametrize(("zero_points", "method"), [(False, "rtn"), (True, "hqq")])
def test_products_and_embeddings_read_codes(
    tmp_path: Path, weights: str, zero_points: bool, method: str
) -> None:
    recipe = Recipe(weights=weights, zero_points=zero_points, method=method)
    source = encoder()
    path, report, shared = quantized(tmp_path, source, recipe)
    assert (report.products, report.embeddings, shared.matrices) == (3, 1, 3)
    assert report.floats == {"MatMul": 1, "Conv": 1}
    assert sorted(set(operators(path))) == sorted(
        {
            "GatherBlockQuantized",
            "MatMulNBits",
            "Tanh",
            "Reshape",
            "Add",
            "MatMul",
            "Conv",
            "Transpose",
        }
    )
    # The same graph on the weights that the codes stand for.
    for tensor in source.graph.initializer:
        if tensor.name in ("embedding", "up", "down"):
            rows = numpy_helper.to_array(tensor)
            turned = rows.T if tensor.name == "up" else rows
            kept = rounded(np.ascontiguousarray(turned), recipe)
            tensor.CopyFrom(
                numpy_helper.from_array(
                    np.ascontiguousarray(kept.T if tensor.name == "up" else kept), tensor.name
                )
            )
    wanted, found = run(source, {"ids": ids()}), run(path, {"ids": ids()})
    assert list(found) == list(wanted)
    for name in wanted:
        assert close(found[name], wanted[name]), name
    # Nothing but the embedding is on the way to this one: no activation is rounded.
    np.testing.assert_allclose(found["convolved"], wanted["convolved"], rtol=1e-5, atol=1e-6)


def test_a_tied_embedding_is_stored_once(tmp_path: Path) -> None:
    path, _, shared = quantized(tmp_path, encoder(), Recipe(weights="int8"))
    names = {tensor.name: tensor for tensor in onnx.load(path, load_external_data=False).graph.initializer}
    places = [
        next(entry.value for entry in names[name].external_data if entry.key == "offset")
        for name in ("edgewise.matrix0.rows", "edgewise.matrix0.codes")
    ]
    assert places[0] == places[1]
    assert shared.parameters < VOCAB * WIDTH + 2 * WIDTH * HIDDEN + WIDTH * WIDTH + 1000


def test_graphs_share_weights(tmp_path: Path) -> None:
    for name in ("a", "b"):
        onnx.save_model(encoder(), tmp_path / f"{name}.onnx")
    with WeightsFile(tmp_path / "weights.bin") as file:
        shared = SharedWeights(Recipe(), file)
        quantize_graph(SourceGraph(tmp_path / "a.onnx"), shared)
        once = shared.nbytes
        quantize_graph(SourceGraph(tmp_path / "b.onnx"), shared)
    assert shared.nbytes == once > 0


def test_fp32_keeps_every_number(tmp_path: Path) -> None:
    path, report, shared = quantized(tmp_path, encoder(), Recipe(weights="fp32"))
    assert (report.products, report.embeddings, shared.matrices) == (0, 0, 0)
    wanted, found = run(encoder(), {"ids": ids()}), run(path, {"ids": ids()})
    for name in wanted:
        np.testing.assert_array_equal(found[name], wanted[name])


@settings(max_examples=25, deadline=None)
@given(
    inputs=st.integers(32, 150),
    outputs=st.integers(1, 150),
    block=st.sampled_from([32, 64, 128]),
    weights=st.sampled_from(["int4", "int8"]),
    zero_points=st.booleans(),
    form=st.sampled_from(["matmul", "gemm", "gemm_turned", "gather"]),
)
def test_any_shape(tmp_path_factory: pytest.TempPathFactory, form: str, **drawn: Any) -> None:
    inputs, outputs = drawn["inputs"], drawn["outputs"]
    recipe = Recipe(weights=drawn["weights"], block=drawn["block"], zero_points=drawn["zero_points"])
    rows = weight(1, outputs, inputs)
    turned = form in ("matmul", "gemm")
    node = {
        "matmul": lambda: helper.make_node("MatMul", ["x", "w"], ["y"]),
        "gemm": lambda: helper.make_node("Gemm", ["x", "w", "b"], ["y"]),
        "gemm_turned": lambda: helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1),
        "gather": lambda: helper.make_node("Gather", ["w", "x"], ["y"], axis=0),
    }[form]()
    weights = {"w": np.ascontiguousarray(rows.T) if turned else rows, "b": weight(2, outputs)}
    if form == "gather":
        given_, shape = (TensorProto.INT64, ["n"]), ["n", inputs]
        x: Array = np.arange(outputs)
    else:
        given_, shape = (TensorProto.FLOAT, ["n", inputs]), ["n", outputs]
        x = weight(3, 4, inputs)
    source = model([node], weights, {"x": given_}, {"y": shape})
    path, report, _ = quantized(tmp_path_factory.mktemp("graph"), source, recipe)
    kept = rounded(rows, recipe) if rows.size >= 4096 else rows
    assert report.products + report.embeddings == (rows.size >= 4096)
    bias = weights["b"] if "gemm" in form else np.zeros(outputs, np.float32)
    wanted = kept[x] if form == "gather" else x @ kept.T + bias
    assert close(run(path, {"x": x})["y"], wanted)


def as_is(nodes: list[onnx.NodeProto], **outputs: list[int | str]) -> onnx.ModelProto:
    """A graph of a matrix `w` [64, 64] and an input `x`."""
    return model(
        nodes,
        {"w": weight(1, 64, 64), "condition": np.array(True)},
        {"x": (TensorProto.FLOAT, outputs.pop("takes", ["n", 64]))},
        outputs,
    )


def branch(name: str) -> onnx.GraphProto:
    node = helper.make_node("MatMul", ["x", "w"], [name])
    return helper.make_graph(
        [node], name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 64])]
    )


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(
            as_is(
                [
                    helper.make_node("MatMul", ["x", "w"], ["y"]),
                    helper.make_node("Add", ["y", "w"], ["z"]),
                ],
                y=["n", 64],
                z=[64, 64],
            ),
            id="another node wants the floats",
        ),
        pytest.param(
            as_is([helper.make_node("MatMul", ["x", "w"], ["y"])], y=["n", 64], w=[64, 64]),
            id="the weight is an output",
        ),
        pytest.param(
            as_is(
                [
                    helper.make_node("MatMul", ["x", "w"], ["y"]),
                    helper.make_node("Identity", ["w"], ["v"]),
                ],
                y=["n", 64],
                v=[64, 64],
            ),
            id="what passes it on is an output",
        ),
        pytest.param(
            as_is(
                [
                    helper.make_node("MatMul", ["x", "w"], ["y"]),
                    helper.make_node(
                        "If", ["condition"], ["z"], then_branch=branch("a"), else_branch=branch("b")
                    ),
                ],
                y=["n", 64],
                z=["n", 64],
            ),
            id="an inner graph reads it",
        ),
        pytest.param(
            as_is([helper.make_node("Gemm", ["x", "w"], ["y"], alpha=0.5)], y=["n", 64]),
            id="alpha",
        ),
        pytest.param(
            as_is([helper.make_node("Gemm", ["x", "w"], ["y"], transA=1)], takes=[64, 64], y=[64, 64]),
            id="transposed activations",
        ),
        pytest.param(
            as_is([helper.make_node("MatMul", ["x", "w"], ["y"])], takes=[64], y=[64]),
            id="a vector",
        ),
        pytest.param(
            as_is([helper.make_node("MatMul", ["w", "x"], ["y"])], takes=[64, "n"], y=[64, "n"]),
            id="on the left",
        ),
    ],
)
def test_what_stays_float(tmp_path: Path, source: onnx.ModelProto) -> None:
    path, report, _ = quantized(tmp_path, source, Recipe())
    assert report.products == 0
    assert "MatMulNBits" not in operators(path)
    size = [
        dim.dim_value or (64 if source.graph.output[0].name == "y" else 3)
        for dim in source.graph.input[0].type.tensor_type.shape.dim
    ]
    feeds = {"x": weight(5, *size)}
    for name, wanted in run(source, feeds).items():
        np.testing.assert_allclose(run(path, feeds)[name], wanted, rtol=1e-5, atol=1e-6)


def test_weights_beyond_float16_stay_float(tmp_path: Path) -> None:
    source = as_is([helper.make_node("MatMul", ["x", "w"], ["y"])], y=["n", 64])
    large = weight(1, 64, 64)
    large[3, 4] = 1e6
    source.graph.initializer[0].CopyFrom(numpy_helper.from_array(large, "w"))
    assert quantized(tmp_path, source, Recipe())[1].products == 0


@pytest.mark.parametrize("weights", ["int4", "fp32"])
def test_a_weight_that_is_no_number_is_refused(tmp_path: Path, weights: str) -> None:
    source = as_is([helper.make_node("MatMul", ["x", "w"], ["y"])], y=["n", 64])
    wrong = weight(1, 64, 64)
    wrong[3, 4] = np.nan
    source.graph.initializer[0].CopyFrom(numpy_helper.from_array(wrong, "w"))
    with pytest.raises(TensorError, match=r"w holds nan at \[3, 4\]"):
        quantized(tmp_path, source, Recipe(weights=weights))


def test_zeros_of_an_odd_number_of_blocks_ask_for_a_newer_engine(tmp_path: Path) -> None:
    source = model(
        [helper.make_node("Gather", ["w", "x"], ["y"]), helper.make_node("Gather", ["w", "x"], ["z"])],
        {"w": weight(1, 64, 80)},
        {"x": (TensorProto.INT64, ["n"])},
        {"y": ["n", 80], "z": ["n", 80]},
    )
    path, report, _ = quantized(tmp_path, source, Recipe(zero_points=True))
    assert (report.embeddings, report.requires) == (2, OLDEST_FOR_ODD_ZEROS)
    found = run(path, {"x": np.arange(64)})
    # Blocks of 32 do not fill 80 inputs: both are cut by the same numbers.
    np.testing.assert_array_equal(found["y"], found["z"])
    assert operators(path).count("Slice") == 2


def test_where_shapes_cannot_be_inferred_those_count_that_the_graph_tells() -> None:
    source = as_is(
        [helper.make_node("MatMul", ["x", "w"], ["v"]), helper.make_node("Tanh", ["v"], ["y"])], y=["n", 64]
    )
    assert ranks(source) == {"x": 2, "w": 2, "v": 2, "y": 2}
    # Of operators of no version nothing is known.
    del source.opset_import[:]
    assert ranks(source) == {"x": 2, "w": 2, "y": 2}


def test_what_goes_in_circles_is_no_constant(tmp_path: Path) -> None:
    circle = [helper.make_node("Identity", ["a"], ["b"]), helper.make_node("Identity", ["b"], ["a"])]
    source = as_is([*circle, helper.make_node("MatMul", ["x", "a"], ["y"])], y=["n", 64])
    onnx.save_model(source, tmp_path / "g.onnx")
    assert Constants(SourceGraph(tmp_path / "g.onnx")).find("a") is None


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (
            helper.make_tensor_type_proto(TensorProto.STRING, [1]),
            "x is of type object; only tensors of float32",
        ),
        (helper.make_tensor_type_proto(TensorProto.BFLOAT16, [1]), "x is of type bfloat16"),
        (helper.make_sequence_type_proto(helper.make_tensor_type_proto(1, [1])), "x is of type no tensor"),
    ],
)
def test_inputs_that_are_no_tensors_of_numbers_are_refused(kind: onnx.TypeProto, words: str) -> None:
    graph = helper.make_graph([], "g", [helper.make_value_info("x", kind)], [])
    with pytest.raises(Unsupported, match=words):
        graph_entry("g", "g.onnx", graph)


def test_names_that_are_taken_are_not_used(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["y"]),
        helper.make_node("Identity", ["x"], ["y.product"]),
    ]
    source = model(
        nodes,
        {"w": weight(1, 64, 64), "b": weight(2, 64)},
        {"x": (TensorProto.FLOAT, ["n", 64])},
        {"y": ["n", 64], "y.product": ["n", 64]},
    )
    path, report, _ = quantized(tmp_path, source, Recipe(weights="int8"))
    assert report.products == 1
    feeds = {"x": weight(5, 3, 64)}
    np.testing.assert_array_equal(run(path, feeds)["y.product"], feeds["x"])
