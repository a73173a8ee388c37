"""Memory, and what lies beside it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from boards.swap import swaps
from edge.doctor.finding import Finding
from edge.memory.probe import Memory, probe

_MIB, _GIB = 1 << 20, 1 << 30
# What Python, ONNX Runtime and the smallest of models take: docs/memory.md.
_LEAST = 192 * _MIB
_MANY = 4


def memory(root: Path) -> Finding:
    """What there is, what can be had, and whether anything runs in it."""
    here = probe(root)
    facts = {key: value for key, value in asdict(here).items() if key != "gpus"}
    text = f"{_gib(here.available)} of {_gib(here.total)} can be had{_limits(here)}"
    if here.available >= _LEAST:
        return Finding("memory", "ok", text, facts=facts)
    limited = here.cgroup_limit is not None and here.cgroup_limit < 2 * _LEAST
    step = (
        "raise the cgroup's limit (docker run --memory, systemd MemoryMax)"
        if limited
        else "end other programs; on a board without a screen: sudo systemctl isolate multi-user.target"
    )
    text += f"; not even the smallest model runs below {_LEAST // _MIB} MiB"
    return Finding("memory", "problem", text, step, facts)


def swap(root: Path) -> Finding:
    """Swap on disks and in compressed memory. No plan counts on either."""
    there = swaps(root)
    kinds = {"zram": [s for s in there if s.zram], "swap": [s for s in there if not s.zram]}
    facts = {
        name: {"bytes": sum(s.size for s in found), "used_bytes": sum(s.used for s in found)}
        for name, found in kinds.items()
    }
    if not there:
        return Finding("swap", "ok", "none; no plan counts on it", facts=facts)
    parts = [
        f"{name} {_gib(facts[name]['bytes'])}, {_gib(facts[name]['used_bytes'])} used"
        for name, found in kinds.items()
        if found
    ]
    text = f"{'; '.join(parts)}; no plan counts on it"
    used = sum(part["used_bytes"] for part in facts.values())
    if used > probe(root).total // _MANY:
        return Finding(
            "swap", "note", text, "much is swapped out: end other programs before a model is loaded", facts
        )
    return Finding("swap", "ok", text, facts=facts)


def _limits(here: Memory) -> str:
    words = ", shared with the GPU" if here.unified else ""
    return words + (f", cgroup limit {_gib(here.cgroup_limit)}" if here.cgroup_limit is not None else "")


def _gib(nbytes: int) -> str:
    if not nbytes:
        return "none"
    return f"{nbytes / _GIB:.1f} GiB" if nbytes >= _GIB else f"{nbytes / _MIB:.0f} MiB"
