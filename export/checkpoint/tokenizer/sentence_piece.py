"""tokenizer.json of a SentencePiece BPE vocabulary (`tokenizer.ggml.model` "llama")."""

from __future__ import annotations

from typing import Any

from edge.errors import CheckpointCorrupt, Unsupported
from export.checkpoint.tokenizer.vocabulary import BYTE, NORMAL, UNKNOWN, Vocabulary

SPACE = "▁"


def merges_from_scores(vocabulary: Vocabulary, scores: list[float]) -> list[tuple[str, str]]:
    """The merges that give the same tokens as SentencePiece's scores.

    Every way to cut a piece into two other pieces, best score first; equal scores keep the order of the
    ids of the piece, of its left and of its right part. Source: how the published tokenizer.json files of
    the Llama 2 family are ordered.

    Raises:
        CheckpointCorrupt: the scores are all the same, so they order nothing.
    """
    ids = vocabulary.ids
    ranked = []
    for token, index in ids.items():
        if vocabulary.types[index] != NORMAL:
            continue
        for cut in range(1, len(token)):
            left, right = ids.get(token[:cut]), ids.get(token[cut:])
            if left is not None and right is not None:
                ranked.append((-scores[index], index, left, right))
    ranked.sort()
    if len(ranked) > 1 and len({score for score, _, _, _ in ranked}) == 1:
        raise CheckpointCorrupt(
            f"tokenizer.ggml.scores is {-ranked[0][0]:g} for every piece, so it does not say which to merge "
            "first; convert the model again or export its Hugging Face folder"
        )
    return [(vocabulary.tokens[left], vocabulary.tokens[right]) for _, _, left, right in ranked]


def sentence_piece_json(vocabulary: Vocabulary) -> dict[str, Any]:
    """The tokenizer as the tokenizers library spells it.

    Raises:
        Unsupported: the vocabulary wants its text normalized in a way that is not known here.
        CheckpointCorrupt: scores are missing or rank nothing.
    """
    if vocabulary.flag("remove_extra_whitespaces", False) or vocabulary.metadata.get(
        "tokenizer.ggml.precompiled_charsmap"
    ):
        raise Unsupported(
            "this SentencePiece vocabulary normalizes its text (remove_extra_whitespaces or "
            "precompiled_charsmap), which Edgewise does not; export the model's Hugging Face folder instead"
        )
    merges = merges_from_scores(vocabulary, vocabulary.scores())
    prefix_space = vocabulary.flag("add_space_prefix", True)
    to_marks = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    steps = [{"type": "Prepend", "prepend": SPACE}, to_marks] if prefix_space else [to_marks]
    decoders: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if prefix_space:
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": vocabulary.added_tokens(),
        "normalizer": {"type": "Sequence", "normalizers": steps},
        "pre_tokenizer": None,
        "post_processor": vocabulary.post_processor(adds_bos=True),
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": _unknown(vocabulary),
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": BYTE in vocabulary.types,
            "ignore_merges": False,
            "vocab": vocabulary.ids,
            "merges": [list(pair) for pair in merges],
        },
    }


def _unknown(vocabulary: Vocabulary) -> str | None:
    index = vocabulary.id("unknown")
    if index is None:
        index = next((i for i, kind in enumerate(vocabulary.types) if kind == UNKNOWN), None)
    return None if index is None else vocabulary.tokens[index]
