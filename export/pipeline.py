"""export(): a checkpoint becomes an artifact."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edge.artifact import MANIFEST, KvGroup, Manifest, ModelSpec, Variant
from edge.errors import CheckpointCorrupt
from edge.version import VERSION
from export.architecture.decoder import describe
from export.checkpoint import Checkpoint, open_checkpoint
from export.folder import artifact_folder, list_files, write_text
from export.graph.onnxruntime_dialect import OnnxRuntimeDialect
from export.graph.weight_store import WeightStore
from export.graph.weights_file import WeightsFile, writing
from export.quantize import Recipe

Progress = Callable[[str, int, int], None]

_ENGINE = "onnxruntime"
_KV_TYPE, _KV_BYTES = "float32", 4


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """What an export did. Sizes in bytes."""

    path: str
    source: str
    architecture: str
    parameters: int
    weights: str
    block: int | None
    file_bytes: int
    bits_per_weight: float
    seconds: float
    peak_rss_bytes: int

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON object."""
        return asdict(self)


def export(
    source: str | Path,
    out: str | Path,
    *,
    weights: str = "int4",
    block: int = 32,
    zero_points: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> ExportReport:
    """Write the artifact `out` from a Hugging Face folder, a hub id or a GGUF file.

    Weights stream: memory is bounded by the largest tensor. `out` appears whole or not at all.

    Args:
        source: folder, `org/name[@revision]` or a `.gguf` file.
        out: the artifact's folder.
        weights: int4, int8, fp16 or fp32, for linear layers, embedding and LM head.
        block: weights that share a scale: 32, 64 or 128.
        zero_points: a zero point beside each scale.
        force: replace an artifact at `out`.
        progress: called with (stage, bytes done, bytes in all).

    Raises:
        InvalidArgument, CheckpointError, StorageError, MissingExtra
    """
    started = time.perf_counter()
    recipe = Recipe(weights=weights, block=block, zero_points=zero_points)
    report = progress or (lambda stage, done, total: None)
    out = Path(out)
    name = Path(os.path.abspath(out)).name.removesuffix(".edge")
    with artifact_folder(out, force=force) as folder, open_checkpoint(source, progress=report) as checkpoint:
        manifest, file_bytes = _write(folder, name, checkpoint, recipe, report)
    return ExportReport(
        path=str(out),
        source=checkpoint.source,
        architecture=checkpoint.spec.architecture,
        parameters=checkpoint.spec.parameters,
        weights=weights,
        block=block if recipe.bits else None,
        file_bytes=file_bytes,
        bits_per_weight=manifest.bits_per_weight,
        seconds=time.perf_counter() - started,
        peak_rss_bytes=_peak_rss_bytes(),
    )


def _write(
    folder: Path, name: str, checkpoint: Checkpoint, recipe: Recipe, progress: Progress
) -> tuple[Manifest, int]:
    """Fill `folder`; its manifest, and the bytes of all its files."""
    spec = checkpoint.spec
    write_text(folder / "tokenizer.json", checkpoint.text.tokenizer_json)
    if checkpoint.text.chat_template is not None:
        write_text(folder / "chat_template.jinja", checkpoint.text.chat_template)
    write_text(folder / "generation.json", _strict_json(checkpoint.text.generation))

    total = sum(tensor.nbytes for tensor in checkpoint.tensors.values())
    tell = _Counter(progress, recipe.weights, total)
    engine_folder = folder / _ENGINE
    with writing(engine_folder):
        engine_folder.mkdir()
    with WeightsFile(engine_folder / "weights.bin") as file:
        store = WeightStore(checkpoint.tensors, recipe, file, tell.add)
        dialect = OnnxRuntimeDialect(spec, store)
        describe(spec, dialect)
        graph = dialect.model()
    graph_path = engine_folder / "model.onnx"
    with writing(graph_path):
        graph_path.write_bytes(graph.SerializeToString())

    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    files = list_files(folder, _Counter(progress, "checksums", size).add)
    manifest = Manifest(
        name=name,
        spec=spec,
        recipe=recipe.to_json(),
        parts=store.parts,
        kv=_kv_groups(spec),
        variants=(
            Variant(
                engine=_ENGINE,
                dialect=_ENGINE,
                activation="int8" if recipe.bits else "float32",
                requires=dialect.requires,
                model=f"{_ENGINE}/model.onnx",
                files=tuple(entry.path for entry in files if entry.path.startswith(f"{_ENGINE}/")),
            ),
        ),
        provenance={"source": _origin(checkpoint.source), "edgewise": VERSION, **checkpoint.provenance},
        files=files,
    )
    return manifest, size + write_text(folder / MANIFEST, manifest.dumps())


def _origin(source: str) -> str:
    """A hub id whole, of a path the last part: the folders of this machine are nobody else's business."""
    return os.path.basename(os.path.abspath(source)) if os.path.exists(source) else source


def _strict_json(generation: dict[str, Any]) -> str:
    try:
        return json.dumps(generation, indent=1, allow_nan=False) + "\n"
    except ValueError:
        raise CheckpointCorrupt(
            "generation_config.json holds NaN or an infinite number; correct it, or remove the key"
        ) from None


def _kv_groups(spec: ModelSpec) -> tuple[KvGroup, ...]:
    """Layers by their window, full attention first."""
    by_window: dict[int, list[int]] = {}
    for layer in range(spec.layers):
        by_window.setdefault(spec.window(layer), []).append(layer)
    token = 2 * spec.kv_heads * spec.head_dim * _KV_BYTES
    return tuple(
        KvGroup(
            kind="window" if window else "full",
            layers=tuple(layers),
            type=_KV_TYPE,
            window=window,
            bytes_per_token=token * len(layers),
        )
        for window, layers in sorted(by_window.items())
    )


def _peak_rss_bytes() -> int:
    # Not ru_maxrss: that survives exec, so a child of a large process would report its parent.
    match = re.search(r"^VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(match[1]) * 1024 if match else 0


class _Counter:
    """Turns bytes since the last call into bytes done, never more than there are."""

    def __init__(self, progress: Progress, stage: str, total: int) -> None:
        self._progress, self._stage, self._total, self._done = progress, stage, total, 0
        progress(stage, 0, total)

    def add(self, nbytes: int) -> None:
        self._done = min(self._total, self._done + nbytes)
        self._progress(self._stage, self._done, self._total)
