"""Tokens that stand beside tokenizer.json, in tokenizer_config.json and in files of older checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tokenizers

from edge.errors import CheckpointCorrupt

ROLES = ("bos_token", "eos_token", "pad_token", "unk_token")


def special_tokens(settings: Mapping[str, Any], token_map: Mapping[str, Any]) -> dict[str, str]:
    """Texts of the tokens with a role; tokenizer_config.json before special_tokens_map.json."""
    found = {}
    for role in ROLES:
        token = settings[role] if role in settings else token_map.get(role)
        content = token.get("content") if isinstance(token, dict) else token
        if isinstance(content, str) and content:
            found[role] = content
    return found


def add_configured(
    tokenizer: tokenizers.Tokenizer, settings: Mapping[str, Any], added: Mapping[str, Any]
) -> bool:
    """Add the tokens of `added_tokens_decoder` and added_tokens.json that the tokenizer lacks.

    Returns whether there were any.

    Raises:
        CheckpointCorrupt: an id that the tokenizer cannot give the token.
    """
    wanted = {index: token for token, index in added.items()}
    decoder = settings.get("added_tokens_decoder") or {}
    if not isinstance(decoder, dict):
        raise CheckpointCorrupt(f"added_tokens_decoder is {type(decoder).__name__}, not an object")
    wanted.update({_id(index): token for index, token in decoder.items()})
    there = {index: token.content for index, token in tokenizer.get_added_tokens_decoder().items()}
    new = False
    for index in sorted(wanted, key=_id):
        token = _token(index, wanted[index])
        if there.get(_id(index)) == token.content:
            continue
        tokenizer.add_tokens([token])
        given = tokenizer.token_to_id(token.content)
        if given != _id(index):
            raise CheckpointCorrupt(
                f"added token {token.content!r} has id {index} in the tokenizer's configuration, but "
                f"tokenizer.json makes it {given}; fetch tokenizer.json and tokenizer_config.json again"
            )
        new = True
    return new


def _id(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        raise CheckpointCorrupt(f"id {value!r} of an added token is no whole number") from None


def _token(index: Any, spec: Any) -> tokenizers.AddedToken:
    if isinstance(spec, str):
        return tokenizers.AddedToken(spec, normalized=False)
    if not isinstance(spec, dict) or not isinstance(spec.get("content"), str):
        raise CheckpointCorrupt(f"added token {index} has no content: {spec!r}")
    flags = {
        name: bool(spec.get(name, False))
        for name in ("single_word", "lstrip", "rstrip", "normalized", "special")
    }
    return tokenizers.AddedToken(spec["content"], **flags)
