"""`edge plan`: what a model needs of memory, beside what there is."""

from __future__ import annotations

from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from edge.artifact import MANIFEST, open_artifact, stored_kv_type
from edge.artifact.kv import STATIC_KV_BITS
from edge.artifact.pages import KV_NAMES
from edge.cache.folder import default_folder, disk_budget
from edge.cli.extra import needs_exporter
from edge.cli.options import ENGINES, ArtifactPath, Size
from edge.cli.output import output_options, print_json, print_table
from edge.errors import EngineError, InvalidArgument, StorageError
from edge.memory.admission import sized
from edge.memory.needs import Needs
from edge.memory.plan import Plan, make_plan
from edge.memory.probe import Memory, probe
from edge.memory.suggest import suggestions
from edge.memory.weights import WEIGHTS, engine_for, weight_bytes

_MIB = 1 << 20
_BAR = 40
# Measured, see docs/kv-cache.md.
_SLOW_PREFILL = (
    "KV in {kind} on stock operators: prompts are read slower than with fp32 (SmolLM2-135M in int8: 1.3 times at 512 "
    "tokens, 1.7 at 2048, 2.0 at 4096), and answers behind them come faster (1.1 to 1.3 times)"
)


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
    help="What the KV cache holds.  [default: int8; engine onnxruntime: fp32, or what the artifact has]",
)
@click.option(
    "--weights",
    type=click.Choice(WEIGHTS),
    help="How weights would be stored.  [default: int4; of an artifact, what it holds]",
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
    as_json: bool,
    quiet: bool,
) -> None:
    """Show what a model needs of memory, part by part, and whether it fits. Nothing is loaded.

    SRC is a config.json, the folder it is in, a GGUF file or a hub id, of which no weights are fetched; ARTIFACT needs
    its manifest only. Where more is asked for than fits, the choices that would make it fit are listed. Exits with 0
    either way.

    \b
    Example:
      edge plan smollm2.edge
      edge plan deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B --memory 6GiB --context 32768 --kv int8
    """
    here = probe() if isinstance(memory, str) else None
    needs = _needs(source, kv, weights)
    available = here.available if here is not None else int(memory)
    plan = make_plan(needs, available, context, sessions, sized(prefix_cache))
    disk = _disk(plan)
    if as_json:
        machine = {} if here is None else {"machine": asdict(here)}
        print_json(plan_report(plan) | {"disk": disk} | machine)
    else:
        _print(plan, here)
        if disk is not None:
            click.echo(
                f"on the disk: up to {_mib(disk['bytes'])} MiB of the prefix cache, in {disk['folder']}"
            )


def plan_report(plan: Plan) -> dict[str, Any]:
    """What `edge plan --json` prints, the machine aside; sizes in bytes, context in tokens."""
    return {
        "fits": plan.fits,
        "available_bytes": plan.available,
        "required_bytes": {**asdict(plan.required), "total": plan.required.total},
        "engine": plan.needs.engine,
        "kv": plan.needs.kv_type,
        "kv_bytes_per_token": plan.needs.kv_bytes_per_token,
        "context": plan.context,
        "sessions": plan.sessions,
        "max_context": plan.max_context,
        "suggestions": [s.to_json() for s in ([] if plan.fits else suggestions(plan))],
        "notes": _notes(plan),
    }


def _notes(plan: Plan) -> list[str]:
    """What memory alone does not tell."""
    if plan.needs.engine == "cpu" or plan.needs.kv_type == "float32":
        return []
    return [_SLOW_PREFILL.format(kind=plan.needs.kv_type)]


def _disk(plan: Plan) -> dict[str, Any] | None:
    """What run, chat and serve may leave on the disk by default, in bytes; None where they leave nothing."""
    if not (plan.fits and plan.needs.shares_prefixes):
        return None
    try:
        folder = default_folder()
    except StorageError:
        return None
    return {"folder": str(folder), "bytes": disk_budget(folder, "auto")}


def _needs(source: Path, kv: str | None, weights: str | None) -> Needs:
    folder = source.parent if source.name == MANIFEST else source
    kind = None if kv is None else KV_NAMES[kv]
    if (folder / MANIFEST).is_file():
        manifest = open_artifact(folder, check_files=False).manifest
        spec, held = manifest.spec, {variant.engine for variant in manifest.variants}
        engine = next((name for name in ENGINES if name in held), None)
        if engine is None:
            raise EngineError(f"{folder} has no variant for any of {', '.join(ENGINES[1:])}; export it again")
        if weights is None:
            stored = stored_kv_type(manifest, engine)
            if stored not in (None, kind or stored):
                had = next(name for name, of in KV_NAMES.items() if of == stored)
                raise InvalidArgument(
                    f"--kv {kv} is not what {folder} has, {had}: for engine {engine} that is settled at export; "
                    f"drop --kv, or export it again with --kv {kv}"
                )
            return Needs.of_artifact(manifest, engine, kind)
    else:
        with needs_exporter("plan"):
            spec = import_module("export.checkpoint").read_spec(source)
    weights = weights or "int4"
    if engine_for(weights) != "cpu" and kind not in (None, *STATIC_KV_BITS):
        raise InvalidArgument(
            f"--kv {kv} needs engine cpu, and this is for engine onnxruntime, whose stock operators keep fp32, "
            "int8 or int4; choose one of these, or take int4 or int8 weights"
        )
    return Needs.of(spec, weight_bytes(spec, weights), weights, engine_for(weights), kind)


def _print(plan: Plan, here: Memory | None) -> None:
    required, spec = plan.required, plan.needs.spec
    whole = max(1, required.total)
    rows = [
        (
            "weights",
            required.weights,
            f"{spec.parameters / 1e6:.0f} M parameters, engine {plan.needs.engine}",
        ),
        ("KV cache", required.kv, _kv_words(plan)),
        ("workspace", required.workspace, "a prefill chunk, logits, rotary tables"),
        ("runtime", required.runtime, "Python, ONNX Runtime, tokenizer"),
        ("prefix cache", required.prefix_cache, "what was read, for prompts that begin alike"),
        ("reserve", required.reserve, "left to the system"),
    ]
    print_table(
        [
            ("part", "MiB", "", ""),
            *((name, _mib(nbytes), words, _bar(nbytes, whole)) for name, nbytes, words in rows if nbytes),
            ("needed", _mib(required.total)),
            ("there is", _mib(plan.available), _place(here)),
        ],
        right=(1,),
    )
    click.echo()
    click.echo("\n".join([_verdict(plan), *_notes(plan)]))


def _kv_words(plan: Plan) -> str:
    many = f"{plan.sessions} conversations of " if plan.sessions > 1 else ""
    return f"{many}{plan.context} tokens in {plan.needs.kv_name}, {plan.needs.kv_bytes_per_token} bytes each"


def _place(here: Memory | None) -> str:
    if here is None:
        return "as asked"
    parts = [here.board or "this machine"]
    if here.unified:
        parts.append("shared with the GPU")
    if here.cgroup_limit is not None:
        parts.append(f"cgroup limit {_mib(here.cgroup_limit)} MiB")
    if here.swap_free or here.zram_free:
        parts.append("swap not counted")
    return ", ".join(parts)


def _verdict(plan: Plan) -> str:
    longest = plan.needs.spec.context
    if plan.fits:
        most = "all that the model takes" if plan.max_context == longest else f"the model takes {longest}"
        return f"fits; the largest context that fits is {plan.max_context} tokens ({most})"
    lines = [f"does not fit: {_mib(plan.required.total - plan.available)} MiB are missing"]
    lines += [f"  would fit: {suggestion.text}" for suggestion in suggestions(plan)]
    if len(lines) == 1:
        lines.append("  no choice of KV, weights, sessions and context makes it fit; take a smaller model")
    return "\n".join(lines)


def _bar(nbytes: int, whole: int) -> str:
    return "█" * max(1, round(_BAR * nbytes / whole))


def _mib(nbytes: int) -> str:
    return f"{nbytes / _MIB:.1f}"
