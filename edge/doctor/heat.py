"""Clocks, temperatures, and whether the machine holds itself back."""

from __future__ import annotations

from boards.clocks import Clock, clocks
from boards.detection import Detection
from boards.files import SystemFiles
from boards.thermal import passive_trips
from boards.throttling import throttle_counts, throttling
from edge.doctor.finding import Finding

# With these drivers `powersave` lets the clock rise as far as any other governor.
_OWN_WAY = ("intel_pstate", "amd-pstate", "amd_pstate")
_SLOW = ("powersave", "userspace")
_TO_FASTEST = "echo performance | sudo tee /sys/devices/system/cpu/cpufreq/policy*/scaling_governor"
_FIRMWARE = "firmware: "


def cpu_clocks(found: Detection, files: SystemFiles) -> Finding:
    """Governors, and how fast the cores may run."""
    there = clocks(files)
    facts = {
        "clocks": [
            {
                "name": c.name,
                "governor": c.governor,
                "now_khz": c.now,
                "allowed_khz": c.allowed,
                "highest_khz": c.highest,
            }
            for c in there
        ]
    }
    if not there:
        return Finding(
            "clocks", "ok", "the system shows none, as in virtual machines and containers", facts=facts
        )
    slow = [clock for clock in there if _holds_back(clock)]
    governors = ", ".join(dict.fromkeys(clock.governor for clock in there))
    speeds = [clock for clock in there if clock.allowed]
    text = f"governor {governors}"
    if speeds:
        best = max(speeds, key=lambda clock: clock.allowed or 0)
        text += f", up to {_ghz(best.allowed)}"
        if best.highest and best.allowed and best.allowed < best.highest:
            why = "by the power mode, or by cooling" if found.power_modes else "by a setting, or by cooling"
            text += f" of {_ghz(best.highest)}, {why}"
    if slow:
        return Finding("clocks", "note", f"{text}: {slow[0].governor} keeps them low", _TO_FASTEST, facts)
    return Finding("clocks", "ok", text, facts=facts)


def temperature(found: Detection, files: SystemFiles) -> Finding:
    """How warm it is, how far that is from slowing down, and whether it slows down now."""
    trips, counts = passive_trips(files), throttle_counts(files)
    told = throttling(files, found.temperatures, trips)
    facts = {
        "degrees": dict(found.temperatures),
        "limits": trips,
        "throttled": bool(told.now) if told.watched else None,
        "throttled_by": list(told.now),
        "counts": counts,
    }
    zones = sorted(found.temperatures.items(), key=lambda item: -item[1])
    text = f"{zones[0][1]:.0f} °C ({zones[0][0]})" if zones else "the system shows none"
    near = min((trips[zone], zone) for zone in trips) if trips else None
    if near:
        text += f"; {near[1]} slows down at {near[0]:.0f} °C"
    if told.now:
        weak = any("voltage" in sign for sign in told.now)
        step = (
            "use a stronger power supply" if weak else "let it cool: a fan, more air, or a lower power mode"
        )
        return Finding("temperature", "note", f"{text}; throttled now: {'; '.join(told.now)}", step, facts)
    past = [
        name.removeprefix(_FIRMWARE) for name, count in counts.items() if count and name.startswith(_FIRMWARE)
    ]
    if past:
        step = "use a stronger power supply, or more cooling; edge bench says what happens during a run"
        return Finding("temperature", "note", f"{text}; since the start: {', '.join(past)}", step, facts)
    if told.watched:
        text += "; not throttled"
    return Finding("temperature", "ok", text, facts=facts)


def _holds_back(clock: Clock) -> bool:
    return clock.governor in _SLOW and not clock.driver.startswith(_OWN_WAY)


def _ghz(kilohertz: int | None) -> str:
    return f"{(kilohertz or 0) / 1e6:.2f} GHz"
