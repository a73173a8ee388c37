"""onnxruntime-genai: a folder that its model builder made."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

from bench.peers.adapters.adapter import Adapter, main

# Read a row at a time, not whole, when they read an initializer.
_LOOK_UPS = {"Gather", "GatherBlockQuantized"}


class OnnxruntimeGenai(Adapter):
    """The generator of onnxruntime-genai."""

    name = "onnxruntime-genai"
    genai: Any

    def imports(self) -> None:
        """`import onnxruntime_genai`."""
        import onnxruntime_genai

        self.genai = onnxruntime_genai

    def load(self, path: str, threads: int, context: int) -> None:
        """Load the model; only the number of threads is changed."""
        config = self.genai.Config(path)
        session = {"intra_op_num_threads": threads}
        config.overlay(json.dumps({"model": {"decoder": {"session_options": session}}}))
        self.model = self.genai.Model(config)

    def generate(self, ids: list[int], count: int) -> tuple[list[int], list[float]]:
        """A new generator for each prompt; its KV buffers are given the room of this run and no more."""
        length = len(ids) + count
        parameters = self.genai.GeneratorParams(self.model)
        parameters.set_search_options(max_length=length, min_length=length, do_sample=False, batch_size=1)
        generator = self.genai.Generator(self.model, parameters)
        generator.append_tokens(ids)
        new, times = [], []
        for _ in range(count):
            generator.generate_next_token()
            new.append(int(generator.get_next_tokens()[0]))
            times.append(time.perf_counter())
        return new, times

    def decode_bytes(self, path: str) -> int:
        """Initializers that are read by anything but a look-up; RoPE's tables aside."""
        import onnx

        graph = onnx.load(Path(path) / "model.onnx", load_external_data=False).graph
        readers: dict[str, set[str]] = {}
        for node in graph.node:
            for name in node.input:
                readers.setdefault(name, set()).add(node.op_type)
        total = 0
        for tensor in graph.initializer:
            looked_up = readers.get(tensor.name, set()) <= _LOOK_UPS
            if not looked_up and not tensor.name.startswith(("cos_cache", "sin_cache")):
                itemsize = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
                total += math.prod(tensor.dims) * itemsize
        return total

    def version(self) -> str:
        """The version of the package."""
        return str(self.genai.__version__)


if __name__ == "__main__":
    main(OnnxruntimeGenai())
