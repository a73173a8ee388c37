"""The `edge` command: a table of subcommands, each imported only when it is run."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

import click
from click.shell_completion import CompletionItem, shell_complete

from edge.cli.exits import guarded
from edge.version import VERSION

COMMANDS = (
    ("export", "Turn a checkpoint into an artifact for this board."),
    ("convert", "Turn an artifact for one engine into one for another."),
    ("build", "Build engines for TensorRT from an artifact."),
    ("plan", "Show what a model needs of memory, and whether it fits."),
    ("run", "Answer one prompt."),
    ("chat", "Talk with a model."),
    ("cache", "List, check or remove what conversations left on the disk."),
    ("evaluate", "Compare an artifact with the model it was made from."),
    ("inspect", "Show what an artifact is made of."),
    ("verify", "Check every file of an artifact against its hash."),
    ("boards", "Show what is known of boards, and which one this machine is."),
    ("doctor", "Show what this machine is like, and what to do about it."),
    ("bench", "Measure the speed and memory of an artifact here."),
    ("completion", "Print the script that completes `edge` in your shell."),
)
COMPLETE_VARIABLE = "_EDGE_COMPLETE"


class LazyGroup(click.Group):
    """Knows its subcommands by name and one line of help; imports the one that is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the table."""
        return [name for name, _ in COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the subcommand, or None where there is none of that name."""
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = import_module(f"edge.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the subcommands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(COMMANDS)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the names without importing the subcommands."""
        names = [CompletionItem(name, help=text) for name, text in COMMANDS if name.startswith(incomplete)]
        return names + click.Command.shell_complete(self, ctx, incomplete)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(VERSION, message="edgewise %(version)s")
def cli() -> None:
    """Run distilled language models offline, on the board in front of you.

    Export a checkpoint once, on any computer; copy the artifact, a folder, to the board; run it there.

    \b
    Example:
      edge export HuggingFaceTB/SmolLM2-135M-Instruct -o smollm2.edge
      edge run smollm2.edge --prompt "What is an inode?"
      edge chat smollm2.edge

    Every subcommand explains itself: edge run --help
    """


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line with `args` (default: the process's own) and return its exit code."""
    arguments = list(sys.argv[1:] if args is None else args)
    if instruction := os.environ.get(COMPLETE_VARIABLE):
        return shell_complete(cli, {}, "edge", COMPLETE_VARIABLE, instruction)

    def body() -> None:
        with cli.make_context("edge", arguments) as context:
            cli.invoke(context)

    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return guarded(body, as_json="--json" in options)


if __name__ == "__main__":
    sys.exit(main())
