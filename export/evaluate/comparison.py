"""evaluate(): an artifact beside the checkpoint it was made from."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from edge.artifact import FIDELITY, Artifact, ModelSpec, open_artifact
from edge.errors import InvalidArgument, StorageError
from export.artifact_run import ArtifactRun
from export.checkpoint import Checkpoint, open_checkpoint
from export.evaluate.admission import admission
from export.evaluate.divergence import Divergence, log_softmax
from export.evaluate.layer_errors import LinearError, layer_errors
from export.evaluate.log_probabilities import CHUNK, log_probabilities
from export.evaluate.report import PAGE, FidelityReport
from export.evaluate.store import store_report
from export.evaluate.text import ANSWER, QUESTIONS, WINDOW, EvaluationText
from export.fit.matrices import Matrix, matrices
from export.folder import locked
from export.graph.checkpoint_weights import CheckpointWeights
from export.layerwise import Dequantized, Head, embedded, exact_layer
from export.progress import Counter, Progress
from export.quantize import Recipe
from export.stored_weights import StoredWeights, stored_recipe
from export.talk import question_ids
from runtimes import ENGINES

SAMPLES = 8
"""Windows of text that are compared, unless more or fewer are asked for."""

Windows = NDArray[np.int64]


def evaluate(
    artifact: str | Path,
    reference: str | Path,
    *,
    text: str | Path | None = None,
    samples: int = SAMPLES,
    engine: str = "auto",
    write: bool = True,
    progress: Progress | None = None,
) -> FidelityReport:
    """Compare an artifact, as it runs, with the full-precision model of a checkpoint.

    The reference is run a layer at a time, and logits are compared a few tokens at a time: memory is bounded by a
    layer, the LM head and the hidden states.

    Args:
        artifact: the artifact's folder.
        reference: the checkpoint it was made from: a folder, a hub id or a GGUF file.
        text: a UTF-8 text to compare on; ours is a part of Python's help, and what the model answers to questions.
        samples: windows of 512 tokens of it.
        engine: what runs the artifact, as `edge.load` takes it.
        write: put fidelity.json and fidelity.html into the artifact.
        progress: called with (stage, done, in all).

    Raises:
        InvalidArgument: the reference is another model; a text that cannot be read or is too short; no such engine.
        MemoryBudgetError: the artifact on that engine, and a layer of the reference, take more memory than there is.
        ContextExceeded: an engine for TensorRT was built for shorter sequences.
        ArtifactError, CheckpointError, EngineError, StorageError, MissingExtra
    """
    if samples < 1:
        raise InvalidArgument(f"samples is {samples}; give 1 or more")
    words = EvaluationText.read(text)
    tell = progress or (lambda stage, done, total: None)
    opened = open_artifact(artifact)
    with open_checkpoint(reference, progress=tell) as checkpoint:
        report = compare(opened, checkpoint, words, samples, tell, engine=engine)
    if write:
        with locked(opened.path) as ours:
            if not ours:
                raise StorageError(
                    f"{opened.path} is being changed by another process; evaluate it again afterwards"
                )
            store_report(opened, report)
    return report


def compare(
    artifact: Artifact,
    checkpoint: Checkpoint,
    words: EvaluationText,
    samples: int,
    progress: Progress,
    curve: list[tuple[int, float]] | None = None,
    engine: str = "auto",
) -> FidelityReport:
    """What `evaluate` reports of an open artifact and an open checkpoint."""
    check_same(artifact, checkpoint)
    spec, manifest = checkpoint.spec, artifact.manifest
    tokenizer = Tokenizer.from_str(checkpoint.text.tokenizer_json)
    windows = _windows(tokenizer, words, spec, samples)
    divergence = Divergence()
    by_position = np.zeros(windows.shape[1])
    exact = CheckpointWeights(checkpoint.tensors, Recipe(weights="fp32"), lambda nbytes: None)
    admit = admission(artifact, min(WINDOW, spec.context))
    with (
        ArtifactRun(artifact, WINDOW, engine, admit) as run,
        tempfile.TemporaryDirectory(prefix="edgewise-") as folder,
    ):
        groups = [windows]
        if words.ours:
            # Of unlike lengths, each answer is a group of its own.
            prompts = (question_ids(question, checkpoint.text, tokenizer) for question in QUESTIONS)
            stop = checkpoint.text.generation["eos_token_id"]
            groups += [
                np.array([run.continued(ids, ANSWER, stop)], np.int64)
                for ids in prompts
                if len(ids) + ANSWER <= spec.context
            ]
        step = Counter(progress, "reference", spec.layers)
        activation = artifact.variant(ENGINES[run.engine.name].variant).activation
        hidden, errors = _reference(artifact, spec, exact, groups, Path(folder), step, activation == "int8")
        head = Head(spec, exact)
        tell = Counter(progress, "compare", sum(group.size for group in groups))
        for group, states in zip(groups, hidden, strict=True):
            for window, state in zip(group.tolist(), states, strict=True):
                before = divergence.tokens
                for start, ours in zip(
                    range(0, len(window), CHUNK), log_probabilities(run.engine, window), strict=True
                ):
                    theirs = log_softmax(head.logits(state[start : start + CHUNK]))
                    divergence.add(theirs, ours, window[start + 1 : start + 1 + len(ours)])
                    tell.add(len(ours))
                if group is windows:
                    by_position += divergence.by_token[before:]
        ran, kv = run.engine, run.kv
    return FidelityReport(
        artifact=manifest.name,
        reference=checkpoint.origin,
        engine=ran.name,
        passed_over=ran.passed_over,
        kv=kv,
        text=words.to_json(),
        tokens=divergence.tokens,
        mean_kl=divergence.mean_kl,
        median_kl=divergence.median_kl,
        p99_kl=divergence.p99_kl,
        max_kl=divergence.max_kl,
        top1_agreement=divergence.top1,
        top5_agreement=divergence.top5,
        perplexity=divergence.perplexity,
        reference_perplexity=divergence.reference_perplexity,
        confidence=divergence.confidence(),
        bits_per_weight=manifest.bits_per_weight,
        file_bytes=sum(entry.size for entry in manifest.files if entry.path not in (FIDELITY, PAGE)),
        parts=[
            {
                "name": part.name,
                "parameters": part.parameters,
                "bytes": part.bytes,
                "bits_per_weight": 8 * part.bytes / max(1, part.parameters),
            }
            for part in manifest.parts
        ],
        tensors=errors,
        kl_by_position=(by_position / len(windows)).tolist(),
        size_curve=curve or [],
    )


def check_same(artifact: Artifact, checkpoint: Checkpoint) -> None:
    """Raises InvalidArgument where the artifact was not made from such a checkpoint, naming what differs."""
    ours, theirs = artifact.spec, checkpoint.spec
    for key in (
        "architecture",
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "layers",
        "heads",
        "kv_heads",
    ):
        mine, other = getattr(ours, key), getattr(theirs, key)
        if mine != other:
            raise InvalidArgument(
                f"{checkpoint.source} is another model than {artifact.path}: {key} is {other}, not {mine}; "
                "give the checkpoint that the artifact was made from"
            )
    tokenizer = artifact.file("tokenizer.json").read_text(encoding="utf-8")
    mine, other = (
        Tokenizer.from_str(text).get_vocab() for text in (tokenizer, checkpoint.text.tokenizer_json)
    )
    if mine != other:
        differ = sorted(key for key in {*mine, *other} if mine.get(key) != other.get(key))
        raise InvalidArgument(
            f"{checkpoint.source} has another vocabulary than {artifact.path}: {len(differ)} tokens differ, "
            f"{differ[0]!r:.40} among them; give the checkpoint that the artifact was made from"
        )


def _windows(tokenizer: Tokenizer, words: EvaluationText, spec: ModelSpec, samples: int) -> Windows:
    ids = np.array(tokenizer.encode(words.text, add_special_tokens=False).ids, np.int64)
    window = min(WINDOW, spec.context)
    if len(ids) < window:
        raise InvalidArgument(
            f"the text {words.name} has {len(ids)} tokens, less than one window of {window}; give a longer one"
        )
    count = min(samples, len(ids) // window)
    return ids[: count * window].reshape(count, window)


def _reference(
    artifact: Artifact,
    spec: ModelSpec,
    exact: CheckpointWeights,
    groups: list[Windows],
    folder: Path,
    step: Counter,
    coded: bool,
) -> tuple[list[NDArray[np.float32]], list[dict[str, Any]]]:
    """Hidden states behind the last layer for each group of sequences, and the errors of linear layers on the first.

    `coded`: what goes into a layer is rounded to 8 bits.
    """
    hidden = [embedded(exact, group) for group in groups]
    stored = _stored(artifact)
    errors: list[dict[str, Any]] = []
    for layer in range(spec.layers):
        if stored is None:
            hidden = exact_layer(spec, layer, exact, hidden, folder)
        else:
            weights, recipe = stored
            mine = [matrix for matrix in matrices(spec) if matrix.layer == layer]
            blocks = {matrix.name: recipe.of(matrix.tensors[0]).block for matrix in mine}
            hidden, found = layer_errors(
                spec, layer, exact, weights, hidden, blocks if coded else None, folder
            )
            errors += [_tensor(matrix, recipe, found[matrix.name]) for matrix in mine]
        step.add(1)
    return hidden, errors


def _tensor(matrix: Matrix, recipe: Recipe, error: LinearError) -> dict[str, Any]:
    precision = recipe.of(matrix.tensors[0])
    return {
        "name": matrix.name,
        "layer": matrix.layer,
        "bits": precision.bits,
        "block": precision.block,
        "error": error.weights,
        "activation_error": error.activations,
    }


def _stored(artifact: Artifact) -> tuple[Dequantized, Recipe] | None:
    """The artifact's weights as floats; None where they are not codes."""
    recipe = stored_recipe(artifact)
    if not recipe.bits:
        return None
    variant = artifact.manifest.variants[0]
    return Dequantized(StoredWeights(artifact, variant, recipe, lambda nbytes: None), recipe), recipe
