"""The ONNX Runtime engine: prefill in chunks, decode in place, both on buffers bound once."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edge.artifact import Artifact, Variant
from edge.errors import Cancelled, EngineFailed, InvalidArgument
from runtimes.budget import Budget
from runtimes.onnxruntime.cache import OnnxRuntimeCache
from runtimes.onnxruntime.session import check_version, failed, onnxruntime, open_session, session_options
from runtimes.protocol import CancelToken, Logits, Step

CHUNK = 128
"""Tokens of one prefill call: bounds the workspace, and the scores of tokens to come that attention throws away."""


class OnnxRuntimeEngine:
    """See `runtimes.protocol.Engine`. One run at a time; `cancel` may come from any thread."""

    name = "onnxruntime"
    isa = ""
    passed_over = ""
    runs_without_logits = False
    """Whether the graph's operators take a run that wants logits at no position."""
    cache_type: type[OnnxRuntimeCache] = OnnxRuntimeCache
    returns_cache = True
    """Whether the graph gives the cache back as outputs, or only writes into it."""

    def __init__(self, artifact: Artifact, threads: int, context: int, kv_budget: int | None) -> None:
        variant = artifact.variant(self.name)
        self._ort = onnxruntime()
        check_version(self._ort.__version__, variant.requires)
        options = self._options(artifact, variant, threads)
        self._session: Any = open_session(self._ort, artifact, variant, options, self.cache_type.shape)
        self._run_options = self._ort.RunOptions()
        # No graph capture, said outright: where the key is missing the Python binding throws and catches on every run.
        self._run_options.add_run_config_entry("gpu_graph_id", "-1")
        self._artifact = artifact
        self._budget = Budget(kv_budget)
        self.threads = threads
        self.context = context
        self.weight_bytes = artifact.manifest.weight_bytes

    def new_cache(self) -> OnnxRuntimeCache:
        """See `Engine.new_cache`."""
        return self.cache_type(self._artifact, self.context, self._budget)

    def run(self, steps: Sequence[Step], cancel: CancelToken | None = None) -> list[Logits]:
        """See `Engine.run`. Sequences run one behind the other: stock operators want one buffer a call."""
        if self._session is None:
            raise EngineFailed("the engine is closed; load the artifact again")
        caches = [self._checked(step) for step in steps]
        if len({id(cache) for cache in caches}) != len(caches):
            raise InvalidArgument("two steps of one call name the same cache; run them in two calls")
        self._reserve(steps, caches)
        return [self._step(step, cache, cancel) for step, cache in zip(steps, caches, strict=True)]

    def close(self) -> None:
        """See `Engine.close`."""
        self._session = None

    def _options(self, artifact: Artifact, variant: Variant, threads: int) -> Any:
        """SessionOptions for `variant`."""
        return session_options(self._ort, threads, spin=True)

    def _checked(self, step: Step) -> OnnxRuntimeCache:
        cache = step.cache
        if not isinstance(cache, self.cache_type):
            raise EngineFailed(f"a {type(cache).__name__} is no cache of this engine; use engine.new_cache()")
        cache.check_owner(self._budget)
        if not len(step.tokens):
            raise InvalidArgument("a step has no tokens; give at least one")
        for position in step.logits_at:
            if not 0 <= position < len(step.tokens):
                raise InvalidArgument(
                    f"logits at {position} are not among the step's {len(step.tokens)} tokens"
                )
        vocab = self._artifact.spec.vocab_size
        for token in step.tokens:
            if not 0 <= token < vocab:
                raise InvalidArgument(f"token {token} is not in the vocabulary of {vocab}")
        return cache

    def _reserve(self, steps: Sequence[Step], caches: Sequence[OnnxRuntimeCache]) -> None:
        """Room for all steps or for none."""
        wanted = [cache.check(len(step.tokens)) for step, cache in zip(steps, caches, strict=True)]
        if all(capacity <= cache.capacity for capacity, cache in zip(wanted, caches, strict=True)):
            return
        token = self._artifact.manifest.kv_bytes_per_token
        more = sum(token * max(0, w - c.capacity) for w, c in zip(wanted, caches, strict=True))
        self._budget.take(more, f"the cache of {len(steps)} sequence(s)")
        self._budget.give(more)
        for capacity, cache in zip(wanted, caches, strict=True):
            cache.grow(capacity)

    def _step(self, step: Step, cache: OnnxRuntimeCache, cancel: CancelToken | None) -> Logits:
        if len(step.tokens) == 1 and len(step.logits_at) == 1:
            return self._decode(int(step.tokens[0]), cache, cancel)
        before = cache.length
        tokens = np.asarray(step.tokens, np.int64)
        wanted = np.asarray(step.logits_at, np.int64)
        out = np.empty((len(wanted), self._artifact.spec.vocab_size), np.float32)
        try:
            for start in range(0, len(tokens), CHUNK):
                chunk = tokens[start : start + CHUNK]
                inside = (wanted >= start) & (wanted < start + len(chunk))
                out[inside] = self._prefill(chunk, wanted[inside] - start, cache, cancel)
        except BaseException:
            cache.truncate(before)
            raise
        return out

    def _prefill(
        self, tokens: np.ndarray, wanted: np.ndarray, cache: OnnxRuntimeCache, cancel: CancelToken | None
    ) -> Logits:
        binding = cache.bindings.get("prefill")
        if binding is None:
            binding = cache.bindings["prefill"] = self.bind_cache(cache)
        # Stock operators need one position at least; its logits are dropped where none was asked for.
        positions = wanted if len(wanted) or self.runs_without_logits else np.zeros(1, np.int64)
        binding.bind_cpu_input("input_ids", tokens[None])
        binding.bind_cpu_input("seqlens_k", np.array([cache.length + len(tokens) - 1], np.int32))
        binding.bind_cpu_input("total_sequence_length", np.array([cache.length + len(tokens)], np.int32))
        binding.bind_cpu_input("logit_positions", positions)
        binding.bind_output("logits", "cpu")
        self._call(binding, cancel)
        cache.advance(len(tokens))
        logits: Logits = binding.get_outputs()[-1].numpy()
        return logits[: len(wanted)]

    def _decode(self, token: int, cache: OnnxRuntimeCache, cancel: CancelToken | None) -> Logits:
        """One token through buffers bound once; logits float32 [1, vocab]."""
        bound = cache.bindings.get("decode")
        if bound is None:
            bound = cache.bindings["decode"] = _DecodeBinding(self, cache)
        bound.ids[0, 0] = token
        bound.last[0] = cache.length
        bound.total[0] = cache.length + 1
        logits = bound.free_logits()
        self._call(bound.binding, cancel)
        cache.advance(1)
        return logits.lend()

    def bind_cache(self, cache: OnnxRuntimeCache) -> Any:
        """A new IOBinding with the cache's buffers bound as past and, where the graph returns it, as present."""
        binding = self._session.io_binding()
        for layer, buffers in enumerate(cache.buffers()):
            for kind, buffer in zip(("key", "value"), buffers, strict=True):
                value = self._ort.OrtValue.ortvalue_from_numpy(buffer)
                binding.bind_ortvalue_input(f"past.{layer}.{kind}", value)
                if self.returns_cache:
                    binding.bind_ortvalue_output(f"present.{layer}.{kind}", value)
        return binding

    def _call(self, binding: Any, cancel: CancelToken | None) -> None:
        options = self._run_options
        options.terminate = False
        if cancel is not None:
            cancel.on_cancel(lambda: setattr(options, "terminate", True))
        try:
            self._session.run_with_iobinding(binding, options)
        except Exception as e:
            if cancel is not None and cancel.cancelled:
                raise Cancelled("the run was cancelled") from None
            raise failed("run the model", e) from e
        finally:
            if cancel is not None:
                cancel.on_cancel(None)
        if cancel is not None and cancel.cancelled:
            raise Cancelled("the run was cancelled")


class _DecodeBinding:
    """Inputs and logits of a one-token run, bound once for as long as the cache's buffers stay."""

    def __init__(self, engine: OnnxRuntimeEngine, cache: OnnxRuntimeCache) -> None:
        make = self._make = engine._ort.OrtValue.ortvalue_from_numpy
        self._vocab = engine._artifact.spec.vocab_size
        self.ids = np.zeros((1, 1), np.int64)
        self.last = np.zeros(1, np.int32)
        self.total = np.zeros(1, np.int32)
        self._first = np.zeros(1, np.int64)
        self.binding = engine.bind_cache(cache)
        self.binding.bind_ortvalue_input("input_ids", make(self.ids))
        self.binding.bind_ortvalue_input("seqlens_k", make(self.last))
        self.binding.bind_ortvalue_input("total_sequence_length", make(self.total))
        self.binding.bind_ortvalue_input("logit_positions", make(self._first))
        self._logits: list[_LentLogits] = []
        self._bound: _LentLogits | None = None

    def free_logits(self) -> _LentLogits:
        """Where the next run writes its logits: memory that no caller sees."""
        free = next((logits for logits in self._logits if logits.free), None)
        if free is None:
            free = _LentLogits(self._vocab, self._make)
            # Two are enough for a caller that looks at one while the next is made; who keeps more has them for good.
            self._logits = [*self._logits[-1:], free]
        if free is not self._bound:
            self.binding.bind_ortvalue_output("logits", free.value)
            self._bound = free
        return free


class _LentLogits:
    """Memory for logits float32 [1, vocab], lent to callers without copying and used again when they let go."""

    def __init__(self, vocab: int, make: Callable[[Logits], Any]) -> None:
        # No array: views of a view name the array at the bottom, and would not keep the one between alive.
        self._memory = bytearray(4 * vocab)
        self._shape = 1, vocab
        self.value = make(self._array())
        self._lent: weakref.ref[Logits] | None = None

    @property
    def free(self) -> bool:
        """Whether nobody has what was lent, or a part of it."""
        return self._lent is None or self._lent() is None

    def lend(self) -> Logits:
        """An array of the memory."""
        array = self._array()
        self._lent = weakref.ref(array)
        return array

    def _array(self) -> Logits:
        return np.ndarray(self._shape, np.float32, self._memory)
