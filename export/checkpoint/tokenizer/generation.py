"""Generation defaults: sampling keys, end-of-text ids, special tokens that templates name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from edge.errors import CheckpointCorrupt
from export.checkpoint.tokenizer.vocabulary import CONTROL, Vocabulary

# Tokens that end a turn or a text in the families that have them, whichever of them a file declares.
END_TOKENS = frozenset(
    {
        "<|im_end|>",
        "<|endoftext|>",
        "<|eot_id|>",
        "<|eom_id|>",
        "<|end_of_text|>",
        "<｜end▁of▁sentence｜>",
        "<end_of_turn>",
        "</s>",
        "<eos>",
    }
)

SAMPLING = ("do_sample", "temperature", "top_k", "top_p", "min_p", "repetition_penalty")

_GGUF_SAMPLING = {
    "general.sampling.temp": "temperature",
    "general.sampling.top_k": "top_k",
    "general.sampling.top_p": "top_p",
    "general.sampling.min_p": "min_p",
    "general.sampling.penalty_repeat": "repetition_penalty",
}

_ROLES = {"bos_token": "bos", "eos_token": "eos", "pad_token": "padding", "unk_token": "unknown"}


def end_ids(declared: Iterable[int], control: Mapping[str, int]) -> list[int]:
    """All ids that end a text: the declared ones first, then the well-known among the control tokens."""
    ids = list(dict.fromkeys(declared))
    known = sorted(index for token, index in control.items() if token in END_TOKENS)
    return list(dict.fromkeys([*ids, *known]))


def sampling(values: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The sampling keys of `values` that say something.

    Raises:
        CheckpointCorrupt: one of them is no number.
    """
    found: dict[str, Any] = {}
    for key in SAMPLING:
        value = values.get(key)
        if value is None:
            continue
        if not isinstance(value, bool if key == "do_sample" else (int, float)) or (
            key != "do_sample" and isinstance(value, bool)
        ):
            raise CheckpointCorrupt(f"{key} in {source} is {value!r}, which is no value for it")
        found[key] = value
    return found


def generation_from_gguf(vocabulary: Vocabulary) -> dict[str, Any]:
    """What generation.json gets from a GGUF file.

    Raises:
        CheckpointCorrupt: an id outside the vocabulary or a sampling key that is no number.
    """
    metadata = vocabulary.metadata
    values = {ours: metadata[key] for key, ours in _GGUF_SAMPLING.items() if metadata.get(key) is not None}
    generation = sampling(values, "general.sampling")
    if generation:
        # The file recommends sampling; without the switch the keys would have no effect.
        generation = {"do_sample": generation.get("temperature", 1.0) > 0, **generation}
    declared = [index for role in ("eos", "eot", "eom") if (index := vocabulary.id(role)) is not None]
    control = {t: i for t, i in vocabulary.ids.items() if vocabulary.types[i] == CONTROL}
    generation["eos_token_id"] = end_ids(declared, control)
    bos = vocabulary.id("bos")
    if bos is not None:
        generation["bos_token_id"] = bos
    special = {name: vocabulary.id(role) for name, role in _ROLES.items()}
    generation["special_tokens"] = {
        name: vocabulary.tokens[index] for name, index in special.items() if index is not None
    }
    return generation
