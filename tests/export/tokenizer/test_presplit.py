"""Where each pre-tokenizer cuts, and that the unknown ones are refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import CohereTokenizer, GPT2Tokenizer, Qwen2Tokenizer

from edge.errors import Unsupported
from export.checkpoint.tokenizer.presplit import PRESPLITS, presplit
from tests.export.tokenizer.texts import TEXTS

TEXT = "It'S 12345 day's\n\n  End! $5+你好 HTTPServer/x "

# A space that begins a piece belongs to it.
GPT2 = "It|'|S| 12345| day|'s|\n\n | End|!| $|5|+|你好| HTTPServer|/|x| "
DIGITS = "It|'|S| |1|2|3|4|5| day|'s|\n\n | End|!| $|5|+|你好| HTTPServer|/|x| "
LLAMA3 = "It|'S| |123|45| day|'s|\n\n| | End|!| $|5|+你好| HTTPServer|/x| "
QWEN2 = "It|'S| |1|2|3|4|5| day|'s|\n\n| | End|!| $|5|+你好| HTTPServer|/x| "
DEEPSEEK = "It|'|S| |1|2|3|4|5| day|'|s|\n|\n| | End|!| $|5|+|你好| HTTPServer|/|x| "
EXPECTED = {
    "gpt-2": GPT2,
    "smollm": DIGITS,
    "starcoder": DIGITS,
    "refact": DIGITS,
    "command-r": DIGITS,
    "llama-bpe": LLAMA3,
    "llama3": LLAMA3,
    "llama-v3": LLAMA3,
    "dbrx": LLAMA3,
    "qwen2": QWEN2,
    "deepseek-r1-qwen": QWEN2,
    "deepseek-llm": DEEPSEEK,
    "deepseek-coder": DEEPSEEK,
    "deepseek-v3": "It|'S| |123|45| day|'s|\n\n| | End|!| $|5|+|你好| HTTPServer|/x| ",
    "tekken": QWEN2,
    "gpt-4o": "It'S| |123|45| day's|\n\n| | End|!| $|5|+你好| HTTPServer|/x| ",
}


def built(name: str, prefix_space: bool = False) -> Tokenizer:
    state = json.loads(Tokenizer(models.BPE()).to_str())
    state["normalizer"] = PRESPLITS[name].normalizer
    state["pre_tokenizer"] = PRESPLITS[name].pre_tokenizer(prefix_space)
    return Tokenizer.from_str(json.dumps(state))


def pieces(tokenizer: Tokenizer, text: str) -> list[str]:
    """Byte-level pieces, normalized as the tokenizer does."""
    if tokenizer.normalizer is not None:
        text = tokenizer.normalizer.normalize_str(text)
    assert tokenizer.pre_tokenizer is not None
    return [piece for piece, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text)]


@pytest.mark.parametrize("name", EXPECTED)
def test_a_text_is_cut_where_its_model_cuts_it(name: str) -> None:
    spelled = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    expected = [spelled.pre_tokenize_str(piece)[0][0] for piece in EXPECTED[name].split("|")]
    assert pieces(built(name), TEXT) == expected


@pytest.mark.parametrize(
    ("name", "theirs"),
    [("gpt-2", GPT2Tokenizer), ("qwen2", Qwen2Tokenizer), ("command-r", CohereTokenizer)],
)
@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_cut_as_transformers_class_of_the_model_does(name: str, theirs: Any, text: str) -> None:
    assert pieces(built(name), TEXTS[text]) == pieces(theirs().backend_tokenizer, TEXTS[text])


def test_falcon_takes_digits_by_three_after_punctuation_and_words() -> None:
    assert pieces(built("falcon"), "a 12345!?b, $7") == ["a", "Ġ", "123", "45", "!?", "b", ",", "Ġ", "$", "7"]


def test_a_prefix_space_is_added_where_bytes_are_the_only_step() -> None:
    assert pieces(built("gpt-2", prefix_space=True), "a b") == ["Ġa", "Ġb"]
    assert pieces(built("gpt-2"), "a b") == ["a", "Ġb"]
    assert pieces(built("smollm", prefix_space=True), "a1") == ["a", "1"]


def test_deepseek_llm_knows_letters_by_its_own_list() -> None:
    latin, greek, armenian = "é", "ω", "\u0561"
    assert len(pieces(built("deepseek-llm"), f"{latin}{greek}")) == 1
    assert len(pieces(built("deepseek-llm"), f"{latin}{armenian}")) == 2
    assert len(pieces(built("deepseek-coder"), f"{latin}{armenian}")) == 1
    # Its punctuation runs from ":" to "~" and so takes ASCII letters out of their words.
    assert pieces(built("deepseek-llm"), "caf" + latin) == ["caf", "Ã©"]


@pytest.mark.parametrize("name", PRESPLITS)
def test_nothing_is_lost_in_the_cutting(name: str) -> None:
    alphabet = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    for text in TEXTS.values():
        whole = normalizers.NFC().normalize_str(text) if PRESPLITS[name].normalizer else text
        spelled = alphabet.pre_tokenize_str(whole)
        assert "".join(pieces(built(name), text)) == (spelled[0][0] if spelled else "")


@pytest.mark.parametrize("name", ["qwen35", "superbpe", "", "QWEN2", "default", None])
def test_an_unknown_name_is_refused_with_the_known_ones(name: str | None) -> None:
    with pytest.raises(Unsupported, match=r"deepseek-r1-qwen.*smollm") as caught:
        presplit(name)
    assert (repr(name) if name is not None else "no tokenizer.ggml.pre") in str(caught.value)
