"""The ONNX Runtime engine: prefill in chunks, decode in place, both on buffers bound once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge.artifact import Artifact, ModelSpec, Variant, kv_groups
from edge.artifact.kv import ENGINE_KV, static_kv_width
from edge.errors import ArtifactCorrupt, EngineFailed
from runtimes.budget import Budget
from runtimes.kv_choice import chosen_kv
from runtimes.onnxruntime.cache import OnnxRuntimeCache
from runtimes.onnxruntime.lent_logits import LogitsLender
from runtimes.onnxruntime.session import (
    InputShape,
    check_version,
    onnxruntime,
    open_session,
    run_bound,
    session_options,
)
from runtimes.protocol import Cache, CancelToken, Logits, Step
from runtimes.site import HOST, Card, Site
from runtimes.step_checks import check_steps

CHUNK = 128
"""Tokens of one prefill call: bounds the workspace, and the scores of tokens to come that attention throws away."""


class OnnxRuntimeEngine:
    """See `runtimes.protocol.Engine`. One run at a time; `cancel` may come from any thread."""

    name = "onnxruntime"
    isa = ""
    passed_over = ""
    card: Card | None = None
    variant = name
    """The engine whose variants of an artifact it runs."""
    """What keys and values can be kept as, the default first."""

    def __init__(
        self, artifact: Artifact, threads: int, context: int, kv_budget: int | None, kv: str | None = None
    ) -> None:
        """`kv` is one of the names of KV_NAMES, or None for what `kv_type` then says.

        Raises:
            EngineError, ArtifactError, MissingExtra
        """
        variant = artifact.variant(self.name)
        self.kv = kv_groups(artifact.spec, self.name, self.kv_type(kv, artifact))
        self._ort = onnxruntime()
        check_version(self._ort.__version__, variant.requires)
        self.version = str(self._ort.__version__)
        options = self._options(artifact, variant, threads)
        self._session: Any = open_session(self._ort, artifact, variant, options, self._inputs(artifact.spec))
        self._check_kv(artifact.file(variant.model))
        self._run_options = self._ort.RunOptions()
        # No graph capture, said outright: where the key is missing the Python binding throws and catches on every run.
        self._run_options.add_run_config_entry("gpu_graph_id", "-1")
        self._artifact = artifact
        self.budget = Budget(kv_budget)
        self.threads = threads
        self.context = context
        self.weight_bytes = artifact.manifest.weight_bytes

    def new_cache(self) -> Cache:
        """See `Engine.new_cache`."""
        return OnnxRuntimeCache(self._artifact.spec, self.kv, self.context, self.budget)

    def run(self, steps: Sequence[Step], cancel: CancelToken | None = None) -> list[Logits]:
        """See `Engine.run`. Sequences run one behind the other: stock operators want one buffer a call."""
        self._check(steps)
        caches = [self._own(step.cache) for step in steps]
        self._reserve(steps, caches)
        return [self._step(step, cache, cancel) for step, cache in zip(steps, caches, strict=True)]

    def close(self) -> None:
        """See `Engine.close`."""
        self._session = None

    def _options(self, artifact: Artifact, variant: Variant, threads: int) -> Any:
        """SessionOptions for `variant`."""
        return session_options(self._ort, threads, spin=True)

    def _inputs(self, spec: ModelSpec) -> Mapping[str, InputShape]:
        """The graph's inputs besides input_ids and logit_positions."""
        cache = (1, spec.kv_heads, None, static_kv_width(self.kv[0].type, spec.head_dim))
        past = {f"past.{layer}.{kind}": cache for layer in range(spec.layers) for kind in ("key", "value")}
        return {"seqlens_k": (1,), "total_sequence_length": (1,), **past}

    @classmethod
    def site(cls, artifact: Artifact) -> Site:
        """See `runtimes.select.EngineClass.site`."""
        return HOST

    @classmethod
    def kv_type(cls, kv: str | None, artifact: Artifact) -> str:
        """The type of keys and values that goes by the name `kv`.

        None is what the artifact has, or was planned with for its board, or else the default.

        Raises:
            InvalidArgument: there is none.
            EngineError: this engine does not keep them so, or not of this artifact.
        """
        return chosen_kv(kv, artifact, cls.name, cls.variant, ENGINE_KV[cls.name])

    def _check_kv(self, path: Path) -> None:
        """Raises ArtifactCorrupt where the graph keeps KV as something else than the manifest says."""
        expected = {"float32": "tensor(float)", "int8": "tensor(int8)", "int4": "tensor(uint8)"}
        for given in self._session.get_inputs():
            if given.name.startswith("past.") and given.type != expected[self.kv[0].type]:
                raise ArtifactCorrupt(
                    f"{path}: {given.name} is {given.type}, and edge.json says that KV is {self.kv[0].type}; "
                    "export the artifact again"
                )

    def _check(self, steps: Sequence[Step]) -> None:
        """Check what can be run at all; caches are looked at elsewhere.

        Raises:
            EngineFailed, InvalidArgument
        """
        if self._session is None:
            raise EngineFailed("the engine is closed; load the artifact again")
        check_steps(steps, self._artifact.spec.vocab_size)

    def _own(self, cache: Cache) -> OnnxRuntimeCache:
        if not isinstance(cache, OnnxRuntimeCache):
            raise EngineFailed(f"a {type(cache).__name__} is no cache of this engine; use engine.new_cache()")
        cache.check_owner(self.budget)
        return cache

    def _reserve(self, steps: Sequence[Step], caches: Sequence[OnnxRuntimeCache]) -> None:
        """Room for all steps or for none."""
        wanted = [cache.check(len(step.tokens)) for step, cache in zip(steps, caches, strict=True)]
        if all(capacity <= cache.capacity for capacity, cache in zip(wanted, caches, strict=True)):
            return
        token = sum(group.bytes_per_token for group in self.kv)
        more = sum(token * max(0, w - c.capacity) for w, c in zip(wanted, caches, strict=True))
        self.budget.take(more, f"the cache of {len(steps)} sequence(s)")
        self.budget.give(more)
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
        # The operators need one position at least; its logits are dropped where none was asked for.
        positions = wanted if len(wanted) else np.zeros(1, np.int64)
        binding.bind_cpu_input("input_ids", tokens[None])
        binding.bind_cpu_input("seqlens_k", np.array([cache.length + len(tokens) - 1], np.int32))
        binding.bind_cpu_input("total_sequence_length", np.array([cache.length + len(tokens)], np.int32))
        binding.bind_cpu_input("logit_positions", positions)
        binding.bind_output("logits", "cpu")
        run_bound(self._session, binding, self._run_options, cancel)
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
        logits = bound.logits.bind(bound.binding)
        run_bound(self._session, bound.binding, self._run_options, cancel)
        cache.advance(1)
        return logits.lend()

    def bind_cache(self, cache: OnnxRuntimeCache) -> Any:
        """A new IOBinding with the cache's buffers bound as past and as present."""
        binding = self._session.io_binding()
        for layer, buffers in enumerate(cache.buffers()):
            for kind, buffer in zip(("key", "value"), buffers, strict=True):
                value = self._ort.OrtValue.ortvalue_from_numpy(buffer)
                binding.bind_ortvalue_input(f"past.{layer}.{kind}", value)
                binding.bind_ortvalue_output(f"present.{layer}.{kind}", value)
        return binding


class _DecodeBinding:
    """Inputs and logits of a one-token run, bound once for as long as the cache's buffers stay."""

    def __init__(self, engine: OnnxRuntimeEngine, cache: OnnxRuntimeCache) -> None:
        make = engine._ort.OrtValue.ortvalue_from_numpy
        self.ids = np.zeros((1, 1), np.int64)
        self.last = np.zeros(1, np.int32)
        self.total = np.zeros(1, np.int32)
        self._first = np.zeros(1, np.int64)
        self.binding = engine.bind_cache(cache)
        self.binding.bind_ortvalue_input("input_ids", make(self.ids))
        self.binding.bind_ortvalue_input("seqlens_k", make(self.last))
        self.binding.bind_ortvalue_input("total_sequence_length", make(self.total))
        self.binding.bind_ortvalue_input("logit_positions", make(self._first))
        self.logits = LogitsLender(engine._artifact.spec.vocab_size, make)
