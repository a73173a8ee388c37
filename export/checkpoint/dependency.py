"""Libraries of the `export` extra, imported when a checkpoint needs them."""

from __future__ import annotations

import importlib
from typing import Any

from edge.errors import MissingExtra


def dependency(module: str) -> Any:
    """Import `module`.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as e:
        raise MissingExtra(
            f"reading this checkpoint needs {module.split('.')[0]} ({e}); "
            "install it with: pip install 'edgewise[export]'"
        ) from e
