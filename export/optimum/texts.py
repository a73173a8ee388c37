"""What goes with the graphs: the JSON files that say how their inputs are made and their outputs are meant."""

from __future__ import annotations

from pathlib import Path

from edge.errors import CheckpointCorrupt
from export.folder import write_text

NAMES = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
)


def copy_texts(source: Path, out: Path) -> None:
    """Copy those of NAMES that there are.

    Raises:
        CheckpointCorrupt: one is not UTF-8.
        StorageError
    """
    for name in NAMES:
        path = source / name
        if path.is_file():
            try:
                text = path.read_text(encoding="utf-8")
            except UnicodeDecodeError as e:
                raise CheckpointCorrupt(
                    f"{name} is not UTF-8 ({e.reason}); get the checkpoint again from its publisher"
                ) from None
            write_text(out / name, text)
