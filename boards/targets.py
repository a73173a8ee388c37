"""Targets: what TensorRT 10 builds engines for, GPUs by compute capability and the boards that have one of them."""

from __future__ import annotations

from boards.board import sm_version
from boards.folders import profiles

# Compute capabilities that TensorRT for RTX builds for, on any machine, and those of Jetsons that have TensorRT 10.
RTX = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
JETSON = ("8.7", "11.0")
RTX_SERIES = {"20": "7.5", "30": "8.6", "40": "8.9", "50": "12.0"}
"""Of GeForce cards, by the number that their names begin with."""


def short(sm: str) -> str:
    """Compute capability 8.9 as sm89."""
    return f"sm{sm.replace('.', '')}"


def gpu_names() -> list[str]:
    """The GPUs, in the order of their capabilities: sm75 and so on."""
    return [short(sm) for sm in sorted((*RTX, *JETSON), key=sm_version)]


def target_names() -> dict[str, str]:
    """Every name that is a target: the GPUs, and the boards that have one of them, with their titles."""
    able = [p for p in profiles() if p.sm is not None and p.sm.value in (*RTX, *JETSON)]
    return {**dict.fromkeys(gpu_names(), ""), **{profile.name: profile.title for profile in able}}
