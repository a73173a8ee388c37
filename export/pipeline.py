"""export(): a checkpoint becomes an artifact."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edge.artifact import open_artifact
from edge.artifact.kv import BOARD
from edge.artifact.pages import KV_NAMES
from edge.errors import CapacityError, EngineError, InvalidArgument, MemoryBudgetError, MissingExtra
from export.artifact_files import write_artifact
from export.calibration import CalibrationText
from export.checkpoint import Checkpoint, open_checkpoint
from export.cuda_variant import CUDA
from export.evaluate.comparison import compare
from export.evaluate.store import store_report
from export.evaluate.text import EvaluationText
from export.fit.stage import Weights, Wish, chosen_weights
from export.folder import artifact_folder
from export.portable_variant import TENSORRT
from export.progress import Progress
from export.quantize import AUTO, MIXED, Recipe
from export.usage import peak_rss_bytes
from export.variant import chosen_engine, chosen_kv
from runtimes.portable import PortableEngine

DEFAULT_METHOD = AUTO
DEFAULT_FIDELITY = True
SHORT = 2
"""Windows of text that an export is measured on."""
_LESS = (
    "; edge convert --engine cpu gives the same codes to kernels that edge evaluate measures in less memory"
)


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """What an export did. Sizes in bytes."""

    path: str
    source: str
    architecture: str
    parameters: int
    weights: str
    """What was asked for, or MIXED where matrices differ."""
    block: int | None
    """None too where they differ."""
    engine: str
    file_bytes: int
    bits_per_weight: float
    seconds: float
    peak_rss_bytes: int
    kv: str | None
    """What the graph keeps KV as, fp32, int8 or int4; None where that is said at load."""
    method: str | None
    """How codes were chosen; None where weights are floats."""
    kept: int
    """Matrices whose codes are the source's."""
    fidelity: dict[str, Any] | None
    """The figures of fidelity.json; None where they were not measured."""
    board: dict[str, Any] | None
    """What it was planned for, as the manifest's provenance has it."""
    note: str
    """Why they were not, where that was not the user's wish."""

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
    engine: str | None = None,
    kv: str | None = None,
    method: str | None = None,
    effort: str = "normal",
    bits: float | None = None,
    size: int | str | None = None,
    calibration: str | Path | None = None,
    keep: bool | None = None,
    force: bool = False,
    restart: bool = False,
    fidelity: bool | None = None,
    board: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> ExportReport:
    """Write the artifact `out` from a Hugging Face folder, a hub id or a GGUF file.

    Weights stream, for calibrated methods a layer at a time; for `kv` int8 and int4 the model is in memory while it is
    calibrated. `out` appears whole or not at all. What a calibrated method has done so far is kept beside `out`, in
    .OUT.work, until it is whole: the same call goes on there.

    Args:
        source: folder, `org/name[@revision]` or a `.gguf` file.
        out: the artifact's folder.
        weights: int4, int8, fp16 or fp32, for linear layers, embedding and LM head.
        block: weights that share a scale: 32, 64 or 128.
        zero_points: a zero point beside each scale.
        engine: what is to run it: cpu (int4 and int8 weights only, and the default for them), onnxruntime, or
            tensorrt (symmetric int4 and int8, or fp16), or cuda (int4, int8 or fp16), which is ONNX Runtime on a GPU.
        kv: what keys and values are kept as, where that is settled at export (engine onnxruntime): fp32, the default,
            int8 or int4, with a scale for each number of a head, fixed by how large they get on a text. Engine tensorrt
            has fp16, the default, and int8, that in the opset 21 form alone; engine cuda has fp16.
        method: how codes are chosen, one of METHODS, or auto, the default: by measured error, of several.
        effort: fast, normal or best: how much text is read and how many methods auto tries.
        bits: bits per weight, over all matrices, each of which then gets as many as it is worth; not with `weights`.
        size: bytes of the artifact (or a text such as 900MB) instead of `bits`.
        keep: take matrices over as they are that the source has as codes (GGUF's Q4_0, Q5_0 and Q8_0, GPTQ, AWQ,
            compressed-tensors), whatever `weights` says; the default is to do so where they are what `weights` asks for
            and method is auto, and always where a checkpoint was quantized by others.
        calibration: a UTF-8 text to choose codes and scales by, in place of our own.
        fidelity: compare the artifact with the checkpoint on a short text; the default is to do so.
        board: what the options were chosen for, with `kv`, which a load on the cpu engine takes unless told otherwise;
            kept in the manifest's provenance. `edge export --board` makes it, `edge.memory.choice` chooses.
        restart: begin anew where an export was interrupted.
        force: replace an artifact at `out`.
        progress: called with (stage, bytes done, bytes in all).

    Raises:
        InvalidArgument, CheckpointError, StorageError, MissingExtra
        EngineError: the model cannot be run on the calibration text.
    """
    started = time.perf_counter()
    recipe = Recipe(weights=weights, block=block, zero_points=zero_points, positive=engine == TENSORRT)
    chosen = chosen_engine(engine, recipe)
    kind = chosen_kv(kv, chosen)
    if board is not None and board.get("kv") not in KV_NAMES:
        raise InvalidArgument(f"board has kv {board.get('kv')!r}; give one of {', '.join(KV_NAMES)}")
    targeted = bits is not None or size is not None
    wish = Wish.checked(recipe, method or (AUTO if targeted else DEFAULT_METHOD), effort, bits, size, keep)
    coded = kind in ("int8", "int4")
    if calibration is not None and not (coded or wish.fitted):
        raise InvalidArgument(
            f"the calibration text {calibration} is of no use with method {wish.method} and KV in full precision; "
            "add --method auto or --kv int8, or leave it out"
        )
    text = CalibrationText.read(calibration)
    report = progress or (lambda stage, done, total: None)
    out = Path(out)
    name = Path(os.path.abspath(out)).name.removesuffix(".edge")
    with (
        artifact_folder(out, force=force) as folder,
        open_checkpoint(source, progress=report) as checkpoint,
        chosen_weights(out, checkpoint, wish, chosen, text, restart, report) as weights_,
    ):
        manifest, file_bytes = write_artifact(
            folder,
            name,
            checkpoint,
            weights_.recipe,
            weights_.source,
            chosen,
            kv=kind,
            loaded_kv=KV_NAMES[board["kv"]] if board else None,
            text=text if coded else None,
            provenance={**weights_.provenance, **({BOARD: board} if board else {})},
            progress=report,
        )
        found, note = None, ""
        if DEFAULT_FIDELITY if fidelity is None else fidelity:
            found, note = _measured(folder, checkpoint, weights_, chosen, report)
    return ExportReport(
        path=str(out),
        source=checkpoint.source,
        architecture=checkpoint.spec.architecture,
        parameters=checkpoint.spec.parameters,
        weights=MIXED if weights_.recipe.tensors else weights,
        block=block if recipe.bits and not weights_.recipe.tensors else None,
        engine=chosen,
        file_bytes=file_bytes,
        bits_per_weight=manifest.bits_per_weight,
        seconds=time.perf_counter() - started,
        peak_rss_bytes=peak_rss_bytes(),
        kv=next((name for name, of in KV_NAMES.items() if of == kind), None),
        method=wish.method if recipe.bits else None,
        kept=weights_.kept,
        fidelity=found,
        board=board,
        note=note,
    )


def _measured(
    folder: Path, checkpoint: Checkpoint, weights: Weights, engine: str, progress: Progress
) -> tuple[dict[str, Any] | None, str]:
    """Put a fidelity report into the artifact `folder`; its figures, or why there are none.

    What keeps it from being run here, such as an engine that is not installed, does not keep it from being made.
    """
    artifact = open_artifact(folder)
    if engine == CUDA:
        return None, (
            "fidelity was not measured: edge evaluate does so where a GPU is, and edge convert --engine cpu gives the "
            "same codes to CPUs"
        )
    # Its engines are built from the artifact, so there are none yet, whether there is a GPU or not.
    runs = PortableEngine.name if engine == TENSORRT else "auto"
    try:
        report = compare(
            artifact, checkpoint, EvaluationText.read(None), SHORT, progress, weights.curve, engine=runs
        )
    except (EngineError, MissingExtra, InvalidArgument, CapacityError) as e:
        codes = engine == TENSORRT and weights.recipe.bits
        return (
            None,
            f"fidelity was not measured: {e}{_LESS if codes and isinstance(e, MemoryBudgetError) else ''}",
        )
    store_report(artifact, report)
    long = ("kl_by_position", "tensors", "parts", "size_curve")
    return {key: value for key, value in report.to_json().items() if key not in long}, ""
