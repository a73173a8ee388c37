"""Tables of the rotary embedding in float16, stored once for every form of the portable dialect."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge.artifact import ModelSpec
from export.graph.rope_table import rope_tables
from export.graph.weight_store import WeightStore
from export.graph.weights_file import Region

COS, SIN = "rope.cos", "rope.sin"


@dataclass(frozen=True)
class RopeTables:
    """Cosines and sines, both float16 [context, head_dim / 2]."""

    cos: Region
    sin: Region

    @classmethod
    def stored(cls, spec: ModelSpec, weights: WeightStore) -> RopeTables:
        """The tables of `spec`, written beside the weights."""
        cos, sin = (weights.constant(table.astype(np.float16)) for table in rope_tables(spec))
        return cls(cos, sin)
