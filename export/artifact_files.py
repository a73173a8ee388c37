"""The files of an artifact, from a checkpoint's text and weights that were chosen."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from edge.artifact import Manifest
from edge.errors import CheckpointCorrupt
from edge.version import VERSION
from export.calibration import KV_CALIBRATION, CalibrationText, largest_kv
from export.checkpoint import Checkpoint
from export.folder import write_text
from export.graph.weight_source import WeightSource
from export.manifest import write_manifest
from export.progress import Progress
from export.quantize import Recipe
from export.variant import write_variant


def write_artifact(
    folder: Path,
    name: str,
    checkpoint: Checkpoint,
    recipe: Recipe,
    weights: WeightSource,
    engine: str,
    *,
    kv: str | None = None,
    loaded_kv: str | None = None,
    text: CalibrationText | None = None,
    provenance: Mapping[str, Any] | None = None,
    progress: Progress = lambda stage, done, total: None,
) -> tuple[Manifest, int]:
    """Fill `folder`; its manifest, and the bytes of all its files. KV is codes if there is a text to calibrate on.

    `kv` is what the graph keeps KV as, `loaded_kv` what a load is to take where the graph leaves that open.

    Raises:
        CheckpointCorrupt: generation_config.json holds what JSON does not.
        Unsupported, TensorError, StorageError, EngineFailed
    """
    write_text(folder / "tokenizer.json", checkpoint.text.tokenizer_json)
    if checkpoint.text.chat_template is not None:
        write_text(folder / "chat_template.jinja", checkpoint.text.chat_template)
    write_text(folder / "generation.json", _strict_json(checkpoint.text.generation))

    told: dict[str, Any] = {
        "source": checkpoint.origin,
        "edgewise": VERSION,
        **checkpoint.provenance,
        **(provenance or {}),
    }
    calibrate = None
    if text is not None:
        ids = text.tokens(checkpoint.text.tokenizer_json, checkpoint.spec.context)
        told[KV_CALIBRATION] = text.provenance(len(ids))
        calibrate = partial(largest_kv, spec=checkpoint.spec, ids=ids, progress=progress)
    parts, variants = write_variant(
        folder, engine, checkpoint.spec, recipe, weights, calibrate, kv or "float32"
    )
    return write_manifest(
        folder,
        progress,
        name=name,
        spec=checkpoint.spec,
        recipe=recipe.to_json(),
        parts=parts,
        variants=variants,
        provenance=told,
        kv=kv or loaded_kv,
    )


def _strict_json(generation: dict[str, Any]) -> str:
    try:
        return json.dumps(generation, indent=1, allow_nan=False) + "\n"
    except ValueError:
        raise CheckpointCorrupt(
            "generation_config.json holds NaN or an infinite number; correct it, or remove the key"
        ) from None
