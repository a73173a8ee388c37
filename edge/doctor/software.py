"""What is installed, and whether it works: found out by loading it."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module, metadata
from importlib.util import find_spec
from typing import TYPE_CHECKING

from edge.doctor.network import Network, watching
from edge.errors import EdgeError
from edge.version import VERSION

if TYPE_CHECKING:
    from runtimes.trial import Trial

OLDEST_PYTHON = (3, 10)
# Spelled out: the engines themselves cannot be imported where numpy is missing.
ENGINES = ("cpu", "onnxruntime")
# Without these no prompt becomes tokens and no answer text.
_NEEDED = ("numpy", "tokenizers", "jinja2")
_SHOWN = (*_NEEDED, "onnxruntime", "onnxruntime-gpu", "nvidia-ml-py", "onnx")
_TENSORRT = {"tensorrt": ("tensorrt", "tensorrt-cu12", "tensorrt-cu13"), "tensorrt_rtx": ("tensorrt-rtx",)}
_LOWEST = re.compile(r"^([A-Za-z0-9_.-]+)\s*>=\s*([\d.]+)\s*$")
_VARIABLES = ("HF_HUB_OFFLINE", "EDGEWISE_ISA", "EDGEWISE_KERNELS", "EDGEWISE_CACHE")


@dataclass(frozen=True, kw_only=True)
class Software:
    """What this process can load."""

    edgewise: str
    python: str
    libc: str
    packages: Mapping[str, str]
    """Versions of what is installed, by distribution."""
    faults: Mapping[str, str] = field(default_factory=dict)
    """Why a package that is needed cannot be used."""
    engines: Mapping[str, Trial | str]
    """By name: what a trial gave, or the message why it does not work."""
    modules: Mapping[str, str] = field(default_factory=dict)
    """Of the TensorRT modules those there are, with their versions."""
    network: Network
    environment: Mapping[str, str] = field(default_factory=dict)


def installed() -> Software:
    """Load what a run loads, and see what it does."""
    with watching() as network:
        faults = {name: fault for name in _NEEDED if (fault := _fault(name))}
        engines = {name: _tried(name) for name in ENGINES}
    return Software(
        edgewise=VERSION,
        python=platform.python_version(),
        libc=" ".join(filter(None, platform.libc_ver())),
        packages={name: version for name in _SHOWN if (version := _version(name))},
        faults=faults,
        engines=engines,
        modules={
            module: next(filter(None, map(_version, names)), "of unknown version")
            for module, names in _TENSORRT.items()
            if find_spec(module)
        },
        network=network,
        environment={name: os.environ[name] for name in _VARIABLES if os.environ.get(name)},
    )


def _tried(name: str) -> Trial | str:
    try:
        from runtimes.trial import try_engine

        return try_engine(name)
    except EdgeError as e:
        return str(e)
    except Exception as e:  # whatever a broken installation raises
        return f"it fails when it is loaded ({type(e).__name__}: {e}); install it again: pip install edgewise[cpu]"


def _fault(name: str) -> str:
    """Why the package cannot be used; empty where it can."""
    try:
        import_module(name)
    except ImportError as e:
        return f"{name} cannot be loaded ({e})"
    except Exception as e:
        return f"{name} fails when it is loaded ({type(e).__name__}: {e})"
    lowest, there = _lowest().get(name), _version(name)
    if lowest and there and numbers(there) < numbers(lowest):
        return f"{name} {there} is older than {lowest}"
    return ""


def _lowest() -> dict[str, str]:
    """What our own metadata asks for, where we are installed as a package."""
    try:
        asked = metadata.requires("edgewise") or []
    except metadata.PackageNotFoundError:
        return {}
    return dict(found.groups() for text in asked if (found := _LOWEST.match(text)))  # type: ignore[misc]


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def numbers(version: str) -> tuple[int, ...]:
    """The first three numbers of a version, to compare."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])
