"""Loading what a command generates text with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.artifact import open_artifact

if TYPE_CHECKING:
    from edge.model import Model


def load_decoder(artifact: Path, loading: Mapping[str, Any]) -> Model:
    """The model in `artifact`, with what `edge.load` takes.

    Raises:
        NotADecoder: it holds other graphs.
        EdgeError: as `edge.load`.
    """
    import edge

    open_artifact(artifact, check_files=False)
    model: Model = edge.load(artifact, **loading)
    return model
