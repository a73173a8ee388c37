"""Fields: named values of a configuration, each checked for type and range as it is read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from edge.errors import CheckpointCorrupt

MAX_SIZE = 2**31 - 1
_MISSING = object()


class Fields:
    """A read-only view of config.json or of a GGUF's metadata.

    Every reader raises CheckpointCorrupt, naming `source` and the key, for a value that is missing without a
    `default`, of another type, or out of range. A null counts as missing unless a reader says otherwise.
    """

    def __init__(self, source: str, values: Mapping[str, Any], prefix: str = "") -> None:
        self.source = source
        self.prefix = prefix
        self._values = values

    def __contains__(self, key: str) -> bool:
        return self._values.get(self.prefix + key) is not None

    def is_null(self, key: str) -> bool:
        """Whether `key` is there, as null."""
        return self.prefix + key in self._values and key not in self

    def raw(self, key: str) -> Any:
        """The value as it is, None where there is none."""
        return self._values.get(self.prefix + key)

    def integer(self, key: str, default: Any = _MISSING, *, least: int = 1, most: int = MAX_SIZE) -> int:
        """A whole number from `least` to `most`."""
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self.wrong(key, value, f"a whole number from {least} to {most}")
        return value

    def number(self, key: str, default: Any = _MISSING, *, least: float = 0.0, above: bool = True) -> float:
        """A finite number above `least`, or from it on where `above` is false."""
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.wrong(key, value, "a number")
        try:
            result = float(value)
        except OverflowError:
            result = math.inf
        if not math.isfinite(result) or result < least or (above and result == least):
            raise self.wrong(key, value, f"a finite number {'above' if above else 'of at least'} {least:g}")
        return result

    def flag(self, key: str, default: Any = _MISSING) -> bool:
        """True or false."""
        value = self._get(key, default)
        if not isinstance(value, bool):
            raise self.wrong(key, value, "true or false")
        return value

    def text(self, key: str, default: Any = _MISSING) -> str:
        """A string."""
        value = self._get(key, default)
        if not isinstance(value, str):
            raise self.wrong(key, value, "a string")
        return value

    def inner(self, key: str) -> Fields | None:
        """The object under `key`; None where it is missing or empty."""
        value = self.raw(key)
        if value is None or value == {}:
            return None
        if not isinstance(value, dict):
            raise self.wrong(key, value, "an object")
        return Fields(f"{self.source}: {key}", value)

    def wrong(self, key: str, value: Any, expected: str) -> CheckpointCorrupt:
        """The error that says what is wrong with a value."""
        shown = repr(value)
        if len(shown) > 80:
            shown = shown[:77] + "..."
        return CheckpointCorrupt(
            f"{self.source}: {self.prefix + key} is {shown}, expected {expected}; "
            "get the checkpoint again from its publisher, or correct the value"
        )

    def _get(self, key: str, default: Any) -> Any:
        value = self.raw(key)
        if value is not None:
            return value
        if default is _MISSING:
            raise CheckpointCorrupt(
                f"{self.source}: {self.prefix + key} is missing; get the checkpoint again from its publisher"
            )
        return default
