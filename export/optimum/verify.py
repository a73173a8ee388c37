"""How far a graph is from torch, on the inputs that torch was asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from edge.errors import EngineFailed, Unsupported
from export.layerwise.session import open_session, running

TOLERANCE = 1e-3
"""Of the float graph: what is further from torch was not exported rightly."""
_IN, _OUT = "in.", "out."
_TOLD = "does not run the graph", "export it again with another version of optimum or of onnxruntime"

Array = NDArray[Any]


@dataclass(frozen=True)
class Reference:
    """Inputs of a graph, and what torch computes from them."""

    feeds: Mapping[str, Array]
    outputs: Mapping[str, Array]

    @classmethod
    def read(cls, path: Path) -> Reference:
        """Read what the worker wrote.

        Raises:
            EngineFailed: it is none.
        """
        try:
            # Opened here: np.load leaves a file open that is none of its own.
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        except (OSError, ValueError, EOFError, BadZipFile) as e:
            raise EngineFailed(f"optimum left no outputs of torch in {path.name} ({e}); try again") from None
        return cls(
            {name.removeprefix(_IN): value for name, value in arrays.items() if name.startswith(_IN)},
            {name.removeprefix(_OUT): value for name, value in arrays.items() if name.startswith(_OUT)},
        )


def graph_errors(path: Path, references: Sequence[Reference]) -> dict[str, float]:
    """By output, how far the graph at `path` is from torch on the worst of `references`; see `relative_error`.

    Raises:
        Unsupported: an output that torch does not have, or of another shape.
        EngineFailed, MissingExtra
    """
    session = open_session(str(path), told=_TOLD)
    names = [value.name for value in session.get_outputs()]
    taken = {value.name for value in session.get_inputs()}
    errors = dict.fromkeys(names, 0.0)
    for reference in references:
        feeds = {name: value for name, value in reference.feeds.items() if name in taken}
        with running(_TOLD):
            found = session.run(names, feeds)
        for name, value in zip(names, found, strict=True):
            wanted = reference.outputs.get(name)
            if wanted is None or wanted.shape != value.shape:
                shape = "no such output" if wanted is None else f"shape {list(wanted.shape)}"
                raise Unsupported(
                    f"{path.name}: output {name} has shape {list(value.shape)} where torch has {shape}; "
                    "choose another --task"
                )
            errors[name] = max(errors[name], relative_error(value, wanted))
    return errors


def check_float(name: str, errors: Mapping[str, float]) -> None:
    """Refuse a float graph that is not what torch computes.

    Raises:
        Unsupported: naming the output that is the furthest.
    """
    # Written so that NaN is refused.
    wrong = {output: error for output, error in errors.items() if not error <= TOLERANCE}
    if wrong:
        output = max(wrong, key=lambda key: wrong[key])
        raise Unsupported(
            f"the exported graph {name} is not what torch computes: {output} is {wrong[output]:.2g} away, relative "
            f"to its size, and {TOLERANCE:g} is allowed; choose another --task, or another version of optimum"
        )


def relative_error(found: Array, wanted: Array) -> float:
    """|found − wanted| ÷ |wanted|, Euclidean norms over the whole output; of an output that is all zero |found|."""
    if not wanted.size:
        return 0.0
    exact = wanted.astype(np.float64)
    size = float(np.linalg.norm(exact))
    distance = float(np.linalg.norm(found.astype(np.float64) - exact))
    return distance / size if size else distance
