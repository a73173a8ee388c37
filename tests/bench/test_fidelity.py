"""Fidelity: the arithmetic of KL and perplexity, and one comparison of small artifacts."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import edge
from bench.fidelity import CHUNK, main
from export import export
from export.evaluate.divergence import Divergence, log_softmax
from export.evaluate.text import HELD_OUT, held_out_text
from export.fit.text import help_text

finite = st.floats(-1e4, 1e4, width=32)


def compared(reference: list[list[float]], model: list[list[float]], successors: list[int]) -> Divergence:
    divergence = Divergence()
    both = [log_softmax(np.array(logits, np.float32)) for logits in (reference, model)]
    divergence.add(*both, successors)
    return divergence


def test_against_numbers_worked_out_by_hand() -> None:
    half, quarter = math.log(0.5), math.log(0.25)
    even = [quarter, quarter, quarter, quarter]
    skewed = [half, quarter, math.log(0.125), math.log(0.125)]
    found = compared([skewed, even], [even, skewed], [0, 3])
    # KL(skewed || even) = .5 ln 2 + .25 ln 1 + .25 ln .5 and KL(even || skewed) = .25 (ln .5 + 0 + 2 ln 2).
    one, two = 0.5 * math.log(2) - 0.25 * math.log(2), 0.25 * math.log(2)
    assert found.tokens == 2
    assert found.mean_kl == pytest.approx((one + two) / 2, rel=1e-6)
    assert found.top1 == 1.0
    assert found.reference_perplexity == pytest.approx(math.sqrt(2 * 4), rel=1e-6)
    assert found.perplexity == pytest.approx(math.sqrt(4 * 8), rel=1e-6)


def test_direction_is_from_the_reference() -> None:
    sure, unsure = [5.0, 0.0], [0.0, 0.0]
    p = 1 / (1 + math.exp(-5))
    there = p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p))
    back = -0.5 * math.log(2 * p) - 0.5 * math.log(2 * (1 - p))
    assert compared([sure], [unsure], [0]).mean_kl == pytest.approx(there, rel=1e-6)
    assert compared([unsure], [sure], [0]).mean_kl == pytest.approx(back, rel=1e-6)


@given(arrays(np.float32, (3, 7), elements=finite))
def test_equal_logits_do_not_diverge(logits: np.ndarray) -> None:
    found = Divergence()
    found.add(log_softmax(logits), log_softmax(logits), [0, 1])
    assert (found.mean_kl, found.p99_kl, found.top1) == (0.0, 0.0, 1.0)
    assert found.perplexity == found.reference_perplexity


@given(arrays(np.float32, (2, 3, 7), elements=finite))
def test_never_negative(logits: np.ndarray) -> None:
    found = Divergence()
    found.add(log_softmax(logits[0]), log_softmax(logits[1]), [0, 1, 2])
    assert found.mean_kl >= -1e-9


@given(arrays(np.float32, (2, 5), elements=finite), st.floats(-1e4, 1e4))
def test_probabilities_sum_to_one_and_ignore_a_shift(logits: np.ndarray, shift: float) -> None:
    found = log_softmax(logits)
    assert found.dtype == np.float64
    assert np.exp(found).sum(axis=-1) == pytest.approx(1.0)
    assert log_softmax(logits.astype(np.float64) + shift) == pytest.approx(found, abs=1e-8)


def test_huge_logits_do_not_overflow() -> None:
    huge = float(np.finfo(np.float32).max)
    found = compared([[huge, -huge, 0.0]], [[huge, 0.0, -huge]], [0])
    assert (found.mean_kl, found.perplexity) == (0.0, 1.0)


def test_a_token_that_the_reference_rules_out_counts_nothing() -> None:
    found = compared([[0.0, 0.0, -math.inf]], [[0.0, 0.0, -math.inf]], [0])
    assert found.mean_kl == 0.0


def test_chunks_add_up() -> None:
    rng = np.random.default_rng(0)
    reference, model = (log_softmax(rng.normal(size=(10, 6)).astype(np.float32)) for _ in range(2))
    whole, parts = Divergence(), Divergence()
    whole.add(reference, model, [1] * 9)
    for start in (0, 4, 8):
        rows = slice(start, min(start + 4, 10))
        parts.add(reference[rows], model[rows], [1] * (min(start + 4, 9) - start))
    for name in ("tokens", "mean_kl", "p99_kl", "top1", "perplexity", "reference_perplexity"):
        assert getattr(parts, name) == pytest.approx(getattr(whole, name)), name


def test_text_is_held_out() -> None:
    whole, held = help_text(), held_out_text()
    assert whole.endswith(held)
    assert len(whole) - len(held) >= HELD_OUT
    assert len(held) > 50_000


def test_artifacts(tiny_checkpoint: Path, tiny_artifact: Path, tmp_path: Path) -> None:
    exact = tmp_path / "exact.edge"
    export(tiny_checkpoint, exact, weights="fp32")
    tokens = 2 * CHUNK + 3
    arguments = [str(exact), str(exact), str(tiny_artifact), "--tokens", str(tokens), "--threads", "1"]
    ended = CliRunner().invoke(main, [*arguments, "--json"], catch_exceptions=False)
    report = json.loads(ended.stdout)
    assert report["tokens"] == tokens
    same, quantized = report["artifacts"]
    assert (same["mean_kl"], same["p99_kl"], same["top1_agreement"]) == (0.0, 0.0, 1.0)
    assert same["perplexity"] == report["reference"]["perplexity"]
    assert 0 < quantized["mean_kl"] < quantized["p99_kl"] < 1
    assert quantized["bits_per_weight"] < same["bits_per_weight"] == 32

    with edge.load(exact, threads=1) as model:
        ids = model.encode(held_out_text())[:tokens]
        probabilities = log_softmax(model.logits(ids))
    by_hand = math.exp(-sum(probabilities[at, id] for at, id in enumerate(ids[1:])) / (tokens - 1))
    assert same["perplexity"] == pytest.approx(by_hand, rel=1e-3)

    table = CliRunner().invoke(main, arguments, catch_exceptions=False).stdout.splitlines()
    assert [line.split()[0] for line in table[:4]] == ["artifact", "exact.edge", "exact.edge", "tiny.edge"]
    assert f"{quantized['mean_kl']:.5f}" in table[3]


def test_missing_artifact(tiny_artifact: Path, tmp_path: Path) -> None:
    ended = CliRunner().invoke(main, [str(tiny_artifact), str(tmp_path / "none.edge")])
    assert ended.exit_code == 1
    assert "none.edge" in ended.output


def test_another_vocabulary_is_refused(tiny_artifact: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.edge"
    shutil.copytree(tiny_artifact, other)
    tokenizer = other / "tokenizer.json"
    swapped = {"a": "b", "b": "a"}
    text = re.sub(r'"([ab])"(: *\d+)', lambda m: f'"{swapped[m[1]]}"{m[2]}', tokenizer.read_text())
    assert text != tokenizer.read_text()
    tokenizer.write_text(text)
    ended = CliRunner().invoke(main, [str(tiny_artifact), str(other), "--tokens", "40"])
    assert ended.exit_code == 1
    assert "another vocabulary" in ended.output


@pytest.mark.parametrize("tokens", ["1", "100000000"])
def test_tokens_out_of_range(tiny_artifact: Path, tokens: str) -> None:
    ended = CliRunner().invoke(main, [str(tiny_artifact), str(tiny_artifact), "--tokens", tokens])
    assert ended.exit_code == 1
    assert "--tokens" in ended.output
