"""Small checkpoints to export: sizes and weights as a test wants them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import save_file

from tests.tiny_llama import CONFIG, random_tensors, write_tiny_llama

Tensors = dict[str, NDArray[np.float32]]


@st.composite
def small_configs(draw: st.DrawFn) -> dict[str, Any]:
    """config.json of a small llama: odd rows, odd inputs, anything tied or not."""
    kv_heads = draw(st.integers(1, 3))
    heads = kv_heads * draw(st.integers(1, 2))
    head_dim = draw(st.sampled_from([8, 16, 24]))
    return {
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "hidden_size": heads * head_dim,
        "intermediate_size": draw(st.integers(1, 80)),
        "num_hidden_layers": draw(st.integers(1, 2)),
        "max_position_embeddings": 64,
        "tie_word_embeddings": draw(st.booleans()),
    }


def small_checkpoint(folder: Path, change: Callable[[Tensors], None] | None = None, **config: Any) -> Path:
    """A llama in `folder`; `config` overrides config.json and `change` alters the weights."""
    write_tiny_llama(folder)
    config = {**CONFIG, **config}
    rng = np.random.default_rng(5)
    tensors = random_tensors(config, rng)
    if not config["tie_word_embeddings"]:
        shape = (config["vocab_size"], config["hidden_size"])
        tensors["lm_head.weight"] = rng.standard_normal(shape, dtype=np.float32)
    if change is not None:
        change(tensors)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
