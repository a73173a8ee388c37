"""transformers' own tokenizers over a GGUF file's vocabulary, built without Edgewise.

The vocabulary and the merges are the file's; how text is normalized and split comes from transformers. Its
GGUF loader is no oracle: it leaves out SmolLM2's digits and Qwen2's NFC, which the published models have.
"""

from __future__ import annotations

from typing import Any

from tokenizers import AddedToken, pre_tokenizers
from transformers import GPT2Tokenizer, PreTrainedTokenizerBase, Qwen2Tokenizer

from tests.export.tokenizer.conftest import Metadata

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5


def _token(metadata: Metadata, role: str) -> str | None:
    index = metadata.get(f"tokenizer.ggml.{role}_token_id")
    return None if index is None else str(metadata["tokenizer.ggml.tokens"][index])


def _common(metadata: Metadata) -> dict[str, Any]:
    kept = [
        (token, index)
        for index, (token, kind) in enumerate(
            zip(metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"], strict=True)
        )
        if kind != UNUSED
    ]
    return {
        "vocab": dict(kept),
        "merges": [tuple(merge.split(" ")) for merge in metadata["tokenizer.ggml.merges"]],
        "bos_token": _token(metadata, "bos"),
        "eos_token": _token(metadata, "eos"),
        "pad_token": _token(metadata, "padding"),
        "add_bos_token": bool(metadata.get("tokenizer.ggml.add_bos_token", False)),
        "add_eos_token": bool(metadata.get("tokenizer.ggml.add_eos_token", False)),
    }


def _add(tokenizer: Any, metadata: Metadata) -> Any:
    for token, kind in zip(
        metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"], strict=True
    ):
        if kind in (CONTROL, USER_DEFINED):
            tokenizer.add_tokens(
                [AddedToken(token, normalized=False, special=kind == CONTROL)],
                special_tokens=kind == CONTROL,
            )
    return tokenizer


def qwen2(metadata: Metadata) -> PreTrainedTokenizerBase:
    """Qwen2.5 and the R1 distills of it: Qwen2Tokenizer is the class transformers gives both."""
    return _add(Qwen2Tokenizer(unk_token=None, **_common(metadata)), metadata)


def smollm2(metadata: Metadata) -> PreTrainedTokenizerBase:
    """SmolLM2 publishes GPT-2's tokenizer with each digit on its own before it, and no class of its own."""
    unk = _token(metadata, "unknown")
    tokenizer = _add(GPT2Tokenizer(unk_token=unk, **_common(metadata)), metadata)
    backend = tokenizer.backend_tokenizer
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), backend.pre_tokenizer]
    )
    return tokenizer


BUILDERS = {"smollm2": smollm2, "qwen25": qwen2, "r1": qwen2}
