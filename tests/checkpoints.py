"""Tiny checkpoints for tests: random models saved by transformers, and the same weights as GGUF."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
import transformers
from gguf import GGMLQuantizationType
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

TEXT = [
    "Once upon a time a small model answered offline, without a network, on the board in front of you.",
    "def add(a, b):\n    return a + b  # 1 2 3 4 5 6 7 8 9 0\n",
    "Привет, мир! 你好,世界。 ¿Qué tal? 🙂",
]
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
VOCABULARY = 320
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "initializer_range": 0.2,
}
GGUF_PARTS = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}

Arrays = Mapping[str, np.ndarray]


def tiny_tokenizer() -> Tokenizer:
    """A byte-level BPE of VOCABULARY tokens, split the way Qwen2 splits."""
    tokenizer = Tokenizer(models.BPE())
    words = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    pattern = Regex(words + r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(pattern, "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    return tokenizer


def tiny_model(family: str, seed: int = 0, **config: Any) -> Any:
    """A random float32 model of `family` (llama, mistral, qwen2 or qwen3); `config` overrides SIZES."""
    torch.manual_seed(seed)
    if family == "qwen3":
        config.setdefault("head_dim", 16)
    settings = transformers.AutoConfig.for_model(family, **{**SIZES, **config})
    model = transformers.AutoModelForCausalLM.from_config(settings, dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Norms and biases begin as constants, which would hide a mix-up.
            if parameter.ndim == 1:
                parameter.copy_(("norm" in name) + 0.2 * torch.randn_like(parameter))
    return model.eval()


def tiny_folder(
    folder: Path, family: str, *, dtype: str = "float32", shard: str = "5GB", **config: Any
) -> Any:
    """Save a tiny model, its tokenizer and chat template in `folder`, weights in `dtype`; return the model.

    `shard` is transformers' `max_shard_size`, such as "40KB" for several shards.
    """
    model = tiny_model(family, **config).to(getattr(torch, dtype))
    transformers.utils.logging.disable_progress_bar()
    model.save_pretrained(folder, max_shard_size=shard)
    tiny_tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>"})
    )
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 0], "bos_token_id": 0}))
    return model


def state_arrays(model: Any) -> dict[str, np.ndarray]:
    """The weights of a model as float32, a tied head left out."""
    tied = model.config.tie_word_embeddings
    return {
        name: value.float().numpy()
        for name, value in model.state_dict().items()
        if not (tied and name == "lm_head.weight")
    }


def interleave(rows: np.ndarray, heads: int) -> np.ndarray:
    """Rows of q or k as llama GGUFs store them: the two halves of each head's rotary pairs side by side."""
    halves = rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:])
    return np.stack([halves[:, 0], halves[:, 1]], axis=2).reshape(rows.shape)


def gguf_arrays(state: Arrays, config: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Weights under GGUF names, q and k in the order that the family's GGUFs have."""
    llama = config["model_type"] in ("llama", "mistral")
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    arrays = {}
    for name, array in state.items():
        if name.startswith("model.layers."):
            _, _, layer, rest = name.split(".", 3)
            part, kind = rest.rsplit(".", 1)
            part = GGUF_PARTS[part]
            stored = interleave(array, heads[part]) if llama and part in heads else array
            arrays[f"blk.{layer}.{part}.{kind}"] = stored
        else:
            whole = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
            part, kind = name.rsplit(".", 1)
            arrays[f"{whole[part]}.{kind}"] = array
    return arrays


def write_gguf(
    path: Path,
    state: Arrays,
    config: Mapping[str, Any],
    *,
    types: GGMLQuantizationType | Mapping[str, GGMLQuantizationType] = GGMLQuantizationType.F32,
    metadata: Mapping[str, Any] | None = None,
    tokenizer: bool = True,
    rope_factors: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Write a GGUF of the float32 weights `state` (Hugging Face names) of a model with config.json `config`.

    `types` is one ggml type for all matrices, or a type by GGUF name; vectors, and rows that are no whole
    blocks, stay F32. `metadata` adds or overrides keys. Returns what the file holds, by GGUF name.
    """
    arch = "llama" if config["model_type"] == "mistral" else config["model_type"]
    writer = gguf.GGUFWriter(path, arch)
    for key, value in {**gguf_metadata(config, arch), **(metadata or {})}.items():
        _add(writer, key, value)
    if tokenizer:
        _add_tokenizer(writer)
    held = {}
    arrays = gguf_arrays(state, config)
    if rope_factors is not None:
        arrays["rope_freqs.weight"] = rope_factors.astype(np.float32)
    for name, array in arrays.items():
        kind = types if isinstance(types, GGMLQuantizationType) else types.get(name, GGMLQuantizationType.F32)
        if array.ndim == 1 or array.shape[-1] % gguf.GGML_QUANT_SIZES[kind][0]:
            kind = GGMLQuantizationType.F32
        raw = gguf.quants.quantize(np.ascontiguousarray(array, np.float32), kind)
        writer.add_tensor(name, raw, raw_dtype=kind)
        held[name] = gguf.quants.dequantize(raw, kind).reshape(array.shape)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return held


def gguf_metadata(config: Mapping[str, Any], arch: str) -> dict[str, Any]:
    """The keys `{arch}.*` that follow from a config.json in transformers 5's form."""
    rope = dict(config.get("rope_parameters") or {})
    head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    kind = rope.get("rope_type", "default")
    values: dict[str, Any] = {
        "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"],
        "block_count": config["num_hidden_layers"],
        "feed_forward_length": config["intermediate_size"],
        "attention.head_count": config["num_attention_heads"],
        "attention.head_count_kv": config["num_key_value_heads"],
        "attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]),
        "attention.key_length": head_dim,
        "attention.value_length": head_dim,
        "rope.dimension_count": head_dim,
        "rope.freq_base": float(rope.get("rope_theta", 10000.0)),
    }
    if kind in ("linear", "yarn"):
        values["rope.scaling.type"] = kind
        values["rope.scaling.factor"] = float(rope["factor"])
    if kind == "yarn":
        values["rope.scaling.original_context_length"] = rope["original_max_position_embeddings"]
        for key in ("beta_fast", "beta_slow", "attn_factor"):
            if key in rope:
                values[f"rope.scaling.yarn_{key}"] = float(rope[key])
        if "attention_factor" in rope:
            values["rope.scaling.yarn_attn_factor"] = float(rope["attention_factor"])
    if config.get("sliding_window"):
        layers = config["num_hidden_layers"]
        kinds = config.get("layer_types") or ["sliding_attention"] * layers
        values["attention.sliding_window"] = config["sliding_window"]
        values["attention.sliding_window_pattern"] = [kind == "sliding_attention" for kind in kinds]
    return {f"{arch}.{key}": value for key, value in values.items()}


def llama3_factors(config: Mapping[str, Any]) -> np.ndarray:
    """Divisors of the rotary frequencies that converters make of llama3 scaling (`rope_freqs.weight`)."""
    rope = config["rope_parameters"]
    dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    wavelengths = 2 * np.pi * rope["rope_theta"] ** (np.arange(0, dim, 2) / dim)
    long = rope["original_max_position_embeddings"] / rope["low_freq_factor"]
    short = rope["original_max_position_embeddings"] / rope["high_freq_factor"]
    share = (rope["original_max_position_embeddings"] / wavelengths - rope["low_freq_factor"]) / (
        rope["high_freq_factor"] - rope["low_freq_factor"]
    )
    between = 1 / ((1 - share) / rope["factor"] + share)
    return np.where(wavelengths < short, 1.0, np.where(wavelengths > long, rope["factor"], between))


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


def _add_tokenizer(writer: gguf.GGUFWriter) -> None:
    model = json.loads(tiny_tokenizer().to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(
        [gguf.TokenType.CONTROL if token in SPECIAL else gguf.TokenType.NORMAL for token in tokens]
    )
    writer.add_token_merges(
        [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    )
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)
