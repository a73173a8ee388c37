"""Quantized checkpoints that are refused, or spoilt: which error says what."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.errors import CheckpointCorrupt, CheckpointError, TensorError, Unsupported
from export.checkpoint import open_checkpoint, read_spec
from export.checkpoint.folder import SINGLE
from tests.export.checkpoint.packers import (
    AWQ,
    COMPRESSED,
    GPTQ,
    QUERY,
    Arrays,
    change_arrays,
    compressed_tensors,
    configure,
)

Spoil = Callable[[Path], None]


def arrays(change: Callable[[Arrays], Any]) -> Spoil:
    return lambda folder: change_arrays(folder, change)


def replaced(part: str, change: Callable[[Any], Any]) -> Spoil:
    """The part of the query's matrix made another."""
    name = f"{QUERY}.{part}"
    return arrays(lambda tensors: tensors.update({name: np.ascontiguousarray(change(tensors[name]))}))


def dropped(part: str) -> Spoil:
    return arrays(lambda tensors: tensors.pop(f"{QUERY}.{part}"))


def config(settings: Any) -> Spoil:
    return lambda folder: configure(folder, quantization_config=settings)


def weights(**changes: Any) -> Spoil:
    return config(compressed_tensors(**changes))


def one(place: tuple[int, int], value: float) -> Callable[[Any], Any]:
    def change(array: Any) -> Any:
        array = array.copy()
        array[place] = value
        return array

    return change


def scheme(**changes: Any) -> Spoil:
    settings = compressed_tensors()
    settings["config_groups"]["group_0"].update(changes)
    return config(settings)


BNB = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
REFUSED: dict[str, tuple[str, Spoil, type[CheckpointError], str]] = {
    "bitsandbytes": (
        "gptq",
        config(BNB),
        Unsupported,
        "bitsandbytes.*NF4.*known are gptq, awq, compressed-ten",
    ),
    "bitsandbytes of old": (
        "gptq",
        config({"load_in_8bit": True}),
        Unsupported,
        "'bitsandbytes'.*export the",
    ),
    **{
        method: ("gptq", config({"quant_method": method}), Unsupported, f"'{method}'.*known are gptq, awq")
        for method in ("fp8", "hqq", "eetq", "aqlm", "quanto", "marlin", "auto-round", "torchao", "mxfp4")
    },
    "no method": ("gptq", config({"bits": 4}), CheckpointCorrupt, "quant_method is missing"),
    "a list": ("gptq", config([4]), CheckpointCorrupt, r"quantization_config is \[4\], expected an object"),
    "method a number": (
        "gptq",
        config({"quant_method": 4}),
        CheckpointCorrupt,
        "quant_method is 4, expected",
    ),
    "gptq without bits": ("gptq", config({**GPTQ, "bits": None}), CheckpointCorrupt, "bits is missing"),
    "bits a string": (
        "gptq",
        config({**GPTQ, "bits": "4"}),
        CheckpointCorrupt,
        "bits is '4', expected a whole",
    ),
    "3 bits": ("gptq", config({**GPTQ, "bits": 3}), Unsupported, "bits 3 is not read, only 4 and 8"),
    "8 bits that are 4": (
        "gptq",
        config({**GPTQ, "bits": 8}),
        TensorError,
        r"_proj\.weight has 48 inputs at 8 bits",
    ),
    "group 0": (
        "gptq",
        config({**GPTQ, "group_size": 0}),
        CheckpointCorrupt,
        "group_size is 0, expected -1 or",
    ),
    "group -2": ("awq", config({**AWQ, "group_size": -2}), CheckpointCorrupt, "group_size is -2"),
    "group 2^60": ("awq", config({**AWQ, "group_size": 2**60}), CheckpointCorrupt, "group_size is 1152"),
    "group not dividing": (
        "awq",
        config({**AWQ, "group_size": 40}),
        TensorError,
        r"_proj\.weight has 96 inputs at 4 bits, no multiple of the group_size 40",
    ),
    "another group": (
        "awq",
        config({**AWQ, "group_size": 16}),
        TensorError,
        r"scales has shape .*group_size 16",
    ),
    "gptq for marlin": (
        "gptq",
        config({**GPTQ, "checkpoint_format": "marlin"}),
        Unsupported,
        "layout 'marlin'",
    ),
    "gptq for marlin of old": ("gptq", config({**GPTQ, "is_marlin_format": True}), Unsupported, "'marlin'"),
    "gptq in words of 16": (
        "gptq",
        config({**GPTQ, "pack_dtype": "int16"}),
        Unsupported,
        "pack_dtype 'int16'",
    ),
    "gptq with bits by module": (
        "gptq",
        config({**GPTQ, "dynamic": {"-:lm_head": {}, "+:.*down.*": {"bits": 8}}}),
        Unsupported,
        r"dynamic gives '\+:\.\*down",
    ),
    "gptq without g_idx": (
        "gptq",
        lambda folder: (dropped("g_idx")(folder), config({**GPTQ, "desc_act": True})(folder))[0],
        TensorError,
        rf"{QUERY}\.g_idx is missing",
    ),
    "awq for gemv": (
        "awq",
        config({**AWQ, "version": "gemv"}),
        Unsupported,
        "packing 'gemv' is not read, only",
    ),
    "awq of llm-awq": ("awq", config({**AWQ, "backend": "llm-awq"}), Unsupported, "packing 'llm-awq'"),
    "awq of 8 bits": ("awq", config({**AWQ, "bits": 8}), Unsupported, "bits 8 is not read, only 4"),
    "gptq read as awq": ("gptq", config(AWQ), TensorError, r"_proj\.weight has 12 inputs"),
    "compressed of 3 bits": ("compressed-tensors", weights(bits=3), Unsupported, "num_bits 3 is not read"),
    "compressed floats": ("compressed-tensors", weights(type="float"), Unsupported, "type 'float'"),
    "compressed by tensor": (
        "compressed-tensors",
        weights(group_size=-1, strategy="tensor"),
        Unsupported,
        "'tensor' are not read",
    ),
    "compressed by block": ("compressed-tensors", weights(strategy="block"), Unsupported, "'block'"),
    "compressed group of none": (
        "compressed-tensors",
        weights(group_size=-1, strategy="group"),
        CheckpointCorrupt,
        "group_size is None",
    ),
    "compressed with zeros": (
        "compressed-tensors",
        weights(symmetric=False),
        TensorError,
        r"weight_zero_point is missing",
    ),
    "compressed with too many zeros": (
        "compressed-tensors",
        arrays(lambda t: t.update({f"{QUERY}.weight_zero_point": np.zeros((8, 2), np.int32)})),
        TensorError,
        r"weight_zero_point is there, .*symmetric",
    ),
    "compressed activations": (
        "compressed-tensors",
        scheme(input_activations={"num_bits": 8}),
        Unsupported,
        "input_activations are quantized",
    ),
    "compressed otherwise": (
        "compressed-tensors",
        config({**COMPRESSED, "format": "marlin-24"}),
        Unsupported,
        "format 'marlin-24'",
    ),
    "compressed and rotated": (
        "compressed-tensors",
        config({**COMPRESSED, "transform_config": {"config_groups": {"R1": {}}}}),
        Unsupported,
        "transform_config .*changes how",
    ),
    "compressed and sparse": (
        "compressed-tensors",
        config({**COMPRESSED, "sparsity_config": {"format": "sparse-24-bitmask"}}),
        Unsupported,
        "sparsity_config",
    ),
    "compressed without schemes": (
        "compressed-tensors",
        config({**COMPRESSED, "config_groups": {}}),
        CheckpointCorrupt,
        "config_groups is {}",
    ),
    "compressed nothing": ("compressed-tensors", scheme(weights=None), Unsupported, "quantizes no weights"),
    "compressed scheme a string": (
        "compressed-tensors",
        config({**COMPRESSED, "config_groups": {"W4A16": ["Linear"]}}),
        CheckpointCorrupt,
        "W4A16 is .*expected an object",
    ),
    **{
        f"{method} without {part}": (method, dropped(part), TensorError, rf"{QUERY}\.{part} is missing")
        for method, part in (
            ("gptq", "qweight"),
            ("gptq", "qzeros"),
            ("gptq", "scales"),
            ("awq", "qzeros"),
            ("compressed-tensors", "weight_packed"),
            ("compressed-tensors", "weight_scale"),
            ("compressed-tensors", "weight_shape"),
        )
    },
    "qweight cut": ("gptq", replaced("qweight", lambda a: a[:-4]), TensorError, r"q_proj\.scales has shape"),
    "qweight narrow": (
        "gptq",
        replaced("qweight", lambda a: a[:, 1:]),
        TensorError,
        r"scales has shape \(2, 64",
    ),
    "qzeros cut": ("awq", replaced("qzeros", lambda a: a[:, 1:]), TensorError, r"qzeros has shape \(2, 7\)"),
    "scales a vector": (
        "awq",
        replaced("scales", lambda a: a[0]),
        TensorError,
        r"scales has shape .*no matrix",
    ),
    "scales empty": (
        "awq",
        replaced("scales", lambda a: a[:0]),
        TensorError,
        r"scales has shape .*no matrix",
    ),
    "scales integers": (
        "gptq",
        replaced("scales", lambda a: a.astype(np.int32)),
        CheckpointCorrupt,
        r"q_proj\.scales is I32, expected F32",
    ),
    "qweight of 64 bits": (
        "gptq",
        replaced("qweight", lambda a: a.astype(np.int64)),
        CheckpointCorrupt,
        r"q_proj\.qweight is I64, expected I32",
    ),
    "g_idx short": ("gptq", replaced("g_idx", lambda a: a[1:]), TensorError, r"g_idx has shape \(63,\)"),
    "weight_shape of three": (
        "compressed-tensors",
        replaced("weight_shape", lambda a: np.append(a, 1)),
        TensorError,
        r"weight_shape has shape \(3,\)",
    ),
    "weight_shape huge": (
        "compressed-tensors",
        replaced("weight_shape", lambda a: a * 2**56),
        TensorError,
        r"weight_packed has shape \(64, 8\), but 46",
    ),
    "weight_shape negative": (
        "compressed-tensors",
        replaced("weight_shape", lambda a: -a),
        TensorError,
        r"weight_shape is -64, -64",
    ),
    "there twice": (
        "gptq",
        arrays(lambda t: t.update({f"{QUERY}.weight": np.ones((64, 64), np.float32)})),
        TensorError,
        rf"{QUERY}\.weight is there as it is, and packed",
    ),
    "of no layer": (
        "gptq",
        arrays(lambda t: t.update({f"more.{n}": t[f"{QUERY}.{n}"] for n in ("qweight", "qzeros", "scales")})),
        TensorError,
        r"more\.weight \(64, 64\) has no place",
    ),
    "integers beside": (
        "gptq",
        arrays(lambda t: t.update({"model.norm.weight": np.ones(64, np.int32)})),
        Unsupported,
        r"model\.norm\.weight is I32",
    ),
    "integers that nothing says": ("gptq", config(None), Unsupported, r"is I32, and only F32.*quantization"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(packed_folders: dict[str, Path], tmp_path: Path, case: str) -> None:
    method, spoil, error, message = REFUSED[case]
    shutil.copytree(packed_folders[method], tmp_path, dirs_exist_ok=True)
    spoil(tmp_path)
    with pytest.raises(error, match=message) as raised:
        open_checkpoint(tmp_path)
    assert type(raised.value) is error


def test_a_plan_is_refused_as_an_export_is(packed_folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(packed_folders["gptq"], tmp_path, dirs_exist_ok=True)
    configure(tmp_path, quantization_config=BNB)
    with pytest.raises(Unsupported, match="bitsandbytes"):
        read_spec(tmp_path)


SPOILT: dict[str, tuple[str, Spoil, str]] = {
    "a scale not finite": ("gptq", replaced("scales", one((1, 3), np.nan)), "row 3, group 1, is nan"),
    "a scale infinite": ("awq", replaced("scales", one((0, 5), -np.inf)), "row 5, group 0, is -inf"),
    "compressed, not finite": (
        "compressed-tensors",
        replaced("weight_scale", one((2, 1), np.inf)),
        "row 2, group 1, is inf",
    ),
    "a group too high": ("gptq", replaced("g_idx", lambda a: a * 2), "is of group 2, and there are 2"),
    "a group below": ("gptq", replaced("g_idx", lambda a: a - 1), "is of group -1"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_what_is_wrong_inside_is_said_where_it_is_read(
    packed_folders: dict[str, Path], tmp_path: Path, case: str
) -> None:
    method, spoil, message = SPOILT[case]
    shutil.copytree(packed_folders[method], tmp_path, dirs_exist_ok=True)
    spoil(tmp_path)
    tensor = open_checkpoint(tmp_path).tensors[f"{QUERY}.weight"]
    for read in (tensor.read, lambda: tensor.grid, lambda: tensor.codes(0, 64), lambda: tensor.rows(0, 8)):
        with pytest.raises(TensorError, match=rf"tensor {QUERY}\.weight: .*{message}.*get the checkpoint"):
            read()


def test_a_file_cut_while_it_is_read(packed_folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(packed_folders["gptq"], tmp_path, dirs_exist_ok=True)
    tensor = open_checkpoint(tmp_path).tensors[f"{QUERY}.weight"]
    (tmp_path / SINGLE).write_bytes((tmp_path / SINGLE).read_bytes()[:-10])
    with pytest.raises(CheckpointCorrupt, match="cannot be read"):
        tensor.read()
