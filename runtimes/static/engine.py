"""An engine over a device whose graphs have caches of fixed sizes: everything but the device's own calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edge.artifact import Artifact, kv_groups
from edge.artifact.kv import ENGINE_KV
from edge.errors import EngineFailed
from runtimes.budget import Budget
from runtimes.kv_choice import chosen_kv
from runtimes.protocol import Cache, CancelToken, Logits, Step
from runtimes.site import HOST, Card, Site
from runtimes.static.bindings import LOGITS, Binding, Interface, cache_names
from runtimes.static.cache import StaticCache
from runtimes.static.chunks import chunks
from runtimes.static.device import Device, Memory, Rows, Runner
from runtimes.static.feeds import Feeds, fill, room
from runtimes.step_checks import check_steps

# Where the logits of a single token are.
_OWN = np.zeros(1, np.int64)


class StaticEngine:
    """See `runtimes.protocol.Engine`. One run at a time; `cancel` may come from any thread."""

    name = ""
    variant = "tensorrt"
    isa = ""
    passed_over = ""

    def __init__(
        self,
        artifact: Artifact,
        interface: Interface,
        device: Device,
        threads: int,
        context: int,
        kv_budget: int | None,
    ) -> None:
        """A sequence has no more tokens than the largest cache of `device`, which this takes over."""
        self.kv = kv_groups(artifact.spec, self.variant, interface.kv_type)
        self._interface = interface
        self._device: Device | None = device
        self.context = min(context, max(device.capacities))
        self.budget = Budget(kv_budget)
        # What is copied out of a card takes none of its memory.
        on_card = device.card_free() is not None
        self.card = Card(lambda: device.card_free() or 0, Budget(None)) if on_card else None
        self.version = device.version
        self.threads = threads
        self.weight_bytes = artifact.manifest.weight_bytes
        self._new_rows: dict[bool, dict[str, Memory]] = {}
        self._single: dict[int, tuple[Mapping[str, Binding], Feeds]] = {}

    @classmethod
    def kv_type(cls, kv: str | None, artifact: Artifact) -> str:
        """See `runtimes.kv_choice.chosen_kv`."""
        return chosen_kv(kv, artifact, cls.name, cls.variant, ENGINE_KV[cls.name])

    @classmethod
    def site(cls, artifact: Artifact) -> Site:
        """The host's memory; the last bucket is the context, so that it has no room beyond that."""
        return HOST

    def new_cache(self) -> Cache:
        """See `Engine.new_cache`."""
        device = self._opened()
        copies = self.card.copies if self.card is not None else self.budget
        return StaticCache(
            self._interface, self.kv, device, device.capacities, self.context, self.budget, copies
        )

    def run(self, steps: Sequence[Step], cancel: CancelToken | None = None) -> list[Logits]:
        """See `Engine.run`. Sequences run one behind the other: a graph takes one cache."""
        self._opened()
        check_steps(steps, self._interface.spec.vocab_size)
        caches = [self._own(step.cache) for step in steps]
        self._reserve(steps, caches)
        before = [cache.length for cache in caches]
        try:
            return [self._step(step, cache, cancel) for step, cache in zip(steps, caches, strict=True)]
        except BaseException:
            for cache, length in zip(caches, before, strict=True):
                cache.truncate(length)
            raise

    def close(self) -> None:
        """See `Engine.close`."""
        for rows in self._new_rows.values():
            for memory in rows.values():
                memory.free()
        self._new_rows.clear()
        if self._device is not None:
            self._device.close()
        self._device = None

    def _opened(self) -> Device:
        if self._device is None:
            raise EngineFailed("the engine is closed; load the artifact again")
        return self._device

    def _own(self, cache: Cache) -> StaticCache:
        if not isinstance(cache, StaticCache):
            raise EngineFailed(f"a {type(cache).__name__} is no cache of this engine; use engine.new_cache()")
        cache.check_owner(self.budget)
        return cache

    def _reserve(self, steps: Sequence[Step], caches: Sequence[StaticCache]) -> None:
        """Room for all steps or for none."""
        wanted = [cache.check(len(step.tokens)) for step, cache in zip(steps, caches, strict=True)]
        # Larger than they need be, where that keeps the graph that is there and the budget has the room.
        same = [max(capacity, self._opened().loaded) for capacity in wanted]
        free = self.budget.free
        if free is None or self._more(same, caches) <= free:
            wanted = same
        more = self._more(wanted, caches)
        if not more:
            return
        self.budget.take(more, f"the cache of {len(steps)} sequence(s)")
        self.budget.give(more)
        for capacity, cache in zip(wanted, caches, strict=True):
            cache.grow(capacity)

    def _more(self, capacities: Sequence[int], caches: Sequence[StaticCache]) -> int:
        """Bytes by which caches of these capacities are larger than `caches` are."""
        token = sum(group.bytes_per_token for group in self.kv)
        return sum(token * max(0, n - c.capacity) for n, c in zip(capacities, caches, strict=True))

    def _step(self, step: Step, cache: StaticCache, cancel: CancelToken | None) -> Logits:
        tokens = np.asarray(step.tokens, np.int64)
        if len(tokens) == 1:
            # All that can be wanted are its own.
            return self._call(tokens, _OWN, cache, cancel).repeat(len(step.logits_at), axis=0)
        out = np.empty((len(step.logits_at), self._interface.spec.vocab_size), np.float32)
        for chunk in chunks(len(tokens), step.logits_at, self._opened().prefill):
            logits = self._call(tokens[chunk.start : chunk.stop], chunk.positions, cache, cancel)
            out[chunk.rows] = logits[chunk.of]
        return out

    def _call(
        self, tokens: np.ndarray, wanted: np.ndarray, cache: StaticCache, cancel: CancelToken | None
    ) -> Logits:
        table, given = self._bindings(len(tokens), cache.capacity, max(1, len(wanted)))
        fill(given, self._interface, tokens, cache.length, cache.capacity, wanted)
        decode = len(tokens) == 1

        def behind() -> None:
            if not self._interface.form.in_place:
                self._write_rows(cache, decode, len(tokens))

        logits = self._runner(cache, decode).run(given, table, cancel, behind)
        assert logits.shape == table[LOGITS].shape
        cache.advance(len(tokens))
        return logits

    def _bindings(self, tokens: int, capacity: int, wanted: int) -> tuple[Mapping[str, Binding], Feeds]:
        """What a call binds, and arrays for what it is fed; those of single tokens are the same each time."""
        if tokens == 1 and capacity in self._single:
            return self._single[capacity]
        table = self._interface.table(tokens, capacity, wanted)
        found = table, room(table)
        if tokens == 1:
            self._single[capacity] = found
        return found

    def _runner(self, cache: StaticCache, decode: bool) -> Runner:
        """Bound once for as long as the cache's buffers stay."""
        found = cache.runners.get(decode)
        if found is None:
            memory = dict(cache.memory)
            if not self._interface.form.in_place:
                memory |= {f"new.{name}": rows for name, rows in self._scratch(decode).items()}
            found = cache.runners[decode] = self._opened().runner(cache.capacity, decode, memory)
        return found

    def _scratch(self, decode: bool) -> dict[str, Memory]:
        """Where the graph's new rows go, those of one call; all sequences use the same."""
        if decode not in self._new_rows:
            device, spec = self._opened(), self._interface.spec
            tokens = 1 if decode else device.prefill.tokens
            nbytes = spec.kv_heads * tokens * self._interface.row_bytes
            self._new_rows[decode] = {name: device.allocate(nbytes) for name in cache_names(spec)}
        return self._new_rows[decode]

    def _write_rows(self, cache: StaticCache, decode: bool, tokens: int) -> None:
        """Copy the rows of a call behind those that are held."""
        width, device = tokens * self._interface.row_bytes, self._opened()
        for name, memory in self._scratch(decode).items():
            new = Rows(memory, 0, width, width, self._interface.spec.kv_heads)
            device.copy(new, cache.rows(name, cache.length, cache.length + tokens))
