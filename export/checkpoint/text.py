"""TextFiles: what a checkpoint says about text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class TextFiles:
    """The tokenizer, the chat template and the generation defaults of a checkpoint."""

    tokenizer_json: str
    """A whole `tokenizer.json`, as the tokenizers library reads it."""
    chat_template: str | None = None
    """Jinja source, None where the checkpoint has no template."""
    generation: dict[str, Any] = field(default_factory=dict)
    """Keys of generation_config.json; `eos_token_id` is always a list of int."""
