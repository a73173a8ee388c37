"""fidelity.html: a report to look at, in one file that asks nothing of a network."""

from __future__ import annotations

from typing import Any


def page(report: dict[str, Any]) -> str:
    return "<!DOCTYPE html><html></html>"
