"""`edge export`: a checkpoint becomes an artifact."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from edge.cli.build import print_engines, run_build
from edge.cli.export_board import board_export
from edge.cli.export_optimum import DEFAULT_WEIGHTS, export_via_optimum
from edge.cli.export_options import export_options
from edge.cli.export_report import next_step, print_report
from edge.cli.extra import needs_exporter
from edge.cli.output import output_options, print_json
from edge.cli.plan_board import print_choice
from edge.cli.progress import ByteBar
from edge.errors import InvalidArgument


@click.command("export")
@click.argument("source")
@export_options
@output_options
def command(
    source: str,
    out: Path | None,
    weights: str | None,
    block: str | None,
    zero_points: bool,
    engine: str | None,
    tensorrt: bool,
    targets: tuple[str, ...],
    kv: str | None,
    board: str | None,
    context: int | None,
    sessions: int | None,
    method: str | None,
    effort: str,
    bits: float | None,
    size: str | None,
    calibration: Path | None,
    keep: bool | None,
    restart: bool,
    fidelity: bool | None,
    via: str | None,
    task: str | None,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Turn a checkpoint into an artifact: a folder to copy to the board.

    SOURCE is a Hugging Face folder, a hub id (NAME/MODEL or NAME/MODEL@REVISION) or a GGUF file. The artifact
    is there whole or not at all. What an interrupted export has done is kept in .OUT.work, and the same command goes
    on there.

    \b
    Example:
      edge export HuggingFaceTB/SmolLM2-135M-Instruct -o smollm2.edge
      edge export model.gguf --weights int8
      edge export model.gguf --size 900MB --effort best
      edge export model-q8_0.gguf --keep
      edge export model.gguf --engine onnxruntime --kv int8
      edge export model.gguf --board jetson-orin-nano-super-8gb --context 16384
      edge export openai/whisper-tiny --via optimum
      edge export model.gguf --tensorrt --target sm86,sm89,sm120
    """
    if not source:
        raise InvalidArgument("SOURCE is empty; give a folder, a hub id or a GGUF file")
    if via is not None:
        given = {
            "weights": weights,
            "block": block,
            "zero_points": zero_points,
            "engine": engine,
            "kv": kv,
            "board": board,
            "context": context,
            "sessions": sessions,
            "method": method,
            "effort": effort,
            "bits": bits,
            "size": size,
            "calibration": calibration,
            "keep": keep,
            "restart": restart,
            "fidelity": fidelity,
            "tensorrt": tensorrt,
            "target": list(targets),
            "force": force,
        }
        target = out if out is not None else default_output(source, weights or DEFAULT_WEIGHTS)
        export_via_optimum(source, target, given, task=task, as_json=as_json, quiet=quiet)
        return
    if task is not None:
        raise InvalidArgument("--task is what --via optimum exports a model for; add --via optimum")
    if tensorrt:
        if engine not in (None, "tensorrt"):
            raise InvalidArgument(f"--tensorrt and --engine {engine} do not go together; drop one of the two")
        engine = "tensorrt"
    mixed = bits is not None or size is not None
    here, later = _sorted_targets(targets, engine, ["int4", "int8"] if mixed else [weights or "int4"])
    chosen: dict[str, Any] = {
        "weights": weights or "int4",
        "block": int(block or 32),
        "zero_points": zero_points,
        "engine": engine,
        "kv": kv,
        "bits": bits,
        "size": size,
    }
    if board is None:
        for name, value in (("--context", context), ("--sessions", sessions)):
            if value is not None:
                raise InvalidArgument(
                    f"{name} is what --board is to leave room for; add --board NAME, or say it when the model is "
                    "loaded, or its engine built (edge build)"
                )
    planned = None
    if board is not None:
        given = {
            "weights": weights,
            "block": int(block) if block else None,
            "zero_points": zero_points,
            "engine": engine,
            "kv": kv,
            "bits": bits,
            "size": size,
            "typed": bool(keep) or method in ("rtn", "hqq"),
        }
        planned = board_export(source, board, context, sessions or 1, given)
        chosen = {**dict.fromkeys(("kv", "bits", "size")), **planned.options, "board": planned.record}
        if not (quiet or as_json):
            print_choice(planned.choice)
            click.echo()
    kind = _kind(chosen.get("weights") or "int4", chosen["bits"], chosen["size"])
    target = out if out is not None else default_output(source, kind)
    with ByteBar("export", 0, quiet=quiet) as bar:
        report = _run_export(
            source,
            target,
            **chosen,
            method=method,
            effort=effort,
            calibration=calibration,
            keep=keep,
            restart=restart,
            fidelity=fidelity,
            force=force,
            progress=bar.show,
        )
    result: dict[str, Any] = report.to_json()
    told = not (as_json or quiet)
    if told:
        # Before the build, which may be refused: the graphs are there then.
        print_report(result)
    if targets:
        contexts = [planned.choice.plan.context] if planned is not None else None
        built = run_build(target, here, contexts=contexts, quiet=quiet)["engines"] if here else []
        result["engines"] = built
        result["targets_elsewhere"] = later
    if as_json:
        print_json(result)
    if told:
        if result.get("engines"):
            click.echo()
            print_engines(result["engines"])
        click.echo(f"\nNext: {next_step(result)}")


def default_output(source: str, weights: str) -> Path:
    """Where an export goes that was not told: the source's name, in the current folder."""
    path = Path(source)
    if path.exists():
        path = path.resolve()
        name = path.stem if path.is_file() else path.name
    else:
        name = source.split("@")[0].rstrip("/").rsplit("/", 1)[-1].removesuffix(".gguf")
    name = re.sub(r"[^\w.+-]+", "-", name).strip(".-") or "model"
    return Path(f"{name}-{weights}.edge")


def _sorted_targets(
    targets: Sequence[str], engine: str | None, weights: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Targets whose engines are built here, and those that are built on the board; sure that it can be done."""
    if not targets:
        return [], []
    if engine != "tensorrt":
        raise InvalidArgument("--target is what an engine is built for; add --tensorrt")
    with needs_exporter("export"):
        there = import_module("export.tensorrt.build").sorted_targets(targets, weights)
    return tuple([target.name for target in group] for group in there)  # type: ignore[return-value]


def _kind(weights: str, bits: float | None, size: str | None) -> str:
    """What an artifact is called by: the type of its weights, or the target."""
    return size or (f"{bits:g}bit" if bits is not None else weights)


def _run_export(source: str, out: Path, **options: Any) -> Any:
    with needs_exporter("export"):
        return import_module("export").export(source, out, **options)
