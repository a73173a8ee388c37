"""Sensitivity: how much of the model's predictions an error in one matrix costs, measured with all others exact.

Each matrix is rounded by itself to 4 bits, in blocks of 32, or of 128 where it is codes already, and the KL divergence
from the unquantized model taken over a few windows. All variants of the model go through a layer together, so that each
layer is read once: the first of them goes off at the first layer, the last at the head. Near zero, KL grows with the
square of an error; what another precision would cost follows from its error of outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.artifact import ModelSpec
from export.fit.matrices import EMBEDDING, matrices
from export.graph.weight_source import WeightSource
from export.layerwise import ArrayWeights, Head, Layer, embedded, layer_arrays, whole
from export.quantize import Inputs, Precision
from export.quantize.method import Rows
from export.quantize.rtn import nearest

PROBE, COARSE = Precision(4, 32), Precision(4, 128)
# Rows of a matrix that errors are estimated on, rows rounded at once, and positions whose logits are held at once.
_SAMPLE = 128
_ROWS = 4096
_POSITIONS = 64


@dataclass(frozen=True)
class Sensitivity:
    """Of one matrix: the mean KL in nats that it costs, and the squared error of its outputs relative to them."""

    kl: float
    """Measured, of the matrix in `probe`."""
    errors: dict[Precision, float]
    """Estimated, by precision."""
    probe: Precision = PROBE

    def cost(self, precision: Precision) -> float:
        """The KL in nats that the matrix is expected to cost in `precision`."""
        return self.kl * self.errors[precision] / max(self.errors[self.probe], 1e-30)


def measure(
    spec: ModelSpec,
    source: WeightSource,
    windows: NDArray[np.int64],
    precisions: tuple[Precision, ...],
    grids: Collection[str],
    folder: Path,
    done: Callable[[int], None],
) -> dict[str, Sensitivity]:
    """The sensitivity of each matrix of `matrices(spec)`, by name, on windows of tokens int64 [n, tokens].

    Those of `grids` are codes in the source: PROBE might hold them, and tell nothing of what less would cost.
    `done` is called with 1 after each layer, and for the head with as many as there are matrices over all.
    """
    shape = (*windows.shape, spec.hidden_size)
    exact = embedded(source, windows)
    errors: dict[str, dict[Precision, float]] = {}
    every = matrices(spec)
    probes = {m.name: COARSE if m.name in grids else PROBE for m in every}
    table = whole(source, f"{EMBEDDING}.weight")
    wrong_table = _probed(table, probes[EMBEDDING])
    variants = {EMBEDDING: wrong_table[windows]}
    if not spec.tied:
        errors[EMBEDDING] = _errors([table], None, precisions)
        del wrong_table
    del table
    for layer in range(spec.layers):
        arrays = layer_arrays(spec, source, layer)
        with Layer(spec, layer, ArrayWeights(arrays), shape[1], folder, taps=["inputs"]) as run:
            outputs = [run.run(window) for window in exact]
            for name, hidden in variants.items():
                variants[name] = np.stack([run.run(window)[0] for window in hidden])
        for matrix in (m for m in every if m.layer == layer):
            seen = Inputs.seen(np.concatenate([heard.inputs[matrix.name] for _, heard in outputs]))
            mine = [arrays[f"{name}.weight"] for name in matrix.tensors]
            errors[matrix.name] = _errors(mine, seen, precisions)
            wrong = {
                f"{name}.weight": _probed(rows, probes[matrix.name])
                for name, rows in zip(matrix.tensors, mine, strict=True)
            }
            with Layer(spec, layer, ArrayWeights({**arrays, **wrong}), shape[1], folder) as run:
                variants[matrix.name] = np.stack([run.run(window)[0] for window in exact])
        exact = np.stack([hidden for hidden, _ in outputs])
        done(1)
    head = Head(spec, source)
    # What a tied embedding costs as a head weighs far more than what it costs as an embedding.
    last = EMBEDDING if spec.tied else every[-1].name
    errors[last] = _errors([head.matrix], Inputs.seen(head.normed(exact.reshape(-1, shape[2]))), precisions)
    if not spec.tied:
        variants[last] = exact
    wrong_head = Head(spec, source, wrong_table if spec.tied else _probed(head.matrix, probes[last]))
    kl = dict.fromkeys(variants, 0.0)
    flat = {name: hidden.reshape(-1, shape[2]) for name, hidden in variants.items()}
    exact = exact.reshape(-1, shape[2])
    for start in range(0, len(exact), _POSITIONS):
        part = slice(start, start + _POSITIONS)
        reference = _log_softmax(head.logits(exact[part]))
        likely = np.exp(reference)
        for name, hidden in flat.items():
            found = _log_softmax((wrong_head if name == last else head).logits(hidden[part]))
            kl[name] += float(np.vdot(likely, reference - found))
        done(len(flat))
    return {
        m.name: Sensitivity(max(kl[m.name], 0.0) / len(exact), errors[m.name], probes[m.name]) for m in every
    }


def _errors(
    parts: list[Rows], seen: Inputs | None, precisions: tuple[Precision, ...]
) -> dict[Precision, float]:
    """Squared errors of outputs relative to the outputs, by precision, from a sample of the rows of `parts`."""
    found: dict[Precision, float] = {}
    for precision in {*precisions, PROBE, COARSE}:
        wrong = size = 0.0
        for part in parts:
            rows = part[:: max(1, len(part) // _SAMPLE)]
            off = nearest(rows, precision) - rows
            wrong += seen.error(off) if seen else float(np.vdot(off, off))
            size += seen.error(rows) if seen else float(np.vdot(rows, rows))
        found[precision] = wrong / size if size else 0.0
    return found


def _probed(matrix: Rows, probe: Precision) -> Rows:
    """The weights that `matrix` has in `probe`, worked out a few rows at a time."""
    found = np.empty_like(matrix)
    for start in range(0, len(matrix), _ROWS):
        part = slice(start, start + _ROWS)
        found[part] = nearest(matrix[part], probe)
    return found


def _log_softmax(logits: Rows) -> Rows:
    logits = logits - logits.max(axis=-1, keepdims=True)
    logits -= np.log(np.exp(logits).sum(axis=-1, keepdims=True, dtype=np.float64)).astype(np.float32)
    return logits
