"""What `edge export` tells people."""

from __future__ import annotations

import shlex
from typing import Any

import click

from boards.measured import NAME as UNNAMED
from edge.artifact.engine_files import target_name
from edge.cli.fidelity import fidelity_rows
from edge.cli.output import count, print_table, seconds, size
from edge.cli.plan_table import board_text


def print_report(report: dict[str, Any]) -> None:
    """What an export did, as a table."""
    print_table(
        [
            ("source", str(report["source"])),
            ("architecture", str(report["architecture"])),
            ("parameters", count(report["parameters"])),
            ("weights", weights_text(report)),
            *([("method", str(report["method"]))] if report.get("method") else []),
            *(
                [("kept", f"{report['kept']} matrices as they are in the source")]
                if report.get("kept")
                else []
            ),
            ("engine", str(report["engine"])),
            *([("for", board_text(report["board"]))] if report.get("board") else []),
            *([("KV", str(report["kv"]))] if report["kv"] else []),
            ("size", size(report["file_bytes"])),
            ("bits per weight", f"{report['bits_per_weight']:.2f}"),
            *fidelity_rows(report.get("fidelity")),
            ("took", seconds(report["seconds"])),
            ("peak memory", size(report["peak_rss_bytes"])),
            ("written to", str(report["path"])),
        ]
    )
    if report.get("note"):
        click.echo(f"\nNote: {report['note']}")


def next_step(report: dict[str, Any]) -> str:
    """What may be done with an artifact that was just written."""
    path = str(report["path"])
    if report["engine"] == "tensorrt":
        board = report.get("board") or {}
        build = f"edge build {shlex.quote(path)} --target"
        context = f" --context {board['context']}" if board else ""
        if later := report.get("targets_elsewhere"):
            return f"on the board: {build} {','.join(later)}{context}"
        if report.get("engines"):
            return "copy it to the computer with the GPU, see docs/tensorrt.md"
        target = board.get("name", "GPU-OR-BOARD")
        if target == UNNAMED:
            target = target_name(board["sm"])
        return f"{build} {target}{context}, see docs/tensorrt.md"
    run = f'edge run {shlex.quote(path)} --prompt "What is an inode?"'
    return f"on a computer with an NVIDIA GPU: {run}" if report["engine"] == "cuda" else run


def weights_text(report: dict[str, Any]) -> str:
    """The type of the weights and their block size, where they have one."""
    return f"{report['weights']}, block {report['block']}" if report.get("block") else str(report["weights"])
