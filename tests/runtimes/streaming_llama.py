"""A llama in float64 NumPy whose cache holds keys that were never turned: positions are those in the cache, as in
StreamingLLM (Xiao et al. 2023, arXiv:2309.17453)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class StreamingLlama:
    """One sequence of a model with Hugging Face tensors `weights`, run token by token."""

    def __init__(self, config: dict[str, Any], weights: dict[str, NDArray[np.float32]]) -> None:
        self._config = config
        self._weights = {name: array.astype(np.float64) for name, array in weights.items()}
        self._dim = config["hidden_size"] // config["num_attention_heads"]
        layers = config["num_hidden_layers"]
        self._keys: list[list[Array]] = [[] for _ in range(layers)]
        self._values: list[list[Array]] = [[] for _ in range(layers)]

    @property
    def length(self) -> int:
        return len(self._keys[0])

    def slide(self, keep: int, drop: int) -> None:
        for held in (*self._keys, *self._values):
            del held[keep : keep + drop]

    def run(self, token: int) -> Array:
        """Logits [vocab] behind `token`."""
        x = self._weights["model.embed_tokens.weight"][token]
        for layer in range(len(self._keys)):
            x = x + self._attention(layer, self._norm(x, f"model.layers.{layer}.input_layernorm"))
            inner = self._norm(x, f"model.layers.{layer}.post_attention_layernorm")
            gate = self._linear(inner, f"model.layers.{layer}.mlp.gate_proj")
            up = self._linear(inner, f"model.layers.{layer}.mlp.up_proj")
            x = x + self._linear(gate / (1 + np.exp(-gate)) * up, f"model.layers.{layer}.mlp.down_proj")
        logits: Array = self._weights["model.embed_tokens.weight"] @ self._norm(x, "model.norm")
        return logits

    def _attention(self, layer: int, x: Array) -> Array:
        name, dim = f"model.layers.{layer}.self_attn", self._dim
        self._keys[layer].append(self._linear(x, f"{name}.k_proj").reshape(-1, dim))
        self._values[layer].append(self._linear(x, f"{name}.v_proj").reshape(-1, dim))
        positions = np.arange(self.length if layer == 0 else len(self._keys[layer]))
        keys = self._turned(np.stack(self._keys[layer]), positions)
        keys, values = self.held(layer, keys, np.stack(self._values[layer]))
        query = self._turned(self._linear(x, f"{name}.q_proj").reshape(1, -1, dim), positions[-1:])[0]
        group = len(query) // keys.shape[1]
        out = []
        for head, q in enumerate(query):
            scores = keys[:, head // group] @ q / np.sqrt(dim)
            weights = np.exp(scores - scores.max())
            out.append(weights / weights.sum() @ values[:, head // group])
        return self._linear(np.concatenate(out), f"{name}.o_proj")

    def held(self, layer: int, keys: Array, values: Array) -> tuple[Array, Array]:
        """Turned keys and values [tokens, kv_heads, dim] as attention reads them; here as they are."""
        return keys, values

    def _turned(self, x: Array, positions: NDArray[np.int64]) -> Array:
        """[tokens, heads, dim] with the rotary embedding of `positions`, halves apart."""
        frequencies = self._config["rope_theta"] ** -(np.arange(0, self._dim, 2) / self._dim)
        angles = np.outer(positions, frequencies)[:, None]
        a, b = np.split(x, 2, axis=2)
        cos, sin = np.cos(angles), np.sin(angles)
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=2)

    def _norm(self, x: Array, name: str) -> Array:
        scaled: Array = x / np.sqrt((x * x).mean() + self._config["rms_norm_eps"])
        return scaled * self._weights[f"{name}.weight"]

    def _linear(self, x: Array, name: str) -> Array:
        product: Array = self._weights[f"{name}.weight"] @ x
        return product
