"""A picture of plans as SVG: what each needs, part by part, beside what there is, and how fast it can be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from edge.memory.choice import Choice

_MIB = 1 << 20
_WIDTH, _LEFT, _BAR, _ROW = 980, 250, 480, 26
_PARTS = (
    ("weights", "weights", "#4c72b0"),
    ("kv", "KV cache", "#55a868"),
    ("workspace", "workspace", "#c44e52"),
    ("runtime", "runtime", "#8172b2"),
    ("prefix_cache", "prefix cache", "#ccb974"),
    ("reserve", "reserve", "#b0b0b0"),
)


def picture(title: str, rows: Sequence[tuple[str, Choice]]) -> str:
    """A bar for each named choice, on one scale, or each on its own where one has ten times the room of another."""
    wholes = [max(choice.plan.available, choice.plan.required.total) for _, choice in rows]
    common = max(wholes) <= 10 * min(wholes)
    height = 78 + _ROW * len(rows)
    scale = "MiB on one scale" if common else "each bar on its own scale"
    inside = [
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="20" y="24" fill="#222222">{escape(title)}; {scale}</text>',
        *_legend(),
    ]
    for i, (name, choice) in enumerate(rows):
        whole = max(wholes) if common else wholes[i]
        inside += _row(name, choice, whole, 64 + _ROW * i)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" font-size="12" role="img">\n'
        + "\n".join(inside)
        + "\n</svg>\n"
    )


def _legend() -> Iterator[str]:
    for i, (_, label, colour) in enumerate(_PARTS):
        x = _LEFT + 112 * i
        yield f'<rect x="{x}" y="38" width="11" height="11" fill="{colour}"/>'
        yield f'<text x="{x + 16}" y="48" fill="#222222">{label}</text>'


def _row(name: str, choice: Choice, whole: int, y: int) -> Iterator[str]:
    plan = choice.plan
    ink = "#222222" if choice.fits else "#b02a2a"
    yield f'<text x="{_LEFT - 10}" y="{y + 12}" text-anchor="end" fill="{ink}">{escape(name)}</text>'
    there = _BAR * plan.available / whole
    yield (
        f'<rect x="{_LEFT}" y="{y}" width="{there:.1f}" height="16" fill="#f0f0f0" stroke="#888888">'
        f"<title>there are {plan.available / _MIB:.0f} MiB</title></rect>"
    )
    x = float(_LEFT)
    for key, label, colour in _PARTS:
        nbytes = getattr(plan.required, key)
        width = _BAR * nbytes / whole
        if nbytes:
            yield (
                f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="16" fill="{colour}">'
                f"<title>{label}: {nbytes / _MIB:.0f} MiB</title></rect>"
            )
        x += width
    # What there is ends here, also where the parts reach beyond it.
    yield (
        f'<line x1="{_LEFT + there:.1f}" x2="{_LEFT + there:.1f}" y1="{y - 3}" y2="{y + 19}" stroke="#222222"/>'
    )
    yield f'<text x="{_LEFT + _BAR + 12}" y="{y + 12}" fill="{ink}">{escape(_verdict(choice))}</text>'


def _verdict(choice: Choice) -> str:
    if not choice.fits:
        return f"{choice.missing / _MIB:.0f} MiB are missing"
    text = f"{choice.recipe.weights_text}, KV {choice.recipe.kv}"
    if not choice.ceilings:
        return text
    last = choice.ceilings[-1]
    return f"{text}: ≤ {last.tokens_per_s:.1f}{'' if last.confirmed else '?'} tokens/s"
