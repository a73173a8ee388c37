"""Whether a run stays offline: what was watched, and what only is switched off."""

from __future__ import annotations

from edge.doctor.finding import Finding
from edge.doctor.software import Software

# As in runtimes.onnxruntime.telemetry, which cannot be imported where numpy is missing.
VARIABLE = "ORT_DISABLE_TELEMETRY"
_WATCHED = "while the engines were loaded and tried"


def offline(software: Software) -> Finding:
    """What was seen of the network, and what might use it later. Says what was looked at, and no more."""
    seen = software.network
    hub = software.environment.get("HF_HUB_OFFLINE")
    facts = {
        "calls": list(seen.calls),
        "sockets": seen.sockets,
        "onnxruntime_reports": seen.reports,
        "onnxruntime_silenced": seen.silenced,
        "hf_hub_offline": hub,
    }
    if seen.calls or seen.sockets:
        what = "; ".join(seen.calls) or f"{seen.sockets} internet sockets are open"
        return Finding(
            "offline",
            "note",
            f"{_WATCHED}, the network was used: {what}",
            "look for what adds itself to Python here (sitecustomize, .pth files), and in LD_PRELOAD",
            facts,
        )
    if seen.reports and not seen.silenced:
        return Finding(
            "offline",
            "note",
            f"this onnxruntime uploads reports of its use, and {VARIABLE} lets it",
            f"unset {VARIABLE}: Edgewise then switches them off",
            facts,
        )
    sockets = " and no socket was open behind it" if seen.sockets == 0 else ""
    parts = [f"{_WATCHED}, no Python code asked for a connection or a name{sockets}"]
    if seen.reports:
        parts.append(f"this onnxruntime can upload reports of its use, and is told not to ({VARIABLE})")
    elif seen.reports is False:
        parts.append("this onnxruntime has no address to report to")
    kept = ", and HF_HUB_OFFLINE keeps them from it" if hub else ""
    parts.append(f"only export, evaluate and plan go to a hub, for a model that is not here{kept}")
    return Finding("offline", "ok", "; ".join(parts), facts=facts)
