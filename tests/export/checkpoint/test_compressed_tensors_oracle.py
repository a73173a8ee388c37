"""Checkpoints that the compressed-tensors library writes, read beside what it decompresses them to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from export.checkpoint import open_checkpoint
from export.checkpoint.packed import PackedTensor
from export.quantize import Precision
from tests.checkpoints import tiny_folder

SCHEMES: dict[str, tuple[dict[str, Any], str, Precision | None]] = {
    "W4A16": ({"num_bits": 4, "group_size": 32}, "float16", Precision(4, 32)),
    "W4A16, not symmetric": (
        {"num_bits": 4, "group_size": 32, "symmetric": False},
        "float16",
        Precision(4, 32, zero_points=True),
    ),
    "W4A16 in groups of 16": ({"num_bits": 4, "group_size": 16}, "float16", None),
    "W8A16 by channel": ({"num_bits": 8, "strategy": "channel"}, "float16", Precision(8, 32)),
    "W8A16 by channel, not symmetric": (
        {"num_bits": 8, "strategy": "channel", "symmetric": False},
        "bfloat16",
        Precision(8, 32, zero_points=True),
    ),
    "W4A16 with scales of float32": ({"num_bits": 4, "group_size": 32}, "float32", None),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SCHEMES)
def test_a_checkpoint_of_the_library(tmp_path: Path, name: str) -> None:
    pytest.importorskip("compressed_tensors", reason="compressed-tensors needs Python 3.11")
    options, dtype, precision = SCHEMES[name]
    expected = write_checkpoint(tmp_path, options, dtype)
    checkpoint = open_checkpoint(tmp_path)
    packed = {key: tensor for key, tensor in checkpoint.tensors.items() if isinstance(tensor, PackedTensor)}
    assert len(packed) == 14
    for key, tensor in checkpoint.tensors.items():
        # The library multiplies in the type of the scales.
        weights = torch.from_numpy(tensor.read()).to(getattr(torch, dtype))
        np.testing.assert_array_equal(weights.float().numpy(), expected[key])
    inputs_64 = packed["model.layers.0.mlp.up_proj.weight"]
    channel = precision is not None and "strategy" in options
    assert inputs_64.grid == (Precision(precision.bits, 64, precision.zero_points) if channel else precision)
    assert packed["model.layers.0.mlp.down_proj.weight"].grid == precision


def write_checkpoint(folder: Path, options: dict[str, Any], dtype: str) -> dict[str, np.ndarray]:
    """A tiny llama, its linear layers packed by the library; the weights it gives for them and all others."""
    from compressed_tensors.compressors import ModelCompressor
    from compressed_tensors.quantization import (
        QuantizationArgs,
        QuantizationConfig,
        QuantizationScheme,
        QuantizationStatus,
        apply_quantization_config,
    )
    from compressed_tensors.quantization.utils import calculate_qparams

    args = QuantizationArgs(**options)
    scheme = QuantizationScheme(targets=["Linear"], weights=args)
    model = tiny_folder(folder, "llama", dtype=dtype)
    config = QuantizationConfig(
        config_groups={"group_0": scheme}, ignore=["lm_head"], format="pack-quantized"
    )
    apply_quantization_config(model, config)
    for module in model.modules():
        if not hasattr(module, "weight_scale"):
            continue
        groups = module.weight.detach().unflatten(1, (-1, options.get("group_size") or module.in_features))
        scale, zero = calculate_qparams(groups.amin(-1), groups.amax(-1), args)
        module.weight_scale.data = scale
        module.weight_zero_point.data = zero
        module.quantization_status = QuantizationStatus.FROZEN
    compressor = ModelCompressor.from_pretrained_model(model, quantization_format="pack-quantized")
    compressor.compress_model(model)
    model.save_pretrained(folder)
    compressor.update_config(folder)
    assert json.loads((folder / "config.json").read_text())["quantization_config"]["quant_method"]
    compressor.decompress_model(model)
    return {key: value.float().numpy() for key, value in model.state_dict().items()}
