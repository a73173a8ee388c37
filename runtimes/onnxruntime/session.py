"""Opening an ONNX Runtime session: versions checked, options chosen, errors in our words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from edge.artifact import Artifact, Variant
from edge.artifact.folder import Stored
from edge.errors import (
    ArtifactCorrupt,
    Cancelled,
    EdgeError,
    EngineFailed,
    EngineTooOld,
    MemoryBudgetError,
    MissingExtra,
)
from runtimes.onnxruntime.telemetry import silence
from runtimes.protocol import CancelToken

OLDEST = "1.23.2"
InputShape = tuple[int | None, ...]
"""Sizes of an input of the graph, None where any will do."""

_ALWAYS = ("input_ids", "logit_positions")
_ERRORS_ONLY = 3
# Longer than what Python does between two tokens. Older versions do not know the option and keep a bound of their own.
_SPIN_US = "2000"


def onnxruntime() -> Any:
    """The onnxruntime module.

    Raises:
        MissingExtra: it is not installed.
        EngineTooOld: it is older than any artifact needs.
        EngineFailed: two builds of it are installed over each other.
    """
    if all(_installed(name) for name in ("onnxruntime", "onnxruntime-gpu")):
        raise EngineFailed(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other's files; "
            "pip uninstall both, then install one: pip install 'edgewise[cpu]' or 'edgewise[gpu]'"
        )
    silence()
    try:
        import onnxruntime as ort
    except ImportError as e:
        raise MissingExtra(
            f"no engine is installed ({e}); install one: pip install 'edgewise[cpu]', or 'edgewise[gpu]' for CUDA"
        ) from None
    check_version(ort.__version__, OLDEST)
    # Where another part of the process has loaded it before.
    ort.disable_telemetry_events()
    return ort


def check_version(installed: str, oldest: str) -> None:
    """Compare versions by their numbers.

    Raises:
        EngineTooOld: `installed` is older than `oldest`.
    """
    if _numbers(installed) < _numbers(oldest):
        package = "onnxruntime-gpu" if _installed("onnxruntime-gpu") else "onnxruntime"
        raise EngineTooOld(
            f"onnxruntime {installed} is older than {oldest}, which this needs; "
            f"upgrade: pip install '{package}>={oldest}'"
        )


def session_options(ort: Any, threads: int, *, spin: bool) -> Any:
    """SessionOptions of the module `ort`; with `spin` its threads stay awake for a while after a run."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    if spin:
        # Threads spin from one token to the next and sleep soon after the last: a sleeper is slow to wake.
        options.add_session_config_entry("session.intra_op.spin_duration_us", _SPIN_US)
    else:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def open_session(
    ort: Any,
    artifact: Artifact,
    variant: Variant,
    options: Any,
    inputs: Mapping[str, InputShape],
    providers: Sequence[Any] = ("CPUExecutionProvider",),
) -> Any:
    """An InferenceSession of the module `ort` for `variant`; its graph takes `inputs`, ids and positions.

    Raises:
        ArtifactCorrupt, EngineFailed
    """
    session = load_graph(ort, artifact, variant.model, variant.files, options, providers)
    _check_interface(session, artifact.path / variant.model, inputs)
    return session


def load_graph(
    ort: Any,
    artifact: Stored,
    model: str,
    files: Sequence[str],
    options: Any,
    providers: Sequence[Any] = ("CPUExecutionProvider",),
) -> Any:
    """An InferenceSession for the graph in the file `model`, its weights in `files`.

    Raises:
        ArtifactCorrupt, EngineFailed, MemoryBudgetError
    """
    path = artifact.file(model)
    # Weights are mapped: a file cut short since the artifact was opened would end the process, not raise.
    for name in files:
        artifact.file(name)
    try:
        # Left to itself it tries once more with other providers, and loses the error of the first time.
        return ort.InferenceSession(str(path), options, providers=list(providers), enable_fallback=False)
    except Exception as e:
        if _out_of_memory(e):
            raise _no_memory(f"load {path}", e) from e
        raise EngineFailed(f"onnxruntime {ort.__version__} cannot load {path}: {_first_line(e)}") from e


def failed(what: str, e: Exception) -> EdgeError:
    """The error for a call of ONNX Runtime that failed."""
    if _out_of_memory(e):
        return _no_memory(what, e)
    return EngineFailed(
        f"onnxruntime failed to {what}: {_first_line(e)}; verify the artifact with: edge verify"
    )


def _out_of_memory(e: Exception) -> bool:
    return any(words in str(e) for words in ("Failed to allocate memory", "out of memory", "bad_alloc"))


def _no_memory(what: str, e: Exception) -> MemoryBudgetError:
    return MemoryBudgetError(
        f"there is not the memory for onnxruntime to {what}: {_first_line(e)}; close other programs, or use a shorter "
        "context"
    )


def run_bound(session: Any, binding: Any, options: Any, cancel: CancelToken | None) -> None:
    """Run a session on what is bound; `options` are the RunOptions that a cancelled run is stopped by.

    Raises:
        Cancelled, EngineFailed, MemoryBudgetError
    """
    options.terminate = False
    if cancel is not None:
        cancel.on_cancel(lambda: setattr(options, "terminate", True))
    try:
        session.run_with_iobinding(binding, options)
    except Exception as e:
        if cancel is not None and cancel.cancelled:
            raise Cancelled("the run was cancelled") from None
        raise failed("run the model", e) from e
    finally:
        if cancel is not None:
            cancel.on_cancel(None)
    if cancel is not None and cancel.cancelled:
        raise Cancelled("the run was cancelled")


def _check_interface(session: Any, path: Path, inputs: Mapping[str, InputShape]) -> None:
    """Check that the graph is the spec's: a cache of other sizes would be written past its end."""
    found = {i.name: i.shape for i in session.get_inputs()}
    for name, expected in inputs.items():
        shape = list(found.get(name, []))
        fits = len(shape) == len(expected) and all(
            e in (None, s) for s, e in zip(shape, expected, strict=True)
        )
        if not fits:
            wanted = ", ".join("..." if size is None else str(size) for size in expected)
            raise ArtifactCorrupt(
                f"{path}: {name} is {shape}, this version expects [{wanted}]; export the artifact again"
            )
    if set(found) != {*inputs, *_ALWAYS}:
        raise ArtifactCorrupt(f"{path}: the graph's inputs are {sorted(found)}; export the artifact again")


def _installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    parts = []
    for part in version.split(".")[:3]:
        digits = "".join(c for c in part if c.isdigit())
        parts.append(int(digits) if digits else 0)
    return tuple(parts)


def _first_line(e: Exception) -> str:
    return (str(e).strip().splitlines() or [type(e).__name__])[0]
