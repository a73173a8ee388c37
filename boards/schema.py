"""What a profile's file must be: every key known, every figure with its source; says which key and line is wrong."""

from __future__ import annotations

import math
import re
import reprlib
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from boards.board import ENGINES, PRECISIONS, Figure, Match, PowerMode, Profile, beyond
from boards.lines import line_of
from boards.tegra import RELEASES
from edge.errors import ProfileError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_ARCHS = ("x86_64", "aarch64", "any")
_FIGURE_KEYS = ("value", "source", "confirmed", "unit")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,59}")
_LONGEST_TEXT = 300
_LARGEST = 1e7

Read = Callable[[Any], Any]
"""Gives a value as it is kept, or raises _Wrong with what was expected."""


class _Wrong(Exception):
    """What was expected of a value."""

    def __init__(self, expected: str, inside: tuple[str | int, ...] = (), *, shown: bool = True) -> None:
        super().__init__(expected)
        self.inside = inside
        self.shown = shown


def _text(value: Any) -> str:
    if (
        not isinstance(value, str)
        or not value.strip()
        or not value.isprintable()
        or len(value) > _LONGEST_TEXT
    ):
        raise _Wrong(f"a line of text of at most {_LONGEST_TEXT} characters")
    return value


def _number(value: Any) -> float:
    good = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not good or not math.isfinite(value) or not 0 < value <= _LARGEST:
        raise _Wrong("a number above 0")
    return float(value)


def _switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _Wrong("true or false")
    return value


def _sm(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"\d{1,2}\.\d", value):
        raise _Wrong('a compute capability such as "8.7"')
    return value


def _list_of(read: Read, what: str) -> Read:
    def read_list(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list) or not value or len(value) > 32:
            raise _Wrong(f"a list of {what}")
        try:
            items = tuple(read(item) for item in value)
        except _Wrong:
            raise _Wrong(f"a list of {what}") from None
        if len(set(items)) < len(items):
            raise _Wrong(f"a list of {what}, each once")
        return items

    return read_list


def _among(*choices: Any) -> Read:
    def read(value: Any) -> Any:
        if isinstance(value, bool) or value not in choices:
            raise _Wrong(f"one of {', '.join(map(str, choices))}")
        return value

    return read


def _several(*choices: Any) -> Read:
    return _list_of(_among(*choices), f"{', '.join(map(str, choices))}")


def _sizes(value: Any) -> tuple[float, ...]:
    sizes: tuple[float, ...] = _list_of(_number, "numbers above 0")(
        value if isinstance(value, list) else [value]
    )
    return sizes


def _figure(read: Read) -> Read:
    def read_figure(value: Any) -> Figure[Any]:
        if not isinstance(value, dict):
            raise _Wrong('a figure such as { value = 8, source = "data sheet" }')
        for key in value:
            if key not in _FIGURE_KEYS:
                raise _Wrong(f"an unknown key; a figure has {', '.join(_FIGURE_KEYS)}", (key,), shown=False)
        for key in ("value", "source"):
            if key not in value:
                raise _Wrong('missing; say it: { value = ..., source = "..." }', (key,), shown=False)
        return Figure(
            _inside("value", read, value["value"]),
            _inside("source", _text, value["source"]),
            _inside("confirmed", _switch, value.get("confirmed", True)),
            _inside("unit", _text, value["unit"]) if "unit" in value else "",
        )

    return read_figure


def _inside(key: str, read: Read, value: Any) -> Any:
    try:
        return read(value)
    except _Wrong as e:
        raise _Wrong(str(e), (key, *e.inside), shown=e.shown) from None


_NAMES = _list_of(_text, "texts")
_NUMBER = _figure(_number)


def _peak(value: Any) -> Figure[float]:
    figure: Figure[float] = _NUMBER(value)
    if not figure.unit:
        raise _Wrong('missing; say what is counted: unit = "TOPS INT8 sparse"', ("unit",), shown=False)
    return figure


# Key: (how it is read, whether it must be there, the field of Profile that it becomes).
_TABLES: dict[str, dict[str, tuple[Read, bool, str]]] = {
    "": {
        "title": (_text, True, "title"),
        "arch": (_among(*_ARCHS), True, "arch"),
        "notes": (_NAMES, False, "notes"),
    },
    "memory": {
        "gb": (_figure(_sizes), True, "memory_gb"),
        "visible_gib": (_NUMBER, False, "visible_gib"),
        "unified": (_figure(_switch), True, "unified"),
        "bandwidth_gb_s": (_NUMBER, True, "bandwidth_gb_s"),
        "reserve_mib": (_NUMBER, True, "reserve_mib"),
    },
    "cpu": {"features": (_figure(_NAMES), True, "cpu")},
    "gpu": {
        "sm": (_figure(_sm), True, "sm"),
        "precisions": (_figure(_several(*PRECISIONS)), True, "precisions"),
        "peak": (_peak, False, "peak"),
    },
    "npu": {"precisions": (_figure(_several(*PRECISIONS)), True, "npu"), "peak": (_peak, False, "npu_peak")},
    "software": {
        "system": (_figure(_text), False, "system"),
        "l4t": (_figure(_several(*sorted({r.major for r in RELEASES}))), False, "l4t"),
        "engines": (_figure(_several(*ENGINES)), True, "engines"),
    },
}
_NEEDED = ("memory", "software")
_MODE: dict[str, tuple[Read, bool, str]] = {
    "name": (_text, True, "name"),
    "aliases": (_NAMES, False, "aliases"),
    "watts": (_NUMBER, False, "watts"),
    "bandwidth_gb_s": (_NUMBER, False, "bandwidth_gb_s"),
    "peak": (_peak, False, "peak"),
}
_MATCH: dict[str, tuple[Read, bool, str]] = {
    **{key: (_NAMES, False, key) for key in ("compatible", "model", "product", "gpu")},
    "power_mode": (_text, False, "power_mode"),
}


def read_profiles(text: str, path: Path, origin: str) -> tuple[Profile, ...]:
    """The profiles of one file: one, or one for each size of memory that it names.

    Raises:
        ProfileError: the text is no TOML, or no profile; it names the key and the line.
    """
    name = path.stem
    if not _NAME.fullmatch(name):
        raise ProfileError(
            f"{path}: the file's name is the board's: small letters, digits and '-'; rename it"
        )
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as e:
        why = str(e) or "it nests too deeply"
        raise ProfileError(f"{path}: it is no TOML: {why}; mend it, or move the file away") from None
    file = _File(path, text)
    values = file.table(data, (), _TABLES[""], tables=(*_TABLES, "power_modes", "match"))
    for table, keys in _TABLES.items():
        if table and (table in data or table in _NEEDED):
            values |= file.table(data.get(table, {}), (table,), keys)
    modes = data.get("power_modes", [])
    if not isinstance(modes, list):
        raise file.wrong(("power_modes",), modes, "tables that begin with [[power_modes]]")
    values["power_modes"] = tuple(
        PowerMode(**file.table(mode, ("power_modes", i), _MODE)) for i, mode in enumerate(modes)
    )
    values["match"] = Match(**file.table(data.get("match", {}), ("match",), _MATCH))
    if "sm" in values:
        for precision in beyond(values["precisions"].value, values["sm"].value):
            raise file.wrong(
                ("gpu", "precisions"), precision, f"only what a GPU of SM {values['sm'].value} multiplies"
            )
    return tuple(_sized(name, origin, values))


def _sized(name: str, origin: str, values: dict[str, Any]) -> Iterator[Profile]:
    sizes = values["memory_gb"]
    for size in sizes.value:
        several = len(sizes.value) > 1
        suffix, added = (f"-{size:g}gb", f" {size:g}GB") if several else ("", "")
        own = {**values, "memory_gb": replace(sizes, value=size), "title": values["title"] + added}
        yield Profile(name=name + suffix, origin=origin, **own)


class _File:
    """A profile's file, for messages about it."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._text = text

    def table(
        self,
        data: Any,
        where: tuple[str | int, ...],
        keys: Mapping[str, tuple[Read, bool, str]],
        tables: tuple[str, ...] = (),
    ) -> dict[str, Any]:
        """The values of a table by the fields that they become."""
        if not isinstance(data, dict):
            raise self.wrong(where, data, "a table")
        values = {}
        for key, value in data.items():
            if key in tables and key:
                continue
            if key not in keys:
                known = ", ".join([*keys, *filter(None, tables)])
                raise self._error((*where, key), f"is unknown; known here: {known}")
            read, _, field = keys[key]
            try:
                values[field] = read(value)
            except _Wrong as e:
                at = (*where, key, *e.inside)
                if not e.shown:
                    raise self._error(at, f"is {e}") from None
                for step in e.inside:
                    value = value[step]
                raise self.wrong(at, value, str(e)) from None
        for key, (_, needed, _) in keys.items():
            if needed and key not in data:
                raise self._error((*where, key), "is missing; see docs/boards.md for an example")
        return values

    def wrong(self, where: tuple[str | int, ...], value: Any, expected: str) -> ProfileError:
        """What was found, and what was expected."""
        return self._error(where, f"is {reprlib.repr(value)}, expected {expected}")

    def _error(self, where: tuple[str | int, ...], what: str) -> ProfileError:
        key = ""
        for part in where:
            key += f"[{part}]" if isinstance(part, int) else f".{part}" if key else part
        shown = key if key.isprintable() and len(key) < 80 else reprlib.repr(key)
        return ProfileError(f"{self._path}, line {line_of(self._text, where)}: {shown} {what}")
