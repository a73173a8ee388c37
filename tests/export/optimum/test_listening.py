"""The script for Whisper in docs/optimum.md: features beside those of transformers, the loop on made-up graphs."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from transformers import WhisperFeatureExtractor

from tests.export.optimum.listening import functions
from tests.export.optimum.made import Array


@pytest.mark.parametrize("bands", [16, 80, 128])
@pytest.mark.parametrize("samples", [1, 50_001, 500_000])
def test_features_are_those_of_transformers(bands: int, samples: int) -> None:
    rng = np.random.default_rng(samples)
    sound = (rng.standard_normal(samples) * np.linspace(0, 0.3, samples)).astype(np.float32)
    extractor = WhisperFeatureExtractor(feature_size=bands)
    wanted = extractor(sound, sampling_rate=16000, return_tensors="np").input_features
    found = functions()["log_mel"](sound, bands)
    assert (found.dtype, found.shape) == (np.float32, (1, bands, 3000))
    np.testing.assert_allclose(found, wanted, atol=1e-5)


class Counting:
    """Graphs of which the next token is the last one and 1; the past is what was given before."""

    def __init__(self, **rules: Any) -> None:
        self.artifact, self.runs = self, list[tuple[str, list[int], int]]()
        texts = {"config.json": {"num_mel_bins": 4, "eos_token_id": 9}, "generation_config.json": rules}
        self.text = lambda name: json.dumps(texts[name])

    def run(self, feeds: dict[str, Any], graph: str) -> dict[str, Array]:
        if graph == "encoder_model":
            return {"last_hidden_state": feeds["input_features"][:, 0]}
        (ids,) = feeds["input_ids"]
        past = feeds.get("past_key_values.0.decoder.key", np.zeros(0))
        if graph == "decoder_model":
            assert feeds["encoder_hidden_states"].shape == (1, 3000)
        else:
            assert feeds["past_key_values.0.encoder.key"].tolist() == [7]
        self.runs.append((graph, list(ids), len(past)))
        logits = np.zeros((1, len(ids), 10), np.float32)
        logits[0, -1, [(ids[-1] + 1) % 10, (ids[-1] + 2) % 10]] = 2, 1
        made = {"logits": logits, "present.0.decoder.key": np.concatenate([past, ids])}
        return made | ({"present.0.encoder.key": np.array([7])} if graph == "decoder_model" else {})


def test_tokens_follow_until_the_end() -> None:
    graphs = Counting()
    assert functions()["transcribe"](graphs, np.zeros(9, np.float32), [4, 6]) == [7, 8, 9]
    assert graphs.runs == [
        ("decoder_model", [4, 6], 0),
        ("decoder_with_past_model", [7], 2),
        ("decoder_with_past_model", [8], 3),
    ]


def test_tokens_that_are_not_to_be_said() -> None:
    graphs = Counting(suppress_tokens=[3], begin_suppress_tokens=[5])
    assert functions()["transcribe"](graphs, np.zeros(9, np.float32), [4], most=3) == [6, 7, 8]
    assert functions()["transcribe"](graphs, np.zeros(9, np.float32), [1], most=4) == [2, 4, 5, 6]
