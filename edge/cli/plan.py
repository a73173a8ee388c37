"""`edge plan`: what a model needs of memory, beside what there is."""

from __future__ import annotations

from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from edge.artifact import Artifact, open_artifact
from edge.artifact.kv import GPU_ENGINES
from edge.artifact.pages import KV_NAMES
from edge.cache.folder import default_folder, disk_budget
from edge.cli.options import VARIANTS, ArtifactPath, BoardName, Size
from edge.cli.output import output_options, print_json, print_table
from edge.cli.plan_board import THIS, Asked, check_together, plan_boards, plan_one, plan_recipes
from edge.cli.plan_table import mib, plan_notes, plan_report, plan_rows, verdict
from edge.cli.planned_source import check_kv, check_stored_kv, check_weights, read_planned
from edge.cli.written import check_picture
from edge.errors import EdgeError, EngineTooOld, GpuMissing, InvalidArgument, MissingExtra, StorageError
from edge.memory.admission import memories, sized
from edge.memory.needs import Needs
from edge.memory.plan import Plan, make_plan
from edge.memory.probe import Memory, probe
from edge.memory.recipe import Wishes
from edge.memory.weights import WEIGHTS, Stored, engine_for


@click.command("plan")
@click.argument("source", metavar="SRC|ARTIFACT", type=ArtifactPath())
@click.option(
    "--memory",
    type=Size(),
    default="auto",
    show_default=True,
    metavar="SIZE",
    help="Memory to plan for, such as 6GiB; auto: what is here.",
)
@click.option("--context", type=int, metavar="N", help="Tokens of a conversation.  [default: as many as fit]")
@click.option(
    "--sessions", type=int, default=1, show_default=True, metavar="N", help="Conversations at once."
)
@click.option(
    "--prefix-cache",
    type=Size(),
    default="auto",
    show_default=True,
    metavar="SIZE",
    help="Memory for what prompts begin with; auto: a conversation's worth, where there is room.",
)
@click.option(
    "--kv",
    type=click.Choice(tuple(KV_NAMES)),
    help="What the KV cache holds.  [default: int8; engine onnxruntime: fp32, tensorrt and cuda: fp16, or what the "
    "artifact has]",
)
@click.option(
    "--weights",
    type=click.Choice(WEIGHTS),
    help="How weights would be stored.  [default: int4; of an artifact, what it holds; with --board, what it can have]",
)
@click.option(
    "--board",
    type=BoardName(this=True),
    metavar="NAME",
    help="Plan for that board (edge boards), and choose the recipe; this: the machine at hand.",
)
@click.option(
    "--engine",
    type=click.Choice((*VARIANTS, "portable")),
    help="What is to run it; with --all-boards on those that can.  [default: cpu; of a card tensorrt; of an artifact "
    "what auto takes here, with --board what it is for]",
)
@click.option("--all-boards", is_flag=True, help="The model on every board that is known.")
@click.option("--all-recipes", is_flag=True, help="Every recipe that --board could have.")
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write a picture of it too, with --board or --all-boards: an SVG.",
)
@output_options
def command(
    source: Path,
    memory: int | str,
    context: int | None,
    sessions: int,
    prefix_cache: int | str,
    kv: str | None,
    weights: str | None,
    board: str | None,
    engine: str | None,
    all_boards: bool,
    all_recipes: bool,
    plot: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Show what a model needs of memory, part by part, and whether it fits. Nothing is loaded.

    SRC is a config.json, the folder it is in, a GGUF file or a hub id, of which no weights are fetched; ARTIFACT needs
    its manifest only. Where more is asked for than fits, the choices that would make it fit are listed. Exits with 0
    either way.

    With --board it also chooses the recipe that edge export --board would follow, says why, and how many tokens per
    second the board's memory allows at most.

    \b
    Example:
      edge plan smollm2.edge
      edge plan deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B --memory 6GiB --context 32768 --kv int8
      edge plan deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B --board jetson-orin-nano-super-8gb
      edge plan deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B --board rtx-4060 --engine cuda
      edge plan deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B --all-boards --plot boards.svg
    """
    check_together(board, memory, engine, all_boards=all_boards, all_recipes=all_recipes)
    if plot is not None:
        if board is None and not all_boards:
            raise InvalidArgument("--plot draws a plan for a board; add --board NAME or --all-boards")
        check_picture(plot)
    if board is not None or all_boards:
        asked = Asked(
            source=str(source),
            context=context,
            sessions=sessions,
            prefix_cache=sized(prefix_cache),
            wishes=Wishes(weights=weights, kv=kv, engine=engine),
        )
        if all_boards:
            plan_boards(asked, plot, as_json=as_json)
        elif all_recipes:
            plan_recipes(asked, board or THIS, plot, as_json=as_json)
        else:
            plan_one(asked, board or THIS, plot, as_json=as_json)
        return
    here = probe() if isinstance(memory, str) else None
    card = here.gpus[0] if here is not None and here.gpus else None
    needs, notes = _needs(source, kv, weights, engine, card.free if card is not None else None)
    available, host = memories(needs, here.available if here is not None else int(memory))
    plan = make_plan(needs, available, context, sessions, sized(prefix_cache), host=host)
    disk = _disk(plan)
    if as_json:
        machine = {} if here is None else {"machine": asdict(here)}
        print_json(plan_report(plan) | {"notes": [*plan_notes(plan), *notes], "disk": disk} | machine)
    else:
        print_table(plan_rows(plan, _place(here), card=card.name if card is not None else ""), right=(1,))
        click.echo()
        click.echo("\n".join([verdict(plan, artifact=source), *plan_notes(plan), *notes]))
        if disk is not None:
            click.echo(
                f"on the disk: up to {mib(disk['bytes'])} MiB of the prefix cache, in {disk['folder']}"
            )


def _disk(plan: Plan) -> dict[str, Any] | None:
    """What run, chat and serve may leave on the disk by default, in bytes; None where they leave nothing."""
    if not (plan.fits and plan.needs.shares_prefixes):
        return None
    try:
        folder = default_folder()
    except StorageError:
        return None
    return {"folder": str(folder), "bytes": disk_budget(folder, "auto")}


def _needs(
    source: Path, kv: str | None, weights: str | None, engine: str | None, card: int | None
) -> tuple[Needs, list[str]]:
    """Of the source, and remarks; what is for TensorRT goes on a card where one is here, with `card` bytes free."""
    model = read_planned(source)
    kind = None if kv is None else KV_NAMES[kv]
    if model.manifest is not None and model.artifact is not None and weights is None:
        notes: list[str] = []
        if engine is not None:
            model.check_held(engine)
        elif model.engine == "tensorrt":
            engine, notes = _taken_here(open_artifact(model.artifact, check_files=False))
        engine = engine or model.engine
        check_stored_kv(model.artifact, model.manifest, engine, kv)
        needs = Needs.of_artifact(model.manifest, engine, kind)
        if engine == "cuda":
            return replace(needs, card=card), notes
        if engine != "tensorrt":
            return needs, notes
        plans = import_module("runtimes.tensorrt.plans")
        return needs.at(plans.built_site(open_artifact(model.artifact, check_files=False), card)), notes
    weights = weights or "int4"
    engine = engine or engine_for(weights)
    check_weights(weights, engine)
    check_kv(kv, engine)
    stored = Stored(weights=weights, engine=engine).total(model.spec)
    needs = Needs.of(model.spec, stored, weights, engine, kind)
    return (replace(needs, card=card) if engine in GPU_ENGINES else needs), []


def _taken_here(artifact: Artifact) -> tuple[str, list[str]]:
    """The engine that `auto` takes for an artifact for TensorRT alone, and why where it is another or none."""
    engines = import_module("runtimes").ENGINES
    try:
        engines["tensorrt"].site(artifact)
    except (MissingExtra, EngineTooOld, GpuMissing) as e:
        why = f"engine portable, which auto takes here: {e}; --engine tensorrt plans for a GPU"
        return "portable", [why]
    except EdgeError as e:
        return "tensorrt", [f"edge run refuses it here: {e}"]
    return "tensorrt", []


def _place(here: Memory | None) -> str:
    if here is None:
        return "as asked"
    parts = [here.board or "this machine"]
    if here.unified:
        parts.append("shared with the GPU")
    if here.cgroup_limit is not None:
        parts.append(f"cgroup limit {mib(here.cgroup_limit)} MiB")
    if here.swap_free or here.zram_free:
        parts.append("swap not counted")
    return ", ".join(parts)
