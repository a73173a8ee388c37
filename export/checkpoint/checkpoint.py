"""Checkpoint: the source model, the same whatever it came in."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType

from edge.artifact.spec import ModelSpec
from export.checkpoint.tensor import LazyTensor
from export.checkpoint.text import TextFiles


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that has been checked: every tensor its spec calls for is there, and no other.

    A context manager; nothing may be read after it is closed.
    """

    source: str
    """As the user named it."""
    spec: ModelSpec
    tensors: Mapping[str, LazyTensor]
    """By Hugging Face name, in the order a run uses them."""
    text: TextFiles
    provenance: dict[str, str] = field(default_factory=dict)
    """Where it came from: `format`, and `quantization`, `name`, `license`, `repository`, `revision` where they
    are known."""

    @property
    def origin(self) -> str:
        """A hub id whole, of a path the last part: the folders of this machine are nobody else's business."""
        return os.path.basename(os.path.abspath(self.source)) if os.path.exists(self.source) else self.source

    def close(self) -> None:
        """Let go of the files. Tensors open theirs for each read, so there is nothing to do."""

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
