"""`edge evaluate`: how far an artifact is from the checkpoint it was made from."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import click

from edge.cli.extra import needs_exporter
from edge.cli.options import artifact_argument, engine_option
from edge.cli.output import output_options, print_json, print_table, size
from edge.cli.progress import ByteBar


@click.command("evaluate")
@artifact_argument
@click.option("--reference", required=True, metavar="SOURCE", help="The checkpoint that it was made from.")
@click.option(
    "--text",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A text to compare on.  [default: Python's help, and answers of the model]",
)
@click.option(
    "--samples",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    metavar="N",
    help="Windows of 512 tokens of the text.",
)
@engine_option
@click.option("--write/--no-write", default=True, help="Put the report into the artifact.  [default: write]")
@output_options
def command(
    artifact: Path,
    reference: str,
    text: Path | None,
    samples: int,
    engine: str,
    write: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Compare ARTIFACT, as it runs, with the full-precision model it was made from.

    fidelity.json and fidelity.html, a page with pictures, are put into the artifact.

    \b
    Example:
      edge evaluate smollm2.edge --reference HuggingFaceTB/SmolLM2-135M-Instruct
      edge evaluate qwen.edge --reference qwen.gguf --text mine.txt --samples 32
      edge evaluate tensorrt.edge --reference qwen.gguf --engine portable
    """
    with ByteBar("evaluate", 0, quiet=quiet) as bar, needs_exporter("evaluate"):
        found = import_module("export.evaluate").evaluate(
            artifact, reference, text=text, samples=samples, engine=engine, write=write, progress=bar.show
        )
    report: dict[str, Any] = found.to_json()
    if as_json:
        print_json(report)
    elif not quiet:
        _print(report)
        if write:
            click.echo(f"\nPictures: {artifact / 'fidelity.html'}")


def _print(report: dict[str, Any]) -> None:
    kl, ratio = report["confidence"]["mean_kl"], report["confidence"]["perplexity_ratio"]
    print_table(
        [
            ("artifact", str(report["artifact"])),
            ("reference", f"{report['reference']}, full precision"),
            ("engine", _engine(report)),
            ("tokens", str(report["tokens"])),
            ("mean KL", f"{report['mean_kl']:.5f} nats ({kl[0]:.5f} to {kl[1]:.5f})"),
            (
                "median, p99, max",
                f"{report['median_kl']:.5f}, {report['p99_kl']:.4f}, {report['max_kl']:.3f}",
            ),
            ("top-1 agreement", f"{100 * report['top1_agreement']:.2f}%"),
            ("top-5 agreement", f"{100 * report['top5_agreement']:.2f}%"),
            (
                "perplexity",
                f"{report['perplexity']:.3f}, of the reference {report['reference_perplexity']:.3f}: "
                f"×{report['perplexity_ratio']:.4f} ({ratio[0]:.4f} to {ratio[1]:.4f})",
            ),
            ("bits per weight", f"{report['bits_per_weight']:.2f}"),
            ("size", size(report["file_bytes"])),
        ]
    )


def _engine(report: dict[str, Any]) -> str:
    instead = f", not {report['passed_over']}" if report["passed_over"] else ""
    return f"{report['engine']}{instead}"
