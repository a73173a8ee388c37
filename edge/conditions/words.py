"""The conditions of a run as people read them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_UNTOLD = "the system does not tell"


def condition_rows(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(what, words) of a report with `machine_report` and `Recorder.report` in it."""
    mode = f", power mode {report['power_mode']}" if report["power_mode"] else ""
    inside = f", in a container ({report['container']})" if report["container"] else ""
    yield "board", f"{report['title']}{mode}{inside}"
    yield "temperature", _temperature(report["temperature_c"])
    yield "throttled", _throttled(report)
    for energy in report["energy"]:
        yield "energy", _energy(energy)
    for missing in report["energy_missing"]:
        yield "energy", f"not measured: {missing}"
    if report["fault"]:
        yield "fault", report["fault"]


def _temperature(seen: Mapping[str, Any] | None) -> str:
    if seen is None:
        return _UNTOLD
    return f"{seen['start']:.0f} °C before, {seen['end']:.0f} after, {seen['highest']:.0f} at most ({seen['zone']})"


def _throttled(report: Mapping[str, Any]) -> str:
    if report["throttled"] is None:
        return _UNTOLD
    if report["throttled"]:
        return f"yes: {'; '.join(report['throttled_by'])}"
    return f"no, by {', '.join(report['throttling_watched'])}"


def _energy(energy: Mapping[str, Any]) -> str:
    place = f"{energy['source']}: {energy['covers']}"
    if energy["joules_per_token"] is None:
        return f"not measured: {energy['fault'] or 'no token was decoded'} ({place})"
    watts = f", {energy['decode_watts']:.1f} W while decoding" if energy["decode_watts"] is not None else ""
    return f"{energy['joules_per_token']:.3g} J a token{watts} ({place})"
