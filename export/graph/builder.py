"""What an architecture is described against: the few operations a decoder is made of.

A `Value` is the name of a tensor in the graph. Weights are named as Hugging Face names them, without
`.weight` or `.bias`: the dialect finds them in the checkpoint, stores them as its recipe says and places the
nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

Value = str


class Builder(Protocol):
    """One dialect of ONNX."""

    def embed(self, weight: str) -> Value:
        """Rows of `weight` for the input ids: [batch, tokens, hidden]."""

    def norm(self, stream: Value, update: Value | None, weight: str) -> tuple[Value, Value]:
        """RMS norm of stream + update (arXiv:1910.07467): (normed, the sum itself)."""

    def linear(self, x: Value, weights: Sequence[str], *, bias: bool) -> Value:
        """x · Wᵀ + b with the rows of all `weights` in one product, outputs side by side."""

    def attention(self, layer: int, qkv: Value, prefix: str) -> Value:
        """Causal grouped-query attention over the cache and `qkv`: [batch, tokens, heads · head_dim].

        `qkv` holds queries, keys and values side by side; `prefix` names the layer's attention weights, for the
        q and k norms of architectures that have them.
        """

    def gate(self, gate_up: Value) -> Value:
        """SwiGLU (Shazeer 2020, arXiv:2002.05202): silu of the first half times the second."""

    def wanted(self, x: Value) -> Value:
        """The rows of x [batch, tokens, width] at the positions that logits are asked for: [positions, width]."""

    def head(self, stream: Value, update: Value, norm: str, weight: str) -> None:
        """Norm and logits of every row that is left; ends the graph."""
