"""Execution providers of ONNX Runtime: the one that was asked for, or an error; never another in silence."""

from __future__ import annotations

import contextlib
import platform
import sys
from typing import Any

from edge.errors import EngineFailed, MissingExtra

CUDA = "CUDAExecutionProvider"
OPTIONS = {
    # Its own choice is the next power of two, which no plan has counted.
    "arena_extend_strategy": "kSameAsRequested",
    # Otherwise SkipSimplifiedLayerNormalization adds squares up in float16, where large activations become infinite.
    "enable_skip_layer_norm_strict_mode": "1",
}
"""Of the CUDA provider."""
# A node that the provider has no kernel for would be computed on the CPU, at every call.
_NO_FALLBACK = "session.disable_cpu_ep_fallback"
_LIBRARIES = (
    "a library of CUDA or cuDNN is missing, or of another version than the package was built for, which its messages "
    "name; on x86-64 pip install 'onnxruntime-gpu[cuda,cudnn]' brings them"
)
_PACKAGES = {
    "x86_64": "pip install 'edgewise[gpu]', which brings onnxruntime-gpu, after pip uninstall onnxruntime",
    "aarch64": "on a Jetson take onnxruntime-gpu from NVIDIA's index for its JetPack, or build it: the wheels of the "
    "package index have no code for Orin (sm_87) and Thor (sm_110)",
}


def check_listed(ort: Any) -> None:
    """Raises MissingExtra where this build of ONNX Runtime has no CUDA, naming the package that has."""
    if CUDA not in ort.get_available_providers():
        machine = platform.machine()
        install = _PACKAGES.get(machine, f"there is none for {machine}")
        raise MissingExtra(f"onnxruntime {ort.__version__} has no {CUDA}; {install}")


def load_libraries(ort: Any) -> None:
    """Load the libraries of CUDA and cuDNN that packages beside ONNX Runtime have brought, where there are such."""
    if hasattr(ort, "preload_dlls"):
        # It prints, and stdout is for answers.
        with contextlib.redirect_stdout(sys.stderr):
            ort.preload_dlls()


def refuse_fallback(options: Any) -> None:
    """Have a session fail that would compute a part of its graph on the CPU."""
    options.add_session_config_entry(_NO_FALLBACK, "1")


def explained(e: EngineFailed) -> EngineFailed:
    """The error of a session that did not open, with what may be behind it where it would have computed on the CPU."""
    return EngineFailed(f"{e} It may be that {_LIBRARIES}") if "fallback to CPU" in str(e) else e


def check_got(session: Any, ort: Any) -> None:
    """Raises EngineFailed where a session computes with another provider: one that fails to load is only logged."""
    got = session.get_providers()
    if not got or got[0] != CUDA:
        raise EngineFailed(
            f"onnxruntime {ort.__version__} lists {CUDA} and computes with {got[0] if got else 'none'}: {_LIBRARIES}"
        )
