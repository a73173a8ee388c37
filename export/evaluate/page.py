"""The report as a page: one file with its pictures inside, readable without a network, in light and dark."""

from __future__ import annotations

from html import escape

from export.evaluate.pictures import bars, lines, points
from export.evaluate.report import FidelityReport

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --soft: #5c6675; --paper: #fff; --line: #d8dde5; --a: #2563a8;
  --b: #b4541a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --soft: #9aa4b2; --paper: #14181f; --line: #323a46;
  --a: #6fa8e6; --b: #e59a63; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 60rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.05rem; margin-top: 2.2rem; }
p, caption { color: var(--soft); } table { border-collapse: collapse; }
td, th { text-align: right; padding: .2rem .9rem .2rem 0; border-bottom: 1px solid var(--line); }
td:first-child, th:first-child { text-align: left; }
svg { width: 100%; height: auto; } svg text { fill: var(--soft); font-size: 12px; }
.axis { stroke: var(--line); } .a { stroke: var(--a); fill: none; } .b { stroke: var(--b); fill: none; }
.fa { fill: var(--a); } .fb { fill: var(--b); } .fc { fill: var(--soft); }
"""
_SMOOTHED = 16


def page(report: FidelityReport) -> str:
    """HTML of a report."""
    low, high = report.confidence["mean_kl"]
    figures = [
        ("mean KL", f"{report.mean_kl:.5f}", f"{low:.5f} to {high:.5f}"),
        ("median KL", f"{report.median_kl:.5f}", ""),
        ("99th percentile", f"{report.p99_kl:.4f}", ""),
        ("largest", f"{report.max_kl:.3f}", ""),
        (
            "top-1 agreement",
            f"{100 * report.top1_agreement:.2f} %",
            _range(report, "top1_agreement", 100, " %"),
        ),
        ("top-5 agreement", f"{100 * report.top5_agreement:.2f} %", ""),
        ("perplexity", f"{report.perplexity:.3f}", f"reference {report.reference_perplexity:.3f}"),
        ("perplexity ratio", f"{report.perplexity_ratio:.4f}", _range(report, "perplexity_ratio", 1, "")),
        ("bits per weight", f"{report.bits_per_weight:.2f}", ""),
        ("size", f"{report.file_bytes / 1e6:.1f} MB", ""),
    ]
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(value)}</td><td>{escape(note)}</td></tr>"
        for name, value, note in figures
    )
    sections = [
        "<h2>KL by position</h2><p>Mean over the windows, in nats; the heavy line is smoothed over "
        f"{_SMOOTHED} tokens.</p>{lines(report.kl_by_position, _SMOOTHED)}",
    ]
    if report.tensors:
        sections.append(
            "<h2>Error by layer</h2><p>Of the outputs of each linear layer, relative to them, for exact input to "
            f"its decoder layer.</p>{points(report.tensors)}"
        )
    sections.append(f"<h2>Where the bits went</h2>{bars(report.parts)}")
    if report.size_curve:
        curve = [(nbytes / 1e6, kl) for nbytes, kl in report.size_curve]
        sections.append(
            "<h2>Size against KL</h2><p>What other sizes of the matrices, in MB, were expected to cost, rounded to "
            f"nearest, in nats on a logarithmic scale.</p>{lines([], 0, curve)}"
        )
    text = ", ".join(f"{key} {value}" for key, value in report.text.items())
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>'
        '<meta name="viewport" content="width=device-width"/>'
        f"<title>Fidelity of {escape(report.artifact)}</title><style>{_STYLE}</style></head><body>"
        f"<h1>Fidelity of {escape(report.artifact)}</h1>"
        f"<p>Beside {escape(report.reference)} in full precision, on {report.tokens} tokens ({escape(text)}); "
        f"run by engine {escape(report.engine)}, KV {escape(report.kv)}. KL divergence in nats; "
        "ranges are 95 % intervals.</p>"
        f"<table>{rows}</table>{''.join(sections)}</body></html>\n"
    )


def _range(report: FidelityReport, key: str, factor: float, unit: str) -> str:
    low, high = (factor * value for value in report.confidence[key])
    return f"{low:.4g} to {high:.4g}{unit}"
