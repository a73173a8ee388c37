"""ModelSpec: what a decoder is made of, the same whatever checkpoint it came from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from edge.artifact.fields import read_dataclass, read_object, shown
from edge.errors import ArtifactCorrupt

RopeKind = Literal["default", "linear", "dynamic", "llama3", "yarn", "factors"]

_MOST_LAYERS, _LONGEST_CONTEXT, _LARGEST_SIZE = 4096, 1 << 24, 1 << 31


@dataclass(frozen=True, kw_only=True)
class Rope:
    """Rotary position embedding (Su et al. 2021, arXiv:2104.09864) and how it is stretched.

    `kind` names the scaling: `linear` (positions ÷ factor), `dynamic` (NTK-aware base), `llama3` (by
    wavelength), `yarn` (Peng et al. 2023, arXiv:2309.00071), `factors` (a divisor per frequency, as GGUF
    stores llama3's).
    """

    theta: float = 10000.0
    kind: RopeKind = "default"
    factor: float = 1.0
    original_context: int = 0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True
    attention_factor: float = 1.0
    """Multiplies cos and sin; already resolved, 1.0 unless the kind is `yarn`."""
    factors: tuple[float, ...] = ()
    """Divisor of each of the head_dim/2 frequencies; only for `factors`."""


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A decoder-only transformer: sizes in elements, context in tokens."""

    architecture: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    context: int
    norm_eps: float
    rope: Rope
    tied: bool
    """The LM head is the embedding."""
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    """RMS norm on every head of q and k before RoPE (Qwen3)."""
    windows: tuple[int, ...] = ()
    """Sliding window of each layer in tokens, itself included; 0 is full attention. Empty: all full."""

    def window(self, layer: int) -> int:
        """Sliding window of `layer` in tokens, 0 for full attention."""
        return self.windows[layer] if self.windows else 0

    @property
    def parameters(self) -> int:
        """Number of weights, a tied head counted once."""
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        attention = self.hidden_size * (2 * q + 2 * kv)
        attention += self.qkv_bias * (q + 2 * kv) + self.output_bias * self.hidden_size
        mlp = 3 * self.hidden_size * self.intermediate_size
        mlp += self.mlp_bias * (2 * self.intermediate_size + self.hidden_size)
        norms = 2 * self.hidden_size + self.qk_norm * 2 * self.head_dim
        embeddings = self.vocab_size * self.hidden_size * (1 if self.tied else 2)
        return self.layers * (attention + mlp + norms) + embeddings + self.hidden_size

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` reads back equal."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> ModelSpec:
        """Read what `to_json` wrote.

        Raises:
            ArtifactCorrupt: a key is missing, unknown or of the wrong type, or a value no decoder can have.
        """
        values = dict(read_object("spec", data))
        values["rope"] = read_dataclass(Rope, "spec.rope", values.get("rope"))
        spec = read_dataclass(cls, "spec", values)
        for key, value, expected in _nonsense(spec):
            raise ArtifactCorrupt(
                f"edge.json: spec.{key} is {shown(value)}, expected {expected}; export the artifact again"
            )
        return spec


def _nonsense(spec: ModelSpec) -> Iterator[tuple[str, object, str]]:
    """(key, value, what was expected) of values that no decoder can have."""
    limits = {"layers": _MOST_LAYERS, "context": _LONGEST_CONTEXT}
    for key in (
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "layers",
        "heads",
        "kv_heads",
        "head_dim",
        "context",
    ):
        value, most = getattr(spec, key), limits.get(key, _LARGEST_SIZE)
        if not 1 <= value <= most:
            yield key, value, f"1 to {most}"
    if spec.heads % max(1, spec.kv_heads):
        yield "heads", spec.heads, f"a multiple of the {spec.kv_heads} kv_heads"
    if spec.head_dim % 2:
        yield "head_dim", spec.head_dim, "an even number"
    if spec.windows and len(spec.windows) != spec.layers:
        yield "windows", spec.windows, f"one for each of the {spec.layers} layers"
    if spec.norm_eps <= 0:
        yield "norm_eps", spec.norm_eps, "more than 0"
    if spec.rope.kind not in get_args(RopeKind):
        yield "rope.kind", spec.rope.kind, f"one of {', '.join(get_args(RopeKind))}"
    for key in ("theta", "factor", "attention_factor"):
        if getattr(spec.rope, key) <= 0:
            yield f"rope.{key}", getattr(spec.rope, key), "more than 0"
    if len(spec.rope.factors) != (spec.head_dim // 2 if spec.rope.kind == "factors" else 0):
        yield (
            "rope.factors",
            spec.rope.factors,
            "a divisor for each frequency where the kind is factors, else none",
        )
    if any(factor <= 0 for factor in spec.rope.factors):
        yield "rope.factors", spec.rope.factors, "divisors above 0"
