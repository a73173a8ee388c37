"""SmolLM2-135M-Instruct, the whole way: its GGUF exported, loaded with the public API, and asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import edge
from export.checkpoint import open_checkpoint
from tests import models

LENGTH = 64
# Two questions in the model's chat format and a text to go on with.
QUESTIONS = ["What is the capital of France?", "Write a Python function that reverses a list."]
TEXT = "Photosynthesis is the process by which"


@pytest.fixture(scope="module")
def fp32(smollm2_fp32: Path) -> Iterator[edge.Model]:
    with edge.load(smollm2_fp32) as model:
        yield model


@pytest.fixture(scope="module")
def int4(smollm2_int4: Path) -> Iterator[edge.Model]:
    with edge.load(smollm2_int4) as model:
        yield model


def model_of_these_weights() -> Any:
    """transformers' model as SmolLM2's publisher configures it, on the weights that the exporter reads."""
    config = transformers.LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=8192,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 100000.0},
        tie_word_embeddings=True,
    )
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM._from_config(config, attn_implementation="eager")
    with open_checkpoint(models.smollm2()) as checkpoint:
        state = {name: torch.from_numpy(tensor.read()) for name, tensor in checkpoint.tensors.items()}
    model.load_state_dict(state, strict=False, assign=True)
    model.tie_weights()
    model.model.rotary_emb = type(model.model.rotary_emb)(config)
    assert not [name for name, value in model.state_dict().items() if value.is_meta]
    return model.eval()


def model_of_the_file() -> Any:
    """transformers' model of the GGUF as it reads it by itself, its weights unpacked to float32."""
    path = models.smollm2()
    return transformers.AutoModelForCausalLM.from_pretrained(
        path.parent,
        gguf_file=path.name,
        dtype=torch.float32,
        attn_implementation="eager",
        quantization_config=transformers.GgufConfig(dequantize=True),
    ).eval()


def prompts(model: edge.Model) -> list[list[int]]:
    chats = [f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n" for question in QUESTIONS]
    return [model.encode(text) for text in [*chats, TEXT]]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "reference",
    [model_of_these_weights, pytest.param(model_of_the_file, marks=pytest.mark.slow)],
    ids=lambda make: make.__name__,
)
def test_fp32_says_what_transformers_says(fp32: edge.Model, reference: Callable[[], Any]) -> None:
    model = reference()
    for tokens in prompts(fp32):
        answer = fp32.generate(tokens, max_tokens=LENGTH, temperature=0, ignore_eos=True)
        text = "".join(answer)
        assert len(answer.token_ids) == LENGTH
        with torch.no_grad():
            logits = model(torch.tensor([[*tokens, *answer.token_ids]])).logits[0]
        # Greedy texts are equal if after each of their tokens both models choose the same next one.
        assert logits.argmax(-1)[len(tokens) - 1 : -1].tolist() == answer.token_ids
        assert text == answer.text == fp32.decode(answer.token_ids)


@pytest.mark.parametrize("question", QUESTIONS)
def test_int4_answers(int4: edge.Model, question: str) -> None:
    [text, again] = [int4.chat().send(question, max_tokens=LENGTH, temperature=0) for _ in range(2)]
    assert "".join(text) == "".join(again)
    assert any(word in text.text for word in ("Paris", "def ")), text.text
    assert text.finish_reason in ("stop", "length")
    assert text.prompt_tokens > 10
    assert 0 < len(text.token_ids) <= LENGTH


def test_int4_agrees_with_fp32_at_first(int4: edge.Model, fp32: edge.Model) -> None:
    tokens = prompts(int4)[0]
    ours, exact = int4.logits(tokens), fp32.logits(tokens)
    assert (ours.argmax(-1) == exact.argmax(-1)).mean() > 0.7


def test_the_same_seed_says_the_same(int4: edge.Model) -> None:
    def say(seed: int) -> str:
        return "".join(int4.generate(TEXT, max_tokens=24, temperature=1.0, top_p=0.95, seed=seed))

    first, again, other = say(1), say(1), say(2)
    assert first == again
    assert first != other
