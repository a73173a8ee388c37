"""With the real optimum, where there is one: tiny models with random weights through `edge export --via optimum`.

EDGEWISE_OPTIMUM names the Python that has it; docs/optimum.md says how to make one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import edge
from edge.errors import CheckpointNotFound, Unsupported
from export.optimum.pipeline import export_graphs
from export.optimum.run import PYTHON
from tests.export.optimum.listening import functions

OPTIMUM = os.environ.get(PYTHON) or sys.executable
MADE = """
import json, sys, numpy as np, torch
from transformers import (BertConfig, BertModel, FNetConfig, FNetModel, WhisperConfig, WhisperFeatureExtractor,
                          WhisperForConditionalGeneration)
torch.manual_seed(0)
kind, out = sys.argv[1:]
if kind in ("whisper", "speaker"):
    model = WhisperForConditionalGeneration(WhisperConfig(
        vocab_size=300, d_model=64, encoder_layers=1, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=128, decoder_ffn_dim=128, num_mel_bins=16,
        max_source_positions=1500, max_target_positions=64, pad_token_id=1, bos_token_id=2, eos_token_id=3,
        decoder_start_token_id=4, begin_suppress_tokens=None, suppress_tokens=None,
        # Of weights as small as usual all tokens are one.
        init_std=0.2 if kind == "speaker" else 0.02)).eval()
elif kind == "fnet":
    model = FNetModel(FNetConfig(vocab_size=100, hidden_size=32, num_hidden_layers=1))
else:
    model = BertModel(BertConfig(
        vocab_size=300, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128,
        max_position_embeddings=64))
if kind == "speaker":
    sound = np.random.default_rng(0).standard_normal(40000).astype(np.float32) * 0.1
    heard = WhisperFeatureExtractor(feature_size=16)(sound, sampling_rate=16000, return_tensors="pt").input_features
    said = model.generate(heard, max_new_tokens=20)[0, -20:].tolist()
    # What would have been said, at the start and at all.
    model.generation_config.begin_suppress_tokens, model.generation_config.suppress_tokens = said[:1], said[5:6]
    model.generation_config.said = model.generate(heard, max_new_tokens=20)[0, -20:].tolist()
model.save_pretrained(out, safe_serialization=kind != "pickle")
"""


def _has_optimum() -> bool:
    tried = [OPTIMUM, "-c", "import optimum.exporters.onnx"]
    try:
        return subprocess.run(tried, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


pytestmark = [
    # torch and optimum take seconds to be imported, in each run of theirs.
    pytest.mark.slow,
    pytest.mark.skipif(
        not os.environ.get(PYTHON) and not _has_optimum(),
        reason=f"optimum is not installed in this Python, and {PYTHON} names no other",
    ),
]


def made(kind: str, folder: Path) -> Path:
    subprocess.run([OPTIMUM, "-c", MADE, kind, str(folder / kind)], capture_output=True, check=True)
    return folder / kind


def test_bert(tmp_path: Path) -> None:
    report = export_graphs(made("bert", tmp_path), tmp_path / "b.edge", weights="int8")
    assert (report.architecture, report.task, report.matrices) == ("bert", "feature-extraction", 14)
    (graph,) = report.graphs
    assert graph.quantized_errors is not None
    assert max(graph.float_errors.values()) < 1e-5 < max(graph.quantized_errors.values()) < 0.02
    with edge.load(tmp_path / "b.edge") as graphs:
        tokens = [[5, 6, 7]]
        found = graphs.run(
            {"input_ids": tokens, "attention_mask": [[1, 1, 1]], "token_type_ids": [[0, 0, 0]]}
        )
        assert found["last_hidden_state"].shape == (1, 3, 64)


def test_whisper_listens_and_answers(tmp_path: Path) -> None:
    report = export_graphs(made("whisper", tmp_path), tmp_path / "w.edge", weights="int8")
    errors = {graph.name: graph for graph in report.graphs}
    assert list(errors) == ["encoder_model", "decoder_model", "decoder_with_past_model"]
    for graph in report.graphs:
        assert graph.quantized_errors is not None
        assert max(graph.float_errors.values()) < 1e-5
        assert max(graph.quantized_errors.values()) < 0.05
    assert errors["encoder_model"].floats == {"Conv": 2}
    # Both decoders read the same matrices.
    assert report.matrices < sum(graph.products + graph.embeddings for graph in report.graphs) - 10
    with edge.load(tmp_path / "w.edge") as graphs:
        sound = np.random.default_rng(0).standard_normal((1, 16, 3000)).astype(np.float32)
        heard = graphs.run({"input_features": sound}, "encoder_model")["last_hidden_state"]
        ids = [4, 17, 9]
        feeds = {"input_ids": [ids[:2]], "encoder_hidden_states": heard}
        first = graphs.run(feeds, "decoder_model")
        past = {
            name.replace("present", "past_key_values"): value
            for name, value in first.items()
            if name.startswith("present")
        }
        second = graphs.run({"input_ids": [ids[2:]], **past}, "decoder_with_past_model")["logits"]
        whole = graphs.run({"input_ids": [ids], "encoder_hidden_states": heard}, "decoder_model")["logits"]
        # The cached step is the same model: only its activations are rounded otherwise.
        distance = np.linalg.norm(second[0, -1] - whole[0, -1]) / np.linalg.norm(whole[0, -1])
        assert distance < 0.02


def test_the_script_of_the_docs_says_what_transformers_says(tmp_path: Path) -> None:
    source = made("speaker", tmp_path)
    export_graphs(source, tmp_path / "s.edge", weights="fp32")
    rules = json.loads((source / "generation_config.json").read_text())
    sound = np.random.default_rng(0).standard_normal(40000).astype(np.float32) * 0.1
    with edge.load(tmp_path / "s.edge") as graphs:
        found = functions()["transcribe"](graphs, sound, [4], most=20)
    assert found == rules["said"]
    assert len(set(found)) > 3


def test_an_architecture_that_optimum_does_not_know(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="fnet model, that is a custom or unsupported architecture"):
        export_graphs(made("fnet", tmp_path), tmp_path / "x.edge")
    assert not (tmp_path / "x.edge").exists()


def test_pickles_are_not_read(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFound, match="with safetensors"):
        export_graphs(made("pickle", tmp_path), tmp_path / "x.edge")
