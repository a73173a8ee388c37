"""Recipes: how weights and KV could be stored for a board, the closest to the source first."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from edge.artifact import Manifest, ModelSpec
from edge.artifact.kv import ENGINE_KV, default_kv, kv_names
from edge.artifact.pages import KV_NAMES
from edge.memory.needs import Needs
from edge.memory.weights import MIXED, Stored, engine_for

WEIGHTS_LADDER: tuple[tuple[str, float | None], ...] = (
    ("int8", None),
    (MIXED, 6.0),
    (MIXED, 5.0),
    ("int4", None),
)
"""Weights and bits of a target by mean KL, the least first: docs/fidelity.md."""
LAST_BLOCK = 128
"""Blocks of int4 where those of 32 do not fit: a twelfth less, for half as much KL again."""
_FEWEST = "int4"
"""KV that costs much of a small model, for where nothing else fits."""
_ROUNDING = 0.1


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One way to store a model; `kv` by the name that users call it."""

    stored: Stored
    kv: str
    needs: Needs

    @property
    def engine(self) -> str:
        """What is to run it."""
        return self.needs.engine

    @property
    def weights_text(self) -> str:
        """Weights as a person would say them."""
        if self.stored.weights == MIXED:
            return f"{self.stored.bits:g} bits"
        return self.stored.weights

    @property
    def text(self) -> str:
        """All of it in a line."""
        block = f", block {self.stored.block}" if self.stored.weights in ("int4", "int8") else ""
        return f"weights {self.weights_text}{block}, KV {self.kv}"


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What the user has settled; None where that is left to the choice."""

    weights: str | None = None
    block: int | None = None
    zero_points: bool = False
    bits: float | None = None
    nbytes: int | None = None
    """Of all weights, where the size of the artifact was given."""
    engine: str | None = None
    kv: str | None = None
    typed: bool = False
    """Whether all weights are to be of one type: what measures no model cannot place bits."""

    @property
    def weights_settled(self) -> bool:
        """Whether nothing is left to choose of the weights."""
        return not (self.weights is None and self.bits is None and self.nbytes is None)


@dataclass(frozen=True)
class Held:
    """What a checkpoint holds, as far as that is known before it is read."""

    bits: float | None = None
    """Bits a weight; None: more than any recipe asks for, or unknown."""
    codes: int | None = None
    """Bits of codes that an export takes over as they are; None where there are none."""


@dataclass(frozen=True, kw_only=True)
class Recipes:
    """What there is to choose from, by how willingly it is taken."""

    good: tuple[Recipe, ...]
    """The closest to the source first."""
    last: tuple[Recipe, ...]
    """For where none of those fits what was asked, in the order to try them."""
    settled: str = ""
    """Why nothing is left to choose of the weights; empty where there is."""

    @property
    def all(self) -> tuple[Recipe, ...]:
        """Both."""
        return (*self.good, *self.last)


def recipes(
    spec: ModelSpec,
    engine: str,
    wishes: Wishes | None = None,
    held: Held | None = None,
) -> Recipes:
    """Ways to store `spec` for `engine`, as far as `wishes` leave a choice."""
    wishes, held = wishes or Wishes(), held or Held()
    engine = wishes.engine or engine_for(wishes.weights, engine)
    block = wishes.block or 32

    def recipe(stored: Stored, kv: str) -> Recipe:
        total = stored.total(spec) if wishes.nbytes is None else wishes.nbytes
        read = stored.read(spec) * total // max(1, stored.total(spec))
        kind = stored.weights if stored.weights != MIXED else "int4"
        needs = Needs.of(spec, total, kind, engine, KV_NAMES[kv], read=read)
        return Recipe(stored=stored, kv=kv, needs=needs)

    def of(weights: str, bits: float | None = None, block: int = block) -> Stored:
        return Stored(weights=weights, bits=bits, block=block, zero_points=wishes.zero_points, engine=engine)

    ladder = list(_ladder(wishes, held, of, spec))
    kinds = (wishes.kv,) if wishes.kv else _willing(engine)
    good = tuple(recipe(stored, kv) for stored in ladder for kv in kinds)
    smallest = [ladder[-1]]
    if not wishes.weights_settled and wishes.block is None:
        smallest.append(of("int4", block=LAST_BLOCK))
    fewest = (_FEWEST,) if _FEWEST in kv_names(engine) else ()
    last = [recipe(stored, kv) for kv in (kinds[-1], *fewest) for stored in smallest]
    known = {(r.stored, r.kv) for r in good}
    return Recipes(
        good=good,
        settled="as asked" if wishes.weights_settled else "",
        last=tuple(
            r for r in last if (r.stored, r.kv) not in known and (wishes.kv is None or r.kv == wishes.kv)
        ),
    )


def artifact_recipes(manifest: Manifest, engine: str, kv: str | None = None) -> Recipes:
    """An artifact's weights are what they are; KV may be chosen where a load says what it is."""
    of_recipe, mixed = manifest.recipe, bool(manifest.recipe.get("tensors"))
    stored = Stored(
        weights=MIXED if mixed else str(of_recipe.get("weights")),
        bits=round(manifest.bits_per_weight, 2) if mixed else None,
        block=_block(of_recipe.get("block")),
        zero_points=bool(of_recipe.get("zero_points")),
        engine=engine,
    )

    def recipe(kind: str | None) -> Recipe:
        needs = Needs.of_artifact(manifest, engine, KV_NAMES[kind] if kind else None)
        return Recipe(stored=stored, kv=needs.kv_name, needs=needs)

    first = recipe(kv)
    others = ("int4",) if kv is None and engine == "cpu" and first.kv != "int4" else ()
    return Recipes(
        good=(first,), last=tuple(recipe(kind) for kind in others), settled="as the artifact has them"
    )


def every(spec: ModelSpec, engine: str) -> tuple[Recipe, ...]:
    """All that is offered for `engine`, the closest to the source first."""
    able = kv_names(engine)
    kinds = [kv for kv in able if not (kv == "fp32" and "fp16" in able)]
    stored = [Stored(weights=weights, bits=bits, engine=engine) for weights, bits in WEIGHTS_LADDER]
    stored.append(Stored(weights="int4", block=LAST_BLOCK, engine=engine))
    return tuple(
        Recipe(
            stored=each,
            kv=kv,
            needs=Needs.of(
                spec,
                each.total(spec),
                "int4" if each.weights == MIXED else each.weights,
                engine,
                KV_NAMES[kv],
                read=each.read(spec),
            ),
        )
        for each in stored
        for kv in kinds
    )


def _willing(engine: str) -> tuple[str, ...]:
    """What KV is kept as where nobody says: from the default on, than which nothing is measurably closer."""
    first = ENGINE_KV[engine].index(default_kv(engine))
    return tuple(kv for kv in kv_names(engine)[first:] if kv != _FEWEST)


def _ladder(wishes: Wishes, held: Held, of: Callable[..., Stored], spec: ModelSpec) -> Iterable[Stored]:
    if wishes.bits is not None:
        yield of(MIXED, wishes.bits)
    elif wishes.nbytes is not None:
        yield of(MIXED, 8 * wishes.nbytes / max(1, spec.parameters))
    elif wishes.weights is not None:
        yield of(wishes.weights)
    elif held.codes == 4:
        # Taken over as they are, they are what the source is; more bits add nothing.
        yield of("int4")
    else:
        for weights, bits in WEIGHTS_LADDER:
            # Blocks and zero points are what is told of types, not of an average over all matrices.
            settled = wishes.block is not None or wishes.zero_points or wishes.typed
            more = bits is not None and held.bits is not None and bits > held.bits - _ROUNDING
            if not (bits is not None and (settled or more)):
                yield of(weights, bits)


def _block(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 32
