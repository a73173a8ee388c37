"""`edge build`: engines for TensorRT, in the artifact, or out of it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from edge.artifact.engine_files import target_name
from edge.cli.extra import needs_exporter
from edge.cli.options import Size, TargetName, artifact_argument
from edge.cli.output import output_options, print_json, print_table, remark, seconds, size
from edge.cli.progress import PartBar
from edge.errors import InvalidArgument


@click.command("build")
@artifact_argument
@click.option(
    "--target",
    "targets",
    type=TargetName(),
    multiple=True,
    metavar="NAMES",
    help="The GPUs that are to run it: sm86, sm89, sm120 and so on, or boards, such as rtx-4060. Several with commas "
    "between. Never guessed.",
)
@click.option(
    "--context",
    metavar="N[,N]",
    help="Tokens that the cache holds; for several an engine each.  [default: 4096, or the model's context]",
)
@click.option(
    "--chunk",
    type=int,
    metavar="N",
    help="Tokens of a prompt that are computed at once.  [default: 256]",
)
@click.option(
    "--form",
    type=click.Choice(["opset24", "opset21"]),
    help="Of the graph.  [default: the newest that the installed TensorRT reads]",
)
@click.option(
    "--memory",
    type=Size(),
    default="auto",
    show_default=True,
    metavar="SIZE",
    help="What the builder may take, such as 4GiB; auto: what is free.",
)
@click.option(
    "--remove",
    is_flag=True,
    help="Build nothing, and remove the engines there are: all, or those for --target and --context.",
)
@output_options
def command(
    artifact: Path,
    targets: tuple[str, ...],
    context: str | None,
    chunk: int | None,
    form: str | None,
    memory: int | str,
    remove: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Build engines for TensorRT from the graphs of an artifact, which edge export --tensorrt writes.

    For RTX cards and the like on any x86-64 machine, with the package tensorrt-rtx and without a GPU. For a Jetson on
    the Jetson itself, with JetPack's TensorRT: unverified on device. Engines go into the artifact; one is there whole
    or not at all, and replaces the one for the same GPU and context. Graphs and weights are checked by their hashes
    before.

    \b
    Example:
      edge build qwen.edge --target sm86,sm89,sm120
      edge build qwen.edge --target rtx-4060 --context 4096,16384
      edge build qwen.edge --target jetson-orin-nano-8gb
      edge build qwen.edge --remove --context 16384
    """
    contexts = _contexts(context)
    if remove:
        of_builds = {"--chunk": chunk, "--form": form, "--memory": None if memory == "auto" else memory}
        _remove(artifact, targets, contexts, of_builds, as_json=as_json, quiet=quiet)
        return
    built = run_build(
        artifact,
        targets,
        contexts=contexts,
        chunk=chunk,
        form=form,
        memory=None if memory == "auto" else memory,
        quiet=quiet,
    )
    if as_json:
        print_json(built)
    elif not quiet:
        print_engines(artifact, built["engines"])


def run_build(artifact: Path, targets: Sequence[str], *, quiet: bool, **options: Any) -> dict[str, Any]:
    """Build with a bar on stderr; the report as a JSON object."""
    given = {name: value for name, value in options.items() if value is not None}
    with PartBar("build", quiet=quiet) as bar, needs_exporter("build"):
        build = import_module("export.tensorrt.build").build
        report: dict[str, Any] = build(artifact, targets, progress=bar.show, **given).to_json()
    chunk = given.get("chunk", 0)
    for capacity in [each["header"]["capacity"] for each in report["engines"]]:
        if chunk > capacity and not quiet:
            remark(
                f"--chunk {chunk} is more than the cache of {capacity} tokens holds: it was built for {capacity}"
            )
    return report


def print_engines(artifact: Path, engines: Sequence[dict[str, Any]]) -> None:
    """A table of what was built into `artifact`."""
    rows = [
        ("for", "TensorRT", "form", "context", "size", "bits/weight", "activations", "took", "peak memory")
    ]
    for engine in engines:
        header = engine["header"]
        rows.append(
            (
                " ".join(map(target_name, header["sms"])),
                f"{'RTX ' if header['flavour'] == 'tensorrt_rtx' else ''}{header['version']}",
                header["form"],
                str(header["capacity"]),
                size(engine["file_bytes"]),
                f"{engine['bits_per_parameter']:.2f}",
                size(header["activation_bytes"]) if header["activation_bytes"] else "?",
                seconds(engine["seconds"]),
                f"{size(engine['peak_rss_bytes'])} of {size(engine['memory_bytes'])}",
            )
        )
    print_table(rows, right=(3, 4, 5, 6, 7, 8))
    for engine in engines:
        click.echo(f"\nwritten to {shlex.quote(engine['path'])}", nl=False)
    run = f"edge run {shlex.quote(str(artifact))} --engine tensorrt"
    click.echo(f"\n\nBuilt, and not run yet: {run} tries it on the GPU it is for (unverified on device)")


def _remove(
    artifact: Path,
    targets: Sequence[str],
    contexts: Sequence[int] | None,
    of_builds: Mapping[str, object],
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    for name, value in of_builds.items():
        if value is not None:
            raise InvalidArgument(f"{name} is of a build, and --remove builds nothing; drop one of the two")
    with needs_exporter("build"):
        remove = import_module("export.tensorrt.removal").remove
        report: dict[str, Any] = remove(artifact, targets, contexts=contexts).to_json()
    if as_json:
        print_json(report)
    elif not quiet:
        for each in report["removed"]:
            click.echo(f"removed {shlex.quote(str(artifact / each['path']))} ({size(each['file_bytes'])})")


def _contexts(text: str | None) -> list[int] | None:
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        raise InvalidArgument(f"--context is {text!r}; give tokens, several with commas between: 4096,16384")
    return [int(part) for part in parts]
