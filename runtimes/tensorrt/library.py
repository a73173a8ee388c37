"""The TensorRT modules: the one that comes with TensorRT and JetPack, and the one of TensorRT for RTX."""

from __future__ import annotations

import platform
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from edge.errors import TensorRTMissing
from runtimes.tensorrt.header import TENSORRT, TENSORRT_RTX

FLAVOURS = (TENSORRT_RTX, TENSORRT)
PACKAGES = {
    TENSORRT: "on a Jetson it comes with JetPack: sudo apt install nvidia-jetpack, and a virtual environment made "
    "with --system-site-packages",
    TENSORRT_RTX: "on x86-64 Linux it is the package tensorrt-rtx: pip install 'edgewise[tensorrt]'",
}
"""Where each comes from."""
_USUAL = {"x86_64": TENSORRT_RTX, "aarch64": TENSORRT}


def this_platform() -> str:
    """As engines name theirs: linux-x86_64. A plan that is built here runs on no other."""
    return f"{platform.system().lower()}-{platform.machine()}"


def modules() -> dict[str, Any]:
    """Those that are installed, loaded, by flavour.

    Raises:
        TensorRTMissing: none is, or none can be loaded; it says what to install here.
    """
    found, why = {}, "neither tensorrt_rtx nor tensorrt is installed"
    for flavour in FLAVOURS:
        if find_spec(flavour) is None:
            continue
        try:
            found[flavour] = import_module(flavour)
        except (ImportError, OSError, RuntimeError) as e:
            why = f"module {flavour} cannot be loaded ({e})"
    if not found:
        machine = platform.machine()
        none = f"there is no TensorRT for {machine}"
        raise TensorRTMissing(f"{why}; {PACKAGES[_USUAL[machine]] if machine in _USUAL else none}")
    return found
