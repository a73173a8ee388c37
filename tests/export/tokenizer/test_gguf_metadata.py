"""GGUF keys that are missing, contradict each other or are of the wrong kind."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tokenizers import Tokenizer

from edge.errors import CheckpointCorrupt, EdgeError, Unsupported
from export.checkpoint.tokenizer import text_from_gguf

TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "a", "b", "Ġ", "ab", "Ġab", "<think>", "[PAD9]"]
GOOD: dict[str, Any] = {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "gpt-2",
    "tokenizer.ggml.tokens": TOKENS,
    "tokenizer.ggml.token_type": [3, 3, 3, 1, 1, 1, 1, 1, 4, 5],
    "tokenizer.ggml.merges": ["a b", "Ġ ab"],
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 2,
}


def tokenizer(**changes: Any) -> Tokenizer:
    return Tokenizer.from_str(text_from_gguf(changed(changes)).tokenizer_json)


def changed(changes: dict[str, Any]) -> dict[str, Any]:
    keys = {key if "." in key else f"tokenizer.ggml.{key}": value for key, value in changes.items()}
    return {**GOOD, **keys}


def test_a_small_vocabulary() -> None:
    ours = tokenizer()
    assert ours.encode("ab ab<think><|im_end|>a").ids == [6, 7, 8, 2, 3]
    assert ours.decode([6, 7, 8, 2]) == "ab ab<think>"
    assert ours.id_to_token(9) is None  # only pads the embedding


@pytest.mark.parametrize(
    ("bos", "eos", "ids"),
    [
        (None, None, [3]),
        (False, False, [3]),
        (True, False, [1, 3]),
        (True, True, [1, 3, 2]),
        (None, True, [3, 2]),
    ],
)
def test_bos_and_eos_as_the_file_says(bos: bool | None, eos: bool | None, ids: list[int]) -> None:
    ours = tokenizer(add_bos_token=bos, add_eos_token=eos)
    assert ours.encode("a").ids == ids
    assert ours.encode("a", add_special_tokens=False).ids == [3]
    assert ours.encode("a", "a").ids == ids + ids


def test_llama_bpe_starts_with_bos_where_the_file_is_silent_and_takes_words_whole() -> None:
    ours = tokenizer(pre="llama-bpe", merges=["Ġ ab"])
    assert ours.encode("ab ab").ids == [1, 6, 7]  # no merge makes ab
    assert tokenizer(pre="llama-bpe", bos_token_id=None).encode("a").ids == [3]
    assert tokenizer(pre="qwen2", merges=["Ġ ab"]).encode("ab").ids == [3, 4]


def test_missing_types_mean_normal_tokens() -> None:
    ours = tokenizer(token_type=None)
    assert ours.get_added_tokens_decoder() == {}
    assert ours.id_to_token(9) == "[PAD9]"


def test_a_token_without_text_has_no_place_in_the_vocabulary() -> None:
    assert "" not in tokenizer(tokens=[*TOKENS[:4], "", *TOKENS[5:]], merges=[]).get_vocab()


def test_an_empty_chat_template_is_none() -> None:
    assert text_from_gguf(GOOD).chat_template is None
    assert text_from_gguf({**GOOD, "tokenizer.chat_template": ""}).chat_template is None
    assert text_from_gguf({**GOOD, "tokenizer.chat_template": "{{ x }}\n"}).chat_template == "{{ x }}\n"


def test_every_id_that_ends_a_text() -> None:
    tokens = [
        "</s>",
        "<|eot_id|>",
        "<|eom_id|>",
        "<|im_end|>",
        "a",
        "<|endoftext|>",
        "<x>",
        "<y>",
        "<|im_start|>",
    ]
    types = [3, 3, 3, 4, 1, 3, 3, 3, 3]
    metadata = changed({"tokens": tokens, "token_type": types, "merges": [], "eos_token_id": 6})
    metadata["tokenizer.ggml.eot_token_id"] = 7
    metadata["tokenizer.ggml.eom_token_id"] = 2
    # Declared ones first; <|im_end|> is no control token here, so a model may write it as text.
    assert text_from_gguf(metadata).generation["eos_token_id"] == [6, 7, 2, 0, 1, 5]


def test_no_end_at_all_is_an_empty_list() -> None:
    metadata = changed({"token_type": [1] * 10, "eos_token_id": None, "bos_token_id": None})
    assert text_from_gguf(metadata).generation == {"eos_token_id": [], "special_tokens": {}}


def test_sampling_that_the_file_recommends() -> None:
    sampling = {
        "general.sampling.temp": 0.5,
        "general.sampling.top_k": 20,
        "general.sampling.top_p": 0.75,
        "general.sampling.min_p": 0.0,
        "general.sampling.penalty_repeat": 1.25,
        "general.sampling.mirostat": 2,
    }
    generation = text_from_gguf({**GOOD, **sampling}).generation
    assert {key: generation[key] for key in generation if key not in ("eos_token_id", "bos_token_id")} == {
        "do_sample": True,
        "temperature": 0.5,
        "top_k": 20,
        "top_p": 0.75,
        "min_p": 0.0,
        "repetition_penalty": 1.25,
        "special_tokens": {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"},
    }
    assert text_from_gguf({**GOOD, "general.sampling.temp": 0.0}).generation["do_sample"] is False


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"model": None}, CheckpointCorrupt, "no tokenizer.ggml.model"),
        ({"model": 7}, CheckpointCorrupt, "tokenizer.ggml.model is 7"),
        ({"model": "bert"}, Unsupported, "'bert'.*gpt2, llama"),
        ({"model": "t5"}, Unsupported, "'t5'"),
        ({"model": "rwkv"}, Unsupported, "'rwkv'"),
        ({"pre": "made-up"}, Unsupported, "'made-up'.*qwen2.*smollm"),
        ({"pre": None}, Unsupported, "no tokenizer.ggml.pre"),
        ({"pre": "default"}, Unsupported, "'default', so how its tokenizer splits .* convert"),
        ({"tokens": None}, CheckpointCorrupt, "no tokenizer.ggml.tokens"),
        ({"tokens": []}, CheckpointCorrupt, "no tokenizer.ggml.tokens"),
        ({"tokens": "abc"}, CheckpointCorrupt, "tokens is str, not a list"),
        ({"tokens": [*TOKENS[:9], 9]}, CheckpointCorrupt, r"tokens\[9\] is 9"),
        ({"tokens": [*TOKENS[:8], "ab", "c"]}, CheckpointCorrupt, "'ab' is in .* more than once"),
        ({"token_type": [1] * 9}, CheckpointCorrupt, "9 entries for 10 tokens"),
        ({"token_type": [1] * 11}, CheckpointCorrupt, "11 entries for 10 tokens"),
        ({"token_type": [1] * 9 + [7]}, CheckpointCorrupt, r"token_type\[9\] is 7"),
        ({"token_type": [1] * 9 + ["x"]}, CheckpointCorrupt, r"token_type\[9\] is 'x'"),
        ({"token_type": [1] * 9 + [True]}, CheckpointCorrupt, r"token_type\[9\] is True"),
        ({"merges": None}, CheckpointCorrupt, "no tokenizer.ggml.merges"),
        ({"merges": ["a b", "a z"]}, CheckpointCorrupt, r"merges\[1\] is 'a z', but 'z' is no token"),
        ({"merges": ["b a"]}, CheckpointCorrupt, r"merges\[0\] is 'b a', but 'ba' is no token"),
        ({"merges": ["ab"]}, CheckpointCorrupt, r"merges\[0\] is 'ab', but '' is no token"),
        ({"merges": ["a b a"]}, CheckpointCorrupt, r"'b a' is no token"),
        ({"merges": [["a", "b"]]}, CheckpointCorrupt, r"merges\[0\] is \['a', 'b'\]"),
        ({"bos_token_id": 10}, CheckpointCorrupt, "bos_token_id is 10, but .* 0 to 9"),
        ({"eos_token_id": -1}, CheckpointCorrupt, "eos_token_id is -1"),
        ({"eot_token_id": 2**32 - 1}, CheckpointCorrupt, "eot_token_id is 4294967295"),
        ({"padding_token_id": 1.5}, CheckpointCorrupt, "padding_token_id is 1.5"),
        ({"add_bos_token": 1}, CheckpointCorrupt, "add_bos_token is 1, neither"),
        ({"add_bos_token": True, "bos_token_id": None}, CheckpointCorrupt, "no tokenizer.ggml.bos_token_id"),
        ({"add_bos_token": True, "bos_token_id": 9}, CheckpointCorrupt, "9, a row without a token"),
        ({"tokenizer.chat_template": ["x"]}, CheckpointCorrupt, "chat_template is .* not text"),
        ({"general.sampling.top_p": "high"}, CheckpointCorrupt, "top_p in general.sampling is 'high'"),
    ],
)
def test_metadata_that_makes_no_tokenizer(changes: dict[str, Any], error: type[EdgeError], says: str) -> None:
    with pytest.raises(error, match=says):
        text_from_gguf(changed(changes))


def test_text_that_is_no_unicode_is_corrupt() -> None:
    with pytest.raises(CheckpointCorrupt, match="makes no tokenizer"):
        text_from_gguf(changed({"tokens": [*TOKENS[:9], "\ud800"], "token_type": None}))


def test_the_text_is_json_that_keeps_every_character() -> None:
    text = text_from_gguf(GOOD).tokenizer_json
    assert "Ġab" in text
    assert json.loads(text)["model"]["vocab"]["Ġab"] == 7
