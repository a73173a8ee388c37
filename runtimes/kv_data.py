"""What every cache checks of its tokens, and the header of the bytes that `Cache.export` gives."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from edge.artifact import KvGroup, ModelSpec
from edge.artifact.kv import immovable
from edge.artifact.pages import PAGE_TOKENS
from edge.errors import ContextExceeded, EngineError, InvalidArgument

_LONGEST_HEADER = 4096


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


def check_whole(start: int, stop: int) -> None:
    """Raises InvalidArgument where [start, stop) is not one block or several."""
    if start % PAGE_TOKENS or stop % PAGE_TOKENS or start == stop:
        raise InvalidArgument(f"tokens [{start}, {stop}) are not whole blocks of {PAGE_TOKENS}")


def check_slide(spec: ModelSpec, kv: Iterable[KvGroup], keep: int, drop: int, held: int) -> None:
    """Raises InvalidArgument or EngineError where `drop` tokens behind the first `keep` cannot be left out."""
    if keep:
        check_whole(0, keep)
    check_whole(keep, keep + drop)
    check_range(keep, keep + drop, held)
    if reason := immovable(spec, kv):
        raise EngineError(f"{reason}: its keys cannot be moved; choose at_limit stop or error")


def split_header(data: bytes | memoryview) -> tuple[dict[str, Any], int, int, memoryview]:
    """The header, its `start` and `stop`, and what follows.

    Raises:
        InvalidArgument: there is no such header.
    """
    end = bytes(data[:_LONGEST_HEADER]).find(b"\n") + 1
    try:
        header = json.loads(bytes(data[:end]))
        return header, int(header["start"]), int(header["stop"]), memoryview(data)[end:]
    except (ValueError, KeyError, TypeError, OverflowError):
        raise InvalidArgument(
            "the KV data has no header; give the bytes that Cache.export returned"
        ) from None


def check_header(
    header: dict[str, Any], expected: dict[str, Any], body: memoryview, nbytes: int, held: int
) -> None:
    """Raises InvalidArgument where the data is not `expected` with `nbytes` bytes behind the tokens held."""
    if header != expected or header["start"] != held or len(body) != nbytes:
        raise InvalidArgument(
            f"KV data {header} with {len(body)} bytes does not follow on {held} tokens of this model "
            f"({expected}, {nbytes} bytes); export it from the same artifact"
        )
