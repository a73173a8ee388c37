"""Binding tables: what a graph takes and gives, by name: type, shape, and where it lies."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from edge.artifact import ModelSpec
from edge.errors import ArtifactCorrupt
from runtimes.static.form import Form
from runtimes.static.masks import keys, mask_windows

Shape = tuple[int, ...]
Where = Literal["fed", "cache", "rows", "read"]
IDS, POSITIONS, WRITE, WANTED, LOGITS = (
    "input_ids",
    "position_ids",
    "write_indices",
    "logit_positions",
    "logits",
)
LAST, TOTAL, FIRST = "seqlens_k", "total_sequence_length", "first_position"
# GroupQueryAttention turns heads of a multiple of these itself.
_TURNED_HEAD_STEP = 16
KINDS = ("key", "value")


@dataclass(frozen=True)
class Binding:
    """An input or output of a graph, with the shape of one call.

    `where`: fed from the host; in the cache, an output at the address of its input; rows for the runtime to write into
    the cache; or read by the host.
    """

    name: str
    shape: Shape
    dtype: np.dtype[Any]
    where: Where
    output: bool = False

    @property
    def buffer(self) -> str:
        """The memory that it lies in, of the cache or of new rows: past and present are one."""
        return self.name.removeprefix("past.").removeprefix("present.")

    @property
    def nbytes(self) -> int:
        """Bytes of all of it."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class Interface:
    """A model in one form, its KV float16 or int8."""

    spec: ModelSpec
    form: Form
    kv_type: str

    @property
    def kv_dtype(self) -> np.dtype[Any]:
        """Of a number in the cache."""
        return np.dtype(self.kv_type)

    @property
    def row_bytes(self) -> int:
        """A token's keys, or values, of one KV head of one layer."""
        return self.spec.head_dim * self.kv_dtype.itemsize

    @cached_property
    def windows(self) -> dict[str, int]:
        """See `runtimes.static.masks.mask_windows`."""
        return mask_windows(self.spec)

    def new_rows(self, tokens: int) -> int:
        """Bytes of what a call of `tokens` returns for the runtime to write into the cache: none in place."""
        return (
            0 if self.form.in_place else 2 * self.spec.layers * self.spec.kv_heads * tokens * self.row_bytes
        )

    @property
    def turned_outside(self) -> bool:
        """Whether a graph with lengths has to be told where the first token stands."""
        return self.form.lengths and self.spec.head_dim % _TURNED_HEAD_STEP != 0

    def inputs(self) -> dict[str, tuple[int | None, ...]]:
        """Inputs of the graph besides ids and wanted positions: capacity and number of tokens are free, None."""
        first, second = self.table(2, 3, 1), self.table(5, 7, 1)
        return {
            name: tuple(a if a == b else None for a, b in zip(binding.shape, second[name].shape, strict=True))
            for name, binding in first.items()
            if not binding.output and name not in (IDS, WANTED)
        }

    def table(self, tokens: int, capacity: int, wanted: int) -> dict[str, Binding]:
        """What a call of `tokens` with logits at `wanted` of them binds, on a cache of `capacity`."""
        spec, form = self.spec, self.form
        long, whole = np.dtype(np.int64), (1, spec.kv_heads, capacity, spec.head_dim)
        found = [
            Binding(IDS, (1, tokens), long, "fed"),
            Binding(WANTED, (wanted,), long, "fed"),
            *(self._lengths() if form.lengths else self._places(tokens, capacity)),
            Binding(LOGITS, (wanted, spec.vocab_size), np.dtype(np.float32), "read", output=True),
        ]
        for name in cache_names(spec):
            found.append(Binding(f"past.{name}", whole, self.kv_dtype, "cache"))
            if form.in_place:
                found.append(Binding(f"present.{name}", whole, self.kv_dtype, "cache", output=True))
            else:
                rows = (1, spec.kv_heads, tokens, spec.head_dim)
                found.append(Binding(f"new.{name}", rows, self.kv_dtype, "rows", output=True))
        return {binding.name: binding for binding in found}

    def _lengths(self) -> Iterator[Binding]:
        """What says how many tokens there are."""
        for name in (LAST, TOTAL):
            yield Binding(name, (1,), np.dtype(np.int32), "fed")
        if self.turned_outside:
            yield Binding(FIRST, (1,), np.dtype(np.int64), "fed")

    def _places(self, tokens: int, capacity: int) -> Iterator[Binding]:
        """What says where tokens stand and what they see."""
        seen = (1, 1, tokens, keys(self.form, tokens, capacity))
        yield Binding(POSITIONS, (1, tokens), np.dtype(np.int64), "fed")
        for name in self.windows:
            yield Binding(name, seen, np.dtype(bool), "fed")
        if self.form.in_place:
            yield Binding(WRITE, (1,), np.dtype(np.int64), "fed")


def cache_names(spec: ModelSpec) -> tuple[str, ...]:
    """What is cached, as names end: "0.key", "0.value", "1.key" and so on."""
    return tuple(f"{layer}.{kind}" for layer in range(spec.layers) for kind in KINDS)


@dataclass(frozen=True)
class Found:
    """What a graph or an engine says of one of its inputs and outputs; sizes that are free are below 0."""

    name: str
    shape: Shape
    dtype: str
    output: bool


def check_table(table: Mapping[str, Binding], found: Iterable[Found], where: str) -> None:
    """Check that an engine is the graph's: memory bound to one of other sizes would be written past its end.

    Raises:
        ArtifactCorrupt: naming what is missing, too much or otherwise.
    """
    have = {each.name: each for each in found}
    strange = sorted(set(have) ^ set(table))
    if strange:
        name = strange[0]
        how = "has no" if name in table else "has an"
        raise ArtifactCorrupt(f"{where} {how} {name}; build it again from the artifact")
    for name, binding in table.items():
        each = have[name]
        fits = len(each.shape) == len(binding.shape) and all(
            size < 0 or size == wanted for size, wanted in zip(each.shape, binding.shape, strict=True)
        )
        if not fits or each.dtype != binding.dtype.name or each.output != binding.output:
            raise ArtifactCorrupt(
                f"{where}: {name} is {each.dtype} {list(each.shape)}, and the artifact's graph has "
                f"{binding.dtype.name} {list(binding.shape)}; build it again from the artifact"
            )
