"""A text that the user names."""

from __future__ import annotations

from pathlib import Path

from edge.errors import InvalidArgument


def read_text(path: str | Path, what: str) -> str:
    """The UTF-8 file at `path`, called `what` in errors.

    Raises:
        InvalidArgument: it cannot be read, or is not UTF-8.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        reason = e.strerror if isinstance(e, OSError) else "it is not UTF-8"
        raise InvalidArgument(
            f"the {what} {path} cannot be read ({reason}); give a UTF-8 text file"
        ) from None
