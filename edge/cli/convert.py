"""`edge convert`: an artifact for one engine becomes the same for another."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import click

from edge.cli.export_report import next_step, weights_text
from edge.cli.extra import needs_exporter
from edge.cli.options import artifact_argument
from edge.cli.output import count, output_options, print_json, print_table, seconds, size
from edge.cli.progress import ByteBar


@click.command("convert")
@artifact_argument
@click.option(
    "--output",
    "-o",
    "out",
    type=click.Path(path_type=Path),
    metavar="OUT",
    required=True,
    help="The artifact to write.",
)
@click.option(
    "--engine",
    type=click.Choice(["cpu", "onnxruntime", "tensorrt", "cuda"]),
    required=True,
    help="What is to run it: our kernels for CPUs, stock ONNX Runtime, TensorRT, or ONNX Runtime on a GPU (cuda).",
)
@click.option("--force", is_flag=True, help="Replace OUT if it is there already.")
@output_options
def command(artifact: Path, out: Path, engine: str, force: bool, as_json: bool, quiet: bool) -> None:
    """Turn an artifact for one engine into one for another, without the checkpoint.

    Weights stay what they are to the last bit; only the scales of artifacts of format 1 are rounded, TensorRT takes no
    scales below 0, which costs the largest weight of some blocks a step (an export for it chooses codes anew), and
    for GPUs norms and biases are float16.
    The files of ARTIFACT are verified on the way.

    \b
    Example:
      edge convert smollm2.edge -o smollm2-stock.edge --engine onnxruntime
    """
    with ByteBar("convert", 0, quiet=quiet) as bar, needs_exporter("convert"):
        report = import_module("export").convert(artifact, out, engine=engine, force=force, progress=bar.show)
    result: dict[str, Any] = report.to_json()
    if as_json:
        print_json(result)
    elif not quiet:
        _print_report(result)


def _print_report(report: dict[str, Any]) -> None:
    rows = [
        ("source", str(report["source"])),
        ("engine", f"{report['engine']}, was {report['source_engine']}"),
        ("weights", weights_text(report)),
        ("size", size(report["file_bytes"])),
        ("bits per weight", f"{report['bits_per_weight']:.2f}"),
        ("took", seconds(report["seconds"])),
        ("peak memory", size(report["peak_rss_bytes"])),
        ("written to", str(report["path"])),
    ]
    if report["rounded_scales"]:
        change = f"{count(report['rounded_scales'])}, by up to {100 * report['largest_scale_change']:.2f}%"
        rows.insert(3, ("scales rounded", change))
    if report["widened"]:
        rows.insert(3, ("widened", f"{report['widened']} matrices to 8 bits, which hold the same weights"))
    print_table(rows)
    click.echo(f"\nNext: {next_step(report)}")
