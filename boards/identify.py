"""Which profile a machine is: by what its firmware and its driver say, never by a name that resembles one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from boards.board import Profile
from boards.gpu import Gpu

_GIB = 1 << 30
# A GPU's memory may be this much smaller than it is sold as, or it is another card of that name.
_GPU_TOLERANCE = 0.9
# Parts of a board's memory that the system may show: below, some is held back; above, it is another board.
_LEAST_SHOWN = 0.75


@dataclass(frozen=True)
class Signs:
    """What a machine says of itself."""

    compatible: tuple[str, ...]
    product: str
    gpus: tuple[Gpu, ...]
    power_modes: tuple[str, ...]
    memory: int | None
    """Bytes that the system shows."""


@dataclass(frozen=True)
class Found:
    """A profile, and the sign that decided."""

    profile: Profile
    source: str
    says: str


def identify(profiles: Iterable[Profile], signs: Signs) -> Found | None:
    """The profile that the strongest sign names: device tree, then DMI, then the GPU's name.

    Where several profiles have that sign, the memory chooses.
    """
    known = list(profiles)
    named = [(gpu, p) for gpu in signs.gpus for p in known if gpu.name in p.match.gpu and is_size(p, gpu)]
    weights = [(_by_tree(profile, signs), profile) for profile in known]
    best = max((weight for (weight, _), _ in weights), default=0)
    if best:
        fitting = {profile: says for (weight, says), profile in weights if weight == best}
        profile = by_memory(list(fitting), signs.memory)
        return Found(profile, "/proc/device-tree/compatible", fitting[profile])
    if products := [profile for profile in known if signs.product in profile.match.product]:
        return Found(by_memory(products, signs.memory), "/sys/class/dmi/id/product_name", signs.product)
    if named:
        gpu = named[0][0]
        cards = [profile for card, profile in named if card == gpu]
        return Found(by_memory(cards, gpu.total), gpu.source, gpu.name)
    return None


def by_memory(profiles: Sequence[Profile], memory: int | None) -> Profile:
    """The smallest whose memory is not less than what the system shows; the largest where all are less."""
    ordered = sorted(profiles, key=lambda profile: profile.memory_gb.value)
    if memory is None:
        return ordered[0]
    return next((p for p in ordered if memory <= p.memory_gb.value * _GIB), ordered[-1])


def memory_contradicts(profile: Profile, memory: int) -> bool:
    """Whether the system shows more than the board can have, or much less."""
    whole = profile.memory_gb.value * _GIB
    return profile.unified.value and not _LEAST_SHOWN * whole <= memory <= whole


def _by_tree(profile: Profile, signs: Signs) -> tuple[int, str]:
    """(weight, sign): the longest part that fits; a mode that must be there and is weighs a little more."""
    wanted = profile.match.power_mode
    offered = any(name.upper() == wanted.upper() for name in signs.power_modes)
    best = (0, "")
    for sign in profile.match.compatible:
        for entry in signs.compatible:
            if not _names(entry, sign):
                continue
            # The device tree itself says it where the sign is longer than a module's number.
            if wanted and not offered and not sign.endswith("-super"):
                continue
            best = max(best, (2 * len(sign) + bool(wanted and offered), entry))
    return best


def _names(entry: str, sign: str) -> bool:
    """Whether a device tree's name, nvidia,p3768-0000+p3767-0005-super, has a part: p3767-0005 or p3767-0005-super."""
    parts = [entry, *entry.partition(",")[2].split("+")]
    return any(part == sign or part.startswith(f"{sign}-") for part in parts)


def _by_name(wanted: Sequence[str], names: Sequence[str]) -> tuple[int, str]:
    return next(((1, name) for name in names if name in wanted), (0, ""))


def is_size(profile: Profile, gpu: Gpu) -> bool:
    """Whether a card has the memory of its namesake: there are several of one name."""
    whole = profile.memory_gb.value * _GIB
    return gpu.total is None or _GPU_TOLERANCE * whole <= gpu.total <= whole / _GPU_TOLERANCE
