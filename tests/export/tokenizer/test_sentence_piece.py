"""SentencePiece vocabularies: the ids of the sentencepiece library and of transformers' LlamaTokenizer."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given, settings
from tokenizers import Tokenizer
from transformers import LlamaTokenizer
from transformers.tokenization_utils_base import generate_merges

from edge.errors import CheckpointCorrupt, Unsupported
from export.checkpoint.tokenizer import text_from_gguf
from export.checkpoint.tokenizer.sentence_piece import merges_from_scores
from export.checkpoint.tokenizer.vocabulary import Vocabulary
from tests.export.tokenizer.texts import TEXTS, texts

sentencepiece = pytest.importorskip(
    "sentencepiece", reason="trains the vocabulary: pip install sentencepiece"
)

UNKNOWN, BOS, EOS = 0, 1, 2
CORPUS = [
    "Once upon a time there was a small model that answered offline, on the board in front of you.",
    "The answer was short; the answer was right, and the board was small.",
    "    def answer(question):\n        return question  # 42",
    "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "你好，世界！今天的天气很好。",
    *(text for name, text in TEXTS.items() if name not in ("empty", "space", "newline", "chinese", "thai")),
]


def train(dummy_prefix: bool) -> Any:
    """A Llama 2 kind of model: BPE, bytes for what it lacks, digits alone, text taken as it is."""
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS * 4),
        model_writer=out,
        model_type="bpe",
        vocab_size=700,
        byte_fallback=True,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=dummy_prefix,
        user_defined_symbols=["<think>"],
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())


def metadata_of(model: Any, dummy_prefix: bool) -> dict[str, Any]:
    ids = range(model.get_piece_size())

    def kind(index: int) -> int:
        if model.is_unknown(index):
            return 2
        if model.is_control(index):
            return 3
        if model.id_to_piece(index) == "<think>":
            return 4
        return 6 if model.is_byte(index) else 1

    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": [model.id_to_piece(i) for i in ids],
        "tokenizer.ggml.scores": [model.get_score(i) for i in ids],
        "tokenizer.ggml.token_type": [kind(i) for i in ids],
        "tokenizer.ggml.bos_token_id": BOS,
        "tokenizer.ggml.eos_token_id": EOS,
        "tokenizer.ggml.unknown_token_id": UNKNOWN,
        "tokenizer.ggml.add_space_prefix": dummy_prefix,
    }


PREFIXED = train(dummy_prefix=True)
BARE = train(dummy_prefix=False)
METADATA = metadata_of(PREFIXED, dummy_prefix=True)
OURS = Tokenizer.from_str(text_from_gguf(METADATA).tokenizer_json)
OURS_BARE = Tokenizer.from_str(text_from_gguf(metadata_of(BARE, dummy_prefix=False)).tokenizer_json)


def llama() -> LlamaTokenizer:
    vocabulary = {token: i for i, token in enumerate(METADATA["tokenizer.ggml.tokens"])}
    scores = dict(zip(vocabulary, METADATA["tokenizer.ggml.scores"], strict=True))
    return LlamaTokenizer(vocab=vocabulary, merges=generate_merges(vocabulary, scores), add_bos_token=True)


THEIRS = llama()


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_has_sentencepieces_ids(name: str) -> None:
    text = TEXTS[name]
    ids = OURS.encode(text).ids
    assert ids == PREFIXED.encode(text, add_bos=True)
    assert OURS.decode(ids) == PREFIXED.decode(ids)
    assert OURS_BARE.encode(text).ids == BARE.encode(text, add_bos=True)
    assert OURS_BARE.decode(OURS_BARE.encode(text).ids) == text.replace("▁", " ")


# transformers puts no space before a text that starts with one; sentencepiece and the published
# tokenizer.json files of the family do, and they are what Edgewise follows.
@pytest.mark.parametrize("name", [name for name, text in TEXTS.items() if not text.startswith((" ", "▁"))])
def test_a_text_has_transformers_ids(name: str) -> None:
    ids = OURS.encode(TEXTS[name]).ids
    assert ids == THEIRS.encode(TEXTS[name])
    assert OURS.decode(ids) == THEIRS.decode(ids, skip_special_tokens=True)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(text=texts)
def test_any_text_has_sentencepieces_ids(text: str) -> None:
    ids = OURS.encode(text).ids
    assert ids == PREFIXED.encode(text, add_bos=True)
    assert OURS.decode(ids) == text.replace("▁", " ")


def test_control_tokens_in_the_text_are_themselves_and_what_is_between_them_starts_anew() -> None:
    ids = OURS.encode("<s>Once upon</s>a time<think>on the board").ids
    assert ids == [
        *(BOS, BOS, *PREFIXED.encode("Once upon"), EOS, *PREFIXED.encode("a time")),
        *(PREFIXED.piece_to_id("<think>"), *PREFIXED.encode("on the board")),
    ]


def test_merges_come_best_score_first_and_then_by_ids() -> None:
    tokens = ["<unk>", "a", "b", "c", "ab", "bc", "abc", "ca"]
    metadata = {
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [2, 1, 1, 1, 1, 1, 1, 3],
        "tokenizer.ggml.scores": [0.0, -9.0, -9.0, -9.0, -3.0, -2.0, -3.0, 0.0],
    }
    vocabulary = Vocabulary.read(metadata)
    merges = merges_from_scores(vocabulary, vocabulary.scores())
    # The control token "ca" is matched in the text and never made of pieces.
    assert merges == [("b", "c"), ("a", "b"), ("a", "bc"), ("ab", "c")]


def test_bos_is_added_unless_the_file_says_no() -> None:
    silent = {k: v for k, v in METADATA.items() if not k.endswith("bos_token")}
    assert Tokenizer.from_str(text_from_gguf(silent).tokenizer_json).encode("a").ids[0] == BOS
    without = {**METADATA, "tokenizer.ggml.add_bos_token": False, "tokenizer.ggml.add_eos_token": True}
    ids = Tokenizer.from_str(text_from_gguf(without).tokenizer_json).encode("a").ids
    assert ids[0] != BOS
    assert ids[-1] == EOS


def test_a_space_is_put_before_a_text_unless_the_file_says_no() -> None:
    silent = {k: v for k, v in METADATA.items() if k != "tokenizer.ggml.add_space_prefix"}
    ours = Tokenizer.from_str(text_from_gguf(silent).tokenizer_json)
    assert ours.encode("on the board").ids == OURS.encode("on the board").ids


def test_the_unknown_token_written_in_a_text_is_itself() -> None:
    assert OURS.encode("<unk>", add_special_tokens=False).ids == [UNKNOWN]


def test_the_unknown_token_is_the_one_of_its_type_where_no_id_is_given() -> None:
    silent = {k: v for k, v in METADATA.items() if k != "tokenizer.ggml.unknown_token_id"}
    model = json.loads(text_from_gguf(silent).tokenizer_json)["model"]
    assert (model["unk_token"], model["byte_fallback"]) == ("<unk>", True)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"tokenizer.ggml.scores": None}, CheckpointCorrupt, "scores has 0 entries for 700"),
        ({"tokenizer.ggml.scores": [-1.0] * 3}, CheckpointCorrupt, "scores has 3 entries for 700"),
        ({"tokenizer.ggml.scores": [-1000.0] * 700}, CheckpointCorrupt, "-1000 for every piece"),
        ({"tokenizer.ggml.scores": [float("nan")] * 700}, CheckpointCorrupt, "ranks nothing"),
        ({"tokenizer.ggml.remove_extra_whitespaces": True}, Unsupported, "normalizes its text"),
        ({"tokenizer.ggml.precompiled_charsmap": [1, 2]}, Unsupported, "normalizes its text"),
    ],
)
def test_what_cannot_be_rebuilt_is_an_error(
    change: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        text_from_gguf({**METADATA, **change})
