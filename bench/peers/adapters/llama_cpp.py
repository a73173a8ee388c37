"""llama.cpp, through the C interface that llama-cpp-python binds: a GGUF file."""

from __future__ import annotations

import ctypes
import time
from typing import Any

from bench.peers.adapters.adapter import Adapter, main

_CELLS = 256


class LlamaCpp(Adapter):
    """The library itself: no sampler, and nothing of the logits but one argmax."""

    name = "llama.cpp"
    llama: Any
    numpy: Any

    def imports(self) -> None:
        """`import llama_cpp`, and silence its log."""
        import llama_cpp
        import numpy

        self.llama, self.numpy = llama_cpp, numpy
        self.silent = llama_cpp.llama_log_callback(lambda level, text, data: None)
        llama_cpp.llama_log_set(self.silent, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()

    def load(self, path: str, threads: int, context: int) -> None:
        """Load with the library's own defaults: file mapped, flash attention where it helps."""
        llama = self.llama
        model = llama.llama_model_load_from_file(path.encode(), llama.llama_model_default_params())
        if not model:
            raise RuntimeError(f"llama.cpp did not load {path}")
        parameters = llama.llama_context_default_params()
        parameters.n_ctx = -(-context // _CELLS) * _CELLS
        parameters.n_batch = parameters.n_ctx
        parameters.n_threads = parameters.n_threads_batch = threads
        self.context = llama.llama_init_from_model(model, parameters)
        if not self.context:
            raise RuntimeError(f"llama.cpp gave no context of {context} tokens for {path}")
        self.vocab = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
        self.buffer = (llama.llama_token * parameters.n_ctx)()

    def generate(self, ids: list[int], count: int) -> tuple[list[int], list[float]]:
        """The prompt in one batch, then a token at a time."""
        self.llama.llama_memory_clear(self.llama.llama_get_memory(self.context), True)
        new, times = [], []
        step = ids
        for _ in range(count):
            step = [self._next(step)]
            times.append(time.perf_counter())
            new += step
        return new, times

    def _next(self, ids: list[int]) -> int:
        self.buffer[: len(ids)] = ids
        batch = self.llama.llama_batch_get_one(self.buffer, len(ids))
        if code := self.llama.llama_decode(self.context, batch):
            raise RuntimeError(f"llama_decode returned {code}")
        logits = self.llama.llama_get_logits_ith(self.context, -1)
        return int(self.numpy.ctypeslib.as_array(logits, (self.vocab,)).argmax())

    def decode_bytes(self, path: str) -> int:
        """All tensors, but an embedding that is not also the head."""
        from gguf import GGUFReader

        sizes = {str(tensor.name): int(tensor.n_bytes) for tensor in GGUFReader(path).tensors}
        looked_up = sizes["token_embd.weight"] if "output.weight" in sizes else 0
        return sum(sizes.values()) - looked_up

    def version(self) -> str:
        """The version of the binding, which carries one of the library."""
        return f"llama-cpp-python {self.llama.__version__}"


if __name__ == "__main__":
    main(LlamaCpp())
