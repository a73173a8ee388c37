"""Target: how large the weights may be, from bits per weight or from the size of the whole artifact."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from edge.artifact import ModelSpec
from edge.errors import InvalidArgument
from export.architecture.expected import expected_tensors
from export.fit.allocation import Allocation, Option, allocations, best_within
from export.fit.matrices import Matrix, matrices
from export.fit.options import options, stored_bytes
from export.fit.sensitivity import Sensitivity
from export.quantize import Precision

_UNITS = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}
# Graph, index, manifest and fidelity report: a few hundred bytes a node and more a layer.
_FILES, _FILES_PER_LAYER = 350_000, 12_000
_LEAST_BITS = 2


def parse_size(text: str) -> int:
    """Bytes of a size such as 900MB or 1.5GiB.

    Raises:
        InvalidArgument
    """
    match = re.fullmatch(r"\s*(\d{1,12}(?:\.\d{1,6})?)\s*([kmg]i?b)?\s*", text.lower())
    if match is None or not float(match[1]):
        raise InvalidArgument(f"size {text!r:.40} is none; give a number with a unit, such as 900MB")
    return int(float(match[1]) * _UNITS[match[2] or ""])


def other_bytes(spec: ModelSpec, text_bytes: int) -> int:
    """Bytes of an artifact that are not matrices: `text_bytes` of tokenizer and template, vectors, tables, graph."""
    vectors = sum(4 * math.prod(s) for s in expected_tensors(spec).values() if len(s) == 1)
    tables = 4 * spec.context * spec.head_dim
    # A tensor begins on a page: codes, scales and vectors, up to a dozen a layer.
    pages = 4096 * (12 * spec.layers + 8)
    return text_bytes + vectors + tables + pages + _FILES + _FILES_PER_LAYER * spec.layers


def check_target(
    spec: ModelSpec, engine: str, bits: float | None, size: int | None, other: int, source_bytes: int
) -> int:
    """Bytes that matrices may take, for `bits` per weight, or for `size` bytes of everything.

    Raises:
        InvalidArgument: both or neither is given, or it is too small or more than the source has.
    """
    every = matrices(spec)
    weights = sum(m.rows * m.inputs for m in every)
    allowed = options(engine)
    least, most = (
        sum(pick(stored_bytes(m, p, engine) for p in allowed) for m in every) for pick in (min, max)
    )
    if bits is not None:
        if not math.isfinite(bits) or bits < _LEAST_BITS or 8 * least > bits * weights * 1.0005:
            raise InvalidArgument(
                f"{bits:g} bits per weight are too few for engine {engine}; "
                f"it needs {_up(8 * least / weights)} at least"
            )
        wanted = int(bits * weights / 8)
        if wanted > min(most * 1.01, source_bytes):
            raise InvalidArgument(
                f"{bits:g} bits per weight are more than "
                + (
                    f"the {8 * source_bytes / weights:.2f} of the source; choose fewer"
                    if wanted > source_bytes
                    else f"the {8 * most / weights:.2f} that engine {engine} has a use for; take --weights fp16 or fp32"
                )
            )
        return max(wanted, least)
    assert size is not None
    if size - other < least:
        raise InvalidArgument(
            f"a size of {size / 1e6:.1f} MB is too small for this model on engine {engine}; "
            f"it takes {math.ceil((least + other) / 1e5) / 10:.1f} MB at least"
        )
    if size > source_bytes + other:
        raise InvalidArgument(
            f"a size of {size / 1e6:.1f} MB is more than the source has, {source_bytes / 1e6:.1f} MB; choose less"
        )
    return size - other


def allocate(
    spec: ModelSpec,
    engine: str,
    sensitivities: Mapping[str, Sensitivity],
    grids: Mapping[str, Precision],
    nbytes: int,
) -> tuple[dict[str, Precision], list[tuple[int, float]]]:
    """A precision for each matrix by tensor name without `.weight`, and the curve of (bytes, expected KL), thinned.

    A matrix costs nothing in a precision that holds what it is in the source, see `grids`.
    """
    every = matrices(spec)
    choices = {m.name: _choices(m, engine, sensitivities[m.name], grids.get(m.name)) for m in every}
    best = best_within(choices, nbytes)
    assert best is not None, "the target was checked"
    tensors = {name: best.precisions[m.name] for m in every for name in m.tensors}
    return tensors, _thinned(allocations(choices))


def _choices(matrix: Matrix, engine: str, sensitivity: Sensitivity, grid: Precision | None) -> list[Option]:
    offered = options(engine)
    if grid is not None and grid not in offered:
        offered = (*offered, grid)

    def cost(precision: Precision) -> float:
        return 0.0 if grid is not None and precision.holds(grid) else sensitivity.cost(precision)

    return [Option(p, stored_bytes(matrix, p, engine), cost(p)) for p in offered]


def _thinned(curve: list[Allocation], points: int = 60) -> list[tuple[int, float]]:
    step = max(1, len(curve) // points)
    return [(a.nbytes, a.cost) for a in [*curve[::step], curve[-1]]]


def _up(bits: float) -> str:
    return f"{math.ceil(bits * 100) / 100:.2f}"
