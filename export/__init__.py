"""The exporter: checkpoint → artifact, and artifact → artifact for another engine."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from export.conversion import ConvertReport, convert
    from export.pipeline import ExportReport, export

__all__ = ["ConvertReport", "ExportReport", "convert", "export"]

# Imported when first asked for: what a config.json says is read without the libraries that write an artifact.
_HOME = {
    "ConvertReport": "export.conversion",
    "convert": "export.conversion",
    "ExportReport": "export.pipeline",
    "export": "export.pipeline",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'export' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOME[name]), name)
    return value
