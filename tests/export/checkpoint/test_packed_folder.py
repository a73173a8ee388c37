"""Folders of quantized checkpoints: what comes of each tensor."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from edge.errors import TensorError
from export import export
from export.checkpoint import open_checkpoint, read_spec
from export.checkpoint.folder import SINGLE
from export.quantize import Precision
from tests.export.checkpoint.packers import (
    COMPRESSED,
    METHODS,
    QUERY,
    Arrays,
    change_arrays,
    compressed_parts,
    configure,
    packed_folder,
    random_matrix,
    save,
)
from tests.tiny_llama import CONFIG


@pytest.mark.parametrize("method", METHODS)
def test_every_tensor(tmp_path: Path, method: str) -> None:
    matrices, plain = packed_folder(tmp_path, METHODS[method])
    assert len(matrices) == 14
    with open_checkpoint(tmp_path) as checkpoint:
        assert set(checkpoint.tensors) == {*matrices, *plain}
        assert checkpoint.provenance == {"format": "safetensors", "quantization": method}
        for name, tensor in checkpoint.tensors.items():
            if name in plain:
                np.testing.assert_array_equal(tensor.read(), plain[name])
                assert tensor.grid is None
            else:
                np.testing.assert_array_equal(tensor.read(), matrices[name].weights())
                assert tensor.grid == Precision(4, 32, method != "compressed-tensors")
                np.testing.assert_array_equal(
                    tensor.codes(0, tensor.shape[0]).dequantize(4), matrices[name].weights()
                )


@pytest.mark.parametrize("method", METHODS)
def test_an_export_is_that_of_the_numbers(tmp_path: Path, method: str) -> None:
    matrices, plain = packed_folder(tmp_path / "packed", METHODS[method])
    shutil.copytree(tmp_path / "packed", tmp_path / "plain")
    weights = {name: matrix.weights() for name, matrix in matrices.items()}
    save({**plain, **weights}, tmp_path / "plain" / SINGLE)
    configure(tmp_path / "plain", quantization_config=None)
    for name in ("packed", "plain"):
        export(tmp_path / name, tmp_path / f"{name}.edge", engine="onnxruntime", keep=False)
    stored = [(tmp_path / f"{n}.edge/onnxruntime/weights.bin").read_bytes() for n in ("packed", "plain")]
    assert stored[0] == stored[1]


@pytest.mark.parametrize("method", METHODS)
def test_the_spec_is_that_of_a_plain_checkpoint(
    packed_folders: dict[str, Path], tmp_path: Path, method: str
) -> None:
    shutil.copytree(packed_folders[method], tmp_path, dirs_exist_ok=True)
    configure(tmp_path, quantization_config=None)
    assert read_spec(packed_folders[method]) == read_spec(tmp_path)


@pytest.mark.parametrize("nested", [True, False])
def test_the_older_key_of_compressed_tensors(
    packed_folders: dict[str, Path], tmp_path: Path, nested: bool
) -> None:
    shutil.copytree(packed_folders["compressed-tensors"], tmp_path, dirs_exist_ok=True)
    sparsity = {"format": "dense", "sparsity_structure": "unstructured"}
    settings = {"quantization_config": COMPRESSED, "sparsity_config": sparsity} if nested else COMPRESSED
    configure(tmp_path, quantization_config=None, compression_config=settings)
    assert open_checkpoint(tmp_path).tensors[f"{QUERY}.weight"].grid == Precision(4, 32)


def test_a_quantized_head(packed_folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(packed_folders["compressed-tensors"], tmp_path, dirs_exist_ok=True)
    head = random_matrix(9, CONFIG["vocab_size"], CONFIG["hidden_size"], symmetric=True)

    def pack(tensors: Arrays) -> None:
        del tensors["lm_head.weight"]
        tensors.update({f"lm_head.{name}": array for name, array in compressed_parts(head).items()})

    change_arrays(tmp_path, pack)
    configure(tmp_path, tie_word_embeddings=True)
    checkpoint = open_checkpoint(tmp_path)
    assert not checkpoint.spec.tied
    assert checkpoint.tensors["lm_head.weight"].shape == head.codes.shape


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_a_bias_that_adds_nothing_is_left_out(
    packed_folders: dict[str, Path], tmp_path: Path, value: float
) -> None:
    shutil.copytree(packed_folders["gptq"], tmp_path, dirs_exist_ok=True)
    bias = np.zeros(64, np.float16)
    bias[-1] = value
    change_arrays(tmp_path, lambda tensors: tensors.update({f"{QUERY}.bias": bias}))
    if value:
        with pytest.raises(TensorError, match=rf"{QUERY}\.bias \(64,\) has no place"):
            open_checkpoint(tmp_path)
    else:
        assert f"{QUERY}.bias" not in open_checkpoint(tmp_path).tensors
