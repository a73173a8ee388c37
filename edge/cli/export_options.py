"""The options of `edge export`."""

from __future__ import annotations

from pathlib import Path

import click

from edge.cli.options import BoardName, F, TargetName, add_options

_OPTIONS = (
    click.option(
        "--output",
        "-o",
        "out",
        type=click.Path(path_type=Path),
        metavar="OUT",
        help="The artifact to write.  [default: NAME-WEIGHTS.edge here]",
    ),
    click.option(
        "--weights",
        type=click.Choice(["int4", "int8", "fp16", "fp32"]),
        help="How weights are stored: int4 is the smallest and the fastest, fp32 the exact one.  "
        "[default: int4; with --board, the closest that fits; with --via optimum int8]",
    ),
    click.option(
        "--block",
        type=click.Choice(["32", "64", "128"]),
        help="Weights that share a scale: fewer are closer to the source, more are smaller.  [default: 32]",
    ),
    click.option(
        "--zero-points/--no-zero-points",
        default=False,
        show_default=True,
        help="Give each block an offset as well as a scale.",
    ),
    click.option(
        "--engine",
        type=click.Choice(["cpu", "onnxruntime", "tensorrt", "cuda"]),
        help="What is to run it: our kernels for CPUs, stock ONNX Runtime, TensorRT, or ONNX Runtime on a GPU (cuda).  "
        "[default: cpu for int4 and int8, onnxruntime for fp16 and fp32; with --board, of a card tensorrt]",
    ),
    click.option("--tensorrt", is_flag=True, help="The same as --engine tensorrt."),
    click.option(
        "--target",
        "targets",
        type=TargetName(),
        multiple=True,
        metavar="NAMES",
        help="With --tensorrt: build engines as well, as edge build does, for sm86, sm89 and so on or boards, with "
        "commas between. For a Jetson the graphs are written, and the engine is built there.",
    ),
    click.option(
        "--kv",
        type=click.Choice(["fp32", "fp16", "int8", "int4"]),
        help="What --engine onnxruntime keeps of the conversation: int8 is a quarter of the memory, faster answers and "
        "slower prompts, int4 an eighth and far from exact. Engine tensorrt keeps fp16 or int8, cuda fp16. Engine cpu "
        "is told by edge run --kv; with --board this is what a load then takes.  [default: fp32, fp16 for tensorrt and "
        "cuda; with --board, what fits]",
    ),
    click.option(
        "--board",
        type=BoardName(this=True),
        metavar="NAME",
        help="Choose what fits that board with its reserve (edge boards; this: the machine at hand). What is given "
        "beside it stays as it is, and is checked.",
    ),
    click.option(
        "--context",
        type=int,
        metavar="N",
        help="Tokens that --board is to leave room for, and that engines of --target are then built for.  "
        "[default: 8192]",
    ),
    click.option(
        "--sessions",
        type=int,
        metavar="N",
        help="Conversations at once that --board is to hold.  [default: 1]",
    ),
    click.option(
        "--method",
        type=click.Choice(
            ["auto", "rtn", "hqq", "awq", "gptq", "gptq+descent", "awq+gptq", "awq+gptq+descent"]
        ),
        help="How codes are chosen. auto measures several while the model reads a text; rtn reads none and takes "
        "seconds.  [default: auto]",
    ),
    click.option(
        "--effort",
        type=click.Choice(["fast", "normal", "best"]),
        default="normal",
        show_default=True,
        help="How much text is read, and how many methods auto tries.",
    ),
    click.option(
        "--bits",
        type=float,
        metavar="BITS",
        help="Bits per weight over the whole model, such as 4.5: each matrix gets as many as it is worth. In place of "
        "--weights.",
    ),
    click.option(
        "--size",
        metavar="SIZE",
        help="The same, told as the size of the artifact, such as 900MB.",
    ),
    click.option(
        "--calibration",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="A text to choose codes by, and the scales of --kv int8 or int4.  [default: one of our own]",
    ),
    click.option(
        "--keep/--no-keep",
        default=None,
        help="Take matrices over as they are that SOURCE has as codes: GGUF's Q4_0, Q5_0 and Q8_0, GPTQ, AWQ, "
        "compressed-tensors.  [default: where that is what --weights asks for, and of checkpoints that others "
        "quantized]",
    ),
    click.option(
        "--restart", is_flag=True, help="Begin anew where an export was interrupted, in place of going on."
    ),
    click.option(
        "--fidelity/--no-fidelity",
        default=None,
        help="Compare the artifact with its source on a short text.  [default: fidelity]",
    ),
    click.option(
        "--via",
        type=click.Choice(["optimum"]),
        help="Export what is no decoder of ours (encoders, Whisper, embeddings) with Hugging Face's optimum; it wants "
        "a Python environment of its own (docs/optimum.md), which EDGEWISE_OPTIMUM names.",
    ),
    click.option(
        "--task",
        metavar="TASK",
        help="What --via optimum is to export the model for, such as feature-extraction.  [default: what it was made "
        "for]",
    ),
    click.option("--force", is_flag=True, help="Replace OUT if it is there already."),
)


def export_options(command: F) -> F:
    """Add what `export.export` takes, and what is planned or built beside it; None where nothing was said."""
    return add_options(command, *_OPTIONS)
