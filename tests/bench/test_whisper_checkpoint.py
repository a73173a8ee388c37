"""Whisper as CTranslate2 stores it, beside the weights that transformers has for the same model."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from transformers import WhisperConfig, WhisperForConditionalGeneration

from bench.whisper_checkpoint import main, read_weights


def written(path: Path, weights: dict[str, np.ndarray], kind: str = "WhisperSpec") -> None:
    def text(value: str) -> bytes:
        return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"

    types = {"float32": 0, "int8": 1, "int16": 2, "float16": 4}
    data = struct.pack("<I", 6) + text(kind) + struct.pack("<II", 3, len(weights))
    for name, value in weights.items():
        data += text(name) + struct.pack(f"<B{value.ndim}I", value.ndim, *value.shape)
        data += struct.pack("<BI", types[value.dtype.name], value.nbytes) + value.tobytes()
    path.write_bytes(data + struct.pack("<I", 0))


def stored(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The variables of CTranslate2 for weights by the names of transformers, of one layer a side."""
    found: dict[str, np.ndarray] = {"decoder/embeddings/weight": state["model.decoder.embed_tokens.weight"]}

    def take(of: str, name: str, weight: str = "weight", bias: str = "bias") -> None:
        found[f"{of}/{weight}"], found[f"{of}/{bias}"] = state[f"{name}.weight"], state[f"{name}.bias"]

    def join(of: str, name: str, parts: str) -> None:
        names = [f"{name}.{part}_proj" for part in parts]
        found[f"{of}/weight"] = np.concatenate([state[f"{n}.weight"] for n in names])
        width = len(found[f"{of}/weight"]) // len(parts)
        found[f"{of}/bias"] = np.concatenate(
            [state.get(f"{n}.bias", np.zeros(width, np.float32)) for n in names]
        )

    for conv in ("conv1", "conv2"):
        take(f"encoder/{conv}", f"model.encoder.{conv}")
    for side in ("encoder", "decoder"):
        found[f"{side}/num_heads"] = np.array(2, np.int16)
        found[f"{side}/position_encodings/encodings"] = state[f"model.{side}.embed_positions.weight"]
        name, of = f"model.{side}.layers.0", f"{side}/layer_0"
        join(f"{of}/self_attention/linear_0", f"{name}.self_attn", "qkv")
        take(f"{of}/self_attention/linear_1", f"{name}.self_attn.out_proj")
        norms = {"self_attention": "self_attn", "ffn": "final"}
        if side == "decoder":
            join(f"{of}/attention/linear_0", f"{name}.encoder_attn", "q")
            join(f"{of}/attention/linear_1", f"{name}.encoder_attn", "kv")
            take(f"{of}/attention/linear_2", f"{name}.encoder_attn.out_proj")
            norms["attention"] = "encoder_attn"
        for part, norm in norms.items():
            take(f"{of}/{part}/layer_norm", f"{name}.{norm}_layer_norm", "gamma", "beta")
        take(f"{side}/layer_norm", f"model.{side}.layer_norm", "gamma", "beta")
        take(f"{of}/ffn/linear_0", f"{name}.fc1")
        take(f"{of}/ffn/linear_1", f"{name}.fc2")
    return found


def test_weights_and_configuration_come_back(tmp_path: Path) -> None:
    config = WhisperConfig(
        vocab_size=90,
        d_model=8,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=12,
        decoder_ffn_dim=12,
        num_mel_bins=4,
        max_source_positions=10,
        max_target_positions=6,
        pad_token_id=1,
    )
    model = WhisperForConditionalGeneration(config)
    state = {name: value.numpy() for name, value in model.state_dict().items() if name != "proj_out.weight"}
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    written(source / "model.bin", stored(state))
    (source / "config.json").write_text('{"suppress_ids": [1, 2], "suppress_ids_begin": [3]}')
    (source / "tokenizer.json").write_text("{}")
    main(source, out)
    found = load_file(out / "model.safetensors")
    assert sorted(found) == sorted(state)
    for name, value in state.items():
        np.testing.assert_array_equal(found[name], value)
    read = WhisperConfig.from_pretrained(out)
    for name in ("vocab_size", "d_model", "decoder_layers", "encoder_attention_heads", "decoder_ffn_dim"):
        assert getattr(read, name) == getattr(config, name), name
    for name in ("num_mel_bins", "max_source_positions", "max_target_positions"):
        assert getattr(read, name) == getattr(config, name), name
    assert json.loads((out / "generation_config.json").read_text())["suppress_tokens"] == [1, 2]


def test_another_model_is_refused(tmp_path: Path) -> None:
    written(tmp_path / "model.bin", {}, "TransformerSpec")
    with pytest.raises(ValueError, match="TransformerSpec of version 6"):
        read_weights(tmp_path / "model.bin")
