"""OpenVINO GenAI: a folder that optimum-intel made."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

from bench.peers.adapters.adapter import Adapter, main

# What stands between a compressed weight and the operator that reads it.
_UNPACKING = {"Convert", "Subtract", "Multiply", "Reshape"}


class OpenVino(Adapter):
    """The LLM pipeline on the CPU."""

    name = "openvino"
    openvino: Any
    genai: Any
    numpy: Any

    def imports(self) -> None:
        """`import openvino_genai`."""
        import numpy
        import openvino
        import openvino_genai

        self.numpy, self.openvino, self.genai = numpy, openvino, openvino_genai

    def load(self, path: str, threads: int, context: int) -> None:
        """Load with the pipeline's own defaults; only the number of threads is changed."""
        self.pipeline = self.genai.LLMPipeline(path, "CPU", {"INFERENCE_NUM_THREADS": threads})

    def generate(self, ids: list[int], count: int) -> tuple[list[int], list[float]]:
        """Greedy; the streamer notes when each token comes."""
        config = self.genai.GenerationConfig()
        config.max_new_tokens = config.min_new_tokens = count
        config.ignore_eos = True
        config.do_sample = False
        config.apply_chat_template = False
        new: list[int] = []
        times: list[float] = []
        streamer: Any = self.genai.StreamerBase
        running = self.genai.StreamingStatus.RUNNING

        class Notes(streamer):  # type: ignore[misc]
            def write(self, token: Any) -> Any:
                now = time.perf_counter()
                for id in token if isinstance(token, (list, tuple)) else [token]:
                    new.append(int(id))
                    times.append(now)
                return running

            def end(self) -> None:
                pass

        tokens = self.openvino.Tensor(self.numpy.array([ids], dtype=self.numpy.int64))
        mask = self.openvino.Tensor(self.numpy.ones((1, len(ids)), dtype=self.numpy.int64))
        self.pipeline.generate(self.genai.TokenizedInputs(tokens, mask), config, Notes())
        return new, times

    def decode_bytes(self, path: str) -> int:
        """Constants that, unpacked, end in a matrix product."""
        model = self.openvino.Core().read_model(Path(path) / "openvino_model.xml")
        total = 0
        for node in model.get_ordered_ops():
            if node.get_type_name() == "Constant" and "MatMul" in _readers(node):
                elements = math.prod(node.get_output_shape(0))
                total += elements * node.get_output_element_type(0).bitwidth // 8
        return total

    def version(self) -> str:
        """The version of the package."""
        return str(self.genai.__version__)


def _readers(node: Any) -> set[str]:
    """Types of the operators that read `node`, found through those that unpack it."""
    found, seen, todo = set(), set(), [node]
    while todo:
        for output in todo.pop().outputs():
            for target in output.get_target_inputs():
                reader = target.get_node()
                kind, name = reader.get_type_name(), reader.get_friendly_name()
                if kind not in _UNPACKING:
                    found.add(kind)
                elif name not in seen:
                    seen.add(name)
                    todo.append(reader)
    return found


if __name__ == "__main__":
    main(OpenVino())
