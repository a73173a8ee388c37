"""Layer by layer: run on what quantized layers before it give, and quantized for what its matrices are seen to take."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from edge.artifact import ModelSpec
from edge.errors import TensorError
from export.architecture.decoder import head_name
from export.fit.choice import best_quantized, off
from export.fit.fitted import FittedWeights
from export.fit.folding import fold
from export.fit.matrices import matrices
from export.fit.work import Work
from export.graph.checkpoint_weights import CheckpointWeights
from export.layerwise import ArrayWeights, Dequantized, Head, Layer, embedded, layer_arrays, whole
from export.quantize import Inputs, Recipe
from export.quantize.method import Rows

KEPT = "kept"
"""The method of what was not quantized, since the checkpoint has it as codes."""
_STATE = "layers.json"
# Of so many windows one is kept from the fitting, to choose between methods.
_UNSEEN_EVERY = 8


class LayerFit:
    """Fits every matrix of a model and keeps what it found in `work`."""

    def __init__(
        self,
        spec: ModelSpec,
        recipe: Recipe,
        source: CheckpointWeights,
        work: Work,
        methods: Sequence[str],
        *,
        folded: bool,
        done: Callable[[int], None],
    ) -> None:
        """`methods` are tried for each matrix that `source` does not keep; `folded` puts AWQ's factors before them.

        `done` is told the weights that were fitted since the last call.
        """
        self._spec, self._recipe, self._source, self._work = spec, recipe, source, work
        self._methods, self._folded, self._done = methods, folded, done
        self._executor = ThreadPoolExecutor(len(os.sched_getaffinity(0)))
        # Error of outputs relative to the outputs, on the inputs that were fitted to, and the method.
        self.report: dict[str, dict[str, float | str]] = {}

    def run(self, windows: np.ndarray, last: Rows | None) -> None:
        """Fit all layers on windows of tokens int64 [n, tokens], and the head.

        Where the head is the embedding it comes first, for `last`, the full-precision model's hidden states behind the
        last layer, float32 [n, tokens, hidden_size]; elsewhere `last` is not needed.

        Raises:
            TensorError: the checkpoint computes numbers that are not finite.
            EngineFailed, StorageError
        """
        spec, work = self._spec, self._work
        state = work.read(_STATE) or {"layers": 0, "report": {}}
        self.report = state["report"]
        head = Head(spec, self._source)
        if spec.tied:
            assert last is not None
            self._fit_head(head, last)
        fitted = Dequantized(FittedWeights(work, self._source), self._recipe)
        hidden = work.array("hidden")
        if state["layers"] == 0 or hidden is None:
            state["layers"] = 0
            hidden = embedded(fitted, windows)
        for layer in range(spec.layers):
            count = sum(m.rows * m.inputs for m in matrices(spec) if m.layer == layer)
            if layer >= state["layers"]:
                hidden = self._fit_layer(layer, np.asarray(hidden))
                work.store("hidden", hidden)
                state = {"layers": layer + 1, "report": self.report}
                work.write(_STATE, state)
            self._done(count)
        if not spec.tied:
            self._fit_head(head, np.asarray(hidden))
        self._executor.shutdown()

    def _fit_layer(self, layer: int, hidden: Rows) -> Rows:
        spec, work = self._spec, self._work
        arrays = layer_arrays(spec, self._source, layer)
        mine = [matrix for matrix in matrices(spec) if matrix.layer == layer]
        with Layer(spec, layer, ArrayWeights(arrays), hidden.shape[1], work.path, taps=["inputs"]) as run:
            seen, unseen = _watch(run, hidden)
        if self._folded:
            kept = {name for name in arrays if arrays[name].ndim > 1 and self._source.keeps(name)}
            changed = fold(spec, layer, arrays, seen, self._recipe, kept)
            for name in changed:
                if arrays[name].ndim == 1:
                    work.store_vector(name, arrays[name])
            if changed:
                with Layer(
                    spec, layer, ArrayWeights(arrays), hidden.shape[1], work.path, taps=["inputs"]
                ) as run:
                    seen, unseen = _watch(run, hidden)
        for matrix in mine:
            for name in matrix.tensors:
                key = f"{name}.weight"
                arrays[key] = self._fit(key, arrays[key], seen[matrix.name], unseen[matrix.name])
            del seen[matrix.name], unseen[matrix.name]
        with Layer(spec, layer, ArrayWeights(arrays), hidden.shape[1], work.path) as run:
            return np.stack([run.run(window)[0] for window in hidden])

    def _fit(self, key: str, rows: Rows, seen: Inputs, unseen: Inputs) -> Rows:
        """Quantize and keep a matrix; the weights that its codes stand for."""
        if self._source.keeps(key):
            self.report[key] = {"method": KEPT, "error": 0.0}
            return rows
        precision = self._recipe.of(key)
        found, method = best_quantized(self._methods, rows, precision, seen, unseen, self._executor)
        self._work.store_codes(key, found)
        wrong = off(found, rows, precision)
        size = unseen.error(rows)
        if not np.isfinite(size):
            raise TensorError(_no_numbers(key))
        self.report[key] = {"method": method, "error": unseen.error(wrong) / size if size else 0.0}
        return rows + wrong

    def _fit_head(self, head: Head, last: Rows) -> None:
        key = f"{head_name(self._spec)}.weight"
        if key in self.report and (self._source.keeps(key) or self._work.codes(key) is not None):
            return
        seen, unseen = (Inputs.seen(head.normed(part.reshape(-1, part.shape[-1]))) for part in _split(last))
        self._fit(key, whole(self._source, key), seen, unseen)


def _split(hidden: Rows) -> tuple[Rows, Rows]:
    """Windows to fit to, and windows to choose by; the same where there are few."""
    if len(hidden) < _UNSEEN_EVERY:
        return hidden, hidden
    kept = np.arange(len(hidden)) % _UNSEEN_EVERY == _UNSEEN_EVERY - 1
    return hidden[~kept], hidden[kept]


def _watch(run: Layer, hidden: Rows) -> tuple[dict[str, Inputs], dict[str, Inputs]]:
    """What the matrices of a layer take, over the windows to fit to and over those to choose by."""
    found = []
    for part in _split(hidden):
        sums: dict[str, Rows] = {}
        for window in part:
            for name, x in run.run(window)[1].inputs.items():
                with np.errstate(over="ignore", invalid="ignore"):
                    moments = x.T @ x
                    sums[name] = sums[name] + moments if name in sums else moments
        count = np.float32(part.shape[0] * part.shape[1])
        for name, moments in sums.items():
            if not np.isfinite(moments).all():
                raise TensorError(_no_numbers(name))
        found.append({name: Inputs(moments / count) for name, moments in sums.items()})
    return found[0], found[1]


def _no_numbers(name: str) -> str:
    return (
        f"what {name} takes or gives are no finite numbers on the calibration text; "
        "check the checkpoint, or export with --method rtn"
    )
