"""Arguments and options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

import click
from click.shell_completion import CompletionItem

from edge.artifact.pages import KV_NAMES
from edge.memory.size import parse_size

ENGINES = ("auto", "cpu", "onnxruntime")
"""What `edge.load` takes; spelled out, since help needs no engine imported."""

F = TypeVar("F", bound=Callable[..., Any])


class ArtifactPath(click.Path):
    """A path that completes to *.edge folders, and to other folders where there is none."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Artifacts whose path starts with `incomplete`; else the shell's own completion of folders."""
        head, tail = os.path.split(incomplete)
        folder = Path(head or ".").expanduser()
        try:
            names = sorted(p.name for p in folder.iterdir() if p.suffix == ".edge" and p.is_dir())
        except OSError:
            names = []
        found = [CompletionItem(os.path.join(head, name)) for name in names if name.startswith(tail)]
        return found or [CompletionItem(incomplete, type="dir")]


class Size(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A size in memory, such as 6GiB, as bytes; `auto` stays as it is."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """Bytes; InvalidArgument where it is no size."""
        text = str(value)
        return "auto" if text.lower() == "auto" else parse_size(text)


_LOADING = ("engine", "threads", "context", "kv", "memory", "at_limit")
artifact_argument = click.argument("artifact", metavar="ARTIFACT", type=ArtifactPath())


def engine_options(command: F) -> F:
    """Add what `edge.load` takes, --engine to --at-limit, given to the command as `loading`."""

    @wraps(command)
    def loading(**given: Any) -> Any:
        return command(loading={name: given.pop(name) for name in _LOADING}, **given)

    return _add(
        cast(F, loading),
        click.option(
            "--engine",
            type=click.Choice(ENGINES),
            default="auto",
            show_default=True,
            metavar="NAME",
            help="What runs the model: cpu, onnxruntime, or auto, the fastest that can.",
        ),
        click.option(
            "--threads", type=int, metavar="N", help="Threads to compute with.  [default: physical cores]"
        ),
        click.option(
            "--context",
            type=int,
            metavar="N",
            help="Longest conversation in tokens.  [default: what the model and the memory allow]",
        ),
        click.option(
            "--kv",
            type=click.Choice(tuple(KV_NAMES)),
            help="What the KV cache holds: fewer bits are less memory.  [default: int8; engine onnxruntime: fp32]",
        ),
        click.option(
            "--memory",
            type=Size(),
            default="auto",
            show_default=True,
            metavar="SIZE",
            help="What all of it may take, such as 6GiB; auto: what there is.",
        ),
        click.option(
            "--at-limit",
            type=click.Choice(["stop", "error"]),
            default="stop",
            show_default=True,
            help="Where context or memory end in an answer: end it there, or fail.",
        ),
    )


def sampling_options(command: F) -> F:
    """Add what `Model.generate` takes, under its names; None where the model's own default holds."""
    return _add(
        command,
        click.option("--max-tokens", type=int, metavar="N", help="Longest answer in tokens."),
        click.option(
            "--temperature",
            type=float,
            metavar="T",
            help="0: always the likeliest token; 1: as the model says.",
        ),
        click.option("--top-k", type=int, metavar="K", help="Choose among the K likeliest tokens only."),
        click.option(
            "--top-p", type=float, metavar="P", help="Choose among the likeliest tokens that sum to P."
        ),
        click.option(
            "--min-p", type=float, metavar="P", help="Drop tokens less likely than P times the likeliest."
        ),
        click.option(
            "--repetition-penalty",
            type=float,
            metavar="R",
            help="Above 1: avoid tokens that were used already.",
        ),
        click.option("--seed", type=int, metavar="N", help="The same seed gives the same answer."),
        click.option(
            "--stop", multiple=True, metavar="TEXT", help="End the answer before TEXT; may be given again."
        ),
    )


def _add(command: F, *options: Callable[[F], F]) -> F:
    for option in reversed(options):
        command = option(command)
    return command
