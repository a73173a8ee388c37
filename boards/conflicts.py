"""Sources that contradict each other: which one is believed, and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from boards.board import Profile
from boards.host import Cpu
from boards.identify import Found, Signs, is_size, memory_contradicts
from boards.power import CONFIGURATION, PowerModes
from boards.tegra import MODEL, RELEASE

_FIRMWARE = (
    "the firmware describes the hardware that it runs on; {} is part of an installed system or of "
    "a container's image"
)
_MEMINFO = "/proc/meminfo"


@dataclass(frozen=True)
class Conflict:
    """Two sources that cannot both be right."""

    what: str
    sources: tuple[str, str]
    wins: str
    """The source that is believed."""
    why: str


def conflicts(
    found: Found | None,
    signs: Signs,
    model: str,
    l4t: str,
    modes: PowerModes,
    cpu: Cpu,
    profiles: Sequence[Profile],
) -> tuple[Conflict, ...]:
    """All that there are between what was found and what else is said."""
    several: list[Conflict] = []
    if found is not None:
        several += [*_release(found, l4t), *_model(found, model, profiles), *_memory(found, signs)]
        several += [*_arch(found, cpu), *_capability(found, signs), *_super(found, modes)]
    else:
        several += _namesakes(signs, profiles)
    if modes.contradiction:
        wins, why = f"/{CONFIGURATION}", "it lists the modes there are; which of them is in use is not known"
        several.append(Conflict(modes.contradiction, (modes.source, wins), wins, why))
    return tuple(several)


def _release(found: Found, l4t: str) -> Iterator[Conflict]:
    if not l4t:
        return
    majors = found.profile.l4t.value if found.profile.l4t else ()
    if int(l4t.split(".")[0]) in majors:
        return
    known = f"which runs L4T {', '.join(map(str, majors))}" if majors else "which is no Jetson"
    yield Conflict(
        f"{found.source} names {found.profile.title}, {known}; /{RELEASE} says L4T {l4t}",
        (found.source, f"/{RELEASE}"),
        found.source,
        _FIRMWARE.format(f"/{RELEASE}"),
    )


def _model(found: Found, model: str, profiles: Sequence[Profile]) -> Iterator[Conflict]:
    if any(word in model for word in found.profile.match.model):
        return
    other = next((word for p in profiles for word in p.match.model if word in model), None)
    if other and found.source != f"/{MODEL}":
        yield Conflict(
            f"{found.source} names {found.profile.title} ({found.says}); /{MODEL} says {model!r}",
            (found.source, f"/{MODEL}"),
            found.source,
            "it has the number of the module; the model is a text that makers of boards change",
        )


def _memory(found: Found, signs: Signs) -> Iterator[Conflict]:
    if signs.memory is not None and memory_contradicts(found.profile, signs.memory):
        yield Conflict(
            f"{found.profile.title} has {found.profile.memory_gb.value:g} GB; {_MEMINFO} shows "
            f"{signs.memory / (1 << 30):.1f} GiB",
            (found.source, _MEMINFO),
            _MEMINFO,
            f"memory is what the kernel has; the board stays what {found.source} names",
        )


def _arch(found: Found, cpu: Cpu) -> Iterator[Conflict]:
    if cpu.arch and found.profile.arch not in (cpu.arch, "any"):
        yield Conflict(
            f"{found.source} names {found.profile.title}, which is {found.profile.arch}; /proc/cpuinfo is of "
            f"{cpu.arch}",
            (found.source, "/proc/cpuinfo"),
            found.source,
            "an emulator shows the CPU of the machine around it",
        )


def _capability(found: Found, signs: Signs) -> Iterator[Conflict]:
    sm, gpu = found.profile.sm, next((gpu for gpu in signs.gpus if gpu.sm), None)
    # A card beside the board's own GPU has memory of its own.
    if sm is None or gpu is None or gpu.sm == sm.value or (gpu.total and found.profile.unified.value):
        return
    yield Conflict(
        f"{found.source} names {found.profile.title} with SM {sm.value}; {gpu.source} says {gpu.name} has SM {gpu.sm}",
        (found.source, gpu.source),
        gpu.source,
        "the driver asks the GPU; precisions are those of its SM",
    )


def _super(found: Found, modes: PowerModes) -> Iterator[Conflict]:
    wanted = found.profile.match.power_mode
    if wanted and modes.names and wanted not in modes.names:
        yield Conflict(
            f"{found.source} names {found.profile.title} ({found.says}); /{CONFIGURATION} offers "
            f"{', '.join(modes.names)}, and no {wanted}",
            (found.source, f"/{CONFIGURATION}"),
            found.source,
            _FIRMWARE.format(f"/{CONFIGURATION}"),
        )


def _namesakes(signs: Signs, profiles: Sequence[Profile]) -> Iterator[Conflict]:
    for gpu in signs.gpus:
        for profile in profiles:
            if gpu.name in profile.match.gpu and gpu.total and not is_size(profile, gpu):
                yield Conflict(
                    f"{gpu.name} is known with {profile.memory_gb.value:g} GB, as {profile.name}; this one has "
                    f"{gpu.total / (1 << 30):.1f} GiB",
                    (gpu.source, profile.origin),
                    gpu.source,
                    "cards of one name and other memory have another bandwidth: it is taken as unknown",
                )
