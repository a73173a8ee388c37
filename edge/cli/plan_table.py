"""The table of a plan, and its JSON."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from edge.memory.admission import told
from edge.memory.plan import Host, Plan, Required
from edge.memory.suggest import suggestions

_MIB = 1 << 20
_BAR = 40
_MOST_SHOWN = 80
# Measured, see docs/kv-cache.md.
_SLOW_PREFILL = (
    "KV in {kind} on stock operators: prompts are read slower than with fp32 (SmolLM2-135M in int8: 1.3 times at 512 "
    "tokens, 1.7 at 2048, 2.0 at 4096), and answers behind them come faster (1.1 to 1.3 times)"
)


def plan_report(plan: Plan) -> dict[str, Any]:
    """What `edge plan --json` prints, the machine aside; sizes in bytes, context in tokens."""
    return {
        "fits": plan.fits,
        "available_bytes": plan.available,
        "required_bytes": {**asdict(plan.required), "total": plan.required.total},
        "engine": plan.needs.engine,
        "kv": plan.needs.kv_type,
        "kv_bytes_per_token": plan.needs.kv_bytes_per_token,
        "context": plan.context,
        "sessions": plan.sessions,
        "max_context": plan.max_context,
        "suggestions": [s.to_json() for s in ([] if plan.fits else suggestions(plan))],
        "notes": plan_notes(plan),
        **_host_report(plan.host),
    }


def _host_report(host: Host | None) -> dict[str, Any]:
    """What stays in the host's memory where weights and KV are on a card, which is what all else is about then."""
    if host is None:
        return {}
    required = {**asdict(host.required), "total": host.required.total}
    return {"host": {"available_bytes": host.available, "required_bytes": required}}


def board_text(record: Any) -> str:
    """What an artifact was exported for, by its provenance, in a line; a manifest may hold anything."""
    if not isinstance(record, dict):
        return str(record)[:_MOST_SHOWN]
    title, context, kv = (str(record.get(key))[:_MOST_SHOWN] for key in ("title", "context", "kv"))
    return f"{title}, {context} tokens of context, KV {kv}"


def plan_notes(plan: Plan) -> list[str]:
    """What memory alone does not tell."""
    if plan.needs.engine != "onnxruntime" or plan.needs.kv_type == "float32":
        return []
    return [_SLOW_PREFILL.format(kind=plan.needs.kv_type)]


def plan_rows(plan: Plan, place: str, mark: str = "", card: str = "") -> list[tuple[str, ...]]:
    """What is needed, part by part, beside what there is, which is at `place`; `mark` is for the reserve.

    Where weights and KV are on the GPU called `card`, its memory comes first.
    """
    if plan.host is None:
        return [("part", "MiB", "", ""), *_rows(plan, plan.required, plan.available, place, mark)]
    return [
        ("on the card", "MiB", "", ""),
        *_rows(plan, plan.required, plan.available, f"free on {card}", mark),
        ("in the host's memory",),
        *_rows(plan, plan.host.required, plan.host.available, place, mark),
    ]


def _rows(plan: Plan, required: Required, available: int, place: str, mark: str) -> list[tuple[str, ...]]:
    spec, whole = plan.needs.spec, max(1, required.total)
    beside = plan.host is not None and required is plan.host.required
    calls = "what the card is fed and gives" if beside else "a prefill chunk, logits, rotary tables"
    rows = [
        (
            "weights",
            required.weights,
            f"{spec.parameters / 1e6:.0f} M parameters, engine {plan.needs.engine}",
        ),
        ("KV cache", required.kv, _kv_words(plan)),
        ("workspace", required.workspace, calls),
        ("runtime", required.runtime, "Python, ONNX Runtime, tokenizer"),
        ("prefix cache", required.prefix_cache, "what was read, for prompts that begin alike"),
        ("reserve", required.reserve, f"left to the system{mark}"),
    ]
    return [
        *((name, mib(nbytes), words, _bar(nbytes, whole)) for name, nbytes, words in rows if nbytes),
        ("needed", mib(required.total)),
        ("there is", mib(available), place),
    ]


def _kv_words(plan: Plan) -> str:
    many = f"{plan.sessions} conversations of " if plan.sessions > 1 else ""
    held = plan.needs.held(plan.context)
    bucket = f" in a bucket of {held}" if held != plan.context else ""
    kind = f"{plan.needs.kv_name}, {plan.needs.kv_bytes_per_token} bytes each"
    return f"{many}{plan.context} tokens{bucket} in {kind}"


def verdict(plan: Plan, *, advice: bool = True, artifact: Path | None = None) -> str:
    """Whether it fits, and where it does not what would, if `advice` is wanted; with commands for `artifact`."""
    longest = plan.needs.spec.context
    if plan.fits:
        most = "all that the model takes" if plan.max_context == longest else f"the model takes {longest}"
        if plan.max_context == plan.needs.longest < longest:
            most = f"the largest that an engine was built for; the model takes {longest}"
        return f"fits; the largest context that fits is {plan.max_context} tokens ({most})"
    missing, where = plan.required.total - plan.available, " on the card" if plan.host is not None else ""
    if plan.host is not None and missing <= 0:
        missing = plan.host.required.total - plan.host.available
        return f"does not fit: {mib(missing)} MiB are missing in the host's memory; free some"
    lines = [f"does not fit: {mib(missing)} MiB are missing{where}"]
    if not advice:
        return lines[0]
    lines += [f"  would fit: {told(suggestion, artifact)}" for suggestion in suggestions(plan)]
    if len(lines) == 1:
        lines.append("  no choice of KV, weights, sessions and context makes it fit; take a smaller model")
    return "\n".join(lines)


def _bar(nbytes: int, whole: int) -> str:
    return "█" * max(1, round(_BAR * nbytes / whole))


def mib(nbytes: int) -> str:
    """Bytes in MiB, as tables have them."""
    return f"{nbytes / _MIB:.1f}"
