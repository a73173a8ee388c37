"""Check that a checkpoint holds the tensors its spec calls for, and no others."""

from __future__ import annotations

from collections.abc import Mapping

from edge.artifact.spec import ModelSpec
from edge.errors import TensorError
from export.architecture.expected import expected_tensors
from export.architecture.names import is_buffer
from export.checkpoint.packed import PackedTensor
from export.checkpoint.tensor import LazyTensor


def checked_tensors(source: str, spec: ModelSpec, tensors: Mapping[str, LazyTensor]) -> dict[str, LazyTensor]:
    """The tensors that `spec` calls for, in the order a run uses them.

    Left out: what a run recomputes, the LM head of a checkpoint that ties it to the embedding, and biases of
    zeros, which some quantizers give every packed matrix.

    Raises:
        TensorError: one is missing, of another shape, or not expected.
    """
    expected = expected_tensors(spec)
    for name, shape in expected.items():
        if name not in tensors:
            raise TensorError(
                f"{source}: tensor {name} {shape} is missing, which this {spec.architecture} needs; "
                "get the checkpoint again from its publisher"
            )
        if tensors[name].shape != shape:
            raise TensorError(
                f"{source}: tensor {name} has shape {tensors[name].shape}, but its configuration calls for "
                f"{shape}; get the checkpoint again from its publisher"
            )
    for name, tensor in tensors.items():
        unknown = name not in expected and not is_buffer(name) and name != "lm_head.weight"
        if unknown and not _adds_nothing(name, tensors):
            raise TensorError(
                f"{source}: tensor {name:.200} {tensor.shape} has no place in a {spec.architecture} of "
                "this configuration, and leaving it out would change the model; correct the configuration"
            )
    return {name: tensors[name] for name in expected}


def _adds_nothing(name: str, tensors: Mapping[str, LazyTensor]) -> bool:
    module, _, last = name.rpartition(".")
    matrix = tensors.get(f"{module}.weight")
    if last != "bias" or not isinstance(matrix, PackedTensor):
        return False
    return tensors[name].shape == matrix.shape[:1] and not tensors[name].read().any()
