"""What stands between a checkpoint and its variant: weights as the user wishes them, streamed or fitted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edge.errors import InvalidArgument, StorageError
from edge.version import VERSION
from export.calibration import CalibrationText
from export.checkpoint import Checkpoint
from export.fit.effort import Effort
from export.fit.fit import FITTING, Plan, fit, identity
from export.fit.target import check_target, other_bytes, parse_size
from export.fit.work import Work
from export.folder import locked
from export.graph.checkpoint_weights import STREAMED, CheckpointWeights
from export.graph.weight_source import WeightSource
from export.progress import Counter, Progress
from export.quantize import AUTO, METHODS, Recipe


@dataclass(frozen=True)
class Wish:
    """How the user wants weights to be chosen; checked as far as that goes without the checkpoint."""

    recipe: Recipe
    method: str
    effort: Effort
    bits: float | None
    size: int | None

    @classmethod
    def checked(
        cls, recipe: Recipe, method: str, effort: str, bits: float | None, size: int | str | None
    ) -> Wish:
        """Raises InvalidArgument for what is unknown, or does not go together."""
        if method not in (AUTO, *METHODS):
            raise InvalidArgument(
                f"method {method!r} is unknown; choose one of {', '.join((AUTO, *METHODS))}"
            )
        wish = cls(
            recipe,
            method if recipe.bits else "rtn",
            Effort.named(effort),
            bits,
            parse_size(size) if isinstance(size, str) else size,
        )
        if bits is None and size is None:
            return wish
        if bits is not None and size is not None:
            raise InvalidArgument("bits and size are both given; drop one of the two")
        given = "bits" if size is None else "size"
        if recipe != Recipe():
            raise InvalidArgument(
                f"with --{given} each matrix gets bits and block of its own; drop --weights, --block and --zero-points"
            )
        if method in STREAMED:
            raise InvalidArgument(
                f"--{given} needs the model to be measured, which method {method} does without; choose --method auto"
            )
        return wish

    @property
    def fitted(self) -> bool:
        """Whether the model has to be run."""
        return self.method not in STREAMED


@dataclass(frozen=True)
class Weights:
    """Weights ready to be written."""

    recipe: Recipe
    source: WeightSource
    provenance: dict[str, Any] = field(default_factory=dict)
    curve: list[tuple[int, float]] = field(default_factory=list)


@contextmanager
def chosen_weights(
    out: Path,
    checkpoint: Checkpoint,
    wish: Wish,
    engine: str,
    text: CalibrationText,
    restart: bool,
    progress: Progress,
) -> Iterator[Weights]:
    """Weights of a checkpoint; where they are fitted, the work beside `out` goes away if the block ends well.

    Raises:
        InvalidArgument: a target that cannot be, or work that was begun with other options.
        StorageError: another export to `out` is at work.
        CheckpointError, EngineFailed, MissingExtra
    """
    nbytes = sum(tensor.nbytes for tensor in checkpoint.tensors.values())
    if not wish.fitted:
        tell = Counter(progress, wish.recipe.weights, nbytes)
        recipe = replace(wish.recipe, method=wish.method)
        yield Weights(recipe, CheckpointWeights(checkpoint.tensors, recipe, tell.add))
        return
    target = None
    if wish.bits is not None or wish.size is not None:
        other = other_bytes(checkpoint.spec, _text_bytes(checkpoint))
        target = check_target(checkpoint.spec, engine, wish.bits, wish.size, other, nbytes)
    plan = Plan(wish.recipe, wish.method, wish.effort, engine, target)
    path = Path(os.path.abspath(out))
    options = {
        "edgewise": VERSION,
        "source": Path(checkpoint.source).name,
        "checkpoint": identity(checkpoint),
        "engine": engine,
        "weights": wish.recipe.to_json(),
        "method": wish.method,
        "effort": wish.effort.name,
        "target": target,
        "calibration": text.provenance(0)["sha256"],
    }
    work = Work.begin(path.parent / f".{path.name}.work", options, restart=restart)
    with locked(work.path) as ours:
        if not ours:
            raise StorageError(
                f"{out} is being exported by another process; wait for it, or choose another -o"
            )
        found = fit(checkpoint, plan, text, work, progress)
        yield Weights(found.recipe, found.weights, {FITTING: found.provenance}, found.curve)
        work.remove()


def _text_bytes(checkpoint: Checkpoint) -> int:
    text = checkpoint.text
    return len(text.tokenizer_json.encode()) + len((text.chat_template or "").encode())
