"""A checkpoint's text side: tokenizer, chat template, generation defaults."""

from __future__ import annotations

from export.checkpoint.tokenizer.folder import text_from_folder
from export.checkpoint.tokenizer.gguf import text_from_gguf

__all__ = ["text_from_folder", "text_from_gguf"]
