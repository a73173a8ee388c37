"""Hugging Face folders: which file decides, and what transformers makes of the same folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from edge.errors import CheckpointCorrupt, CheckpointNotFound, EdgeError, Unsupported
from export.checkpoint.tokenizer import text_from_folder
from tests.export.tokenizer.texts import TEXTS

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MIXED = "".join(TEXTS.values())


def trained() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(list(TEXTS.values()), trainer)
    return tokenizer


TRAINED = trained()
SIZE = TRAINED.get_vocab_size()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    TRAINED.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def write(folder: Path, name: str, value: Any) -> None:
    (folder / name).write_text(value if isinstance(value, str) else json.dumps(value), "utf-8")


def same_as_transformers(folder: Path, text: str) -> list[int]:
    ours = Tokenizer.from_str(text_from_folder(folder, {}).tokenizer_json)
    theirs = PreTrainedTokenizerFast.from_pretrained(folder)
    ids: list[int] = ours.encode(text).ids
    assert ids == theirs.encode(text)
    assert ours.encode(text, add_special_tokens=False).ids == theirs.encode(text, add_special_tokens=False)
    return ids


def test_tokenizer_json_is_carried_as_it_is(folder: Path) -> None:
    files = text_from_folder(folder, {})
    assert files.tokenizer_json == (folder / "tokenizer.json").read_text("utf-8")
    assert files.chat_template is None
    assert files.generation["eos_token_id"] == [0, 2]
    same_as_transformers(folder, MIXED)


def test_tokens_that_only_the_configuration_adds(folder: Path) -> None:
    added = {
        str(SIZE): {"content": "<tool>", "special": False, "normalized": False},
        str(SIZE + 1): {"content": "<|stop|>", "special": True},
        "1": {"content": "<|im_start|>", "special": True},
    }
    write(folder, "tokenizer_config.json", {"added_tokens_decoder": added, "eos_token": "<|stop|>"})
    ids = same_as_transformers(folder, f"a<tool>b<|stop|>{MIXED}")
    assert {SIZE, SIZE + 1} < set(ids)
    assert text_from_folder(folder, {}).generation["eos_token_id"] == [SIZE + 1, 0, 2]


def test_added_tokens_json_of_older_checkpoints(folder: Path) -> None:
    write(folder, "added_tokens.json", {"<b>": SIZE + 1, "<a>": SIZE})
    ours = Tokenizer.from_str(text_from_folder(folder, {}).tokenizer_json)
    assert ours.encode("<a><b>").ids == [SIZE, SIZE + 1]


@pytest.mark.parametrize("switch", [True, False, None])
@pytest.mark.parametrize("template", [True, False])
def test_bos_is_what_tokenizer_json_says_as_in_transformers(
    folder: Path, switch: bool | None, template: bool
) -> None:
    if template:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<|im_start|> $A", pair="<|im_start|> $A $B", special_tokens=[("<|im_start|>", 1)]
        )
        tokenizer.save(str(folder / "tokenizer.json"))
    settings: dict[str, Any] = {"bos_token": "<|im_start|>"}
    if switch is not None:
        settings["add_bos_token"] = switch
    write(folder, "tokenizer_config.json", settings)
    assert (same_as_transformers(folder, "a b")[0] == 1) == template


def test_the_chat_template_comes_from_its_own_file_first(folder: Path) -> None:
    assert text_from_folder(folder, {}).chat_template is None
    named = [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D\n"}]
    write(folder, "tokenizer_config.json", {"chat_template": named})
    assert text_from_folder(folder, {}).chat_template == "D\n"
    write(folder, "tokenizer_config.json", {"chat_template": "C"})
    assert text_from_folder(folder, {}).chat_template == "C"
    write(folder, "chat_template.json", {"chat_template": "J"})
    assert text_from_folder(folder, {}).chat_template == "J"
    write(folder, "chat_template.jinja", "{{ x }}\n\n")
    assert text_from_folder(folder, {}).chat_template == "{{ x }}\n\n"


def test_generation_defaults_from_every_file(folder: Path) -> None:
    generation = {
        "do_sample": True,
        "temperature": 0.6,
        "top_p": 0.95,
        "top_k": 20,
        "repetition_penalty": 1,
        "min_p": None,
        "max_length": 99,
        "eos_token_id": [7, 2],
        "bos_token_id": 5,
    }
    write(folder, "generation_config.json", generation)
    write(folder, "tokenizer_config.json", {"eos_token": "<|endoftext|>", "pad_token": None})
    write(folder, "special_tokens_map.json", {"bos_token": {"content": "<|im_start|>"}, "pad_token": "x"})
    assert text_from_folder(folder, {"eos_token_id": 9, "bos_token_id": 6}).generation == {
        "do_sample": True,
        "temperature": 0.6,
        "top_k": 20,
        "top_p": 0.95,
        "repetition_penalty": 1,
        "eos_token_id": [7, 2, 9, 0],
        "bos_token_id": 1,
        "special_tokens": {"bos_token": "<|im_start|>", "eos_token": "<|endoftext|>"},
    }


def test_a_folder_without_a_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFound, match=r"has no tokenizer\.json"):
        text_from_folder(tmp_path, {})
    (tmp_path / "tokenizer.model").write_bytes(b"\n\x00")
    with pytest.raises(Unsupported, match=r"tokenizer\.model but no tokenizer\.json.*save_pretrained"):
        text_from_folder(tmp_path, {})


@pytest.mark.parametrize(
    ("name", "value", "error", "says"),
    [
        ("tokenizer.json", "{", CheckpointCorrupt, "tokenizer.json is no tokenizer"),
        ("tokenizer.json", "[]", CheckpointCorrupt, "tokenizer.json is no tokenizer"),
        ("tokenizer.json", {"model": {"type": "Magic"}}, CheckpointCorrupt, "tokenizer.json is no tokenizer"),
        ("tokenizer_config.json", "{", CheckpointCorrupt, "tokenizer_config.json"),
        ("tokenizer_config.json", [1], CheckpointCorrupt, "tokenizer_config.json"),
        ("tokenizer_config.json", {"chat_template": 3}, CheckpointCorrupt, "chat_template .* is int"),
        ("tokenizer_config.json", {"chat_template": [{"name": "rag"}]}, Unsupported, "'default'.*'rag'"),
        ("tokenizer_config.json", {"added_tokens_decoder": [1]}, CheckpointCorrupt, "is list, not an object"),
        ("tokenizer_config.json", {"added_tokens_decoder": {"x": {}}}, CheckpointCorrupt, "id 'x'"),
        ("tokenizer_config.json", {"added_tokens_decoder": {"9": {}}}, CheckpointCorrupt, "no content"),
        (
            "tokenizer_config.json",
            {"added_tokens_decoder": {"9": {"content": "<|im_end|>"}}},
            CheckpointCorrupt,
            "'<|im_end|>' has id 9 .* makes it 2",
        ),
        ("added_tokens.json", {"<new>": 100_000}, CheckpointCorrupt, "'<new>' has id 100000"),
        ("generation_config.json", {"eos_token_id": "2"}, CheckpointCorrupt, "eos_token_id in .* is '2'"),
        ("generation_config.json", {"eos_token_id": [2, -1]}, CheckpointCorrupt, r"is \[2, -1\]"),
        ("generation_config.json", {"temperature": "hot"}, CheckpointCorrupt, "temperature in .* is 'hot'"),
        ("generation_config.json", {"top_k": True}, CheckpointCorrupt, "top_k in .* is True"),
        ("generation_config.json", {"do_sample": 1}, CheckpointCorrupt, "do_sample in .* is 1"),
        ("special_tokens_map.json", "no", CheckpointCorrupt, "special_tokens_map.json"),
    ],
)
def test_files_that_cannot_be_right(
    folder: Path, name: str, value: Any, error: type[EdgeError], says: str
) -> None:
    write(folder, name, value)
    with pytest.raises(error, match=says.replace("|", r"\|")):
        text_from_folder(folder, {})


def test_a_template_that_is_no_utf8(folder: Path) -> None:
    (folder / "chat_template.jinja").write_bytes(b"\xff\xfe")
    with pytest.raises(CheckpointCorrupt, match="is no UTF-8"):
        text_from_folder(folder, {})


def test_a_tokenizer_that_is_no_utf8(folder: Path) -> None:
    (folder / "tokenizer.json").write_bytes(b"\xff")
    with pytest.raises(CheckpointCorrupt, match="is no tokenizer"):
        text_from_folder(folder, {})


def test_the_flags_of_an_added_token_are_kept(folder: Path) -> None:
    token = {"content": "<|x|>", "lstrip": True, "rstrip": True, "single_word": True, "special": True}
    write(folder, "tokenizer_config.json", {"added_tokens_decoder": {str(SIZE): token}})
    ours = Tokenizer.from_str(text_from_folder(folder, {}).tokenizer_json)
    wanted = AddedToken("<|x|>", lstrip=True, rstrip=True, single_word=True, normalized=False, special=True)
    assert ours.get_added_tokens_decoder()[SIZE] == wanted
    same_as_transformers(folder, "a <|x|> b<|x|>c")
