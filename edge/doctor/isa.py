"""Instruction sets: what the CPU has, and what our operators use of it."""

from __future__ import annotations

from boards.detection import Detection
from edge.doctor.finding import Finding
from edge.doctor.software import Software

_PLAIN = "plain"


def instruction_sets(found: Detection, software: Software) -> Finding:
    """Of the CPU, as the kernel lists them, and of the kernels."""
    tried = software.engines.get("cpu")
    isa = tried.isa if tried is not None and not isinstance(tried, str) else ""
    facts = {"cpu": list(found.cpu.features), "arch": found.cpu.arch or None, "kernels": isa or None}
    text = f"{found.cpu.arch or 'unknown'}: {' '.join(found.cpu.features) or 'none that matter here'}"
    if isa:
        text += f"; the kernels use {isa}"
    named = software.environment.get("EDGEWISE_ISA")
    if named and named != "auto":
        return Finding(
            "instruction sets",
            "note",
            f"{text}, since EDGEWISE_ISA says so",
            "unset EDGEWISE_ISA for the best",
            facts,
        )
    if isa == _PLAIN:
        return Finding(
            "instruction sets",
            "note",
            f"{text}: none of the CPU's is one that they have code for, so they are slow",
            "compare with stock operators: edge convert ARTIFACT -o OUT --engine onnxruntime, then edge bench",
            facts,
        )
    return Finding("instruction sets", "ok", text, facts=facts)
