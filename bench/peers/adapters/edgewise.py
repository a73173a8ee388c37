"""Edgewise."""

from __future__ import annotations

import time
from typing import Any

from bench.peers.adapters.adapter import Adapter, main


class Edgewise(Adapter):
    """An artifact, as an application runs it."""

    name = "edgewise"
    edge: Any

    def imports(self) -> None:
        """`import edge`, which is lazy: the engine is imported by `load`."""
        import edge

        self.edge = edge

    def load(self, path: str, threads: int, context: int) -> None:
        """`edge.load`."""
        self.model = self.edge.load(path, threads=threads, context=context, prefix_cache=0)

    def generate(self, ids: list[int], count: int) -> tuple[list[int], list[float]]:
        """`Model.generate`."""
        new, times = [], []
        generation = self.model.generate(ids, max_tokens=count, temperature=0, ignore_eos=True)
        for token in generation.tokens():
            times.append(time.perf_counter())
            new.append(token)
        return new, times

    def decode_bytes(self, path: str) -> int:
        """What the manifest says."""
        return int(self.model.artifact.manifest.decode_bytes)

    def version(self) -> str:
        """Edgewise's, and that of the engine."""
        import onnxruntime

        return f"{self.edge.__version__} on onnxruntime {onnxruntime.__version__}"


if __name__ == "__main__":
    main(Edgewise())
