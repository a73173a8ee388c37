"""`edge export --via optimum`: models that are no decoders of ours."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from edge.cli.extra import needs_exporter
from edge.cli.output import count, print_json, print_table, seconds, size
from edge.cli.progress import PartBar
from edge.errors import InvalidArgument

# Options of `edge export` that have no meaning for graphs of optimum, by what they are when they are not given.
_FOR_DECODERS: dict[str, tuple[Any, str]] = {
    "kv": (None, "keys and values are inputs and outputs of the graphs"),
    "board": (None, "plans are for decoders"),
    "context": (None, "plans are for decoders"),
    "sessions": (None, "plans are for decoders"),
    "bits": (None, "all matrices have the type of --weights"),
    "size": (None, "all matrices have the type of --weights"),
    "calibration": (None, "no text is read"),
    "keep": (None, "weights come from torch as floats"),
    "restart": (False, "nothing is kept of an interrupted export"),
    "effort": ("normal", "no text is read"),
    "fidelity": (None, "graphs are always compared with torch"),
    "tensorrt": (False, "its graphs are those of decoders"),
    "target": ([], "its graphs are those of decoders"),
}


DEFAULT_WEIGHTS = "int8"
"""Such models are small, and int4 changes what they say."""
_FAR = 0.1
"""Relative to the size of an output: encoders and Whisper, which are small, then say other things."""


def export_via_optimum(
    source: str, out: Path, given: Mapping[str, Any], *, task: str | None, as_json: bool, quiet: bool
) -> None:
    """Run the export with the options `given`, all those of `edge export`, and print what it did.

    Raises:
        InvalidArgument: one of them has no meaning here.
        EdgeError: as `export_graphs`.
    """
    for name, (default, reason) in _FOR_DECODERS.items():
        if given[name] != default:
            raise InvalidArgument(
                f"--{name} has no meaning with --via optimum: {reason}; leave one of the two out"
            )
    if given["engine"] not in (None, "onnxruntime"):
        raise InvalidArgument(
            f"--engine {given['engine']} does not run the graphs that optimum makes; leave it out: onnxruntime does"
        )
    with PartBar("export", quiet=quiet) as bar, needs_exporter("export --via optimum"):
        report = import_module("export.optimum.pipeline").export_graphs(
            source,
            out,
            weights=given["weights"] or DEFAULT_WEIGHTS,
            block=int(given["block"] or 32),
            zero_points=given["zero_points"],
            method=given["method"],
            task=task or "auto",
            force=given["force"],
            progress=bar.show,
        )
    result: dict[str, Any] = report.to_json()
    if as_json:
        print_json(result)
    elif not quiet:
        _print_report(result)


def error_rows(errors: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Rows of a table: by graph the output that is the furthest from torch, float and quantized.

    `errors` is what a manifest of graphs has in its provenance.
    """
    rows: list[tuple[str, ...]] = [("graph", "furthest output", "as float", "quantized")]
    for name, of in errors.items():
        exact, coded = of["float"], of["quantized"]
        told = coded or exact
        output = max(told, key=lambda key: float(told[key]), default="")
        if output:
            rows.append(
                (name, output, f"{exact[output]:.1e}", f"{coded[output]:.1e}" if coded else "not quantized")
            )
    return rows


def _print_report(report: dict[str, Any]) -> None:
    block = f", block {report['block']}" if report["block"] else ""
    floats = sum(sum(graph["floats"].values()) for graph in report["graphs"])
    print_table(
        [
            ("source", str(report["source"])),
            ("architecture", str(report["architecture"])),
            ("task", str(report["task"])),
            ("parameters", count(report["parameters"])),
            ("weights", f"{report['weights']}{block}"),
            *([("method", str(report["method"]))] if report["method"] else []),
            ("matrices", f"{report['matrices']} quantized, {floats} left as floats"),
            ("size", size(report["file_bytes"])),
            ("bits per weight", f"{report['bits_per_weight']:.2f}"),
            ("took", seconds(report["seconds"])),
            ("peak memory", size(report["peak_rss_bytes"])),
            ("written to", str(report["path"])),
        ]
    )
    errors = {
        graph["name"]: {"float": graph["float_errors"], "quantized": graph["quantized_errors"]}
        for graph in report["graphs"]
    }
    click.echo("\nDistance from torch, relative to the size of the output:")
    print_table(error_rows(errors), right=(2, 3))
    if report["weights"] == "int4" and _furthest(report) > _FAR:
        click.echo(
            "\nNote: int4 is far from torch here; --weights int8 is closer, in less than twice the size"
        )
    click.echo(f"\nNext: edge inspect {shlex.quote(str(report['path']))}, and edge.load(...) in Python")


def _furthest(report: Mapping[str, Any]) -> float:
    return max(
        (e for graph in report["graphs"] for e in (graph["quantized_errors"] or {}).values()), default=0.0
    )
