"""Matrices packed the way quantized checkpoints hold them, written from the descriptions of the formats."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from tests.export.small import small_checkpoint

Arrays = dict[str, NDArray[Any]]
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
GPTQ: dict[str, Any] = {"quant_method": "gptq", "bits": 4, "group_size": 32}
AWQ: dict[str, Any] = {"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm"}


def compressed_tensors(bits: int = 4, group_size: int = 32, **weights: Any) -> dict[str, Any]:
    """A quantization_config as llm-compressor writes it."""
    strategy = "channel" if group_size == -1 else "group"
    scheme = {"num_bits": bits, "type": "int", "symmetric": True, "strategy": strategy, **weights}
    scheme["group_size"] = None if group_size == -1 else group_size
    return {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "ignore": ["lm_head"],
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": scheme, "input_activations": None}},
    }


COMPRESSED = compressed_tensors()
METHODS: dict[str, dict[str, Any]] = {"gptq": GPTQ, "awq": AWQ, "compressed-tensors": COMPRESSED}
QUERY = "model.layers.0.self_attn.q_proj"


@dataclass(frozen=True)
class Matrix:
    """codes [outputs, inputs], zeros and scales [outputs, groups], the group of each input."""

    bits: int
    codes: NDArray[np.uint8]
    zeros: NDArray[np.uint8]
    scales: NDArray[np.float32]
    group_of: NDArray[np.int32]

    def weights(self) -> NDArray[np.float32]:
        """(code − zero) · scale, number by number: exact in float64, then rounded once."""
        result = np.empty(self.codes.shape, np.float32)
        for (row, column), code in np.ndenumerate(self.codes):
            group = self.group_of[column]
            difference = int(code) - int(self.zeros[row, group])
            result[row, column] = np.float32(difference * float(self.scales[row, group]))
        return result


def random_matrix(
    seed: int,
    outputs: int,
    inputs: int,
    *,
    bits: int = 4,
    group: int = 32,
    symmetric: bool = False,
    scale_type: Any = np.float16,
    shuffled: bool = False,
) -> Matrix:
    """Random codes; `group` -1 is one for a whole row, `shuffled` gives inputs to groups at random."""
    rng = np.random.default_rng(seed)
    width = inputs if group == -1 else group
    groups = inputs // width
    zeros = rng.integers(0, 1 << bits, (outputs, groups), np.uint8)
    group_of = np.arange(inputs, dtype=np.int32) // width
    return Matrix(
        bits,
        rng.integers(0, 1 << bits, (outputs, inputs), np.uint8),
        np.full_like(zeros, 1 << (bits - 1)) if symmetric else zeros,
        rng.normal(0, 0.02, (outputs, groups)).astype(scale_type).astype(np.float32),
        rng.permutation(group_of) if shuffled else group_of,
    )


def packed_words(codes: NDArray[Any], bits: int, order: tuple[int, ...] | None = None) -> NDArray[np.int32]:
    """Codes [rows, n] as int32 [rows, words]: from the lowest bits up, or `order` of each word's codes."""
    each = 32 // bits
    padded = np.pad(codes.astype(np.uint32), ((0, 0), (0, -codes.shape[1] % each)))
    words = np.zeros((len(codes), padded.shape[1] // each), np.uint32)
    for place, source in enumerate(order or range(each)):
        words |= padded[:, source::each] << np.uint32(bits * place)
    return words.view(np.int32)


def gptq_parts(matrix: Matrix, *, v2: bool = False, g_idx: bool = True) -> Arrays:
    """What AutoGPTQ stores; zero points are lessened by one, wrapping, except in v2."""
    zeros = matrix.zeros if v2 else (matrix.zeros - np.uint8(1)) & np.uint8((1 << matrix.bits) - 1)
    parts: Arrays = {
        "qweight": packed_words(matrix.codes, matrix.bits).T,
        "qzeros": packed_words(zeros.T, matrix.bits),
        "scales": matrix.scales.T.astype(np.float16),
    }
    if g_idx:
        parts["g_idx"] = matrix.group_of
    return parts


def awq_parts(matrix: Matrix) -> Arrays:
    """What AutoAWQ's gemm stores."""
    return {
        "qweight": packed_words(matrix.codes.T, 4, AWQ_ORDER),
        "qzeros": packed_words(matrix.zeros.T, 4, AWQ_ORDER),
        "scales": matrix.scales.T.astype(np.float16),
    }


def compressed_parts(
    matrix: Matrix, *, symmetric: bool = True, scale_type: Any = np.float16, zeros: str = "packed"
) -> Arrays:
    """What compressed-tensors stores; `zeros` "int8" as its older versions did, not packed."""
    parts: Arrays = {
        "weight_packed": packed_words(matrix.codes, matrix.bits),
        "weight_scale": matrix.scales.astype(scale_type),
        "weight_shape": np.array(matrix.codes.shape, np.int64),
    }
    if not symmetric and zeros == "packed":
        parts["weight_zero_point"] = packed_words(matrix.zeros.T, matrix.bits).T
    elif not symmetric:
        parts["weight_zero_point"] = (matrix.zeros.astype(np.int32) - (1 << (matrix.bits - 1))).astype(
            np.int8
        )
    return parts


def packed_parts(method: str, matrix: Matrix) -> Arrays:
    """The parts of `matrix` with the options that GPTQ, AWQ and `compressed_tensors()` give."""
    return {"gptq": gptq_parts, "awq": awq_parts, "compressed-tensors": compressed_parts}[method](matrix)


def save(arrays: Arrays, path: Path) -> None:
    """Write a .safetensors file."""
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)


def packed_folder(
    folder: Path, settings: dict[str, Any], group: int = 32
) -> tuple[dict[str, Matrix], dict[str, NDArray[np.float32]]]:
    """A tiny llama whose layers are packed as `settings`, a quantization_config, says.

    Returns the matrices that are packed, and the tensors that are not, by name.
    """
    small_checkpoint(folder, tie_word_embeddings=False)
    plain = load_file(folder / "model.safetensors")
    method = settings["quant_method"]
    symmetric = method == "compressed-tensors"
    names = [name for name in plain if name.endswith("_proj.weight")]
    matrices = {
        name: random_matrix(seed, *plain.pop(name).shape, group=group, symmetric=symmetric)
        for seed, name in enumerate(names)
    }
    arrays: Arrays = dict(plain)
    for name, matrix in matrices.items():
        for part, array in packed_parts(method, matrix).items():
            arrays[f"{name.removesuffix('.weight')}.{part}"] = array
    save(arrays, folder / "model.safetensors")
    configure(folder, quantization_config=settings)
    return matrices, plain


def configure(folder: Path, **changes: Any) -> None:
    """Set keys of config.json; None deletes one."""
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def change_arrays(folder: Path, change: Callable[[Arrays], Any]) -> None:
    """Let `change` alter the tensors of a folder."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save(tensors, folder / "model.safetensors")
