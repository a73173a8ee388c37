"""Arguments and options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

import click
from click.shell_completion import CompletionItem

from edge.artifact.pages import KV_NAMES
from edge.errors import StorageError
from edge.memory.size import parse_size

ENGINES = ("auto", "cpu", "onnxruntime", "tensorrt", "portable", "cuda")
"""What `edge.load` takes; spelled out, since help needs no engine imported."""
VARIANTS = ("cpu", "onnxruntime", "tensorrt", "cuda")
"""What an artifact can be for, the fastest first where there is no GPU."""

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


class SessionName(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """The name of a session, which completes to those there are."""

    name = "session"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Sessions of the default folder that start with `incomplete`."""
        from edge.cache.folder import default_folder, stored_sessions

        try:
            names = sorted(stored.path.stem for stored in stored_sessions(default_folder()))
        except StorageError:
            names = []
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


class BoardName(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """The name of a board, which completes to those there are; with `this` to the word for the machine at hand too."""

    name = "board"

    def __init__(self, this: bool = False) -> None:
        self._this = this

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Boards whose names start with `incomplete`."""
        import boards

        found = [profile for profile in boards.profiles() if profile.name.startswith(incomplete)]
        here = [CompletionItem("this", help="the machine at hand")]
        return [
            *(here if self._this and "this".startswith(incomplete) else ()),
            *(CompletionItem(profile.name, help=profile.title) for profile in found),
        ]


class TargetName(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """Targets of an engine with commas between; the last one completes to GPUs and boards."""

    name = "target"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Targets that start with what stands behind the last comma."""
        from boards.targets import target_names

        head, comma, tail = incomplete.rpartition(",")
        named = head.split(",")
        return [
            CompletionItem(f"{head}{comma}{name}", help=title or None)
            for name, title in target_names().items()
            if name.startswith(tail) and name not in named
        ]


artifact_argument = click.argument("artifact", metavar="ARTIFACT", type=ArtifactPath())
engine_option = click.option(
    "--engine",
    type=click.Choice(ENGINES),
    default="auto",
    show_default=True,
    metavar="NAME",
    help="What runs the model: cpu, onnxruntime, tensorrt, portable (what tensorrt runs, on the CPU), "
    "cuda (ONNX Runtime on a GPU), or auto, the fastest that can.",
)

_ENGINE_OPTIONS = {
    "engine": engine_option,
    "threads": click.option(
        "--threads", type=int, metavar="N", help="Threads to compute with.  [default: physical cores]"
    ),
    "context": click.option(
        "--context",
        type=int,
        metavar="N",
        help="Longest conversation in tokens.  [default: what the model and the memory allow]",
    ),
    "kv": click.option(
        "--kv",
        type=click.Choice(tuple(KV_NAMES)),
        help="What the KV cache holds: fewer bits are less memory.  [default: int8; engine onnxruntime: as exported]",
    ),
    "memory": click.option(
        "--memory",
        type=Size(),
        default="auto",
        show_default=True,
        metavar="SIZE",
        help="What all of it may take, such as 6GiB; auto: what there is.",
    ),
    "at_limit": click.option(
        "--at-limit",
        type=click.Choice(["stop", "window", "error"]),
        default="stop",
        show_default=True,
        help="Where context or memory end in an answer: end it there; go on without the middle; or fail.",
    ),
}
_CACHE_OPTIONS = {
    "prefix_cache": click.option(
        "--prefix-cache",
        type=Size(),
        default="auto",
        show_default=True,
        metavar="SIZE",
        help="Memory for what prompts begin with, so that it is read once; auto: a conversation's worth.",
    ),
    "store": click.option(
        "--store",
        default="auto",
        metavar="DIR",
        help="Keep that in DIR too, for the next start.  [default: the user's cache folder, or EDGEWISE_CACHE]",
    ),
    "disk": click.option(
        "--disk",
        type=Size(),
        default="auto",
        show_default=True,
        metavar="SIZE",
        help="Most it may take there; auto: a tenth of what is free, 2 GiB at most.",
    ),
}


def engine_options(command: F) -> F:
    """Add what `edge.load` takes, --engine to --at-limit, given to the command as `loading`."""
    return _loading(command, _ENGINE_OPTIONS)


def conversation_options(command: F) -> F:
    """Add `engine_options` and those of the prefix cache, on the disk too unless there is --no-store."""
    private = click.option(
        "--no-store", is_flag=True, help="Leave nothing of this on the disk, and read nothing there."
    )
    return _loading(command, {**_ENGINE_OPTIONS, **_CACHE_OPTIONS, "no_store": private})


def _loading(command: F, options: Mapping[str, Callable[[F], F]]) -> F:
    @wraps(command)
    def loading(**given: Any) -> Any:
        values = {name: given.pop(name) for name in options}
        if values.pop("no_store", False):
            values["store"] = None
        return command(loading=values, **given)

    return add_options(cast(F, loading), *options.values())


def sampling_options(command: F) -> F:
    """Add what `Model.generate` takes, under its names; None where the model's own default holds."""
    return add_options(
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


def add_options(command: F, *options: Callable[[F], F]) -> F:
    """`command` with `options`, which help lists in that order."""
    for option in reversed(options):
        command = option(command)
    return command
