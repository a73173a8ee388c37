"""The `cpu` engine: ONNX Runtime with our own operators for linear layers, embeddings and attention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edge.artifact import Artifact, ModelSpec, Variant
from edge.artifact.pages import DEFAULT_KV_TYPE, KV_TYPES
from edge.errors import EngineFailed
from runtimes.kernels.cache import CpuCache
from runtimes.kernels.library import load_library
from runtimes.kernels.packing import Call, calls_of
from runtimes.kernels.pools import Pools
from runtimes.kernels.room import reserve
from runtimes.kernels.weights import map_weights
from runtimes.onnxruntime.engine import OnnxRuntimeEngine
from runtimes.onnxruntime.lent_logits import LogitsLender
from runtimes.onnxruntime.session import InputShape, run_bound, session_options
from runtimes.protocol import Cache, CancelToken, Logits, Step


class CpuEngine(OnnxRuntimeEngine):
    """See `runtimes.protocol.Engine`. Sequences of one call run together, as many tokens a time as a chunk holds."""

    name = "cpu"
    variant = name
    kv_types = (DEFAULT_KV_TYPE, *(kind for kind in KV_TYPES if kind != DEFAULT_KV_TYPE))
    # What the session reads in place; released after it.
    _weights: list[Any] | None = None

    def __init__(
        self, artifact: Artifact, threads: int, context: int, kv_budget: int | None, kv: str | None = None
    ) -> None:
        super().__init__(artifact, threads, context, kv_budget, kv)
        self._pools = Pools(artifact.spec, self.kv, self.budget, threads)
        make = self._ort.OrtValue.ortvalue_from_numpy
        self._constants = {
            "kv_format": make(np.array([KV_TYPES.index(self._pools.kind), 0], np.int32)),
            **{f"pool.{i}": make(pool.array) for i, pool in enumerate(self._pools.of)},
        }

    def new_cache(self) -> Cache:
        """See `Engine.new_cache`."""
        return CpuCache(self._pools, self.context)

    def run(self, steps: Sequence[Step], cancel: CancelToken | None = None) -> list[Logits]:
        """See `Engine.run`."""
        self._check(steps)
        caches = [self._paged(step.cache) for step in steps]
        reserve([(cache, len(step.tokens)) for cache, step in zip(caches, steps, strict=True)])
        before = [cache.length for cache in caches]
        try:
            if len(steps) == 1 and len(steps[0].tokens) == len(steps[0].logits_at) == 1:
                results = [self._decode_one(int(steps[0].tokens[0]), caches[0], cancel)]
            else:
                results = self._run_packed(steps, caches, cancel)
        except BaseException:
            for cache, length in zip(caches, before, strict=True):
                cache.truncate(length)
            raise
        for cache in caches:
            cache.forget()
        return results

    def close(self) -> None:
        """See `Engine.close`."""
        super().close()
        self._weights = None

    def _paged(self, cache: Cache) -> CpuCache:
        if not isinstance(cache, CpuCache):
            raise EngineFailed(f"a {type(cache).__name__} is no cache of this engine; use engine.new_cache()")
        cache.check_owner(self._pools)
        return cache

    def _run_packed(
        self, steps: Sequence[Step], caches: Sequence[CpuCache], cancel: CancelToken | None
    ) -> list[Logits]:
        vocab = self._artifact.spec.vocab_size
        results = [np.empty((len(step.logits_at), vocab), np.float32) for step in steps]
        binding = self._bound()
        for call in calls_of(steps):
            logits = self._run_call(binding, call, caches, cancel)
            for row, (step, index) in enumerate(call.logits):
                results[step][index] = logits[row]
            for piece in call.pieces:
                caches[piece.step].advance(piece.count)
        return results

    def _run_call(
        self, binding: Any, call: Call, caches: Sequence[CpuCache], cancel: CancelToken | None
    ) -> Logits:
        mine = [caches[piece.step] for piece in call.pieces]
        binding.bind_cpu_input("input_ids", call.tokens[None])
        binding.bind_cpu_input("sequence_starts", call.starts)
        binding.bind_cpu_input("held", np.array([cache.length for cache in mine], np.int32))
        binding.bind_cpu_input("logit_positions", call.positions)
        for i in range(len(self._pools.of)):
            width = max(cache.tables[i].shape[1] for cache in mine)
            tables = np.full((len(mine), width), -1, np.int32)
            for row, cache in zip(tables, mine, strict=True):
                row[: cache.tables[i].shape[1]] = cache.tables[i][0]
            binding.bind_cpu_input(f"block_table.{i}", tables)
        binding.bind_output("logits", "cpu")
        run_bound(self._session, binding, self._run_options, cancel)
        logits: Logits = binding.get_outputs()[0].numpy()
        return logits

    def _decode_one(self, token: int, cache: CpuCache, cancel: CancelToken | None) -> Logits:
        """One token of one sequence through buffers bound once; logits float32 [1, vocab]."""
        bound = cache.binding
        if bound is None:
            bound = cache.binding = _OneToken(self, cache)
        bound.ids[0, 0] = token
        bound.held[0] = cache.length
        logits = bound.logits.bind(bound.binding)
        run_bound(self._session, bound.binding, self._run_options, cancel)
        cache.advance(1)
        lent: Logits = logits.lend()
        return lent

    def _bound(self) -> Any:
        """A new IOBinding with the pools bound."""
        binding = self._session.io_binding()
        for name, value in self._constants.items():
            binding.bind_ortvalue_input(name, value)
        return binding

    def _inputs(self, spec: ModelSpec) -> Mapping[str, InputShape]:
        groups = range(len(self.kv))
        return {
            "kv_format": (2,),
            "sequence_starts": (None,),
            "held": (None,),
            **{f"pool.{i}": (None, None) for i in groups},
            **{f"block_table.{i}": (None, None) for i in groups},
        }

    def _options(self, artifact: Artifact, variant: Variant, threads: int) -> Any:
        library = load_library()
        library.check_layout(variant.layout, variant.layout_version, artifact.path)
        # All work is in the kernels: a pool of ONNX Runtime's own would only share their cores.
        options = session_options(self._ort, 1, spin=False)
        library.register(options, threads)
        self._give_weights(options, artifact, variant)
        self.isa = library.isa
        return options

    def _give_weights(self, options: Any, artifact: Artifact, variant: Variant) -> None:
        weights = map_weights(artifact, variant)
        if not weights:
            return
        # Each value keeps its array, and so the map.
        self._weights = [self._ort.OrtValue.ortvalue_from_numpy(array) for array in weights.values()]
        try:
            for name, value in zip(weights, self._weights, strict=True):
                # Not add_external_initializers: it copies them.
                options.add_initializer(name, value)
        except Exception as e:
            raise EngineFailed(
                f"onnxruntime {self._ort.__version__} refuses the weights of {artifact.path} ({e}); "
                "verify the artifact with: edge verify"
            ) from e


class _OneToken:
    """Inputs and logits of a run of one token, bound once for as long as the cache's tables stay where they are."""

    def __init__(self, engine: CpuEngine, cache: CpuCache) -> None:
        make = engine._ort.OrtValue.ortvalue_from_numpy
        self.ids = np.zeros((1, 1), np.int64)
        self.held = np.zeros(1, np.int32)
        self._kept = [np.array([0, 1], np.int32), np.zeros(1, np.int64), *cache.tables]
        self.binding = engine._bound()
        names = [
            "sequence_starts",
            "logit_positions",
            *(f"block_table.{i}" for i in range(len(cache.tables))),
        ]
        for name, array in zip(
            [*names, "input_ids", "held"], [*self._kept, self.ids, self.held], strict=True
        ):
            self.binding.bind_ortvalue_input(name, make(array))
        self.logits = LogitsLender(engine._artifact.spec.vocab_size, make)
