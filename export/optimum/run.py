"""Running optimum: by a Python of its own, since what it needs does not go together with what Edgewise needs."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.errors import (
    CheckpointCorrupt,
    CheckpointNotFound,
    EngineFailed,
    InvalidArgument,
    MissingExtra,
    Unsupported,
)
from export.graph.weights_file import writing
from export.progress import Progress

PYTHON = "EDGEWISE_OPTIMUM"
"""The environment variable that names the Python which has optimum; the one at work is the default."""
ENVIRONMENT = (
    "python3 -m venv optimum-venv && optimum-venv/bin/pip install 'edgewise[optimum]' && "
    f"export {PYTHON}=$PWD/optimum-venv/bin/python"
)
_WORKER = Path(__file__).with_name("worker.py")
# What the extra `optimum` brings; other packages may be wanted by single models.
_OURS = ("onnx", "optimum", "optimum-onnx", "safetensors", "torch", "transformers")
_LONGEST = 600
# Seconds between two looks at how far it is.
_LOOK = 0.5


@dataclass(frozen=True, kw_only=True)
class FloatGraph:
    """A graph as optimum wrote it, and the files of inputs and torch's outputs beside it."""

    name: str
    path: Path
    references: tuple[Path, ...]


@dataclass(frozen=True, kw_only=True)
class FloatGraphs:
    """What a run of optimum made."""

    folder: Path
    graphs: tuple[FloatGraph, ...]
    task: str
    architecture: str
    versions: dict[str, str]


def run_optimum(source: str, task: str, out: Path, progress: Progress) -> FloatGraphs:
    """Export the model in a folder or on the hub (`org/name[@revision]`) into the new folder `out`.

    `progress` is told steps in place of bytes, and called again while none is done: a step may take minutes.

    Raises:
        InvalidArgument: `source` is none of these, or the Python that is named is none.
        MissingExtra: the Python has no optimum, or lacks what the model needs.
        CheckpointNotFound: no such model, no weights as safetensors, or no network to get it by.
        CheckpointCorrupt: its files are damaged.
        Unsupported: a model or a task that optimum does not know.
        EngineFailed: optimum failed.
        StorageError: the disk is full, or `out` cannot be written.
    """
    with writing(out):
        return _run(source, task, out, progress)


def _run(source: str, task: str, out: Path, progress: Progress) -> FloatGraphs:
    python = _python()
    name, revision = _source(source)
    errors = out / "errors.txt"
    out.mkdir(parents=True, exist_ok=True)
    with errors.open("wb") as log:
        try:
            process = subprocess.Popen(
                [python, str(_WORKER), name, str(out), task, revision],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        except OSError as e:
            raise InvalidArgument(
                f"{PYTHON} is {python!r}, which cannot be run ({e.strerror}); name the python of the environment "
                f"that has optimum, or make one: {ENVIRONMENT}"
            ) from None
        try:
            code = _wait(process, out, progress)
        except BaseException:
            process.kill()
            process.wait()
            raise
    if os.environ.get("EDGE_TRACEBACK") == "1":
        sys.stderr.write(errors.read_text(encoding="utf-8", errors="replace"))
    if code == errno.ENOSPC:
        raise OSError(code, os.strerror(code))
    if code:
        raise _failure(source, python, code, out)
    return _read_report(out)


def _wait(process: subprocess.Popen[bytes], out: Path, progress: Progress) -> int:
    """Its exit code, when it has ended."""
    done, total = 0, 1
    while True:
        progress("torch to ONNX", done, total)
        try:
            return process.wait(_LOOK)
        except subprocess.TimeoutExpired:
            # Not there yet, or half written: what was read last still holds.
            with contextlib.suppress(OSError, ValueError):
                done, total = map(int, (out / "steps.txt").read_text(encoding="ascii").split("/"))


def _python() -> str:
    named = os.environ.get(PYTHON)
    if not named:
        return sys.executable
    found = shutil.which(named)
    if found is None:
        raise InvalidArgument(
            f"{PYTHON} is {named!r}, which is no program; name the python of the environment that has optimum, "
            f"or make one: {ENVIRONMENT}"
        )
    return found


def _source(source: str) -> tuple[str, str]:
    """Folder or hub id, and a revision."""
    path = Path(source)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise CheckpointNotFound(
                f"{source} holds no config.json; name the folder of a model as transformers writes it"
            )
        return str(path.resolve()), ""
    if path.exists():
        raise InvalidArgument(
            f"{source} is a file; with --via optimum name a folder or a hub id, and without it a GGUF file"
        )
    name, _, revision = source.partition("@")
    if source.startswith((".", "/", "~", "-")) or name.count("/") > 1:
        raise CheckpointNotFound(f"there is no folder {source}; look at the path, or give a hub id: org/name")
    return name, revision


def _failure(source: str, python: str, code: int, out: Path) -> Exception:
    if code < 0:
        return EngineFailed(
            f"optimum was ended by signal {-code} while it exported {source}; most often memory ran out: "
            "export on a machine with more, or a smaller model"
        )
    try:
        told = json.loads((out / "error.json").read_text(encoding="utf-8"))
        kind, message = str(told["kind"]), str(told["message"])
    except (OSError, ValueError, KeyError, TypeError):
        log = (out / "errors.txt").read_text(encoding="utf-8", errors="replace").split("\n")
        kind, message = "failed", next((line for line in reversed(log) if line.strip()), f"exit code {code}")
    # To whom else to turn is no next step.
    message = message.split(" Please ")[0].rstrip(".")
    message = message if len(message) <= _LONGEST else message[:_LONGEST].rstrip() + " ..."
    if kind == "missing":
        remedy = f"install it: {python} -m pip install {message}"
        if message in _OURS:
            remedy = f"optimum wants an environment of its own: {ENVIRONMENT}"
        return MissingExtra(
            f"edge export --via optimum needs {message}, which {python} does not have; {remedy}"
        )
    if kind == "unusable":
        return MissingExtra(
            f"{python} cannot import what {source} needs ({message}); install what is missing there, or make an "
            f"environment with the versions that go together: {ENVIRONMENT}"
        )
    if kind == "not found" and Path(source).is_dir():
        return CheckpointNotFound(
            f"{source} cannot be read as a model with safetensors ({message}); its weights are to lie there as "
            "model.safetensors, as save_pretrained writes them: pickles (pytorch_model.bin) are not read"
        )
    if kind == "not found":
        return CheckpointNotFound(
            f"there is no folder {source}, and no model with safetensors of that name was got from the hub "
            f"({message}); look at the name, or get it where there is a network and name its folder"
        )
    if kind == "corrupt":
        return CheckpointCorrupt(
            f"{source}: its config.json or its weights are damaged ({message}); get it again from its publisher"
        )
    if kind == "unsupported":
        return Unsupported(
            f"optimum does not export {source} ({message}); choose a model and a --task that it knows, or leave out "
            "--via optimum if it is a decoder"
        )
    return EngineFailed(f"optimum failed on {source} ({message}); EDGE_TRACEBACK=1 shows all it said")


def _read_report(out: Path) -> FloatGraphs:
    try:
        report: dict[str, Any] = json.loads((out / "report.json").read_text(encoding="utf-8"))
        graphs = tuple(
            FloatGraph(
                name=graph["name"],
                path=out / graph["file"],
                references=tuple(
                    out / "references" / f"{graph['name']}.{i}.npz" for i in range(graph["samples"])
                ),
            )
            for graph in report["graphs"]
        )
        return FloatGraphs(
            folder=out,
            graphs=graphs,
            task=report["task"],
            architecture=report["model_type"],
            versions=dict(report["versions"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise EngineFailed(f"optimum gave no report ({e}); EDGE_TRACEBACK=1 shows all it said") from None
