"""A board as a profile describes it: figures, each with where it is from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from boards.tegra import RELEASES, Release

T = TypeVar("T")

PRECISIONS = ("fp16", "bf16", "int8", "int4", "fp8", "fp4")
ENGINES = ("cpu", "onnxruntime", "tensorrt")
# Lowest compute capability whose tensor cores take a precision (TensorRT Edge-LLM support matrix).
LOWEST_SM = {"fp8": (8, 9), "fp4": (10, 0)}


@dataclass(frozen=True)
class Figure(Generic[T]):
    """A value and its source; unconfirmed where it is from memory or assumed, and shown so."""

    value: T
    source: str
    confirmed: bool = True
    unit: str = ""
    """Of a peak, what is counted: TOPS INT8 sparse."""


@dataclass(frozen=True, kw_only=True)
class PowerMode:
    """A power mode, known by its name: numbers differ by board and release."""

    name: str
    aliases: tuple[str, ...] = ()
    watts: Figure[float] | None = None
    bandwidth_gb_s: Figure[float] | None = None
    """Where it is not the board's; GB are 10^9 bytes."""
    peak: Figure[float] | None = None

    def is_called(self, name: str) -> bool:
        """Whether nvpmodel may mean it by `name`: 15W is also MODE_15W and MODE_15W_6CORE there."""
        plain = name.upper().removeprefix("MODE_")
        return any(plain == own.upper() or plain.startswith(f"{own.upper()}_") for own in self._names)

    @property
    def _names(self) -> tuple[str, ...]:
        return (self.name, *self.aliases)


@dataclass(frozen=True)
class Match:
    """What tells that a machine is this board."""

    compatible: tuple[str, ...] = ()
    """Parts of the device tree's `compatible`, such as p3767-0003; a longer one outweighs a shorter one."""
    model: tuple[str, ...] = ()
    """Words of the device tree's `model`: they can contradict, but never decide."""
    product: tuple[str, ...] = ()
    """What DMI calls the machine."""
    gpu: tuple[str, ...] = ()
    """What NVML calls the GPU, to the letter."""
    power_mode: str = ""
    """A mode that nvpmodel must offer."""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A board: what is known of it, from its file, or measured where there is none."""

    name: str
    title: str
    arch: str
    """x86_64, aarch64, or any where it is a card for both."""
    origin: str
    """edgewise, the path of the user's file, or measured."""
    memory_gb: Figure[float]
    """As it is sold; a GB is 10^9 bytes here, less than the board has."""
    visible_gib: Figure[float] | None = None
    """MemTotal, in GiB, where it is known."""
    unified: Figure[bool]
    """Memory is the system's, for whatever computes; else it is the GPU's own."""
    bandwidth_gb_s: Figure[float] | None
    """10^9 bytes a second; None only of a measured profile, where nobody measured it."""
    reserve_mib: Figure[float]
    """Memory that is left to the system."""
    cpu: Figure[tuple[str, ...]] | None = None
    """Instruction sets."""
    sm: Figure[str] | None = None
    """Compute capability of the GPU, such as 8.7."""
    precisions: Figure[tuple[str, ...]] | None = None
    """What the GPU's tensor cores multiply, of PRECISIONS."""
    peak: Figure[float] | None = None
    """The vendor's, in 10^12 operations a second; `unit` says of what."""
    npu: Figure[tuple[str, ...]] | None = None
    """What a neural processor multiplies; no engine of Edgewise uses one."""
    npu_peak: Figure[float] | None = None
    system: Figure[str] | None = None
    l4t: Figure[tuple[int, ...]] | None = None
    """Major numbers of the releases of L4T that run on it."""
    engines: Figure[tuple[str, ...]]
    """Of ENGINES, the fastest first."""
    power_modes: tuple[PowerMode, ...] = ()
    notes: tuple[str, ...] = ()
    match: Match = field(default_factory=Match)

    @property
    def memory_bytes(self) -> int:
        """What the system sees, where that is known, else what is sold."""
        whole = self.visible_gib.value * (1 << 30) if self.visible_gib else self.memory_gb.value * 1e9
        return int(whole)

    @property
    def reserve_bytes(self) -> int:
        """What is left to the system."""
        return int(self.reserve_mib.value * (1 << 20))

    @property
    def usable_bytes(self) -> int:
        """What a model and all around it may take: the memory there is, less the reserve."""
        return max(0, self.memory_bytes - self.reserve_bytes)

    @property
    def releases(self) -> tuple[Release, ...]:
        """Releases of L4T for it, with their JetPack, CUDA and TensorRT."""
        majors = self.l4t.value if self.l4t else ()
        return tuple(release for release in RELEASES if release.major in majors)

    @property
    def jetpacks(self) -> tuple[int, ...]:
        """Major numbers of JetPack."""
        return tuple(dict.fromkeys(release.jetpack_major for release in self.releases))

    def mode(self, name: str | None) -> PowerMode | None:
        """The mode of that name; None where none is known by it."""
        return next((mode for mode in self.power_modes if name and mode.is_called(name)), None)

    def bandwidth_in(self, mode: str | None) -> Figure[float] | None:
        """Bandwidth in a power mode, in 10^9 bytes a second."""
        known = self.mode(mode)
        return known.bandwidth_gb_s if known and known.bandwidth_gb_s else self.bandwidth_gb_s


def precisions_of(sm: str) -> tuple[str, ...]:
    """What tensor cores of a compute capability multiply; from 7.5 on, which is where INT4 begins."""
    version = sm_version(sm)
    found = [name for name in ("fp16", "int8", "int4") if version >= (7, 5)]
    found[1:1] = ["bf16"] if version >= (8, 0) else []
    return (*found, *(name for name, lowest in LOWEST_SM.items() if version >= lowest))


def beyond(precisions: Iterable[str], sm: str) -> tuple[str, ...]:
    """Those of `precisions` that a compute capability has no tensor cores for."""
    return tuple(p for p in precisions if sm_version(sm) < LOWEST_SM.get(p, (0, 0)))


def sm_version(sm: str) -> tuple[int, int]:
    """Compute capability 8.7 as (8, 7)."""
    major, _, minor = sm.partition(".")
    return int(major), int(minor or 0)
