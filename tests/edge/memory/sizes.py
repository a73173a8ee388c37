"""ModelSpecs of real models, for plans."""

from __future__ import annotations

from bench import export_memory
from edge.artifact import ModelSpec, Rope
from export.architecture import family_for_model_type

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
R1_DISTILL_QWEN_1_5B = family_for_model_type("qwen2").spec_from_config(export_memory.R1_DISTILL_QWEN_1_5B)
