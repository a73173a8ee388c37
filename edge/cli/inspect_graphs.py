"""`edge inspect` of an artifact of graphs that are no decoder of ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from edge.artifact import MANIFEST, GraphArtifact, GraphTensor
from edge.cli.export_optimum import error_rows
from edge.cli.output import count, print_table, size


def graphs_report(artifact: GraphArtifact) -> dict[str, Any]:
    """What `edge inspect --json` prints; sizes in bytes."""
    manifest = artifact.manifest
    return {
        "name": manifest.name,
        "kind": manifest.kind,
        "format": manifest.format,
        "architecture": manifest.architecture,
        "task": manifest.task,
        "parameters": manifest.parameters,
        "bits_per_weight": manifest.bits_per_weight,
        "file_bytes": _file_bytes(artifact),
        "recipe": manifest.recipe,
        "requires": manifest.requires,
        "graphs": [
            {
                "name": graph.name,
                "model": graph.model,
                "inputs": [_tensor(tensor) for tensor in graph.inputs],
                "outputs": [_tensor(tensor) for tensor in graph.outputs],
            }
            for graph in manifest.graphs
        ],
        "files": [{"path": entry.path, "size": entry.size} for entry in manifest.files],
        "provenance": manifest.provenance,
    }


def print_graphs(artifact: GraphArtifact) -> None:
    """Tables of the same."""
    manifest = artifact.manifest
    provenance = {key: value for key, value in manifest.provenance.items() if key != "errors"}
    print_table(
        [
            ("name", manifest.name),
            ("holds", f"{len(manifest.graphs)} graphs, run with edge.load(...).run(feeds, graph)"),
            ("architecture", manifest.architecture),
            ("task", manifest.task),
            ("parameters", count(manifest.parameters)),
            ("bits per weight", f"{manifest.bits_per_weight:.2f}"),
            ("size", size(_file_bytes(artifact))),
            ("recipe", _flat(manifest.recipe)),
            ("runs on", f"onnxruntime {manifest.requires} or newer"),
            *((f"came from: {key}", _flat(value)) for key, value in provenance.items()),
        ]
    )
    rows: list[tuple[str, ...]] = [("graph", "", "tensor", "type", "shape")]
    for graph in manifest.graphs:
        for way, tensors in (("takes", graph.inputs), ("gives", graph.outputs)):
            rows += [
                (graph.name, way, tensor.name, tensor.type, ", ".join(map(str, tensor.shape)))
                for tensor in tensors
            ]
    click.echo()
    print_table(rows)
    try:
        errors = error_rows(manifest.provenance["errors"])
    except (KeyError, TypeError, ValueError, AttributeError):
        errors = []
    if len(errors) > 1:
        click.echo("\nDistance from torch, relative to the size of the output:")
        print_table(errors, right=(2, 3))
    click.echo()
    print_table([("file", "size"), *((f.path, size(f.size)) for f in manifest.files)], right=(1,))


def _file_bytes(artifact: GraphArtifact) -> int:
    return sum(entry.size for entry in artifact.entries) + (artifact.path / MANIFEST).stat().st_size


def _tensor(tensor: GraphTensor) -> dict[str, Any]:
    return {"name": tensor.name, "type": tensor.type, "shape": list(tensor.shape)}


def _flat(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_flat(item)}" for key, item in value.items())
    return str(value)
