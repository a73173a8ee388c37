"""ONNX Runtime's own reports of its use: switched off before it is loaded, so that nothing leaves the board."""

from __future__ import annotations

import os
from importlib.util import find_spec
from mmap import ACCESS_READ, mmap
from pathlib import Path

VARIABLE = "ORT_DISABLE_TELEMETRY"
_OFF = ("", "0", "false", "no", "off")
_COLLECTOR = b"events.data.microsoft.com"


def silence() -> None:
    """Have an onnxruntime that is imported from now on report nothing; who has set the variable keeps it so.

    From 1.29 on the wheels for Linux upload how they are used, write an identifier below ~/.cache and read this
    variable once, when they are loaded (onnxruntime#27379); the call of their API that stops it later leaves a report
    of the process out.
    """
    os.environ.setdefault(VARIABLE, "1")


def is_silenced() -> bool:
    """Whether an onnxruntime that is loaded now would report nothing."""
    return os.environ.get(VARIABLE, "").strip().lower() not in _OFF


def can_report() -> bool | None:
    """Whether the installed onnxruntime has what uploads reports; None where it is not found, or unreadable.

    Read from its library, where the collector's address is: no version says it, since builds differ.
    """
    found = find_spec("onnxruntime")
    if found is None or found.origin is None:
        return None
    libraries = sorted(Path(found.origin).with_name("capi").glob("*onnxruntime*.so*"))
    try:
        return any(_holds(library, _COLLECTOR) for library in libraries)
    except (OSError, ValueError):
        return None


def _holds(path: Path, text: bytes) -> bool:
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        return data.find(text) >= 0
