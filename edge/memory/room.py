"""Room: the memory of a board and how fast it is read, by its profile or as a machine shows itself."""

from __future__ import annotations

from dataclasses import dataclass

from boards.board import Figure, Profile
from boards.detection import Detection
from edge.artifact.kv import GPU_ENGINES
from edge.memory.plan import own_reserve

_MIB, _GB = 1 << 20, 1e9


@dataclass(frozen=True, kw_only=True)
class Room:
    """What a model and all around it can have on a board; sizes in bytes."""

    board: Profile
    whole: int
    reserve: int
    """Of `whole`, what is left to the system."""
    where: str
    """Whose memory it is, in words."""
    bandwidth: Figure[float] | None
    """Bytes a second; None where nobody measured it."""
    confirmed: bool
    """Whether the memory is; of the reserve its profile says."""
    notes: tuple[str, ...] = ()

    @property
    def on_card(self) -> bool:
        """Whether it is the memory of a GPU that has its own."""
        return not self.board.unified.value

    @property
    def engine(self) -> str:
        """What an export for the board is for: our operators on its CPU, or what computes on a card."""
        if not self.on_card:
            return "cpu"
        return "tensorrt" if "tensorrt" in self.board.engines.value else "cuda"

    def lacks(self, engine: str) -> str:
        """Why the board cannot run `engine`; empty where it can."""
        board = self.board
        if engine == "tensorrt" and engine not in board.engines.value:
            return f"{board.title} cannot run engine tensorrt: {board.engines.source}"
        if engine in GPU_ENGINES and board.sm is None and not self.on_card:
            return f"{board.title} cannot run engine {engine}: no NVIDIA GPU of it is known"
        return ""


def room_of(profile: Profile) -> Room:
    """As the profile says, in the power mode that reads the fastest."""
    return Room(
        board=profile,
        whole=max(1, profile.memory_bytes),
        reserve=profile.reserve_bytes,
        where=_where(profile),
        bandwidth=_bytes(profile.bandwidth_gb_s),
        confirmed=(profile.visible_gib or profile.memory_gb).confirmed,
        notes=tuple(_slower_modes(profile)),
    )


def room_here(found: Detection) -> Room:
    """This machine: no more than it shows and than its cgroups allow, in the power mode that it is in."""
    profile, notes = found.board, []
    whole, reserve, where = max(1, profile.memory_bytes), profile.reserve_bytes, _where(profile)
    if profile.unified.value:
        whole = min(whole, found.memory or whole)
        limit = found.memory_limit
        # What the board keeps for its system lies outside a group; inside, a load keeps a part of its own.
        if limit is not None and limit - own_reserve(limit) < whole - reserve:
            if limit < reserve:
                notes.append(
                    f"the cgroup limit of {limit / _MIB:.0f} MiB is less than the {reserve / _MIB:.0f} MiB that this "
                    "board keeps for its system; raise it (docker run --memory, MemoryMax of a systemd unit)"
                )
            whole, reserve, where = max(1, limit), own_reserve(limit), "limit of a cgroup"
    figure = profile.bandwidth_in(found.power_mode)
    if found.power_mode:
        notes.append(f"power mode {found.power_mode}")
    return Room(
        board=profile,
        whole=whole,
        reserve=reserve,
        where=where,
        bandwidth=_bytes(figure),
        confirmed=found.memory is not None,
        notes=tuple(notes),
    )


def _where(profile: Profile) -> str:
    return "its memory, shared by all that computes" if profile.unified.value else "the card's own memory"


def _bytes(figure: Figure[float] | None) -> Figure[float] | None:
    return Figure(figure.value * _GB, figure.source, figure.confirmed) if figure else None


def _slower_modes(profile: Profile) -> list[str]:
    whole = profile.bandwidth_gb_s
    slower: dict[float, list[str]] = {}
    for mode in profile.power_modes:
        own = mode.bandwidth_gb_s
        if own and whole and own.value < whole.value:
            slower.setdefault(own.value / whole.value, []).append(mode.name + "?" * (not own.confirmed))
    return [
        f"in power mode {' and '.join(names)} memory is read at {100 * part:.0f}% of that speed"
        for part, names in slower.items()
    ]
