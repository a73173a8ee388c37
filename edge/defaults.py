"""What generation.json gives where nobody asks for anything else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge.errors import ArtifactCorrupt, InvalidArgument
from edge.sampling import Sampling


def sampling_defaults(generation: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of Sampling that generation.json gives; temperature 0 unless it asks for sampling.

    Raises:
        ArtifactCorrupt: one is out of range.
    """
    names = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
    defaults = {name: generation[name] for name in names if generation.get(name) is not None}
    if not generation.get("do_sample"):
        defaults["temperature"] = 0.0
    else:
        # Hugging Face leaves out of the file what is at its default.
        defaults.setdefault("temperature", 1.0)
    try:
        Sampling(**defaults)
    except InvalidArgument as e:
        raise ArtifactCorrupt(f"generation.json: {e}; correct the checkpoint and export it again") from None
    return defaults


def end_ids(generation: Mapping[str, Any]) -> frozenset[int]:
    """The tokens that end an answer.

    Raises:
        ArtifactCorrupt: they are no list of token ids.
    """
    ids = generation.get("eos_token_id")
    if not isinstance(ids, list) or not all(isinstance(id, int) for id in ids):
        raise ArtifactCorrupt(
            f"generation.json: eos_token_id is {ids!r}, not a list of token ids; export the artifact again"
        )
    return frozenset(ids)


def special_tokens(generation: Mapping[str, Any]) -> dict[str, str]:
    """The texts that a chat template may name, such as `bos_token`.

    Raises:
        ArtifactCorrupt: they are no object.
    """
    tokens = generation.get("special_tokens") or {}
    if not isinstance(tokens, dict):
        raise ArtifactCorrupt(
            f"generation.json: special_tokens is {tokens!r}, not an object; export the artifact again"
        )
    return {name: text for name, text in tokens.items() if isinstance(text, str)}
