"""Turns of talk to calibrate on: questions, and what the model that is being exported answers.

The answers come from the model in 8 bits, rounded to nearest: near enough, and quick to make.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from edge.artifact import open_artifact
from export.artifact_files import write_artifact
from export.artifact_run import ArtifactRun
from export.checkpoint import Checkpoint
from export.fit.text import WINDOW
from export.graph.checkpoint_weights import CheckpointWeights
from export.progress import Counter, Progress
from export.quantize import Recipe
from export.talk import question_ids
from export.variant import ONNXRUNTIME

QUESTIONS = (
    "Explain to a child why the sky is blue.",
    "Write a short program in Python that counts the words of a text file.",
    "I have three apples, buy two bags of four, and give five away. How many are left? Think step by step.",
    "Give me five tips for a first visit to a foreign city, as a list.",
    "Übersetze ins Deutsche und erkläre kurz: to let sleeping dogs lie.",
    "What are the advantages and the drawbacks of electric cars?",
    "Write a polite mail that asks to move a meeting from Monday to Wednesday.",
    "Summarize what a hash table is and when it is slow.",
)
"""Not those of an evaluation."""
_ANSWER = 120


def own_windows(checkpoint: Checkpoint, count: int, folder: Path, progress: Progress) -> NDArray[np.int64]:
    """At most `count` windows of talk int64 [n, WINDOW], made with an artifact that is below `folder` meanwhile.

    Raises:
        StorageError, EngineFailed, MissingExtra, CheckpointError
    """
    spec, text = checkpoint.spec, checkpoint.text
    tokenizer = Tokenizer.from_str(text.tokenizer_json)
    wanted = count * min(WINDOW, spec.context)
    tell = Counter(progress, "talk", wanted)
    place = folder / "talk.edge"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    try:
        recipe = Recipe(weights="int8")
        source = CheckpointWeights(checkpoint.tensors, recipe, lambda nbytes: None)
        write_artifact(place, "talk", checkpoint, recipe, source, ONNXRUNTIME)
        ids: list[int] = []
        with ArtifactRun(open_artifact(place), WINDOW) as run:
            for question in QUESTIONS:
                asked = question_ids(question, text, tokenizer)
                if len(asked) + _ANSWER > spec.context:
                    continue
                ids += run.continued(asked, _ANSWER, text.generation["eos_token_id"])
                tell.add(len(ids))
                if len(ids) >= wanted:
                    break
    finally:
        shutil.rmtree(place, ignore_errors=True)
    window = min(WINDOW, spec.context)
    whole = min(count, len(ids) // window)
    return np.array(ids[: whole * window], np.int64).reshape(whole, window)
