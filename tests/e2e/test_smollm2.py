"""SmolLM2-135M-Instruct, the whole way: its GGUF exported, loaded with the public API, and asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import edge
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


@pytest.fixture(scope="module")
def reference() -> Any:
    """transformers' model of the same file, its weights unpacked to float32."""
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


def greedy(model: Any, tokens: list[int]) -> list[int]:
    """The next LENGTH tokens, past any end of text."""
    ids, cache, found = torch.tensor([tokens]), None, []
    with torch.no_grad():
        for _ in range(LENGTH):
            out = model(ids, past_key_values=cache, use_cache=True)
            ids, cache = out.logits[:, -1:].argmax(-1), out.past_key_values
            found.append(int(ids))
    return found


@pytest.mark.filterwarnings("ignore")
def test_fp32_says_what_transformers_says(fp32: edge.Model, reference: Any) -> None:
    for tokens in prompts(fp32):
        answer = fp32.generate(tokens, max_tokens=LENGTH, temperature=0, ignore_eos=True)
        text = "".join(answer)
        expected = greedy(reference, tokens)
        assert answer.token_ids == expected
        assert text == answer.text == fp32.decode(expected)


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
