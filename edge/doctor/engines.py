"""What can compute here: usable, or not, because of what, and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from boards.detection import Detection
from boards.files import SystemFiles
from boards.targets import RTX
from boards.tegra import is_tegra
from edge.doctor.finding import Finding, State, because_and_next
from edge.doctor.software import Software, numbers

if TYPE_CHECKING:
    from runtimes.trial import Trial

_NO_CARD = "not for this machine: no NVIDIA GPU"
_NOT_YET = "not tried: no GPU has run this version of Edgewise yet"
_OLDEST_TENSORRT = 10
# Spelled out: the engine itself cannot be imported where numpy is missing.
PORTABLE = {"opset24": "1.31.1", "opset21": "1.23.2"}
"""The oldest ONNX Runtime that the portable engine runs each form with, the newest form first."""


def engines(software: Software) -> Iterator[Finding]:
    """Those that Edgewise has. One that works is enough; what works for none is a problem of each."""
    works = any(not isinstance(tried, str) for tried in software.engines.values())
    for name, tried in software.engines.items():
        yield _broken(name, tried, works) if isinstance(tried, str) else _working(name, tried)


def accelerators(found: Detection, files: SystemFiles, software: Software) -> Iterator[Finding]:
    """The engines for GPUs, unverified on device, what runs the same on the CPU, and the two TensorRTs."""
    gpu = bool(found.gpus) or is_tegra(files) or found.board.sm is not None
    libraries = [_tensorrt(gpu, found, files, software), _tensorrt_rtx(gpu, found, files, software)]
    yield _engine_tensorrt(gpu, libraries)
    yield _portable(software)
    yield _cuda(gpu, software)
    yield from libraries


def _working(name: str, tried: Trial) -> Finding:
    facts = {
        "usable": True,
        "version": tried.version,
        "kernels": tried.kernels or None,
        "isa": tried.isa or None,
        "isas": list(tried.isas),
    }
    text = f"usable: onnxruntime {tried.version} has run a graph"
    if tried.kernels:
        text = f"usable: kernels {tried.kernels} use {tried.isa}, in onnxruntime {tried.version}"
    return Finding(f"engine {name}", "ok", text, facts=facts)


def _broken(name: str, why: str, other_works: bool) -> Finding:
    because, step = because_and_next(why)
    state: State = "note" if other_works else "problem"
    return Finding(
        f"engine {name}", state, f"not usable: {because}", step, {"usable": False, "because": because}
    )


def _engine_tensorrt(gpu: bool, libraries: Sequence[Finding]) -> Finding:
    facts = {"usable": False}
    if not gpu:
        return Finding("engine tensorrt", "ok", _NO_CARD, facts=facts)
    able = [f"{each.name} {each.facts['installed']}" for each in libraries if each.facts["able"]]
    text = f"{_NOT_YET}; with {able[0]}" if able else "not usable: no TensorRT for this GPU is installed"
    return Finding("engine tensorrt", "note", text, facts=facts)


def _portable(software: Software) -> Finding:
    name, tried = "engine portable", software.engines.get("onnxruntime", "")
    if isinstance(tried, str):
        return Finding(name, "note", "not usable: engine onnxruntime is not", facts={"usable": False})
    forms = [form for form, oldest in PORTABLE.items() if numbers(tried.version) >= numbers(oldest)]
    if not forms:
        old = f"not usable: onnxruntime {tried.version} is older than {min(PORTABLE.values(), key=numbers)}"
        return Finding(name, "note", old, facts={"usable": False})
    text = (
        f"usable: what engine tensorrt runs, in form {forms[0]}, on the CPU with onnxruntime {tried.version}"
    )
    return Finding(name, "ok", text, facts={"usable": True, "form": forms[0]})


def _cuda(gpu: bool, software: Software) -> Finding:
    listed = any(
        not isinstance(tried, str) and "CUDAExecutionProvider" in tried.providers
        for tried in software.engines.values()
    )
    facts = {"usable": False, "listed": listed}
    if not gpu:
        return Finding("engine cuda", "ok", _NO_CARD, facts=facts)
    # It is listed on any machine, and a session falls back without an error.
    there = "this onnxruntime lists the CUDA provider; that it works is not tried" if listed else (
        "this onnxruntime has no CUDA provider"
    )  # fmt: skip
    return Finding("engine cuda", "note", f"{_NOT_YET}; {there}", facts=facts)


def _tensorrt(gpu: bool, found: Detection, files: SystemFiles, software: Software) -> Finding:
    version = software.modules.get("tensorrt")
    facts = {"able": False, "installed": version}
    if not gpu:
        text = f"{version}: builds and runs engines on a GPU, and none is here" if version else _NO_CARD
        return Finding("tensorrt", "ok", text, facts=facts)
    if found.release and int(found.release.tensorrt.split(".")[0]) < _OLDEST_TENSORRT:
        old = f"JetPack {found.release.jetpack} has TensorRT {found.release.tensorrt}"
        return Finding(
            "tensorrt", "note", f"not usable: {old}, and Edgewise needs {_OLDEST_TENSORRT}", facts=facts
        )
    package = (
        "apt package nvidia-jetpack" if is_tegra(files) else "pip package tensorrt-cu12 or tensorrt-cu13"
    )
    return Finding("tensorrt", "ok", _there(version, package), facts=facts | {"able": bool(version)})


def _tensorrt_rtx(gpu: bool, found: Detection, files: SystemFiles, software: Software) -> Finding:
    version = software.modules.get("tensorrt_rtx")
    facts = {"able": False, "installed": version}
    if not gpu:
        text = f"{version}: builds engines for cards, runs none here" if version else _NO_CARD
        return Finding("tensorrt_rtx", "ok", text, facts=facts)
    sm = found.board.sm.value if found.board.sm else ""
    if is_tegra(files) or (sm and sm not in RTX):
        which = f"compute capability {sm}" if sm else "Jetsons"
        return Finding(
            "tensorrt_rtx", "ok", f"not for this machine: it does not build for {which}", facts=facts
        )
    text = _there(version, "pip package tensorrt-rtx")
    return Finding("tensorrt_rtx", "ok", text, facts=facts | {"able": bool(version)})


def _there(version: str | None, package: str) -> str:
    return f"{version} is installed" if version else f"not installed ({package})"
