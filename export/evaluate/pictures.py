"""Pictures of a report, as SVG inside its page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 760, 240, 62, 28
_KINDS = (
    ("q_proj", "qkv", "fa"),
    ("o_proj", "attention output", "fb"),
    ("gate", "gate and up", "fc"),
    ("down", "down", "a"),
)
_TINY = 1e-9


def lines(values: Sequence[float], smoothed: int, curve: Sequence[tuple[float, float]] | None = None) -> str:
    """Values in a row, with their running mean over `smoothed`; or a curve of (x, y), y on a logarithmic scale."""
    if curve:
        pairs = [(x, math.log10(max(y, _TINY))) for x, y in curve]
        low, high = min(y for _, y in pairs), max(y for _, y in pairs)
        scale = _Scale(min(x for x, _ in pairs), max(x for x, _ in pairs), low, high)
        return _svg(_path(pairs, scale, "a", 2) + _axes(scale, lambda y: f"{10**y:.2g}"))
    if not values:
        return ""
    data = np.asarray(values)
    kernel = np.ones(min(smoothed, len(data)))
    mean = np.convolve(data, kernel, "same") / np.convolve(np.ones(len(data)), kernel, "same")
    scale = _Scale(0, len(data) - 1, 0, float(np.quantile(data, 0.995)) or 1)
    thin = _path(list(enumerate(data.tolist())), scale, "a", 0.6)
    heavy = _path(list(enumerate(mean.tolist())), scale, "b", 2)
    return _svg(thin + heavy + _axes(scale, lambda y: f"{y:.3g}"))


def points(tensors: Sequence[dict[str, Any]]) -> str:
    """The errors of linear layers by their decoder layer; a mark's size tells its bits."""
    layers, most = max(t["layer"] for t in tensors), max(t["error"] for t in tensors) or 1
    scale = _Scale(0, max(1, layers), 0, most)
    marks, legend = [], []
    for i, (part, label, style) in enumerate(_KINDS):
        shape = f'class="{style}" stroke-width="1.5"'
        for tensor in (t for t in tensors if part in t["name"].split("+")[0]):
            x, y = scale(tensor["layer"], tensor["error"])
            title = f"{tensor['name']}: {tensor['error']:.4f}, {tensor['bits']} bits, block {tensor['block']}"
            if (activations := tensor.get("activation_error")) is not None:
                title += f"; 8-bit activations {activations:.4f}"
            marks.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{1.5 + tensor["bits"] / 3:.1f}" {shape}>'
                f"<title>{escape(title)}</title></circle>"
            )
        at = _LEFT + 150 * i
        legend.append(
            f'<circle cx="{at}" cy="8" r="4" {shape}/><text x="{at + 10}" y="12">{escape(label)}</text>'
        )
    return _svg("".join(marks + legend) + _axes(scale, lambda y: f"{y:.3g}"))


def bars(parts: Sequence[dict[str, Any]]) -> str:
    """Bytes of each part of the model, with bits per weight."""
    most = max((part["bytes"] for part in parts), default=1) or 1
    rows = []
    for i, part in enumerate(parts):
        y, width = 8 + 26 * i, 440 * part["bytes"] / most
        label = f"{part['bytes'] / 1e6:.1f} MB, {part['bits_per_weight']:.2f} bits"
        rows.append(
            f'<text x="0" y="{y + 13}">{escape(str(part["name"]))}</text>'
            f'<rect class="fa" x="110" y="{y}" width="{max(1, width):.1f}" height="16"/>'
            f'<text x="{118 + width:.1f}" y="{y + 13}">{escape(label)}</text>'
        )
    return _svg("".join(rows), 16 + 26 * len(parts))


class _Scale:
    """From values to places in the picture."""

    def __init__(self, left: float, right: float, low: float, high: float) -> None:
        self.left, self.right = left, right if right > left else left + 1
        self.low, self.high = low, high if high > low else low + 1

    def __call__(self, x: float, y: float) -> tuple[float, float]:
        inner, height = _WIDTH - _LEFT - 8, _HEIGHT - _BOTTOM - 20
        up = (min(max(y, self.low), self.high) - self.low) / (self.high - self.low)
        return _LEFT + inner * (x - self.left) / (self.right - self.left), 20 + height * (1 - up)


def _path(pairs: Sequence[tuple[float, float]], scale: _Scale, style: str, width: float) -> str:
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in (scale(*pair) for pair in pairs))
    return f'<polyline class="{style}" stroke-width="{width}" points="{places}"/>'


def _axes(scale: _Scale, name: Any) -> str:
    parts = []
    for i in range(5):
        value = scale.low + (scale.high - scale.low) * i / 4
        _, y = scale(scale.left, value)
        parts.append(
            f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - 8}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{escape(name(value))}</text>'
        )
    for i in range(5):
        value = scale.left + (scale.right - scale.left) * i / 4
        x, _ = scale(value, scale.low)
        anchor = "end" if i == 4 else "middle"
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - 8}" text-anchor="{anchor}">{value:.0f}</text>')
    return "".join(parts)


def _svg(inside: str, height: int = _HEIGHT) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {height}" role="img">{inside}</svg>'
