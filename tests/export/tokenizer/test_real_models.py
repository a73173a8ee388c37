"""The real vocabularies tokenize as transformers' own classes do over the same tokens and merges."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from export.checkpoint.text import TextFiles
from tests.export.tokenizer import oracle
from tests.export.tokenizer.conftest import Metadata
from tests.export.tokenizer.texts import TEXTS, texts

Real = Callable[[str], tuple[Metadata, TextFiles]]

MODELS = ["smollm2", "r1", pytest.param("qwen25", marks=pytest.mark.slow)]

SPECIAL = {
    "smollm2": "<|im_start|>user\nHi<|im_end|>\n<repo_name>x<|endoftext|> <|im_start|><|unknown|>",
    "r1": "<｜begin▁of▁sentence｜>a<｜User｜>Hi <｜Assistant｜><think>\nx</think><｜end▁of▁sentence｜>",
    "qwen25": "<|im_start|>user\nHi<|im_end|>\n<tool_call>{}</tool_call><|endoftext|><|fim_prefix|>",
}

_pairs: dict[str, tuple[Tokenizer, PreTrainedTokenizerBase]] = {}


@pytest.fixture
def pair(real: Real) -> Callable[[str], tuple[Tokenizer, Any]]:
    """Edgewise's tokenizer and transformers' for a model, each built once."""

    def build(name: str) -> tuple[Tokenizer, Any]:
        if name not in _pairs:
            metadata, files = real(name)
            _pairs[name] = Tokenizer.from_str(files.tokenizer_json), oracle.BUILDERS[name](metadata)
        return _pairs[name]

    return build


def check(ours: Tokenizer, theirs: Any, text: str) -> list[int]:
    ids: list[int] = ours.encode(text).ids
    assert ids == theirs.encode(text), text
    for skip in (True, False):
        assert ours.decode(ids, skip_special_tokens=skip) == theirs.decode(ids, skip_special_tokens=skip)
    return ids


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("text", TEXTS)
def test_a_text_has_the_same_ids(pair: Any, name: str, text: str) -> None:
    ours, theirs = pair(name)
    ids = check(ours, theirs, TEXTS[text])
    whole = unicodedata.normalize("NFC", TEXTS[text]) if name != "smollm2" else TEXTS[text]
    assert ours.decode(ids, skip_special_tokens=True) == whole


@pytest.mark.parametrize("name", MODELS)
def test_all_texts_in_one_with_special_tokens_between_them(pair: Any, name: str) -> None:
    ours, theirs = pair(name)
    check(ours, theirs, SPECIAL[name].join(TEXTS.values()))


@pytest.mark.parametrize("name", MODELS)
def test_every_added_token_is_one_id(pair: Any, real: Real, name: str) -> None:
    ours, theirs = pair(name)
    metadata, _ = real(name)
    tokens, types = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    added = [i for i, kind in enumerate(types) if kind in (oracle.CONTROL, oracle.USER_DEFINED)]
    assert added
    for index in added:
        assert ours.encode(tokens[index], add_special_tokens=False).ids == [index]
        check(ours, theirs, f"a{tokens[index]} b")


@pytest.mark.parametrize("name", MODELS)
def test_without_special_tokens_nothing_is_put_around_the_text(pair: Any, name: str) -> None:
    ours, theirs = pair(name)
    text = TEXTS["code"]
    assert ours.encode(text, add_special_tokens=False).ids == theirs.encode(text, add_special_tokens=False)


@pytest.mark.parametrize("name", ["smollm2", "r1"])
@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(text=texts)
def test_any_text_has_the_same_ids(pair: Any, name: str, text: str) -> None:
    check(*pair(name), text)


def test_what_a_model_says_about_the_ends_of_text(real: Real) -> None:
    _, smollm2 = real("smollm2")
    assert smollm2.generation == {
        "eos_token_id": [2, 0],
        "bos_token_id": 1,
        "special_tokens": {
            "bos_token": "<|im_start|>",
            "eos_token": "<|im_end|>",
            "pad_token": "<|im_end|>",
            "unk_token": "<|endoftext|>",
        },
    }
    _, r1 = real("r1")
    assert r1.generation["eos_token_id"] == [151643]
    assert r1.generation["bos_token_id"] == 151646
    assert r1.generation["special_tokens"]["bos_token"] == "<｜begin▁of▁sentence｜>"


CHATS = {
    "smollm2": (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    ),
    "r1": "<｜begin▁of▁sentence｜><｜User｜>Hi<｜Assistant｜>",
}


@pytest.mark.parametrize("name", CHATS)
def test_the_chat_template_is_the_files_and_renders_in_transformers(pair: Any, real: Real, name: str) -> None:
    metadata, files = real(name)
    assert files.chat_template == metadata["tokenizer.chat_template"]
    rendered = pair(name)[1].apply_chat_template(
        [{"role": "user", "content": "Hi"}],
        chat_template=files.chat_template,
        tokenize=False,
        add_generation_prompt=True,
    )
    assert rendered == CHATS[name]
