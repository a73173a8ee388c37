"""`edge inspect`: what an artifact is made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from edge.artifact import MANIFEST, Artifact, GraphArtifact, Variant, open_any
from edge.artifact.engine_files import is_engine, target_name
from edge.artifact.kv import BOARD
from edge.cli.fidelity import fidelity_rows, stored_fidelity
from edge.cli.inspect_graphs import graphs_report, print_graphs
from edge.cli.options import artifact_argument
from edge.cli.output import count, output_options, print_json, print_table, size
from edge.cli.plan_table import board_text
from edge.errors import InvalidArgument


@click.command("inspect")
@artifact_argument
@click.option("--layers", is_flag=True, help="Show how each layer keeps its KV.")
@output_options
def command(artifact: Path, layers: bool, as_json: bool, quiet: bool) -> None:
    """Show what an artifact is made of: the model, its sizes, its files and where it came from.

    Reads the manifest and checks the size of every file; `edge verify` checks what is in them. An engine that is
    damaged, missing or another artifact's is shown so.

    \b
    Example:
      edge inspect smollm2.edge
      edge inspect smollm2.edge --json | jq .bits_per_weight
    """
    opened = open_any(artifact)
    if isinstance(opened, GraphArtifact):
        if layers:
            raise InvalidArgument(f"{artifact} holds graphs that keep no KV; leave --layers out")
        if as_json:
            print_json(graphs_report(opened))
        else:
            print_graphs(opened)
        return
    if as_json:
        print_json(inspect_report(opened, layers=layers))
        return
    _print_summary(opened)
    _print_parts(opened)
    _print_files(opened)
    if layers:
        _print_layers(opened)


def inspect_report(artifact: Artifact, *, layers: bool = False) -> dict[str, Any]:
    """What `edge inspect --json` prints; sizes in bytes, context in tokens."""
    manifest, spec = artifact.manifest, artifact.spec
    report: dict[str, Any] = {
        "name": manifest.name,
        "format": manifest.format,
        "architecture": spec.architecture,
        "parameters": spec.parameters,
        "layers": spec.layers,
        "context": spec.context,
        "bits_per_weight": manifest.bits_per_weight,
        "file_bytes": file_bytes(artifact),
        "recipe": manifest.recipe,
        "kv_bytes_per_token": manifest.kv_bytes_per_token,
        "parts": [{"name": p.name, "parameters": p.parameters, "bytes": p.bytes} for p in manifest.parts],
        "variants": [
            {
                "engine": v.engine,
                "dialect": v.dialect,
                "requires": v.requires,
                "activation": v.activation,
                "layout": v.layout,
                "layout_version": v.layout_version,
            }
            for v in manifest.variants
        ],
        "engines": _engines(artifact),
        "fidelity": stored_fidelity(artifact),
        "files": [{"path": f.path, "size": f.size} for f in manifest.files],
        "provenance": manifest.provenance,
    }
    if layers:
        report["kv_layers"] = _layer_rows(artifact)
    return report


def file_bytes(artifact: Artifact) -> int:
    """Bytes of the folder, its manifest included."""
    return sum(entry.size for entry in artifact.manifest.files) + (artifact.path / MANIFEST).stat().st_size


def _print_summary(artifact: Artifact) -> None:
    manifest, spec = artifact.manifest, artifact.spec
    rows = [
        ("name", manifest.name),
        ("architecture", spec.architecture),
        ("parameters", count(spec.parameters)),
        ("layers", str(spec.layers)),
        ("context", f"{spec.context} tokens"),
        ("bits per weight", f"{manifest.bits_per_weight:.2f}"),
        ("size", size(file_bytes(artifact))),
        ("KV per token", size(manifest.kv_bytes_per_token)),
        ("recipe", _recipe(manifest.recipe)),
        *fidelity_rows(stored_fidelity(artifact)),
        *(("runs on", _runs_on(variant)) for variant in manifest.variants),
        *(("engine", _engine_text(engine)) for engine in _engines(artifact)),
    ]
    print_table(rows)
    if manifest.provenance:
        click.echo()
        print_table(
            [
                ("came from", ""),
                *(
                    (key, board_text(value) if key == BOARD else _flat(value))
                    for key, value in manifest.provenance.items()
                ),
            ]
        )


def _recipe(recipe: Mapping[str, Any]) -> str:
    """In a line: of matrices that are stored in another way, how many."""
    rest = {key: value for key, value in recipe.items() if key != "tensors"}
    others = recipe.get("tensors")
    if not isinstance(others, Mapping):
        return _flat(recipe)
    kinds = Counter(
        f"{how.get('bits')} bits block {how.get('block')}"
        for how in others.values()
        if isinstance(how, Mapping)
    )
    told = ", ".join(f"{count} in {kind}" for kind, count in sorted(kinds.items()))
    return f"{_flat(rest)}; of the matrices {told}"


def _runs_on(variant: Variant) -> str:
    layout = f", weights in layout {variant.layout} {variant.layout_version}" if variant.layout else ""
    if variant.engine == "tensorrt":
        form = variant.dialect.removeprefix("portable-")
        return f"engine tensorrt, form {form}: TensorRT {variant.requires} or newer, or TensorRT for RTX"
    return f"engine {variant.engine}, with onnxruntime {variant.requires} or newer{layout}"


def _engines(artifact: Artifact) -> list[dict[str, Any]]:
    """What the headers of its engine files say; of one that is of no use, why."""
    if not any(is_engine(entry.path) for entry in artifact.manifest.files):
        return []
    from runtimes.tensorrt.header import survey
    from runtimes.tensorrt.plans import left_out

    whole, spoilt = survey(artifact)
    older = left_out([header for _, header in whole])
    found: dict[str, dict[str, Any]] = {
        name: {"path": name, "title": header.title, **asdict(header), "left_out": sms}
        for (name, header), sms in zip(whole, older, strict=True)
    }
    found |= {name: {"path": name, "error": str(why), "kind": type(why).__name__} for name, why in spoilt}
    return [found[name] for name in sorted(found)]


def _engine_text(engine: Mapping[str, Any]) -> str:
    if "error" in engine:
        return f"{'damaged' if engine['kind'] == 'EngineDamaged' else 'not of use'}: {engine['error']}"
    gpus, older = (" ".join(map(target_name, engine[of])) for of in ("sms", "left_out"))
    told = f", left out on {older} for newer engines" if older else ""
    return (
        f"for {gpus} with {engine['title']} on {engine['platform']}, form {engine['form']}, "
        f"{engine['capacity']} tokens{told}"
    )


def _print_parts(artifact: Artifact) -> None:
    parts = artifact.manifest.parts
    whole = max(1, sum(part.bytes for part in parts))
    rows = [("part", "parameters", "size", "share")]
    rows += [(p.name, count(p.parameters), size(p.bytes), f"{100 * p.bytes / whole:.0f}%") for p in parts]
    click.echo()
    print_table(rows, right=(1, 2, 3))


def _print_files(artifact: Artifact) -> None:
    rows = [("file", "size"), *((f.path, size(f.size)) for f in artifact.manifest.files)]
    click.echo()
    print_table(rows, right=(1,))


def _print_layers(artifact: Artifact) -> None:
    rows = [("layer", "KV", "type", "window", "per token")]
    for row in _layer_rows(artifact):
        window = f"{row['window']} tokens" if row["window"] else "all"
        rows.append((str(row["layer"]), row["kind"], row["type"], window, size(row["bytes_per_token"])))
    click.echo()
    print_table(rows, right=(0, 4))


def _layer_rows(artifact: Artifact) -> list[dict[str, Any]]:
    rows = [
        {
            "layer": layer,
            "kind": group.kind,
            "type": group.type,
            "window": group.window,
            "bytes_per_token": group.bytes_per_token // max(1, len(group.layers)),
        }
        for group in artifact.manifest.kv
        for layer in group.layers
    ]
    return sorted(rows, key=lambda row: int(str(row["layer"])))


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_flat(item)}" for key, item in value.items())
    if isinstance(value, list):
        return " ".join(map(_flat, value))
    return str(value)
