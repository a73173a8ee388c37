"""What every cache checks of its tokens, and the header of the bytes that `Cache.export` gives."""

from __future__ import annotations

import json
from typing import Any

from edge.errors import ContextExceeded, InvalidArgument


def check_context(held: int, more: int, context: int) -> int:
    """The tokens in all, where the context holds them.

    Raises:
        ContextExceeded
    """
    needed = held + more
    if needed > context:
        raise ContextExceeded(
            f"{needed} tokens ({held} held, {more} more) do not fit the context of {context}; "
            "shorten the prompt, reset the conversation or load with a larger context"
        )
    return needed


def check_range(start: int, stop: int, held: int) -> None:
    """Raises InvalidArgument where tokens [start, stop) are not all held."""
    if not 0 <= start <= stop <= held:
        raise InvalidArgument(f"tokens [{start}, {stop}) are not among the {held} held")


def split_header(data: bytes) -> tuple[dict[str, Any], int, int, bytes]:
    """The header, its `start` and `stop`, and what follows.

    Raises:
        InvalidArgument: there is no such header.
    """
    line, _, body = data.partition(b"\n")
    try:
        header = json.loads(line)
        return header, int(header["start"]), int(header["stop"]), body
    except (ValueError, KeyError, TypeError, OverflowError):
        raise InvalidArgument(
            "the KV data has no header; give the bytes that Cache.export returned"
        ) from None


def check_header(
    header: dict[str, Any], expected: dict[str, Any], body: bytes, nbytes: int, held: int
) -> None:
    """Raises InvalidArgument where the data is not `expected` with `nbytes` bytes behind the tokens held."""
    if header != expected or header["start"] != held or len(body) != nbytes:
        raise InvalidArgument(
            f"KV data {header} with {len(body)} bytes does not follow on {held} tokens of this model "
            f"({expected}, {nbytes} bytes); export it from the same artifact"
        )
