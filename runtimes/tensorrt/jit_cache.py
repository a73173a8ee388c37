"""Kernels that TensorRT for RTX compiles for the GPU it finds, kept beside the engine from one start to the next.

A plan for RTX has no code of a GPU in it: kernels are compiled when they are first needed, which takes long for a whole
model. What is kept TensorRT checks against its own version, the GPU and the driver, and compiles anew what does not
fit. Unverified on device.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path
from typing import Any

SUFFIX = ".jit"
"""Of the file, in place of the engine's."""


class JitCache:
    """The kernels of one engine, and the contexts that run them. TensorRT with code in its plans has none."""

    def __init__(self, trt: Any, engine: Any, path: Path) -> None:
        """`path` is the engine's file. A file of kernels that cannot be read is as good as none."""
        self._trt, self._engine = trt, engine
        self._file = path.with_suffix(SUFFIX)
        self._held = b""
        self._cache: Any = None
        if hasattr(trt, "DynamicShapesKernelSpecializationStrategy"):
            self._cache = engine.create_runtime_config().create_runtime_cache()
            with contextlib.suppress(OSError):
                self._held = self._file.read_bytes()
            if self._held:
                self._cache.deserialize(self._held)

    def context(self, *, steady: bool) -> Any:
        """A context that takes memory for the profile it is set to, not for the largest; None where there is none.

        One whose shapes stay the same, `steady`, has its kernels compiled for them before it goes on: a CUDA graph
        would keep for good those that TensorRT makes do with meanwhile. For another there are kernels of any shape:
        the tails of prompts have a new one nearly every time.
        """
        trt = self._trt
        memory = trt.ExecutionContextAllocationStrategy.ON_PROFILE_CHANGE
        if self._cache is None:
            return self._engine.create_execution_context(memory)
        config = self._engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(memory)
        kinds = trt.DynamicShapesKernelSpecializationStrategy
        config.dynamic_shapes_kernel_specialization_strategy = kinds.EAGER if steady else kinds.NONE
        config.set_runtime_cache(self._cache)
        return self._engine.create_execution_context(config)

    def save(self) -> None:
        """Write what was compiled since, aside and renamed; where the artifact is read-only, nothing."""
        if self._cache is None:
            return
        data = bytes(self._cache.serialize() or b"")
        if not data or data == self._held:
            return
        part = self._file.with_name(f".{self._file.name}.{secrets.token_hex(4)}.part")
        try:
            part.write_bytes(data)
            os.replace(part, self._file)
        except OSError:
            with contextlib.suppress(OSError):
                part.unlink()
            return
        self._held = data
