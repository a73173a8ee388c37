"""What tests of graphs in float16 share: an artifact, and what is expected of it.

float16 has 11 bits: what is rounded to it is off by up to 2^-11 of its size, some dozen times on the way to a logit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from edge.artifact import open_artifact
from export import convert, export
from export.quantize import Precision, RoundToNearest
from tests import models
from tests.checkpoints import tiny_folder
from tests.e2e.oracle import PROMPT, TOKENS, reference_logits, reference_model
from tests.e2e.test_oracle import CASES, write_checkpoint
from tests.e2e.test_quantized import RANGE, Case, float_activations
from tests.logits import Logits, engine_logits, opened

# Of the largest logit: the worst, and the mean.
WORST, TYPICAL = 3e-3, 3e-4
_TEXT = "Photosynthesis is the process by which green plants use sunlight to make food from water and air."


@dataclass(frozen=True)
class Exported:
    """An artifact, and what it should say."""

    artifact: Path
    transformers: Logits
    """On the weights that the codes stand for."""
    stock: Logits
    """Of the onnxruntime dialect with the same codes and float32 activations."""


def exported_case(case: Case, engine: str, folder: Path) -> Exported:
    tiny_folder(folder / "checkpoint", case.family, **{"initializer_range": RANGE, **case.options})
    export(
        folder / "checkpoint",
        folder / "m.edge",
        engine=engine,
        weights=case.weights,
        block=case.block,
        zero_points=case.zero_points,
        method="rtn",
        fidelity=False,
    )
    stock = stock_logits(folder / "m.edge", TOKENS, PROMPT)
    model = reference_model(folder / "checkpoint")
    precision = Precision(case.bits, case.block, case.zero_points, positive=engine == "tensorrt")
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                rows = parameter.numpy()
                found = RoundToNearest().quantize(precision.padded(rows), precision)
                parameter.copy_(torch.from_numpy(found.dequantize(case.bits)[:, : rows.shape[1]]))
    return Exported(folder / "m.edge", reference_logits(model, TOKENS, PROMPT), stock)


def stock_logits(artifact: Path, tokens: list[int], prompt: int) -> Logits:
    """Of the same codes on stock operators, with float32 activations."""
    stock = artifact.with_name("stock.edge")
    convert(artifact, stock, engine="onnxruntime")
    float_activations(stock)
    with opened(stock) as engine:
        return engine_logits(engine, tokens, prompt)


@dataclass(frozen=True)
class Configured:
    """A checkpoint with an option of its configuration, exported with float16 weights."""

    artifact: Path
    tokens: list[int]
    expected: Logits
    half: float
    """What transformers in float16 is off by in the mean."""


def configured(name: str, engine: str, folder: Path) -> Configured:
    case = CASES[name]
    options = {"initializer_range": RANGE, **case.options}
    write_checkpoint(folder / "checkpoint", replace(case, options=options, dtype="float16"))
    export(folder / "checkpoint", folder / "m.edge", engine=engine, weights="fp16", fidelity=False)
    model = reference_model(folder / "checkpoint", case.reference_rope)
    tokens = [token % model.config.vocab_size for token in TOKENS]
    expected = reference_logits(model, tokens, PROMPT)
    half = mean_error(reference_logits(model.half(), tokens, PROMPT), expected)
    return Configured(folder / "m.edge", tokens, expected, half)


def real_model(engine: str, folder: Path) -> tuple[Path, list[int], Logits]:
    """SmolLM2-135M, the tokens of a sentence, of which 4 come one by one, and what is expected of it."""
    export(models.smollm2(), folder / "m.edge", engine=engine, method="rtn", fidelity=False)
    tokens = Tokenizer.from_str(open_artifact(folder / "m.edge").tokenizer_json).encode(_TEXT).ids
    return folder / "m.edge", tokens, stock_logits(folder / "m.edge", tokens, len(tokens) - 4)


def mean_error(ours: Logits, theirs: Logits) -> float:
    return float(np.abs(ours - theirs).mean() / np.abs(theirs).max())
