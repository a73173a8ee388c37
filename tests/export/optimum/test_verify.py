"""The distance from torch, and what is refused for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import EngineFailed, Unsupported
from export.optimum.verify import Reference, check_float, graph_errors, relative_error
from tests.export.optimum.made import encoder, ids, run, save_reference


@given(st.floats(-0.5, 0.5), st.integers(1, 40), st.floats(1e-3, 1e3))
def test_the_error_is_relative(off: float, count: int, size: float) -> None:
    wanted = np.linspace(-1, 2, count) * size + size / 7
    assert relative_error(wanted * (1 + off), wanted) == pytest.approx(abs(off), abs=1e-9)


def test_an_output_of_zeros() -> None:
    assert relative_error(np.zeros(3), np.zeros(3)) == 0
    assert relative_error(np.full(4, 0.5), np.zeros(4)) == 1
    assert relative_error(np.empty((0, 3)), np.empty((0, 3))) == 0


def test_booleans_and_numbers_have_a_distance() -> None:
    assert relative_error(np.array([True, False]), np.array([True, False])) == 0
    assert relative_error(np.array([3, 5]), np.array([3, 4])) == pytest.approx(0.2)


@pytest.mark.parametrize("error", [2e-3, float("nan"), float("inf")])
def test_a_float_graph_that_is_off_is_refused(error: float) -> None:
    check_float("encoder", {"a": 1e-3, "b": 0.0})
    with pytest.raises(Unsupported, match=r"encoder is not what torch computes: b is .* --task"):
        check_float("encoder", {"a": 0.0, "b": error})


def reference(folder: Path, **changes: np.ndarray) -> Reference:
    feeds = {"ids": ids()}
    save_reference(folder / "r" / "x.npz", feeds, {**run(encoder(), feeds), **changes})
    return Reference.read(folder / "r" / "x.npz")


def test_the_worst_of_several_inputs_counts(tmp_path: Path) -> None:
    onnx.save_model(encoder(), tmp_path / "g.onnx")
    exact = reference(tmp_path)
    off = reference(tmp_path, tiny=exact.outputs["tiny"] * np.float32(0.5))
    errors = graph_errors(tmp_path / "g.onnx", [off, exact])
    assert errors == {"logits": 0, "tiny": pytest.approx(1), "convolved": 0}


def test_another_shape_than_torch_has_is_refused(tmp_path: Path) -> None:
    onnx.save_model(encoder(), tmp_path / "g.onnx")
    with pytest.raises(Unsupported, match=r"tiny has shape \[10, 4\] where torch has shape \[3\]"):
        graph_errors(tmp_path / "g.onnx", [reference(tmp_path, tiny=np.zeros(3))])


def test_references_with_objects_are_not_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "r.npz", **{"in.ids": np.array([print], object)})  # type: ignore[arg-type]
    with pytest.raises(EngineFailed, match=r"r\.npz"):
        Reference.read(tmp_path / "r.npz")
    (tmp_path / "r.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(EngineFailed, match=r"r\.npz"):
        Reference.read(tmp_path / "r.npz")
