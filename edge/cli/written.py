"""Pictures that commands write beside their output."""

from __future__ import annotations

import os
from pathlib import Path

from edge.errors import InvalidArgument, StorageError


def check_picture(path: Path) -> None:
    """Raises InvalidArgument where the name is not that of an SVG."""
    if path.suffix.lower() != ".svg":
        raise InvalidArgument(f"--plot {path}: the picture is an SVG; end its name with .svg")


def write_picture(path: Path, text: str) -> None:
    """Write an SVG aside and rename it.

    Raises:
        InvalidArgument: its name says that it is none.
        StorageError: it cannot be written; what was there still is.
    """
    check_picture(path)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        try:
            aside.write_text(text, encoding="utf-8")
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as e:
        raise StorageError(
            f"{path} cannot be written ({e.strerror}); name a file in a folder that can be"
        ) from None
