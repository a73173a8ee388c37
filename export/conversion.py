"""convert(): an artifact for one engine becomes the same artifact for another, without the checkpoint."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edge.artifact import FIDELITY, Artifact, Manifest, Variant, open_artifact
from edge.errors import ArtifactTooNew, ArtifactTooOld, EngineError, InvalidArgument
from export.calibration import KV_CALIBRATION
from export.evaluate.report import PAGE
from export.folder import artifact_folder
from export.graph.panels import LAYOUT, VERSION
from export.graph.weight_source import WeightSource
from export.graph.weights_file import writing
from export.manifest import write_manifest
from export.progress import Counter, Progress
from export.quantize import MIXED, Recipe
from export.stored_weights import StoredWeights, stored_recipe
from export.usage import peak_rss_bytes
from export.variant import ENGINES, chosen_engine, write_variant
from export.widened import WidenedWeights, widened


@dataclass(frozen=True, kw_only=True)
class ConvertReport:
    """What a conversion did. Sizes in bytes."""

    path: str
    source: str
    source_engine: str
    engine: str
    weights: str
    block: int | None
    rounded_scales: int
    """Scales that were no float16, as artifacts of format 1 have them."""
    largest_scale_change: float
    """Of those, relative to the scale."""
    widened: int
    """Matrices whose codes have more bits now, since the engine has no operators for so few."""
    file_bytes: int
    bits_per_weight: float
    seconds: float
    peak_rss_bytes: int

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON object."""
        return asdict(self)


def convert(
    artifact: str | Path,
    out: str | Path,
    *,
    engine: str,
    force: bool = False,
    progress: Progress | None = None,
) -> ConvertReport:
    """Write the artifact `out` for `engine` from an artifact for another one.

    Codes, zero points and scales of weights stay what they are, except that scales become positive for tensorrt
    (see `PositiveScales`), and norms and biases float16 there and for cuda; KV is kept as the engine's default has it,
    since it is calibrated with the checkpoint at hand. `out` appears whole or not at all.

    Args:
        artifact: the folder to convert.
        out: the new artifact's folder; with `force` it may be the same one.
        engine: cpu, onnxruntime, tensorrt or cuda.
        force: replace an artifact at `out`.
        progress: called with (stage, bytes done, bytes in all).

    Raises:
        InvalidArgument, ArtifactError, EngineError, StorageError
    """
    started = time.perf_counter()
    report = progress or (lambda stage, done, total: None)
    source, out = open_artifact(artifact), Path(out)
    recipe = stored_recipe(source)
    # Asked first, so that the advice is right where there is only one engine for such weights.
    wide = widened(recipe, engine) if engine in ENGINES else recipe
    engine = chosen_engine(engine, wide)
    variant = _other_variant(source, engine)
    with artifact_folder(out, force=force) as folder:
        # Engines are not taken over.
        read = {entry.path: entry.size for entry in source.entries if not source.optional(entry.path)}
        source.verify(Counter(report, "verify", sum(read.values())).add, read)
        size = source.file(variant.model).stat().st_size
        total = sum(source.file(name).stat().st_size for name in variant.files) - size
        weights = StoredWeights(source, variant, recipe, Counter(report, "convert", total).add)
        name = Path(os.path.abspath(out)).name.removesuffix(".edge")
        manifest, file_bytes = _write(
            folder, name, source, WidenedWeights(weights, recipe, wide), wide, engine, report
        )
    return ConvertReport(
        path=str(out),
        source=str(artifact),
        source_engine=variant.engine,
        engine=engine,
        weights=MIXED if recipe.tensors else recipe.weights,
        block=recipe.block if recipe.bits and not recipe.tensors else None,
        rounded_scales=weights.rounded_scales,
        largest_scale_change=weights.largest_change,
        widened=sum(wide.of(name) != precision for name, precision in recipe.tensors.items()),
        file_bytes=file_bytes,
        bits_per_weight=manifest.bits_per_weight,
        seconds=time.perf_counter() - started,
        peak_rss_bytes=peak_rss_bytes(),
    )


def _write(
    folder: Path,
    name: str,
    source: Artifact,
    weights: WeightSource,
    recipe: Recipe,
    engine: str,
    progress: Progress,
) -> tuple[Manifest, int]:
    """Fill `folder`; its manifest, and the bytes of all its files."""
    manifest = source.manifest
    of_variants = {name for variant in manifest.variants for name in (variant.model, *variant.files)}
    for entry in manifest.files:
        # A report is of the artifact it was measured on, and engines are of its graphs.
        if entry.path not in (*of_variants, FIDELITY, PAGE) and not source.optional(entry.path):
            with writing(folder / entry.path):
                (folder / entry.path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source.file(entry.path), folder / entry.path)
    parts, variants = write_variant(folder, engine, source.spec, recipe, weights)
    return write_manifest(
        folder,
        progress,
        name=name,
        spec=source.spec,
        recipe=recipe.to_json(),
        parts=parts,
        variants=variants,
        provenance={key: value for key, value in manifest.provenance.items() if key != KV_CALIBRATION},
    )


def _other_variant(artifact: Artifact, engine: str) -> Variant:
    """The variant to convert.

    Raises:
        InvalidArgument: there is one for `engine` already.
        ArtifactTooNew, ArtifactTooOld: its layout is one of another version.
        EngineError: there is none that this version knows.
    """
    variants = {variant.engine: variant for variant in artifact.manifest.variants}
    have = ", ".join(variants) or "none"
    if engine in variants:
        other = next(name for name in ENGINES if name != engine)
        raise InvalidArgument(
            f"{artifact.path} is for engine {engine} already; choose --engine {other}, or copy it"
        )
    found = next((variants[name] for name in ENGINES if name in variants), None)
    if found is None:
        raise EngineError(
            f"{artifact.path} has no variant for any of {', '.join(ENGINES)} (it has: {have}); "
            "export it again from the checkpoint"
        )
    if found.layout == LAYOUT and found.layout_version < VERSION:
        raise ArtifactTooOld(
            f"{artifact.path}: layout {LAYOUT}, version {found.layout_version}, of the weights for {found.engine} "
            "is no longer read; export it again from the checkpoint"
        )
    if (found.layout, found.layout_version) not in (("", 0), (LAYOUT, VERSION)):
        raise ArtifactTooNew(
            f"{artifact.path}: layout {found.layout!r}, version {found.layout_version}, of the weights for "
            f"{found.engine} is not known here; upgrade with pip install --upgrade edgewise"
        )
    return found
