"""Sizes as people write them."""

from __future__ import annotations

import re

from edge.errors import InvalidArgument

_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)\s*(?:([KMGT])(i?))?B?", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def size_text(nbytes: int) -> str:
    """As it is told what there is: `5.1 GiB`, or below one `812 MiB`; rounded down."""
    return f"{nbytes * 10 // 2**30 / 10:.1f} GiB" if nbytes >= 1 << 30 else f"{nbytes >> 20} MiB"


def parse_size(text: str) -> int:
    """Bytes of `6GiB`, `6G` (both 1024³), `6GB` (1000³) or `6442450944`.

    Raises:
        InvalidArgument: it is no size.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise InvalidArgument(f"{text!r} is no size; write for example 6GiB, 512MiB or a number of bytes")
    number, unit, binary = match.groups()
    decimal = text.strip()[-1] in "bB" and not binary
    return int(float(number) * (1000 if decimal else 1024) ** _POWERS[(unit or "").lower()])
