"""Family: what sets one kind of decoder apart from another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edge.artifact.spec import ModelSpec


class Tensor(Protocol):
    """What a family may ask of a tensor of the checkpoint."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes in elements, rows first."""

    def read(self) -> npt.NDArray[np.float32]:
        """The whole tensor."""


@dataclass(frozen=True)
class Family:
    """One family of decoders, under every name it goes by.

    Both readers raise CheckpointCorrupt for a value that is missing or wrong, and Unsupported for an option
    that Edgewise does not know.
    """

    name: str
    model_types: tuple[str, ...]
    """`model_type` of config.json."""
    gguf_architectures: tuple[str, ...]
    """`general.architecture` of a GGUF."""
    spec_from_config: Callable[[Mapping[str, Any]], ModelSpec]
    spec_from_gguf: Callable[[Mapping[str, Any], Mapping[str, Tensor]], ModelSpec]
    """From the metadata and the tensors under their GGUF names."""
    interleaved: bool = False
    """GGUFs hold the rows of q and k pairwise: (i, i + head_dim/2) side by side."""
