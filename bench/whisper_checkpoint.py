"""A Whisper as CTranslate2 stores it becomes a folder of transformers: python -m bench.whisper_checkpoint FOLDER OUT.

For models that are to be had in no other form; docs/optimum.md has the figures of one. English-only models. FOLDER
holds model.bin (version 6, float16 or float32), config.json and tokenizer.json.
"""

from __future__ import annotations

import json
import shutil
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

Weights = dict[str, NDArray[Any]]
_TYPES = {0: "<f4", 1: "<i1", 2: "<i2", 3: "<i4", 4: "<f2"}


def main(source: Path, out: Path) -> None:
    """Write the folder `out`."""
    weights = read_weights(source / "model.bin")
    told = json.loads((source / "config.json").read_text(encoding="utf-8"))
    out.mkdir(parents=True)
    save_file(renamed(weights), out / "model.safetensors", {"format": "pt"})
    for name, values in texts(weights, told).items():
        (out / name).write_text(json.dumps(values, indent=1), encoding="utf-8")
    shutil.copyfile(source / "tokenizer.json", out / "tokenizer.json")


def read_weights(path: Path) -> Weights:
    """The variables of a model.bin by their names.

    The file: version, specification, revision; then each variable as name, rank, sizes, type, bytes, data; then names
    that are others' aliases. Numbers are little-endian, names end with a zero.
    """
    data, at = path.read_bytes(), 0

    def number(form: str) -> int:
        nonlocal at
        (value,) = struct.unpack_from(f"<{form}", data, at)
        at += struct.calcsize(form)
        return int(value)

    def text() -> str:
        nonlocal at
        size = number("H")
        at += size
        return data[at - size : at - 1].decode()

    version, kind, _ = number("I"), text(), number("I")
    if (version, kind) != (6, "WhisperSpec"):
        raise ValueError(f"{path} is {kind} of version {version}, not a WhisperSpec of version 6")
    found: Weights = {}
    for _ in range(number("I")):
        name = text()
        shape = [number("I") for _ in range(number("B"))]
        dtype, size = np.dtype(_TYPES[number("B")]), number("I")
        found[name] = np.frombuffer(data, dtype, size // dtype.itemsize, at).reshape(shape)
        at += size
    return found


def renamed(weights: Weights) -> Weights:
    """Float32 by the names of transformers; queries, keys and values apart, the tied head left out."""
    found: Weights = {"model.decoder.embed_tokens.weight": weights["decoder/embeddings/weight"]}

    def take(name: str, of: str) -> None:
        weight, bias = ("gamma", "beta") if f"{of}/gamma" in weights else ("weight", "bias")
        found[f"{name}.weight"], found[f"{name}.bias"] = weights[f"{of}/{weight}"], weights[f"{of}/{bias}"]

    def split(name: str, of: str, parts: str) -> None:
        shares = (np.split(weights[f"{of}/{kind}"], len(parts)) for kind in ("weight", "bias"))
        for part, weight, bias in zip(parts, *shares, strict=True):
            found[f"{name}.{part}_proj.weight"] = weight
            # Keys have none.
            if part != "k":
                found[f"{name}.{part}_proj.bias"] = bias

    for number in (1, 2):
        take(f"model.encoder.conv{number}", f"encoder/conv{number}")
    for side in ("encoder", "decoder"):
        take(f"model.{side}.layer_norm", f"{side}/layer_norm")
        found[f"model.{side}.embed_positions.weight"] = weights[f"{side}/position_encodings/encodings"]
        for layer in range(_layers(weights, side)):
            name, of = f"model.{side}.layers.{layer}", f"{side}/layer_{layer}"
            split(f"{name}.self_attn", f"{of}/self_attention/linear_0", "qkv")
            take(f"{name}.self_attn.out_proj", f"{of}/self_attention/linear_1")
            take(f"{name}.self_attn_layer_norm", f"{of}/self_attention/layer_norm")
            if side == "decoder":
                split(f"{name}.encoder_attn", f"{of}/attention/linear_0", "q")
                split(f"{name}.encoder_attn", f"{of}/attention/linear_1", "kv")
                take(f"{name}.encoder_attn.out_proj", f"{of}/attention/linear_2")
                take(f"{name}.encoder_attn_layer_norm", f"{of}/attention/layer_norm")
            take(f"{name}.fc1", f"{of}/ffn/linear_0")
            take(f"{name}.fc2", f"{of}/ffn/linear_1")
            take(f"{name}.final_layer_norm", f"{of}/ffn/layer_norm")
    return {name: np.ascontiguousarray(value, np.float32) for name, value in found.items()}


def texts(weights: Weights, told: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The JSON files of the folder; `told` is CTranslate2's own config.json."""
    vocabulary, width = weights["decoder/embeddings/weight"].shape
    # The last token of GPT-2's vocabulary, and what follows it in an English-only model.
    end, start, no_timestamps = 50256, 50257, 50362
    ends = {"eos_token_id": end, "bos_token_id": end, "pad_token_id": end, "decoder_start_token_id": start}
    config: dict[str, Any] = {
        "architectures": ["WhisperForConditionalGeneration"],
        "model_type": "whisper",
        "vocab_size": vocabulary,
        "d_model": width,
        "num_mel_bins": weights["encoder/conv1/weight"].shape[1],
        "max_source_positions": len(weights["encoder/position_encodings/encodings"]),
        "max_target_positions": len(weights["decoder/position_encodings/encodings"]),
        **ends,
    }
    for side in ("encoder", "decoder"):
        config[f"{side}_layers"] = _layers(weights, side)
        config[f"{side}_attention_heads"] = int(weights[f"{side}/num_heads"])
        config[f"{side}_ffn_dim"] = len(weights[f"{side}/layer_0/ffn/linear_0/bias"])
    generation = {
        **ends,
        "suppress_tokens": told["suppress_ids"],
        "begin_suppress_tokens": told["suppress_ids_begin"],
        "no_timestamps_token_id": no_timestamps,
        "is_multilingual": False,
        "max_length": config["max_target_positions"],
    }
    features = {
        "feature_extractor_type": "WhisperFeatureExtractor",
        "feature_size": config["num_mel_bins"],
        "sampling_rate": 16000,
        "n_fft": 400,
        "hop_length": 160,
        "chunk_length": 30,
    }
    return {
        "config.json": config,
        "generation_config.json": generation,
        "preprocessor_config.json": features,
    }


def _layers(weights: Weights, side: str) -> int:
    return len(
        [
            name
            for name in weights
            if name.startswith(f"{side}/layer_") and name.endswith("/ffn/linear_0/bias")
        ]
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
