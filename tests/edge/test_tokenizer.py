from __future__ import annotations

import json
import re

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import ArtifactCorrupt, ArtifactError, InvalidArgument
from edge.tokenizer import Tokenizer
from tests.edge.toy_model import byte_level_json, sentencepiece_json

TEXTS = [
    "plain words, 123 and\n\ttabs",
    "Ünïcödé 漢字 кириллица עברית हिन्दी",
    "🙂🙃👩‍👩‍👧 emoji",
    "<|im_start|>user\nhi<|im_end|>",
    " leading and trailing ",
    "",
]
KINDS = {
    "byte level": byte_level_json(),
    "prepended": sentencepiece_json(),
    "always": sentencepiece_json("always"),
    "first": sentencepiece_json("first"),
    "never": sentencepiece_json("never"),
}
BYTE_LEVEL = Tokenizer(KINDS["byte level"])


def streamed(tokenizer: Tokenizer, ids: list[int], special: bool = False) -> list[str]:
    stream = tokenizer.detokenizer(special)
    return [*(stream.add(id) for id in ids), stream.finish()]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("kind", KINDS)
def test_encodes_and_decodes_as_the_library_does(kind: str, text: str) -> None:
    ours, theirs = Tokenizer(KINDS[kind]), tokenizers.Tokenizer.from_str(KINDS[kind])
    ids = ours.encode(text)
    assert ids == theirs.encode(text).ids
    assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True)
    assert ours.decode(ids, special=True) == theirs.decode(ids, skip_special_tokens=False)


@given(st.lists(st.integers(0, 410)), st.booleans())
def test_byte_level_pieces_are_what_the_library_decodes_whatever_the_bytes(
    ids: list[int], special: bool
) -> None:
    whole = tokenizers.Tokenizer.from_str(KINDS["byte level"]).decode(ids, skip_special_tokens=not special)
    assert "".join(streamed(BYTE_LEVEL, ids, special)) == whole == BYTE_LEVEL.decode(ids, special)


@pytest.mark.parametrize("kind", ["prepended", "always", "first", "never"])
@given(text=st.text(st.sampled_from("ab cdé漢🙂\n")), cut=st.integers(0, 5))
def test_sentencepiece_pieces_are_what_the_library_decodes(kind: str, text: str, cut: int) -> None:
    ours, theirs = Tokenizer(KINDS[kind]), tokenizers.Tokenizer.from_str(KINDS[kind])
    # From the middle of a text, as an answer is.
    ids = ours.encode(text)[cut:]
    whole = theirs.decode(ids)
    if "\ufffd" not in whole:  # of broken bytes the library gives one mark each, and more than are broken
        assert "".join(streamed(ours, ids)) == whole
    assert "".join(streamed(ours, ids)) == ours.decode(ids)


def test_a_character_of_many_tokens_comes_once_whole() -> None:
    ids = BYTE_LEVEL.encode("a👩‍👩‍👧b")
    pieces = [piece for piece in streamed(BYTE_LEVEL, ids) if piece]
    assert "".join(pieces) == "a👩‍👩‍👧b"
    assert all("\ufffd" not in piece for piece in pieces)


def byte_ids(data: bytes) -> list[int]:
    """One token for each byte."""
    vocabulary = json.loads(byte_level_json())["model"]["vocab"]
    names = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    by_byte = {BYTE_LEVEL._decoding.bytes_of(name, False): vocabulary[name] for name in names}
    return [by_byte[bytes([b])] for b in data]


@pytest.mark.parametrize(
    ("data", "pieces"),
    [
        (b"\xf0\x9f\x99\x82", ["", "", "", "🙂", ""]),
        (b"\xf0\x9f\x99", ["", "", "", "\ufffd"]),
        (b"\x80a", ["\ufffd", "a", ""]),
        (b"\xf0\x9fa", ["", "", "\ufffda", ""]),
        (b"\xff\xff\xff", ["\ufffd", "\ufffd", "\ufffd", ""]),
        (b"\xe2\x82\xe2\x82\xac", ["", "", "\ufffd", "", "€", ""]),
    ],
)
def test_broken_bytes_hold_nothing_back(data: bytes, pieces: list[str]) -> None:
    assert streamed(BYTE_LEVEL, byte_ids(data)) == pieces


def test_byte_fallback_shows_each_character_as_soon_as_it_is_whole() -> None:
    tokenizer = Tokenizer(sentencepiece_json())
    first, *rest = (tokenizer.token_id(f"<0x{b:02X}>") for b in "🙂🙃".encode())
    assert streamed(tokenizer, [i for i in (first, *rest) if i is not None])[3] == "🙂"


def test_special_tokens_are_left_out_unless_asked_for() -> None:
    ids = BYTE_LEVEL.encode("a<|im_end|>b<think>c")
    assert BYTE_LEVEL.decode(ids) == "ab<think>c"
    assert BYTE_LEVEL.decode(ids, special=True) == "a<|im_end|>b<think>c"


def test_added_tokens_spelled_with_other_characters_than_a_byte_level_vocabulary_has() -> None:
    theirs = tokenizers.Tokenizer.from_str(byte_level_json())
    theirs.add_tokens(["<｜User｜>", "two words", "é"])
    ids = theirs.encode("a<｜User｜>two words").ids
    ids.append(theirs.token_to_id("é"))  # spelled as the byte 0xE9 is
    assert Tokenizer(theirs.to_str()).decode(ids) == theirs.decode(ids) == "a<｜User｜>two words\ufffd"


def test_names_and_kinds_of_tokens() -> None:
    end, think = BYTE_LEVEL.token_id("<|im_end|>"), BYTE_LEVEL.token_id("<think>")
    assert end is not None
    assert think is not None
    assert (BYTE_LEVEL.is_special(end), BYTE_LEVEL.is_added(end)) == (True, True)
    assert (BYTE_LEVEL.is_special(think), BYTE_LEVEL.is_added(think)) == (False, True)
    assert BYTE_LEVEL.token_id("no such token") is None
    assert BYTE_LEVEL.vocab_size == think + 2


def test_ids_without_a_token_give_nothing() -> None:
    assert BYTE_LEVEL.decode([10**6, *BYTE_LEVEL.encode("a"), 10**6]) == "a"


def test_truncation_and_padding_of_the_file_are_ignored() -> None:
    theirs = tokenizers.Tokenizer.from_str(byte_level_json())
    theirs.enable_truncation(3)
    theirs.enable_padding(length=5, pad_id=0)
    assert Tokenizer(theirs.to_str()).encode("Memory first") == BYTE_LEVEL.encode("Memory first")
    assert Tokenizer(theirs.to_str()).encode("漢字漢字") == BYTE_LEVEL.encode("漢字漢字")


def test_adds_what_the_post_processor_adds() -> None:
    theirs = tokenizers.Tokenizer.from_str(byte_level_json())
    theirs.post_processor = tokenizers.processors.TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", 1)]
    )
    ours = Tokenizer(theirs.to_str())
    assert ours.encode("a") == [1, *ours.encode("a", special=False)]
    assert ours.encode("") == [1]


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: BYTE_LEVEL.encode("ab\ud83d"), r"'\\ud83d' at character 2, half a surrogate pair"),
        (lambda: BYTE_LEVEL.decode([-1]), r"token id -1 is none; ids run from 0 to 401"),
        (lambda: BYTE_LEVEL.decode([2**40]), f"token id {2**40} is none"),
        (lambda: BYTE_LEVEL.decode(["a"]), "token id 'a' is none"),  # type: ignore[list-item]
    ],
)
def test_refuses(act: object, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        act()  # type: ignore[operator]


@pytest.mark.parametrize("text", ["", "{}", "[1, 2]", '{"model": 3}', "\x00", byte_level_json()[:-200]])
def test_a_file_that_is_no_tokenizer(text: str) -> None:
    with pytest.raises(ArtifactCorrupt, match=r"tokenizer\.json is no tokenizer"):
        Tokenizer(text)


@pytest.mark.parametrize(
    "decoder",
    [
        None,
        {"type": "WordPiece", "prefix": "##", "cleanup": True},
        {"type": "Replace", "pattern": {"Regex": "a+"}, "content": "b"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        {
            "type": "Sequence",
            "decoders": [{"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 0, "stop": 1}],
        },
        {
            "type": "Sequence",
            "decoders": [
                {"type": "Fuse"},
                {"type": "Replace", "pattern": {"String": "a"}, "content": "b"},
            ],
        },
    ],
)
def test_a_decoder_that_is_not_known_is_no_guess(decoder: object) -> None:
    data = json.loads(byte_level_json())
    data["decoder"] = decoder
    part = decoder["decoders"][1] if isinstance(decoder, dict) and "decoders" in decoder else decoder
    with pytest.raises(ArtifactError, match=re.escape(f"Edgewise does not know {part!r}")):
        Tokenizer(json.dumps(data))
