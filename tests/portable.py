"""Graphs of the portable dialect with a static cache, as a runtime has them, on ONNX Runtime for CPUs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edge.artifact import ModelSpec, open_artifact
from export.graph.portable_attention import MASK, POSITIONS, WRITE
from export.graph.portable_form import FORMS
from tests.logits import Logits

Shape = tuple[int, ...]


class PortableRun:
    """One sequence on the graph of a form, "opset24" or "opset21".

    The cache is made once, of zeros, and stays in its place: the form that writes it gets it as past and present, the
    rows that the other returns are written here.
    """

    def __init__(self, graph: Path, spec: ModelSpec, capacity: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        self._form = next(form for form in FORMS if form.name == graph.stem)
        self._spec, self.capacity, self.length = spec, capacity, 0
        shape = (1, spec.kv_heads, capacity, spec.head_dim)
        types = {value.name: value.type for value in self._session.get_inputs()}
        kept = np.int8 if types["past.0.key"] == "tensor(int8)" else np.float16
        self._cache = {
            f"{layer}.{kind}": onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(shape, kept))
            for layer in range(spec.layers)
            for kind in ("key", "value")
        }

    def run(self, tokens: Sequence[int], logits_at: Sequence[int]) -> Logits:
        """Take `tokens` in; the logits behind those of them that `logits_at` counts, float32 [n, vocab]."""
        assert self.length + len(tokens) <= self.capacity
        binding = self._session.io_binding()
        for name, array in self._feeds(tokens, logits_at).items():
            binding.bind_cpu_input(name, array)
        for name, value in self._cache.items():
            binding.bind_ortvalue_input(f"past.{name}", value)
            if self._form.in_place:
                binding.bind_ortvalue_output(f"present.{name}", value)
            else:
                binding.bind_output(f"new.{name}")
        binding.bind_output("logits")
        self._session.run_with_iobinding(binding)
        names = [output.name for output in self._session.get_outputs()]
        results = dict(zip(names, binding.get_outputs(), strict=True))
        if not self._form.in_place:
            for name, value in self._cache.items():
                held = value.numpy().copy()
                held[:, :, self.length : self.length + len(tokens)] = results[f"new.{name}"].numpy()
                value.update_inplace(held)
        self.length += len(tokens)
        logits: Logits = results["logits"].numpy()
        return logits

    def rows(self, name: str) -> NDArray[Any]:
        """What the cache holds under `name`, such as "0.key": [kv_heads, length, head_dim]."""
        held: NDArray[Any] = self._cache[name].numpy()[0, :, : self.length].copy()
        return held

    def spoil(self, value: float) -> None:
        """Fill the rows of the cache that hold no token."""
        for cache in self._cache.values():
            held = cache.numpy().copy()
            held[:, :, self.length :] = value
            cache.update_inplace(held)

    def _feeds(self, tokens: Sequence[int], logits_at: Sequence[int]) -> dict[str, Any]:
        positions = np.arange(self.length, self.length + len(tokens))
        # Rows of the cache that hold no token yet stand at no position.
        keys = np.arange(self.capacity)
        if not self._form.in_place:
            keys = np.concatenate([np.where(keys < self.length, keys, self.capacity), positions])
        feeds = {
            "input_ids": np.array([tokens], np.int64),
            "logit_positions": np.array(logits_at, np.int64),
            POSITIONS: positions[None],
            WRITE: np.array([self.length], np.int64),
        }
        taken = {value.name for value in self._session.get_inputs()}
        for name in taken:
            if name.startswith(MASK):
                window = int(name.partition(".")[2] or self._spec.context)
                age = positions[:, None] - keys
                feeds[name] = ((age >= 0) & (age < window))[None, None]
        return {name: array for name, array in feeds.items() if name in taken}


def portable_run(artifact: Path, form: str, capacity: int | None = None) -> PortableRun:
    """A sequence on an artifact for TensorRT, by default with room for the whole context."""
    spec = open_artifact(artifact).spec
    return PortableRun(artifact / "tensorrt" / f"{form}.onnx", spec, capacity or spec.context)


def portable_logits(run: PortableRun, tokens: Sequence[int], prompt: int) -> Logits:
    """As `engine_logits`: `prompt` tokens in one run, the others each in its own."""
    parts = [run.run(tokens[:prompt], range(prompt))]
    parts += [run.run([token], [0]) for token in tokens[prompt:]]
    return np.concatenate(parts)
