"""fit(): a checkpoint, an effort and perhaps a target become weights that were chosen for what the model reads."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.checkpoint import Checkpoint
from export.fit.effort import Effort
from export.fit.fitted import FittedWeights
from export.fit.layers import LayerFit
from export.fit.matrices import matrices
from export.fit.options import options
from export.fit.sensitivity import Sensitivity, measure
from export.fit.talk import own_windows
from export.fit.target import allocate
from export.fit.text import CalibrationTokens
from export.fit.work import Work
from export.graph.checkpoint_weights import CheckpointWeights
from export.graph.weight_source import WeightSource
from export.layerwise import full_precision
from export.progress import Counter, Progress
from export.quantize import AUTO, Precision, Recipe

FITTING = "fitting"
"""Where in the provenance it says how weights were chosen."""
_SENSITIVITY = "sensitivity.json"
# Tokens of a window that sensitivity is measured on: more cost time, and say the same.
_PROBED = 256


@dataclass(frozen=True)
class Plan:
    """What a fitting is to do."""

    recipe: Recipe
    method: str
    effort: Effort
    engine: str
    nbytes: int | None
    """What matrices may take where bits go where they matter; None: all as the recipe says."""
    grids: Mapping[str, Precision] = field(default_factory=dict)
    """What the source has as codes, which stay where the recipe holds them; by the names of `matrices`."""


@dataclass(frozen=True)
class Fit:
    """What came of it."""

    recipe: Recipe
    weights: WeightSource
    provenance: dict[str, Any]
    curve: list[tuple[int, float]]
    """(bytes of matrices, expected KL in nats) of other targets; empty where sensitivity was not measured."""


def fit(checkpoint: Checkpoint, plan: Plan, tokens: CalibrationTokens, work: Work, progress: Progress) -> Fit:
    """Choose precisions and codes, in `work`, where what is done already is not done again.

    Raises:
        CheckpointError, EngineFailed, MissingExtra, StorageError
    """
    spec = checkpoint.spec
    if tokens.ours and plan.effort.talks:
        tokens = tokens.with_talk(_talk(checkpoint, plan.effort, work, progress))
    exact = CheckpointWeights(checkpoint.tensors, plan.recipe, lambda nbytes: None)
    recipe = replace(plan.recipe, method=_stored_method(plan))
    curve: list[tuple[int, float]] = []
    if plan.nbytes is not None:
        tensors, curve = _allocated(checkpoint, plan, exact, tokens, work, progress)
        recipe = replace(recipe, tensors=_exceptions(recipe.precision, tensors))
    source = CheckpointWeights(
        checkpoint.tensors, replace(recipe, method="rtn"), lambda nbytes: None, keep=bool(plan.grids)
    )
    last = _last_hidden(checkpoint, exact, tokens, work, progress) if spec.tied else None
    weights = sum(m.rows * m.inputs for m in matrices(spec) if m.layer is not None)
    methods, folded = _candidates(plan)
    layers = LayerFit(
        spec,
        recipe,
        source,
        work,
        methods,
        folded=folded,
        done=Counter(progress, "quantize", weights).add,
    )
    layers.run(tokens.windows, last)
    used = [str(entry["method"]) for entry in layers.report.values()]
    provenance = {
        **tokens.provenance,
        "effort": plan.effort.name,
        "method": plan.method,
        "methods": {method: used.count(method) for method in sorted(set(used))},
    }
    return Fit(recipe, FittedWeights(work, source), provenance, curve)


def identity(checkpoint: Checkpoint) -> str:
    """What tells a checkpoint from others, also of the same shape: a digest of its tensors' sizes and first rows."""
    digest = hashlib.sha256()
    for name, tensor in checkpoint.tensors.items():
        digest.update(f"{name} {tensor.shape} {tensor.dtype} {tensor.nbytes}\n".encode())
        digest.update(np.ascontiguousarray(tensor.rows(0, 1)).tobytes())
    return digest.hexdigest()


def _talk(checkpoint: Checkpoint, effort: Effort, work: Work, progress: Progress) -> NDArray[np.int64]:
    talk = work.array("talk")
    if talk is None:
        talk = own_windows(checkpoint, effort.talks, work.path, progress)
        work.store("talk", talk)
    return np.asarray(talk)


def _allocated(
    checkpoint: Checkpoint,
    plan: Plan,
    exact: WeightSource,
    tokens: CalibrationTokens,
    work: Work,
    progress: Progress,
) -> tuple[Mapping[str, Precision], list[tuple[int, float]]]:
    assert plan.nbytes is not None
    spec = checkpoint.spec
    measured = work.read(_SENSITIVITY)
    if measured is None:
        # From the middle of the text, where it is nobody's favourite beginning.
        middle = len(tokens.windows) // 2
        windows = tokens.windows[middle : middle + plan.effort.probes, -_PROBED:]
        tell = Counter(progress, "sensitivity", spec.layers)
        found = measure(spec, exact, windows, options(plan.engine), plan.grids, work.path, tell.add)
        measured = {name: _to_json(sensitivity) for name, sensitivity in found.items()}
        work.write(_SENSITIVITY, measured)
    sensitivities = {name: _from_json(entry) for name, entry in measured.items()}
    return allocate(spec, plan.engine, sensitivities, plan.grids, plan.nbytes)


def _last_hidden(
    checkpoint: Checkpoint, exact: WeightSource, tokens: CalibrationTokens, work: Work, progress: Progress
) -> np.ndarray:
    last = work.array("last")
    if last is None:
        tell = Counter(progress, "calibrate", checkpoint.spec.layers)
        last = full_precision(checkpoint.spec, exact, tokens.windows, work.path, tell.add)
        work.store("last", last)
    return np.asarray(last)


def _candidates(plan: Plan) -> tuple[tuple[str, ...], bool]:
    """The methods to try for each matrix, and whether AWQ's factors come before them."""
    if plan.method == AUTO:
        return plan.effort.candidates, True
    if plan.method.startswith("awq"):
        return (plan.method.removeprefix("awq").removeprefix("+") or "rtn",), True
    return (plan.method,), False


def _stored_method(plan: Plan) -> str:
    if plan.method != AUTO:
        return plan.method
    return f"awq+{plan.effort.candidates[0]}"


def _exceptions(usual: Precision, tensors: Mapping[str, Precision]) -> dict[str, Precision]:
    return {name: precision for name, precision in tensors.items() if precision != usual}


def _to_json(sensitivity: Sensitivity) -> dict[str, Any]:
    errors = [[precision.to_json(), error] for precision, error in sensitivity.errors.items()]
    return {"kl": sensitivity.kl, "errors": errors, "probe": sensitivity.probe.to_json()}


def _from_json(entry: Mapping[str, Any]) -> Sensitivity:
    errors = {Precision(**how): error for how, error in entry["errors"]}
    return Sensitivity(entry["kl"], errors, Precision(**entry["probe"]))
