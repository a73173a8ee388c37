"""ModelSpecs of real models, for plans."""

from __future__ import annotations

from edge.artifact import ModelSpec, Rope

SMOLLM2 = ModelSpec(
    architecture="llama",
    vocab_size=49152,
    hidden_size=576,
    intermediate_size=1536,
    layers=30,
    heads=9,
    kv_heads=3,
    head_dim=64,
    context=8192,
    norm_eps=1e-5,
    rope=Rope(theta=100000.0),
    tied=True,
)
R1_DISTILL_QWEN_1_5B = ModelSpec(
    architecture="qwen2",
    vocab_size=151936,
    hidden_size=1536,
    intermediate_size=8960,
    layers=28,
    heads=12,
    kv_heads=2,
    head_dim=128,
    context=131072,
    norm_eps=1e-6,
    rope=Rope(theta=10000.0),
    tied=False,
    qkv_bias=True,
)
