"""The table of the rotary embedding, position by position, beside transformers' own frequencies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from edge.artifact.spec import ModelSpec, Rope
from export.graph.rope_table import rope_tables

Table = NDArray[np.float32]

CONTEXT, ORIGINAL, DIM, THETA = 192, 64, 32, 500.0
STRETCH = 1.0 + 0.1 * np.log(4.0)

LLAMA3 = {
    "factor": 8.0,
    "original_max_position_embeddings": ORIGINAL,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
}
YARN = {"factor": 4.0, "original_max_position_embeddings": ORIGINAL, "beta_fast": 8.0, "beta_slow": 1.0}
# transformers' parameters, and the same as a Rope; sizes and base are the constants above.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "default": ({"rope_type": "default"}, {"kind": "default"}),
    "linear": ({"rope_type": "linear", "factor": 3.0}, {"kind": "linear", "factor": 3.0}),
    "linear, a fraction": ({"rope_type": "linear", "factor": 2.7}, {"kind": "linear", "factor": 2.7}),
    "llama3": (
        {"rope_type": "llama3", **LLAMA3},
        {"kind": "llama3", "factor": 8.0, "original_context": ORIGINAL},
    ),
    "llama3, other bounds": (
        {"rope_type": "llama3", **LLAMA3, "factor": 2.5, "low_freq_factor": 0.5, "high_freq_factor": 9.0},
        {
            "kind": "llama3",
            "factor": 2.5,
            "original_context": ORIGINAL,
            "low_freq_factor": 0.5,
            "high_freq_factor": 9.0,
        },
    ),
    "yarn": (
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": ORIGINAL},
        {"kind": "yarn", "factor": 4.0, "original_context": ORIGINAL, "attention_factor": STRETCH},
    ),
    "yarn, betas": (
        {"rope_type": "yarn", **YARN},
        {
            "kind": "yarn",
            "factor": 4.0,
            "original_context": ORIGINAL,
            "beta_fast": 8.0,
            "attention_factor": STRETCH,
        },
    ),
    "yarn, not truncated": (
        {"rope_type": "yarn", **YARN, "truncate": False},
        {
            "kind": "yarn",
            "factor": 4.0,
            "original_context": ORIGINAL,
            "beta_fast": 8.0,
            "truncate": False,
            "attention_factor": STRETCH,
        },
    ),
    "yarn, equal betas": (
        {"rope_type": "yarn", **YARN, "beta_fast": 1.0, "truncate": False},
        {
            "kind": "yarn",
            "factor": 4.0,
            "original_context": ORIGINAL,
            "beta_fast": 1.0,
            "truncate": False,
            "attention_factor": STRETCH,
        },
    ),
    "yarn, whole factor": (
        {"rope_type": "yarn", **YARN, "attention_factor": 0.6},
        {
            "kind": "yarn",
            "factor": 4.0,
            "original_context": ORIGINAL,
            "beta_fast": 8.0,
            "attention_factor": 0.6,
        },
    ),
    "yarn, mscales": (
        {"rope_type": "yarn", **YARN, "mscale": 1.4, "mscale_all_dim": 0.5},
        {
            "kind": "yarn",
            "factor": 4.0,
            "original_context": ORIGINAL,
            "beta_fast": 8.0,
            "attention_factor": (1 + 0.14 * np.log(4.0)) / (1 + 0.05 * np.log(4.0)),
        },
    ),
}


def spec(rope: Rope, *, context: int = CONTEXT, head_dim: int = DIM) -> ModelSpec:
    return ModelSpec(
        architecture="llama",
        vocab_size=8,
        hidden_size=head_dim,
        intermediate_size=8,
        layers=1,
        heads=1,
        kv_heads=1,
        head_dim=head_dim,
        context=context,
        norm_eps=1e-6,
        rope=rope,
        tied=True,
    )


def configuration(
    parameters: dict[str, Any], context: int = CONTEXT, theta: float = THETA, dim: int = DIM
) -> Any:
    return LlamaConfig(
        hidden_size=dim,
        num_attention_heads=1,
        max_position_embeddings=context,
        rope_parameters={"rope_theta": theta, **parameters},
    )


def assert_rows(ours: tuple[Table, Table], frequencies: torch.Tensor, scale: float, first: int = 0) -> None:
    """`ours` are cos and sin of positions from `first` on, to 1e-6 of what transformers' models compute in float32.

    A frequency whose last bit differs, as torch's own do from processor to processor, moves an angle by up to twice its
    last bit, and where llama3's and yarn's ramps come in by up to twice that, which may be more.
    """
    positions = torch.arange(first, first + len(ours[0]))
    angles = torch.outer(positions.float(), frequencies)
    bound = 1e-6 + 4 * np.abs(np.spacing(angles.numpy())) * scale
    for mine, theirs in zip(ours, (angles.cos(), angles.sin()), strict=True):
        assert mine.dtype == np.float32
        assert mine.shape == angles.shape
        assert (np.abs(mine - (theirs * scale).numpy()) <= bound).all()


def expected(
    parameters: dict[str, Any], length: int | None = None, **sizes: Any
) -> tuple[torch.Tensor, float]:
    """Frequencies and factor that transformers takes for a sequence of `length`."""
    config = configuration(parameters, **sizes)
    kind = parameters["rope_type"]
    if kind == "default":
        frequencies, scale = LlamaRotaryEmbedding.compute_default_rope_parameters(config)
    else:
        frequencies, scale = ROPE_INIT_FUNCTIONS[kind](config, torch.device("cpu"), seq_len=length)
    return frequencies, scale


@pytest.mark.parametrize("case", CASES)
def test_is_transformers_own(case: str) -> None:
    parameters, rope = CASES[case]
    frequencies, scale = expected(parameters)
    ours = rope_tables(spec(Rope(theta=THETA, **rope)))
    assert_rows(ours, frequencies, scale)
    # The case tells its kind from no scaling at all.
    plain = rope_tables(spec(Rope(theta=THETA)))
    assert case == "default" or np.abs(ours[0] - plain[0]).max() > 0.1


def test_dynamic_is_transformers_own_step_by_step() -> None:
    parameters = {"rope_type": "dynamic", "factor": 3.0}
    rope = Rope(theta=THETA, kind="dynamic", factor=3.0, original_context=ORIGINAL)
    cos, sin = rope_tables(spec(rope))
    for position in range(CONTEXT):
        frequencies, scale = expected(parameters, length=position + 1, context=ORIGINAL)
        row = slice(position, position + 1)
        assert_rows((cos[row], sin[row]), frequencies, scale, position)
    plain = rope_tables(spec(Rope(theta=THETA)))
    np.testing.assert_array_equal(cos[:ORIGINAL], plain[0][:ORIGINAL])
    assert np.abs(cos[ORIGINAL + 8 :] - plain[0][ORIGINAL + 8 :]).max() > 0.1


def test_dynamic_within_the_original_context_is_plain() -> None:
    rope = Rope(theta=THETA, kind="dynamic", factor=3.0, original_context=ORIGINAL)
    for mine, plain in zip(
        rope_tables(spec(rope, context=40)), rope_tables(spec(Rope(theta=THETA), context=40)), strict=True
    ):
        np.testing.assert_array_equal(mine, plain)


def test_factors_divide_the_frequencies() -> None:
    """What a GGUF's rope_freqs.weight says: the divisors that llama3's scaling comes to."""
    parameters = {"rope_type": "llama3", **LLAMA3}
    frequencies, scale = expected(parameters)
    divisors = expected({"rope_type": "default"})[0] / frequencies
    assert divisors.min() == 1.0
    assert divisors.max() == 8.0
    rope = Rope(theta=THETA, kind="factors", factors=tuple(divisors.tolist()))
    assert_rows(rope_tables(spec(rope)), frequencies, scale)


@settings(max_examples=40, deadline=None)
@given(
    theta=st.floats(10.0, 1e6),
    dim=st.sampled_from([4, 8, 24, 64, 128]),
    factor=st.floats(1.0, 40.0),
    original=st.integers(8, 4096),
    fast=st.floats(2.0, 64.0),
    slow=st.floats(0.25, 2.0),
    truncate=st.booleans(),
)
def test_yarn_of_any_numbers(
    theta: float, dim: int, factor: float, original: int, fast: float, slow: float, truncate: bool
) -> None:
    parameters = {
        "rope_type": "yarn",
        "factor": factor,
        "original_max_position_embeddings": original,
        "beta_fast": fast,
        "beta_slow": slow,
        "truncate": truncate,
        "attention_factor": 1.0,
    }
    frequencies, _ = expected(parameters, theta=theta, dim=dim)
    rope = Rope(
        theta=theta,
        kind="yarn",
        factor=factor,
        original_context=original,
        beta_fast=fast,
        beta_slow=slow,
        truncate=truncate,
    )
    # The second row holds the angles themselves.
    cos, sin = rope_tables(spec(rope, context=2, head_dim=dim))
    np.testing.assert_allclose(np.arctan2(sin[1], cos[1]), frequencies.numpy(), rtol=1e-5, atol=1e-6)
