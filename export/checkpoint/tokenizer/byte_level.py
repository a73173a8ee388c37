"""tokenizer.json of a byte-level BPE vocabulary (`tokenizer.ggml.model` "gpt2")."""

from __future__ import annotations

from typing import Any

from export.checkpoint.tokenizer.presplit import presplit
from export.checkpoint.tokenizer.vocabulary import Vocabulary


def byte_level_json(vocabulary: Vocabulary, pre: str | None) -> dict[str, Any]:
    """The tokenizer as the tokenizers library spells it; `pre` is the file's tokenizer.ggml.pre.

    Raises:
        Unsupported: Edgewise does not know `pre`.
        CheckpointCorrupt: the merges do not fit the tokens.
    """
    rule = presplit(pre)
    merges = vocabulary.merges()
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": vocabulary.added_tokens(),
        "normalizer": rule.normalizer,
        "pre_tokenizer": rule.pre_tokenizer(vocabulary.flag("add_space_prefix", False)),
        "post_processor": vocabulary.post_processor(rule.adds_bos),
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": rule.whole_words,
            "vocab": vocabulary.ids,
            "merges": [list(pair) for pair in merges],
        },
    }
