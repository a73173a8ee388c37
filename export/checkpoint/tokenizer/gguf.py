"""Text files from a GGUF file's metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import tokenizers

from edge.errors import CheckpointCorrupt, Unsupported
from export.checkpoint.text import TextFiles
from export.checkpoint.tokenizer.byte_level import byte_level_json
from export.checkpoint.tokenizer.generation import generation_from_gguf
from export.checkpoint.tokenizer.sentence_piece import sentence_piece_json
from export.checkpoint.tokenizer.vocabulary import Vocabulary

MODELS = ("gpt2", "llama")


def text_from_gguf(metadata: Mapping[str, Any]) -> TextFiles:
    """Tokenizer, chat template and generation defaults from GGUF keys and their Python values.

    Raises:
        Unsupported: a tokenizer model or pre-tokenizer that Edgewise does not know.
        CheckpointCorrupt: keys are missing or do not fit each other.
    """
    model = _text(metadata, "tokenizer.ggml.model")
    if model is None:
        raise CheckpointCorrupt(
            "the GGUF file has no tokenizer.ggml.model; take a file that was converted with its vocabulary"
        )
    if model not in MODELS:
        raise Unsupported(
            f"tokenizer {model!r} (tokenizer.ggml.model) is not known to Edgewise; export the model's "
            f"Hugging Face folder instead. Known tokenizers: {', '.join(MODELS)}"
        )
    vocabulary = Vocabulary.read(metadata)
    if model == "gpt2":
        built = byte_level_json(vocabulary, _text(metadata, "tokenizer.ggml.pre"))
    else:
        built = sentence_piece_json(vocabulary)
    text = json.dumps(built, ensure_ascii=False)
    try:
        tokenizers.Tokenizer.from_str(text)
    except Exception as e:  # the library raises bare Exception
        raise CheckpointCorrupt(f"the GGUF file's vocabulary makes no tokenizer: {e}") from None
    template = _text(metadata, "tokenizer.chat_template") or None
    return TextFiles(text, template, generation_from_gguf(vocabulary))


def _text(metadata: Mapping[str, Any], key: str) -> str | None:
    value = metadata.get(key)
    if value is None or isinstance(value, str):
        return value
    raise CheckpointCorrupt(f"{key} is {value!r}, not text; fetch the GGUF file again")
