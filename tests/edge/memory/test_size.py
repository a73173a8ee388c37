from __future__ import annotations

import pytest

from edge.errors import InvalidArgument
from edge.memory.size import parse_size


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [
        ("6GiB", 6 << 30),
        ("6G", 6 << 30),
        ("6GB", 6 * 10**9),
        ("512 MiB", 512 << 20),
        ("1.5gib", 3 << 29),
        ("0.5k", 512),
        ("1048576", 1 << 20),
        ("17B", 17),
        (" 2TiB ", 2 << 40),
    ],
)
def test_sizes(text: str, nbytes: int) -> None:
    assert parse_size(text) == nbytes


@pytest.mark.parametrize(
    "text", ["", "six", "-1GiB", "1e9", "6 Gibi", "GiB", "1..5G", "٦GiB", "nan", "6iB", "9" * 400]
)
def test_no_sizes(text: str) -> None:
    with pytest.raises(InvalidArgument, match="is no size; write for example 6GiB"):
        parse_size(text)
