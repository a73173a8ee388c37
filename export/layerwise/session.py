"""Sessions of ONNX Runtime for the exporter itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from edge.errors import EngineFailed, MissingExtra
from runtimes.onnxruntime.telemetry import silence

_ERRORS_ONLY = 3


WITHOUT = (
    "does not run the model in full precision",
    "export with --method rtn --no-fidelity, which do not need it",
)


def open_session(graph: bytes | str, folder: str | None = None, told: tuple[str, str] = WITHOUT) -> Any:
    """A session on every core for a graph, or the file of one; its weights are in `folder` where that is given.

    `told` is what an error says that it does not do, and what to do instead.

    Raises:
        MissingExtra: onnxruntime is not installed.
        EngineFailed: it does not take the graph.
    """
    ort = onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    options.log_severity_level = _ERRORS_ONLY
    # What it takes is given back with the session, not kept for the next run.
    options.enable_cpu_mem_arena = False
    if folder is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
    with running(told):
        return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


@contextmanager
def running(told: tuple[str, str] = WITHOUT) -> Iterator[None]:
    """Around what ONNX Runtime does; its errors have no base of their own."""
    try:
        yield
    except Exception as e:
        first = (str(e).splitlines() or [type(e).__name__])[0]
        raise EngineFailed(f"onnxruntime {onnxruntime().__version__} {told[0]} ({first}); {told[1]}") from e


def onnxruntime() -> Any:
    """The module.

    Raises:
        MissingExtra: it is not installed.
    """
    silence()
    try:
        import onnxruntime as ort
    except ImportError as e:
        raise MissingExtra(
            f"the model has to be run for this, and onnxruntime is missing ({e}); pip install 'edgewise[cpu,export]'"
        ) from None
    # Where another part of the process has loaded it before.
    ort.disable_telemetry_events()
    return ort
