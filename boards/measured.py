"""The profile of a machine that no file describes: what it shows and what was measured, and nothing else."""

from __future__ import annotations

from boards.board import Figure, Profile, precisions_of, sm_version
from boards.gpu import Gpu
from boards.host import Cpu

MEASURED = "measured"
NAME = "this-machine"
_MIB = 1 << 20
# As `edge plan` reserves: a twentieth, within these bounds, in MiB.
_RESERVE_PART, _LEAST, _MOST = 20, 32, 512
_TENSORRT_SM = (8, 0)


def measured(
    title: str, cpu: Cpu, memory: int | None, gpus: tuple[Gpu, ...], bandwidth: float | None, tegra: bool
) -> Profile:
    """The machine as it shows itself; `memory` in bytes, `bandwidth` in bytes a second, None where not known.

    Of a card with memory of its own, memory is the card's; how fast it is nobody measured.
    """
    card = next((gpu for gpu in gpus if gpu.total), None)
    gpu = card or (gpus[0] if gpus else None)
    whole, source = (card.total, card.source) if card else (memory, "/proc/meminfo, MemTotal")
    nbytes = whole or 0
    reserve = min(_MOST, max(_LEAST, nbytes / _RESERVE_PART / _MIB))
    capability = gpu.sm if gpu else None
    return Profile(
        name=NAME,
        title=title,
        arch=cpu.arch,
        origin=MEASURED,
        memory_gb=Figure(round(nbytes / 1e9, 1), source, confirmed=whole is not None),
        visible_gib=Figure(round(nbytes / (1 << 30), 2), source) if whole else None,
        unified=Figure(
            card is None, "a card with memory of its own" if card else "no card with memory of its own"
        ),
        bandwidth_gb_s=Figure(round(bandwidth / 1e9, 1), MEASURED) if bandwidth and not card else None,
        reserve_mib=Figure(round(reserve), "a twentieth, from 32 to 512 MiB"),
        cpu=Figure(cpu.features, "/proc/cpuinfo") if cpu.features else None,
        sm=Figure(capability, "NVML") if capability else None,
        precisions=Figure(precisions_of(capability), "by compute capability") if capability else None,
        engines=Figure(_engines(gpu, tegra), "what was found here"),
    )


def _engines(gpu: Gpu | None, tegra: bool) -> tuple[str, ...]:
    if gpu is None and not tegra:
        return ("cpu", "onnxruntime")
    newer = gpu is not None and gpu.sm is not None and sm_version(gpu.sm) >= _TENSORRT_SM
    return ("tensorrt", "onnxruntime", "cpu") if newer else ("onnxruntime", "cpu")
