"""Graphs are read without trust: what is wrong with them is told, and no file elsewhere is touched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from edge.errors import CheckpointCorrupt, EdgeError, Unsupported
from export.optimum.source_graph import SourceGraph
from tests.export.optimum.made import encoder

Spoil = Callable[[onnx.ModelProto], None]


def external(model: onnx.ModelProto, name: str = "up") -> dict[str, onnx.StringStringEntryProto]:
    tensor = next(t for t in model.graph.initializer if t.name == name)
    return {entry.key: entry for entry in tensor.external_data}


def place(key: str, value: str) -> Spoil:
    def spoil(model: onnx.ModelProto) -> None:
        external(model)[key].value = value

    return spoil


def shape(*dims: int) -> Spoil:
    def spoil(model: onnx.ModelProto) -> None:
        tensor = next(t for t in model.graph.initializer if t.name == "up")
        del tensor.dims[:]
        tensor.dims.extend(dims)

    return spoil


def kind(number: int) -> Spoil:
    def spoil(model: onnx.ModelProto) -> None:
        next(t for t in model.graph.initializer if t.name == "up").data_type = number

    return spoil


def constant(model: onnx.ModelProto) -> None:
    tensor = TensorProto(name="v", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="/etc/passwd")
    model.graph.node.append(helper.make_node("Constant", [], ["v"], value=tensor))


def inner_weight(model: onnx.ModelProto) -> None:
    tensor = TensorProto(name="v", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="/etc/passwd")
    out = helper.make_tensor_value_info("v", TensorProto.FLOAT, [1])
    branch = helper.make_graph([], "branch", [], [out], initializer=[tensor])
    model.graph.node.append(helper.make_node("If", ["c"], ["z"], then_branch=branch, else_branch=branch))


def nested(model: onnx.ModelProto) -> None:
    graph = helper.make_graph([helper.make_node("Identity", ["ids"], ["z"])], "inner", [], [])
    for _ in range(20):
        graph = helper.make_graph([helper.make_node("If", ["c"], ["z"], then_branch=graph)], "inner", [], [])
    model.graph.node.extend(graph.node)


def twice(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(model.graph.initializer[0])


def foreign(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Evil", ["ids"], ["z"], domain="my.domain"))


def function(model: onnx.ModelProto) -> None:
    model.functions.append(helper.make_function("", "F", ["a"], ["b"], [], []))


def sparse(model: onnx.ModelProto) -> None:
    model.graph.sparse_initializer.add()


@pytest.mark.parametrize(
    ("spoil", "error", "words"),
    [
        (place("location", "/etc/passwd"), CheckpointCorrupt, "no file beside the graph"),
        (place("location", "../graph.onnx_data"), CheckpointCorrupt, "no file beside the graph"),
        (place("location", "link"), CheckpointCorrupt, "no file beside the graph"),
        (place("location", "a\x1b[2J"), CheckpointCorrupt, "no file beside the graph"),
        (place("location", ""), CheckpointCorrupt, "is missing, or no file"),
        (place("location", "nothing"), CheckpointCorrupt, "is missing, or no file"),
        (place("offset", "-1"), CheckpointCorrupt, "inside a file"),
        (place("offset", "9" * 40), CheckpointCorrupt, "inside a file"),
        (place("offset", "many"), CheckpointCorrupt, "no number of bytes"),
        (place("length", "4"), CheckpointCorrupt, "expected 32768 bytes"),
        (shape(1 << 20, 1 << 20), CheckpointCorrupt, "has shape"),
        (shape(-64, 128), CheckpointCorrupt, "has shape"),
        (shape(64, 1280), CheckpointCorrupt, "expected 327680 bytes"),
        (kind(TensorProto.STRING), Unsupported, "type STRING"),
        (kind(99), Unsupported, "type 99"),
        (constant, Unsupported, "lies in another file"),
        (inner_weight, Unsupported, "lies in another file"),
        (nested, CheckpointCorrupt, "nests graphs deeper"),
        (twice, CheckpointCorrupt, "twice"),
        (foreign, Unsupported, "my.domain"),
        (function, Unsupported, "functions of its own"),
        (sparse, Unsupported, "sparse"),
    ],
)
def test_a_hostile_graph_is_refused(tmp_path: Path, spoil: Spoil, error: type[EdgeError], words: str) -> None:
    path = tmp_path / "models" / "graph.onnx"
    path.parent.mkdir()
    onnx.save_model(encoder(), path, save_as_external_data=True, location="graph.onnx_data", size_threshold=0)
    (tmp_path / "graph.onnx_data").write_bytes((path.parent / "graph.onnx_data").read_bytes())
    (path.parent / "link").symlink_to(tmp_path / "graph.onnx_data")
    model = onnx.load(path, load_external_data=False)
    SourceGraph(path)
    spoil(model)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(error, match=words):
        SourceGraph(path)


def test_weights_in_a_file_of_their_own_are_the_same(tmp_path: Path) -> None:
    onnx.save_model(encoder(), tmp_path / "inside.onnx")
    onnx.save_model(
        encoder(),
        tmp_path / "beside.onnx",
        save_as_external_data=True,
        location="beside.bin",
        size_threshold=0,
    )
    inside, beside = SourceGraph(tmp_path / "inside.onnx"), SourceGraph(tmp_path / "beside.onnx")
    for name in inside.initializers:
        np.testing.assert_array_equal(inside.array(name), beside.array(name))


@pytest.mark.parametrize("kind", [TensorProto.INT64, TensorProto.FLOAT16])
def test_a_weight_without_numbers_has_its_type_and_shape(tmp_path: Path, kind: int) -> None:
    model = encoder()
    tensor = model.graph.initializer.add(name="none", data_type=kind, dims=[0, 3])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="data")
    (tmp_path / "data").touch()
    onnx.save_model(model, tmp_path / "graph.onnx")
    array = SourceGraph(tmp_path / "graph.onnx").array("none")
    assert (array.shape, array.dtype) == ((0, 3), helper.tensor_dtype_to_np_dtype(kind))


def test_a_graph_beyond_what_protobuf_holds_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "graph.onnx"
    with path.open("wb") as file:
        # Nothing of it is on the disk.
        file.truncate((1 << 31) + 5)
    with pytest.raises(CheckpointCorrupt, match=r"2 GiB .* beside it"):
        SourceGraph(path)


def test_weights_beyond_4_gib_are_found(tmp_path: Path) -> None:
    path, far = tmp_path / "graph.onnx", (5 << 30) + 64
    onnx.save_model(encoder(), path, save_as_external_data=True, location="data", size_threshold=0)
    model = onnx.load(path, load_external_data=False)
    expected = np.arange(64 * 128, dtype=np.float32)
    with (tmp_path / "data").open("r+b") as file:
        file.seek(far)
        file.write(expected.tobytes())
    external(model)["offset"].value = str(far)
    path.write_bytes(model.SerializeToString())
    source = SourceGraph(path)
    np.testing.assert_array_equal(source.array("up").reshape(-1), expected)
    source.close()


def test_inline_weights_of_another_size_are_refused(tmp_path: Path) -> None:
    model = encoder()
    model.graph.initializer[0].dims[0] += 1
    onnx.save_model(model, tmp_path / "graph.onnx")
    with pytest.raises(CheckpointCorrupt, match="embedding"):
        SourceGraph(tmp_path / "graph.onnx").array("embedding")


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_spoilt_bytes_are_refused_or_read(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    whole = bytearray(encoder().SerializeToString())
    if data.draw(st.booleans()):
        whole = whole[: data.draw(st.integers(0, len(whole) - 1))]
    else:
        # The structure is at both ends, weights in between.
        where = data.draw(st.integers(0, 600)) * data.draw(st.sampled_from([1, -1]))
        whole[where] ^= 1 << data.draw(st.integers(0, 7))
    path = tmp_path_factory.mktemp("spoilt") / "graph.onnx"
    path.write_bytes(whole)
    try:
        source = SourceGraph(path)
        for name in source.initializers:
            source.array(name)
    except EdgeError:
        pass
