"""Versions of all that takes part in a run."""

from __future__ import annotations

import re

from edge.doctor.finding import Finding
from edge.doctor.software import OLDEST_PYTHON, Software

_INSTALL = "pip install --upgrade 'edgewise[cpu]'"


def versions(software: Software) -> Finding:
    """Of Edgewise, Python, its packages and the C library; what is missing is a problem."""
    facts = {
        "edgewise": software.edgewise,
        "python": software.python,
        "libc": software.libc or None,
        **software.packages,
    }
    parts = [f"edgewise {software.edgewise}", f"Python {software.python}"]
    parts += [f"{name} {version}" for name, version in software.packages.items()]
    parts += [software.libc] if software.libc else []
    text = ", ".join(parts)
    faults = list(software.faults.values())
    numbers = tuple(int(part) for part in re.findall(r"\d+", software.python)[:2])
    if numbers < OLDEST_PYTHON:
        faults.append(f"Python {software.python} is older than {'.'.join(map(str, OLDEST_PYTHON))}")
    if faults:
        return Finding("versions", "problem", f"{'; '.join(faults)} ({text})", _INSTALL, facts)
    return Finding("versions", "ok", text, facts=facts)
