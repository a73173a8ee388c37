"""Strict reading of JSON objects into frozen dataclasses: nothing missing, nothing unknown, every type as declared."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import Any, TypeVar

from edge.errors import ArtifactCorrupt

T = TypeVar("T")

_SCALARS: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "str": (str,),
    "RopeKind": (str,),
}


def read_object(where: str, data: Any) -> dict[str, Any]:
    """`data` as a dict.

    Raises:
        ArtifactCorrupt: it is something else.
    """
    if not isinstance(data, dict):
        raise ArtifactCorrupt(_wrong(where, data, "an object"))
    return data


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
            raise ArtifactCorrupt(f"edge.json: {where} has an unknown key {key!r}; export the artifact again")
        values[key] = _value(f"{where}.{key}", str(known[key].type), value)
    try:
        return cls(**values)
    except TypeError as e:
        raise ArtifactCorrupt(f"edge.json: {where} is incomplete ({e}); export the artifact again") from None


def read_dataclasses(cls: type[T], where: str, data: Any) -> tuple[T, ...]:
    """A `cls` for each object of a JSON list."""
    return tuple(read_dataclass(cls, f"{where}[{i}]", item) for i, item in enumerate(read_list(where, data)))


def _value(where: str, kind: str, value: Any) -> Any:
    if kind.startswith("tuple["):
        element = kind.removeprefix("tuple[").split(",")[0]
        if not isinstance(value, (list, tuple)):
            raise ArtifactCorrupt(_wrong(where, value, "a list"))
        return tuple(_each(where, element, value))
    if kind == "bool":
        allowed: tuple[type, ...] = (bool,)
    elif kind in _SCALARS:
        allowed = _SCALARS[kind]
    else:
        return value
    if not isinstance(value, allowed) or (isinstance(value, bool) and kind != "bool"):
        raise ArtifactCorrupt(_wrong(where, value, kind))
    if kind == "int" and value < 0:
        raise ArtifactCorrupt(_wrong(where, value, "a count"))
    return float(value) if kind == "float" else value


def _each(where: str, kind: str, values: Iterable[Any]) -> Iterable[Any]:
    return (_value(f"{where}[{i}]", kind, value) for i, value in enumerate(values))


def _wrong(where: str, value: Any, expected: str) -> str:
    return f"edge.json: {where} is {str(value)[:60]!r}, expected {expected}; export the artifact again"
