"""Strict reading of JSON into frozen dataclasses: nothing missing or unknown, every type as declared."""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Iterable
from dataclasses import MISSING, fields
from typing import Any, TypeVar

from edge.errors import ArtifactCorrupt

T = TypeVar("T")

# Counts are bytes or elements: what a file or an address can reach.
_LARGEST_COUNT = (1 << 63) - 1
_DEEPEST = 8

_ALLOWED: dict[str, tuple[type, ...]] = {
    "bool": (bool,),
    "int": (int,),
    "float": (int, float),
    "str": (str,),
    "RopeKind": (str,),
}


def parse_json(text: str) -> Any:
    """The value of a JSON text, all its numbers finite.

    Raises:
        ValueError: it is not JSON, holds NaN or Infinity, or nests without end.
    """
    try:
        return json.loads(text, parse_float=_finite, parse_constant=_finite)
    except RecursionError:
        raise ValueError("it nests too deeply") from None


def read_object(where: str, data: Any) -> dict[str, Any]:
    """`data` as a dict.

    Raises:
        ArtifactCorrupt: it is something else.
    """
    if not isinstance(data, dict):
        raise ArtifactCorrupt(_wrong(where, data, "an object"))
    return data


def read_free_object(where: str, data: Any) -> dict[str, Any]:
    """`data` as a dict with any keys, nested a few levels at most: whatever prints it need not fear.

    Raises:
        ArtifactCorrupt: it is something else, or nests deeper.
    """
    level: list[Any] = [read_object(where, data)]
    for _ in range(_DEEPEST):
        inner = [v.values() if isinstance(v, dict) else v for v in level if isinstance(v, (dict, list))]
        level = [value for values in inner for value in values]
    if level:
        raise ArtifactCorrupt(
            f"edge.json: {where} nests deeper than {_DEEPEST} levels; export the artifact again"
        )
    return read_object(where, data)


def read_list(where: str, data: Any) -> list[Any]:
    """`data` as a list.

    Raises:
        ArtifactCorrupt: it is something else.
    """
    if not isinstance(data, list):
        raise ArtifactCorrupt(_wrong(where, data, "a list"))
    return data


def read_dataclass(cls: type[T], where: str, data: Any) -> T:
    """A `cls` from a JSON object; nested dataclasses must have been read already.

    Raises:
        ArtifactCorrupt: a key is missing, unknown or of the wrong type.
    """
    known = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for key, value in read_object(where, data).items():
        if key not in known:
            raise ArtifactCorrupt(
                f"edge.json: {where} has an unknown key {shown(key)}; export the artifact again"
            )
        values[key] = _value(f"{where}.{key}", str(known[key].type), value)
    missing = [name for name, f in known.items() if f.default is MISSING and name not in values]
    if missing:
        raise ArtifactCorrupt(f"edge.json: {where} lacks {', '.join(missing)}; export the artifact again")
    return cls(**values)


def read_dataclasses(cls: type[T], where: str, data: Any) -> tuple[T, ...]:
    """A `cls` for each object of a JSON list."""
    return tuple(read_dataclass(cls, f"{where}[{i}]", item) for i, item in enumerate(read_list(where, data)))


def _value(where: str, kind: str, value: Any) -> Any:
    if kind.startswith("tuple["):
        element = kind.removeprefix("tuple[").split(",")[0]
        if not isinstance(value, (list, tuple)):
            raise ArtifactCorrupt(_wrong(where, value, "a list"))
        return tuple(_each(where, element, value))
    if kind not in _ALLOWED:
        return value
    number: Any = value
    if not isinstance(value, _ALLOWED[kind]) or (isinstance(value, bool) and kind != "bool"):
        raise ArtifactCorrupt(_wrong(where, value, kind))
    if kind == "int" and not 0 <= number <= _LARGEST_COUNT:
        raise ArtifactCorrupt(_wrong(where, value, f"a count of at most {_LARGEST_COUNT}"))
    if kind == "float":
        try:
            return float(number)
        except OverflowError:
            raise ArtifactCorrupt(_wrong(where, value, "a finite number")) from None
    return value


def _each(where: str, kind: str, values: Iterable[Any]) -> Iterable[Any]:
    return (_value(f"{where}[{i}]", kind, value) for i, value in enumerate(values))


def _wrong(where: str, value: Any, expected: str) -> str:
    return f"edge.json: {where} is {shown(value)}, expected {expected}; export the artifact again"


def shown(value: Any) -> str:
    """A value of any size and depth, short enough for a message and without control characters."""
    return reprlib.repr(value)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is no finite number")
    return value
