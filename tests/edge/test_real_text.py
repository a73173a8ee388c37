"""The text side with the tokenizers and templates of real models, on the toy engine."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
import tokenizers

from edge.model import Model
from edge.tokenizer import Tokenizer
from export.checkpoint.gguf_header import read_gguf_header
from export.checkpoint.text import TextFiles
from export.checkpoint.tokenizer.gguf import text_from_gguf
from tests import models
from tests.edge.toy_engine import ToyEngine
from tests.edge.toy_model import ToyArtifact

REAL = {"SmolLM2": models.smollm2, "R1": models.r1_header}
# Scripts, code, digits, emoji of one and of many code points, spaces, special tokens.
TEXT = """The quick brown fox; 3.14159 × 10²³, año, naïve, Straße.
Привет, мир! 你好，世界。こんにちは。안녕하세요. مرحبا بالعالم. שלום. नमस्ते.
def f(x):\n\treturn [i ** 2 for i in range(x)]  # 👩‍👩‍👧🏽 🙂
   three spaces, \u00a0 and\u200ba zero width one<|im_end|> <｜end▁of▁sentence｜><think>"""


@cache
def text_of(name: str) -> TextFiles:
    return text_from_gguf(read_gguf_header(REAL[name]()).metadata)


@cache
def tokenizer_of(name: str) -> Tokenizer:
    return Tokenizer(text_of(name).tokenizer_json)


def real_model(name: str, answers: list[str]) -> Model:
    """Says `answers`, each up to the end token, whatever it is asked."""
    text, tokenizer = text_of(name), tokenizer_of(name)
    end = text.generation["eos_token_id"][0]
    # Letter by letter, as no tokenizer would split them.
    script = iter(
        [id for answer in answers for id in [*(i for c in answer for i in tokenizer.encode(c, False)), end]]
    )

    def shape(logits: Any) -> Any:
        logits[next(script)] = 100
        return logits

    data = json.loads(text.tokenizer_json)
    vocab = 1 + max(*data["model"]["vocab"].values(), *(token["id"] for token in data["added_tokens"]))
    artifact = ToyArtifact(text.tokenizer_json, text.chat_template, text.generation, vocab_size=vocab)
    return Model(artifact, ToyEngine(vocab, context=4096, shape=shape))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", REAL)
def test_streams_what_the_library_decodes(name: str) -> None:
    tokenizer, theirs = tokenizer_of(name), tokenizers.Tokenizer.from_str(text_of(name).tokenizer_json)
    ids = tokenizer.encode(TEXT)
    for special in (True, False):
        stream = tokenizer.detokenizer(special)
        pieces = [*(stream.add(id) for id in ids), stream.finish()]
        assert "".join(pieces) == theirs.decode(ids, skip_special_tokens=not special)
        assert "\ufffd" not in "".join(pieces)


def test_an_answer_keeps_its_tokens_however_it_was_split() -> None:
    model = real_model("SmolLM2", ["Hello there!", "Again, 漢字 🙂", "Bye."])
    chat = model.chat(temperature=0)
    held: list[int] = []
    for question in ("hello", "again", "bye"):
        answer = chat.send(question)
        list(answer)
        assert answer.cached_tokens == max(0, len(held) - 1)
        rendered = chat._template.render(chat.messages[:-1])
        assert model.tokenizer.decode(answer.prompt_ids, special=True) == rendered
        held = answer.prompt_ids + answer.token_ids
    assert [m["content"] for m in chat.messages if m["role"] == "assistant"] == [
        "Hello there!",
        "Again, 漢字 🙂",
        "Bye.",
    ]
    # Tokenized again, the answers would have been of fewer tokens.
    assert len(held) > len(model.encode(model.tokenizer.decode(held, special=True), special=False))


def test_r1_forgets_its_thoughts_and_keeps_what_was_before_them() -> None:
    model = real_model("R1", ["<think>\nhm\n</think>\n\nHello!", "<think>\n</think>\n\nBye."])
    chat = model.chat("Be kind.", temperature=0)
    first = chat.send("hello")
    assert "".join(first) == "<think>\nhm\n</think>\n\nHello!"
    second = chat.send("bye")
    list(second)
    assert second.cached_tokens == first.prompt_tokens
    assert second.prompt_ids == model.encode(chat._template.render(chat.messages[:-1]), special=False)
    text = model.tokenizer.decode(second.prompt_ids, special=True)
    assert text == (
        "<｜begin▁of▁sentence｜>Be kind.<｜User｜>hello<｜Assistant｜>\n\nHello!<｜end▁of▁sentence｜>"
        "<｜User｜>bye<｜Assistant｜>"
    )
