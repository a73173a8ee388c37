"""Fidelity: how far an artifact's predictions are from those of its model in full precision."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from export.evaluate.evaluate import evaluate
    from export.evaluate.report import FidelityReport

__all__ = ["FidelityReport", "evaluate"]

_HOME = {"FidelityReport": "report", "evaluate": "evaluate"}


def __getattr__(name: str) -> Any:
    # Imported when first asked for: the arithmetic alone needs no engine.
    if name not in _HOME:
        raise AttributeError(f"module 'export.evaluate' has no attribute {name!r}")
    return getattr(import_module(f"export.evaluate.{_HOME[name]}"), name)
