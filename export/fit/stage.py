"""What stands between a checkpoint and its variant: weights as the user wishes them, streamed or fitted."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edge.errors import InvalidArgument, StorageError
from edge.version import VERSION
from export.calibration import CalibrationText
from export.checkpoint import QUANTIZATION, Checkpoint
from export.cuda_variant import CUDA, check_embedding
from export.fit.effort import Effort
from export.fit.fit import FITTING, Plan, fit, identity
from export.fit.grids import kept_tensors, require_some, source_grids
from export.fit.layers import KEPT
from export.fit.matrices import matrices
from export.fit.target import check_target, other_bytes, parse_size
from export.fit.text import CalibrationTokens
from export.fit.work import Work
from export.folder import locked
from export.graph.checkpoint_weights import STREAMED, CheckpointWeights
from export.graph.weight_source import WeightSource
from export.progress import Counter, Progress
from export.quantize import AUTO, METHODS, Precision, Recipe


@dataclass(frozen=True)
class Wish:
    """How the user wants weights to be chosen; checked as far as that goes without the checkpoint."""

    recipe: Recipe
    method: str
    effort: Effort
    bits: float | None
    size: int | None
    keep: bool | None
    """Whether codes that the source has stay; None: where they fit the recipe and method is auto, and of a checkpoint
    that was quantized by others always."""

    @classmethod
    def checked(
        cls,
        recipe: Recipe,
        method: str,
        effort: str,
        bits: float | None,
        size: int | str | None,
        keep: bool | None = None,
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
            keep,
        )
        if keep and not recipe.bits:
            raise InvalidArgument(
                f"what is kept are codes, and {recipe.weights} weights are none; "
                f"drop --keep or --weights {recipe.weights}"
            )
        if not wish.targeted:
            return wish
        if bits is not None and size is not None:
            raise InvalidArgument("bits and size are both given; drop one of the two")
        given = "bits" if size is None else "size"
        if keep:
            raise InvalidArgument(
                f"with --{given} the codes of the source are kept where that costs the least; drop --keep or --{given}"
            )
        if replace(recipe, positive=False) != Recipe():
            raise InvalidArgument(
                f"with --{given} each matrix gets bits and block of its own; drop --weights, --block and --zero-points"
            )
        if method in STREAMED:
            raise InvalidArgument(
                f"--{given} needs the model to be measured, which method {method} does without; choose --method auto"
            )
        return wish

    @property
    def targeted(self) -> bool:
        """Whether bits go where they matter."""
        return self.bits is not None or self.size is not None

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
    kept: int = 0
    """Matrices whose codes are the source's."""


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
    recipe, grids = _with_grids(checkpoint, wish, engine)
    if engine == CUDA:
        check_embedding(checkpoint.spec, recipe)
    streamed = replace(recipe, method=wish.method if wish.method in STREAMED else "rtn")
    kept, all_of_them = _kept(checkpoint, streamed, grids)
    if not wish.fitted or (kept == all_of_them and not wish.targeted):
        tell = Counter(progress, recipe.weights, nbytes)
        source = CheckpointWeights(checkpoint.tensors, streamed, tell.add, keep=bool(grids))
        yield Weights(streamed, source, {KEPT: kept} if kept else {}, kept=kept)
        return
    target = None
    if wish.targeted:
        other = other_bytes(checkpoint.spec, _text_bytes(checkpoint))
        target = check_target(checkpoint.spec, engine, wish.bits, wish.size, other, nbytes)
    # Before there is work to go on with.
    tokens = CalibrationTokens.of(text, checkpoint.text.tokenizer_json, checkpoint.spec, wish.effort.windows)
    plan = Plan(recipe, wish.method, wish.effort, engine, target, grids)
    path = Path(os.path.abspath(out))
    options = {
        "edgewise": VERSION,
        "source": Path(checkpoint.source).name,
        "checkpoint": identity(checkpoint),
        "engine": engine,
        "weights": recipe.to_json(),
        "keep": bool(grids),
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
        found = fit(checkpoint, plan, tokens, work, progress)
        kept, _ = _kept(checkpoint, found.recipe, grids)
        yield Weights(found.recipe, found.weights, {FITTING: found.provenance}, found.curve, kept)
        work.remove()


def _with_grids(checkpoint: Checkpoint, wish: Wish, engine: str) -> tuple[Recipe, dict[str, Precision]]:
    """The recipe, with what is to be kept in it, and the grids that codes may be taken from; none where none may.

    Raises:
        InvalidArgument: the user wants to keep what there is, and there is nothing.
    """
    recipe = wish.recipe
    if not recipe.bits or wish.keep is False:
        return recipe, {}
    quantized = QUANTIZATION in checkpoint.provenance
    if wish.keep is None and wish.method != AUTO and (wish.targeted or not quantized):
        return recipe, {}
    grids = source_grids(checkpoint.spec, checkpoint.tensors, engine)
    if wish.keep:
        require_some(checkpoint, grids, engine)
    if wish.keep or (quantized and not wish.targeted):
        kept = kept_tensors(checkpoint.spec, grids)
        recipe = replace(recipe, tensors={name: p for name, p in kept.items() if p != recipe.precision})
    return recipe, grids


def _kept(checkpoint: Checkpoint, recipe: Recipe, grids: Mapping[str, Precision]) -> tuple[int, int]:
    """Matrices whose codes the recipe keeps, and matrices in all."""
    source = CheckpointWeights(checkpoint.tensors, recipe, lambda nbytes: None, keep=bool(grids))
    found = [source.keeps(f"{name}.weight") for m in matrices(checkpoint.spec) for name in m.tensors]
    return sum(found), len(found)


def _text_bytes(checkpoint: Checkpoint) -> int:
    text = checkpoint.text
    return len(text.tokenizer_json.encode()) + len((text.chat_template or "").encode())
