"""FidelityReport: what an evaluation found, as JSON and back."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

PAGE = "fidelity.html"


@dataclass(frozen=True, kw_only=True)
class FidelityReport:
    """How far an artifact is from its reference. KL in nats, from the reference to the artifact; sizes in bytes."""

    artifact: str
    reference: str
    engine: str
    """What ran the artifact."""
    passed_over: str
    """The faster engine that could not, and why; empty where there is none."""
    kv: str
    """What the artifact kept KV as."""
    text: dict[str, Any]
    tokens: int
    mean_kl: float
    median_kl: float
    p99_kl: float
    max_kl: float
    top1_agreement: float
    top5_agreement: float
    perplexity: float
    reference_perplexity: float
    confidence: dict[str, tuple[float, float]]
    """95 % intervals of mean_kl, top1_agreement and perplexity_ratio."""
    bits_per_weight: float
    file_bytes: int
    """Of the artifact without this report."""
    parts: list[dict[str, Any]]
    """Name, parameters, bytes and bits per weight of each part of the model."""
    tensors: list[dict[str, Any]]
    """Of each linear layer: name, layer, bits, block, and the relative error of its outputs by its weights
    (`error`) and by 8-bit activations (`activation_error`, None where they are floats)."""
    kl_by_position: list[float]
    """Mean KL over the windows, at each of their positions."""
    size_curve: list[tuple[int, float]] = field(default_factory=list)
    """(bytes of matrices, expected KL) of other targets, where an export measured them."""

    @property
    def perplexity_ratio(self) -> float:
        """Perplexity of the artifact ÷ that of the reference."""
        return self.perplexity / self.reference_perplexity

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON object."""
        return {**asdict(self), "perplexity_ratio": self.perplexity_ratio}
