"""Which board this machine is, which file said so, and what does not fit together."""

from __future__ import annotations

from dataclasses import dataclass, field

from boards.board import Profile
from boards.conflicts import Conflict
from boards.files import Unreadable
from boards.gpu import Gpu
from boards.host import Cpu
from boards.tegra import Release

_OLDEST_TENSORRT = 10


@dataclass(frozen=True)
class Evidence:
    """What a source says."""

    source: str
    says: str


@dataclass(frozen=True, kw_only=True)
class Detection:
    """What this machine is; sizes in bytes, temperatures in degrees Celsius."""

    board: Profile
    """A profile, or what was measured where none fits: `known` tells."""
    known: bool
    decided_by: str
    """The source that named the board; empty where none did."""
    evidence: tuple[Evidence, ...]
    conflicts: tuple[Conflict, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()
    notes: tuple[str, ...] = ()
    """What stands between the process and the machine, and what to do about it."""
    cpu: Cpu
    memory: int | None
    """MemTotal of the system."""
    memory_limit: int | None
    """The lowest cgroup limit above this process."""
    gpus: tuple[Gpu, ...] = ()
    l4t: str = ""
    release: Release | None = None
    """What comes with that L4T; by its major number, the rest is a label."""
    power_mode: str | None = None
    """By name; None where it is not known."""
    power_modes: tuple[str, ...] = ()
    temperatures: dict[str, float] = field(default_factory=dict)
    """By thermal zone."""
    container: str = ""
    """Its kind; empty where there is none to be seen."""
    wsl: bool = False

    @property
    def engines(self) -> tuple[str, ...]:
        """Of the board's engines those that this JetPack can have: TensorRT from 10 on."""
        old = self.release is not None and int(self.release.tensorrt.split(".")[0]) < _OLDEST_TENSORRT
        return tuple(e for e in self.board.engines.value if not (old and e == "tensorrt"))

    @property
    def bandwidth_gb_s(self) -> float | None:
        """Of the board in its power mode, in 10^9 bytes a second."""
        figure = self.board.bandwidth_in(self.power_mode)
        return figure.value if figure else None
