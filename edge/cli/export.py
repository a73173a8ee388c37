"""`edge export`: a checkpoint becomes an artifact."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from edge.cli.build import print_engines, run_build
from edge.cli.export_board import board_export
from edge.cli.export_optimum import export_via_optimum
from edge.cli.extra import needs_exporter
from edge.cli.fidelity import fidelity_rows
from edge.cli.options import BoardName, TargetName
from edge.cli.output import count, output_options, print_json, print_table, seconds, size
from edge.cli.plan_board import print_choice
from edge.cli.plan_table import board_text
from edge.cli.progress import ByteBar
from edge.errors import InvalidArgument


@click.command("export")
@click.argument("source")
@click.option(
    "--output",
    "-o",
    "out",
    type=click.Path(path_type=Path),
    metavar="OUT",
    help="The artifact to write.  [default: NAME-WEIGHTS.edge here]",
)
@click.option(
    "--weights",
    type=click.Choice(["int4", "int8", "fp16", "fp32"]),
    help="How weights are stored: int4 is the smallest and the fastest, fp32 the exact one.  "
    "[default: int4; with --board, the closest that fits]",
)
@click.option(
    "--block",
    type=click.Choice(["32", "64", "128"]),
    help="Weights that share a scale: fewer are closer to the source, more are smaller.  [default: 32]",
)
@click.option(
    "--zero-points/--no-zero-points",
    default=False,
    show_default=True,
    help="Give each block an offset as well as a scale.",
)
@click.option(
    "--engine",
    type=click.Choice(["cpu", "onnxruntime", "tensorrt", "cuda"]),
    help="What is to run it: our kernels for CPUs, stock ONNX Runtime, TensorRT, or ONNX Runtime on a GPU (cuda).  "
    "[default: cpu for int4 and int8, onnxruntime for fp16 and fp32]",
)
@click.option("--tensorrt", is_flag=True, help="The same as --engine tensorrt.")
@click.option(
    "--target",
    "targets",
    type=TargetName(),
    multiple=True,
    metavar="NAMES",
    help="With --tensorrt: build engines as well, as edge build does, for sm86, sm89 and so on or boards, with commas "
    "between. For a Jetson the graphs are written, and the engine is built there.",
)
@click.option(
    "--kv",
    type=click.Choice(["fp32", "fp16", "int8", "int4"]),
    help="What --engine onnxruntime keeps of the conversation: int8 is a quarter of the memory, faster answers and "
    "slower prompts, int4 an eighth and far from exact. Engine tensorrt keeps fp16 or int8, cuda fp16. Engine cpu is "
    "told by edge run --kv; with --board this is what a load then takes.  [default: fp32, fp16 for tensorrt and cuda; "
    "with --board, what fits]",
)
@click.option(
    "--board",
    type=BoardName(this=True),
    metavar="NAME",
    help="Choose what fits that board with its reserve (edge boards; this: the machine at hand). What is given beside "
    "it stays as it is, and is checked.",
)
@click.option(
    "--context", type=int, metavar="N", help="Tokens that --board is to leave room for.  [default: 8192]"
)
@click.option(
    "--sessions", type=int, metavar="N", help="Conversations at once that --board is to hold.  [default: 1]"
)
@click.option(
    "--method",
    type=click.Choice(["auto", "rtn", "hqq", "awq", "gptq", "gptq+descent", "awq+gptq", "awq+gptq+descent"]),
    help="How codes are chosen. auto measures several while the model reads a text; rtn reads none and takes seconds.  "
    "[default: auto]",
)
@click.option(
    "--effort",
    type=click.Choice(["fast", "normal", "best"]),
    default="normal",
    show_default=True,
    help="How much text is read, and how many methods auto tries.",
)
@click.option(
    "--bits",
    type=float,
    metavar="BITS",
    help="Bits per weight over the whole model, such as 4.5: each matrix gets as many as it is worth. In place of "
    "--weights.",
)
@click.option(
    "--size",
    metavar="SIZE",
    help="The same, told as the size of the artifact, such as 900MB.",
)
@click.option(
    "--calibration",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A text to choose codes by, and the scales of --kv int8 or int4.  [default: one of our own]",
)
@click.option(
    "--keep/--no-keep",
    default=None,
    help="Take matrices over as they are that SOURCE has as codes: GGUF's Q4_0, Q5_0 and Q8_0, GPTQ, AWQ, "
    "compressed-tensors.  [default: where that is what --weights asks for, and of checkpoints that others quantized]",
)
@click.option(
    "--restart", is_flag=True, help="Begin anew where an export was interrupted, in place of going on."
)
@click.option(
    "--fidelity/--no-fidelity",
    default=None,
    help="Compare the artifact with its source on a short text.  [default: fidelity]",
)
@click.option(
    "--via",
    type=click.Choice(["optimum"]),
    help="Export what is no decoder of ours (encoders, Whisper, embeddings) with Hugging Face's optimum; it wants a "
    "Python environment of its own (docs/optimum.md), which EDGEWISE_OPTIMUM names.",
)
@click.option(
    "--task",
    metavar="TASK",
    help="What --via optimum is to export the model for, such as feature-extraction.  [default: what it was made for]",
)
@click.option("--force", is_flag=True, help="Replace OUT if it is there already.")
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
      edge export openai/whisper-tiny --via optimum --weights int8
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
        target = out if out is not None else default_output(source, weights or "int4")
        export_via_optimum(source, target, given, task=task, as_json=as_json, quiet=quiet)
        return
    if task is not None:
        raise InvalidArgument("--task is what --via optimum exports a model for; add --via optimum")
    if tensorrt:
        if engine not in (None, "tensorrt"):
            raise InvalidArgument(f"--tensorrt and --engine {engine} do not go together; drop one of the two")
        engine = "tensorrt"
    here, later = _sorted_targets(targets, engine)
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
                    f"{name} is what --board is to leave room for; add --board NAME, or say it when the model is loaded"
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
    if targets:
        result["engines"] = run_build(target, here, quiet=quiet)["engines"] if here else []
        result["targets_elsewhere"] = later
    if as_json:
        print_json(result)
    elif not quiet:
        _print_report(result)


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


def _sorted_targets(targets: Sequence[str], engine: str | None) -> tuple[list[str], list[str]]:
    """Targets whose engines are built here, and those that are built on the board; sure that it can be done."""
    if not targets:
        return [], []
    if engine != "tensorrt":
        raise InvalidArgument("--target is what an engine is built for; add --tensorrt")
    with needs_exporter("export"):
        there = import_module("export.tensorrt.build").sorted_targets(targets)
    return tuple([target.name for target in group] for group in there)  # type: ignore[return-value]


def _kind(weights: str, bits: float | None, size: str | None) -> str:
    """What an artifact is called by: the type of its weights, or the target."""
    return size or (f"{bits:g}bit" if bits is not None else weights)


def _run_export(source: str, out: Path, **options: Any) -> Any:
    with needs_exporter("export"):
        return import_module("export").export(source, out, **options)


def _print_report(report: dict[str, Any]) -> None:
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
    if report.get("engines"):
        click.echo()
        print_engines(report["engines"])
    click.echo(f"\nNext: {next_step(report)}")


def next_step(report: dict[str, Any]) -> str:
    """What may be done with an artifact that was just written."""
    path = str(report["path"])
    if report["engine"] == "tensorrt":
        if later := report.get("targets_elsewhere"):
            return f"on the board: edge build {shlex.quote(path)} --target {','.join(later)}"
        if report.get("engines"):
            return "copy it to the computer with the GPU, see docs/tensorrt.md"
        return f"edge build {shlex.quote(path)} --target GPU-OR-BOARD, see docs/tensorrt.md"
    run = f'edge run {shlex.quote(path)} --prompt "What is an inode?"'
    return f"on a computer with an NVIDIA GPU: {run}" if report["engine"] == "cuda" else run


def weights_text(report: dict[str, Any]) -> str:
    """The type of the weights and their block size, where they have one."""
    return f"{report['weights']}, block {report['block']}" if report.get("block") else str(report["weights"])
