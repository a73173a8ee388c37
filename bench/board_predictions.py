"""Predicted ceilings of decode beside published speeds, as a table in docs/boards.md.

python -m bench.board_predictions           # writes the table
python -m bench.board_predictions --check   # says whether the page is what would be written
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import boards
from bench.published import FIGURES, FORMATS, LEFT_OUT, SHAPES, Figure
from edge.artifact import ModelSpec
from edge.memory.ceiling import tokens_per_s
from edge.memory.weights import matrices
from export.architecture import family_for_model_type

PAGE = Path(__file__).resolve().parent.parent / "docs" / "boards.md"
BEGIN, END = "<!-- predictions -->\n", "<!-- /predictions -->\n"


@dataclass(frozen=True)
class Prediction:
    """A published figure beside the ceiling of its board; bytes that a token reads, KV left out: prompts were short."""

    figure: Figure
    bytes_per_token: int
    ceiling: float
    confirmed: bool
    """Whether the board's bandwidth is."""

    @property
    def ratio(self) -> float:
        """Measured ÷ predicted ceiling."""
        return self.figure.measured / self.ceiling

    @property
    def holds(self) -> bool:
        """No measured figure above its ceiling, or explained."""
        return self.ratio <= 1 or bool(self.figure.beyond)


def predictions() -> list[Prediction]:
    """All figures whose board and shape are known."""
    return [_predict(figure) for figure in FIGURES]


def page_text(text: str) -> str:
    """The page with the table of today in it."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"{PAGE} lacks {BEGIN.strip()} or {END.strip()}; put both on lines of their own")
    return before + BEGIN + "\n".join(_lines()) + "\n" + END + after


def _predict(figure: Figure) -> Prediction:
    bandwidth = boards.profile(figure.board).bandwidth_gb_s
    assert bandwidth is not None
    nbytes = _bytes_per_token(_spec(figure.model), figure.format)
    return Prediction(figure, nbytes, tokens_per_s(bandwidth.value * 1e9, nbytes), bandwidth.confirmed)


def _spec(model: str) -> ModelSpec:
    config = SHAPES[model].config
    return family_for_model_type(str(config["model_type"])).spec_from_config(config)


def _bytes_per_token(spec: ModelSpec, name: str) -> int:
    """Every matrix once, the head in its own format; of an embedding that is not the head single rows, left out."""
    head = spec.vocab_size * spec.hidden_size
    every = sum(rows * inputs for rows, inputs in matrices(spec))
    body = every - head * (1 if spec.tied else 2)
    form = FORMATS[name]
    return int((body * form.bits + head * form.head_bits) / 8)


def _lines() -> Iterator[str]:
    yield "Published decode speeds of other runtimes beside the ceiling that this reckoning gives for their weights:"
    yield "bandwidth ÷ the bytes that a token reads, without KV, since prompts were short. Where a source does"
    yield "not tell how weights are stored, the fewest bits that they can have are counted. Made by "
    yield "`python -m bench.board_predictions` from `bench/published.py`; a test holds the page to it."
    yield ""
    yield "| board | model | runtime | weights | GB a token | ceiling | measured | ratio | source |"
    yield "|---|---|---|---|---|---|---|---|---|"
    found = predictions()
    notes = list(dict.fromkeys(p.figure.beyond for p in found if p.ratio > 1))
    for p in found:
        f, mark = p.figure, "" if p.confirmed else "?"
        note = f" [{notes.index(f.beyond) + 1}]" if p.ratio > 1 else ""
        yield (
            f"| {f.board} | {f.model} | {f.stack} | {f.format} | {p.bytes_per_token / 1e9:.2f} | "
            f"{p.ceiling:.1f}{mark} | {f.measured:g} | {p.ratio:.2f}{note} | {f.source} |"
        )
    yield ""
    single = [p.ratio for p in found if not p.figure.beyond]
    yield (
        f"{len(found)} figures, {len(single)} of them of one sequence and one token a reading: these reach "
        f"{min(single):.2f} to {max(single):.2f} of the ceiling, none more. Above it, and why:"
    )
    yield ""
    yield from (f"{i}. {note}." for i, note in enumerate(notes, start=1))
    yield ""
    yield "| weights | what is counted | by |"
    yield "|---|---|---|"
    used = dict.fromkeys(f.format for f in FIGURES)
    yield from (f"| {name} | {FORMATS[name].text} | {FORMATS[name].source} |" for name in used)
    yield ""
    yield "Shapes:"
    yield ""
    for source in dict.fromkeys(shape.source for shape in SHAPES.values()):
        names = ", ".join(name for name, shape in SHAPES.items() if shape.source == source)
        yield f"- {names}: {source}."
    yield ""
    yield "Left out:"
    yield ""
    yield from (f"- {what}: {why}." for what, why in LEFT_OUT)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="change nothing")
    check = parser.parse_args(arguments).check
    broken = [p for p in predictions() if not p.holds]
    for p in broken:
        print(
            f"{p.figure.board}, {p.figure.model}, {p.figure.stack}: {p.figure.measured:g} measured is above the "
            f"ceiling of {p.ceiling:.1f}; correct a figure, or say why (beyond=)",
            file=sys.stderr,
        )
    text = PAGE.read_text(encoding="utf-8")
    if check and text != page_text(text):
        print("docs/boards.md is not what is predicted; write it with: python -m bench.board_predictions")
        return 1
    if not check:
        PAGE.write_text(page_text(text), encoding="utf-8")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
