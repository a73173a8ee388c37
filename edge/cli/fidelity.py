"""The figures of a fidelity report as rows of a table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from edge.artifact import FIDELITY, Artifact


def fidelity_rows(report: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """The line that matters, where there is a report."""
    if not report:
        return []
    ratio = report["perplexity"] / report["reference_perplexity"]
    # Reports of older versions do not tell.
    by = f" on engine {report['engine']}" if report.get("engine") else ""
    return [
        (
            "fidelity",
            f"mean KL {report['mean_kl']:.4f}, top-1 {100 * report['top1_agreement']:.1f}%, perplexity ×{ratio:.3f} "
            f"of {report['reference']} ({report['tokens']} tokens{by})",
        )
    ]


def stored_fidelity(artifact: Artifact) -> dict[str, Any] | None:
    """The report that lies in an artifact; None where there is none, or it cannot be read."""
    if all(entry.path != FIDELITY for entry in artifact.manifest.files):
        return None
    try:
        report = json.loads(artifact.file(FIDELITY).read_text(encoding="utf-8"))
        fidelity_rows(report)
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
        return None
    return dict(report)
