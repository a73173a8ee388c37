"""A float ONNX graph as it was written by others: read without trust, its weights one at a time."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from edge.errors import CheckpointCorrupt, StorageError, TensorError, Unsupported

# What protobuf itself can hold; more is to lie in a file beside the graph.
_LARGEST_GRAPH = (1 << 31) - 1
CONTRIB = "com.microsoft"
_DOMAINS = ("", "ai.onnx", CONTRIB)
# Codes of a few bits are no source to quantize from.
_SIZES: dict[int, int] = {
    TensorProto.FLOAT: 4,
    TensorProto.DOUBLE: 8,
    TensorProto.FLOAT16: 2,
    TensorProto.BFLOAT16: 2,
    TensorProto.INT8: 1,
    TensorProto.INT16: 2,
    TensorProto.INT32: 4,
    TensorProto.INT64: 8,
    TensorProto.UINT8: 1,
    TensorProto.UINT16: 2,
    TensorProto.UINT32: 4,
    TensorProto.UINT64: 8,
    TensorProto.BOOL: 1,
}
_DEEPEST = 16


class SourceGraph:
    """The graph at `path`; `model` is its protobuf, whose initializers may lie in other files of the same folder.

    Raises:
        CheckpointCorrupt: it is no ONNX model, or a weight is not where it says.
        Unsupported: operators or types that are not taken.
        StorageError: a file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._maps: dict[Path, NDArray[np.uint8]] = {}
        size = _file_size(path)
        if size > _LARGEST_GRAPH:
            raise CheckpointCorrupt(
                f"{path} has {size} bytes, more than the 2 GiB of a graph; its weights are to lie in a file beside it"
            )
        try:
            self.model = onnx.load_model_from_string(path.read_bytes())
        except OSError as e:
            raise StorageError(f"{path} cannot be read ({e.strerror}); look at the disk") from None
        except Exception as e:  # protobuf's own
            raise CheckpointCorrupt(f"{path} is no ONNX model ({e}); export it again") from None
        self._check_operators()
        self.initializers = {tensor.name: tensor for tensor in self.model.graph.initializer}
        if len(self.initializers) != len(self.model.graph.initializer):
            raise CheckpointCorrupt(f"{path} names an initializer twice; export it again")
        for tensor in self.initializers.values():
            self._check_tensor(tensor)

    @property
    def graph(self) -> onnx.GraphProto:
        """The main graph."""
        return self.model.graph

    def array(self, name: str) -> NDArray[Any]:
        """The values of an initializer; mapped where they lie in a file of their own.

        Raises:
            CheckpointCorrupt: they are not of the size that its shape calls for.
        """
        tensor = self.initializers[name]
        if tensor.data_location != TensorProto.EXTERNAL:
            try:
                return numpy_helper.to_array(tensor)
            except Exception as e:
                raise CheckpointCorrupt(
                    f"{self.path}: initializer {name!r} cannot be read ({e}); export it again"
                ) from None
        path, offset = self._place(tensor)
        if path not in self._maps:
            # What is empty cannot be mapped.
            whole = np.memmap(path, np.uint8, "r") if _file_size(path) else np.empty(0, np.uint8)
            self._maps[path] = np.asarray(whole)
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        data = self._maps[path][offset : offset + _nbytes(tensor)]
        return data.view(dtype).reshape(tuple(tensor.dims))

    def close(self) -> None:
        """Forget the files that are mapped."""
        self._maps.clear()

    def _check_operators(self) -> None:
        if self.graph.sparse_initializer:
            raise Unsupported(
                f"{self.path} holds sparse weights, which are not taken; export the model dense"
            )
        if self.model.functions:
            raise Unsupported(
                f"{self.path} holds functions of its own ({self.model.functions[0].name}), which are not taken; "
                "export it with optimum 2.1, which writes none"
            )
        for node in nodes(self.graph, self.path):
            if node.domain not in _DOMAINS:
                raise Unsupported(
                    f"{self.path}: operator {node.op_type} of domain {node.domain!r} is not taken, only those of "
                    f"ONNX and {CONTRIB}"
                )
            for attribute in node.attribute:
                inside = [attribute.t, *attribute.tensors]
                for inner in (attribute.g, *attribute.graphs):
                    inside += inner.initializer
                if any(tensor.data_location == TensorProto.EXTERNAL for tensor in inside):
                    raise Unsupported(
                        f"{self.path}: node {node.name!r} ({node.op_type}) holds a tensor that lies in another file, "
                        "which only weights of the graph itself may"
                    )

    def _check_tensor(self, tensor: onnx.TensorProto) -> None:
        where = f"{self.path}: initializer {tensor.name!r}"
        if tensor.data_type not in _SIZES:
            kind = tensor.data_type
            known = kind in TensorProto.DataType.values()
            name = TensorProto.DataType.Name(kind) if known else str(kind)
            raise Unsupported(f"{where} is of type {name}, which is not taken; export the model in fp32")
        if any(size < 0 for size in tensor.dims) or math.prod(tensor.dims) >= 1 << 40:
            raise CheckpointCorrupt(f"{where} has shape {list(tensor.dims)}; export it again")
        if tensor.data_location == TensorProto.EXTERNAL:
            self._place(tensor)

    def _place(self, tensor: onnx.TensorProto) -> tuple[Path, int]:
        """File and offset of a tensor, sure to hold it.

        Raises:
            CheckpointCorrupt: they do not, or the file is not in the graph's folder.
        """
        where = f"{self.path}: initializer {tensor.name!r}"
        place = {entry.key: entry.value for entry in tensor.external_data}
        location, folder = place.get("location", ""), self.path.parent
        pure, path = PurePosixPath(location), folder / location
        real = Path(os.path.realpath(path))
        outside = not real.is_relative_to(os.path.realpath(folder))
        if (
            not location.isprintable()
            or "\\" in location
            or pure.is_absolute()
            or ".." in pure.parts
            or outside
        ):
            raise CheckpointCorrupt(
                f"{where} lies in {location!r}, which is no file beside the graph; do not use this model"
            )
        wanted = _nbytes(tensor)
        try:
            offset, length = int(place.get("offset", "0")), int(place.get("length", wanted))
        except ValueError:
            raise CheckpointCorrupt(f"{where} is at no number of bytes; export it again") from None
        size = _file_size(path)
        if length != wanted or not 0 <= offset <= offset + length <= size:
            raise CheckpointCorrupt(
                f"{where} is said to be {length} bytes from {offset} on in {location}, expected {wanted} bytes "
                f"inside a file of {size}; export it again"
            )
        return path, offset


def _nbytes(tensor: onnx.TensorProto) -> int:
    return int(_SIZES[tensor.data_type] * math.prod(tensor.dims))


def nodes(graph: onnx.GraphProto, path: Path, depth: int = 0) -> Iterator[onnx.NodeProto]:
    """The nodes of a graph and of the graphs inside of them.

    Raises:
        CheckpointCorrupt: they nest without end.
    """
    if depth > _DEEPEST:
        raise CheckpointCorrupt(f"{path} nests graphs deeper than {_DEEPEST} levels; do not use this model")
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node:
                    yield from nodes(inner, path, depth + 1)


def checked_floats(name: str, values: NDArray[Any]) -> NDArray[np.float32]:
    """Float32 weights, all of them finite.

    Raises:
        TensorError: one is not.
    """
    if not np.isfinite(values).all():
        where = np.argwhere(~np.isfinite(values))[0].tolist()
        raise TensorError(
            f"tensor {name} holds {values[tuple(where)]:g} at {where}, which is no weight; "
            "the checkpoint is damaged, get it again from its publisher"
        )
    return values


def _file_size(path: Path) -> int:
    try:
        if not path.is_file():
            raise CheckpointCorrupt(f"{path} is missing, or no file; export it again")
        return path.stat().st_size
    except OSError as e:
        raise StorageError(f"{path} cannot be read ({e.strerror}); look at the disk") from None
