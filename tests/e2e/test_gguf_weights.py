"""The weights of a real GGUF beside what transformers makes of the same file."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers

from export.checkpoint import open_checkpoint
from tests import models


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_smollm2_is_what_transformers_reads() -> None:
    path = models.smollm2()
    options = {"quantization_config": transformers.GgufConfig(dequantize=True)}
    model = transformers.AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32, **options
    )
    theirs = model.state_dict()
    checkpoint = open_checkpoint(path)
    spec, config = checkpoint.spec, model.config
    assert (spec.vocab_size, spec.heads, spec.kv_heads) == (
        config.vocab_size,
        config.num_attention_heads,
        config.num_key_value_heads,
    )
    assert spec.rope.theta == config.rope_parameters["rope_theta"]
    assert set(checkpoint.tensors) == set(theirs) - {"lm_head.weight"}
    for name in (
        "embed_tokens",
        "layers.0.self_attn.q_proj",
        "layers.29.self_attn.k_proj",
        "layers.7.mlp.down_proj",
    ):
        tensor = checkpoint.tensors[f"model.{name}.weight"]
        np.testing.assert_array_equal(tensor.read(), theirs[tensor.name].numpy())
