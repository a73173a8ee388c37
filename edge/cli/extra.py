"""Commands that need the exporter, which a board does not have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from edge.errors import MissingExtra

# What `pip install 'edgewise[export]'` brings.
_EXTRA = frozenset({"export", "gguf", "huggingface_hub", "ml_dtypes", "onnx", "safetensors"})


@contextmanager
def needs_exporter(command: str) -> Iterator[None]:
    """Around the import and the use of the exporter by `edge COMMAND`.

    Raises:
        MissingExtra: a part of it is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as e:
        missing = (e.name or "").split(".")[0]
        if missing not in _EXTRA:
            raise
        raise MissingExtra(
            f"edge {command} needs {missing}, which is not installed; "
            "install it with: pip install 'edgewise[export]'"
        ) from None
