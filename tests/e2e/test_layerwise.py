"""A model run a layer at a time, beside transformers; and a layer with AWQ's factors folded in, beside itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.checkpoint import open_checkpoint
from export.fit.folding import fold
from export.fit.matrices import matrices
from export.graph.checkpoint_weights import CheckpointWeights
from export.layerwise import ArrayWeights, Head, Layer, full_precision, layer_arrays
from export.quantize import Inputs, Recipe
from tests.checkpoints import VOCABULARY, tiny_folder
from tests.e2e.oracle import reference_logits
from tests.logits import relative_error

WINDOWS = np.random.default_rng(3).integers(0, VOCABULARY, (2, 48))
FAMILIES: list[tuple[str, dict[str, Any]]] = [
    ("llama", {}),
    ("llama", {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True}),
    ("llama", {"head_dim": 24}),
    ("qwen2", {}),
    ("qwen3", {}),
]


@pytest.mark.parametrize(("family", "options"), FAMILIES)
def test_logits_are_those_of_transformers(family: str, options: dict[str, Any], tmp_path: Path) -> None:
    model = tiny_folder(tmp_path, family, **options).eval()
    with open_checkpoint(tmp_path) as checkpoint:
        source = CheckpointWeights(checkpoint.tensors, Recipe(weights="fp32"), lambda nbytes: None)
        hidden = full_precision(checkpoint.spec, source, WINDOWS, tmp_path, lambda layers: None)
        head = Head(checkpoint.spec, source)
        for window, states in zip(WINDOWS.tolist(), hidden, strict=True):
            expected = reference_logits(model, window, len(window))
            assert relative_error(head.logits(states), expected) < 1e-4
    assert not list(tmp_path.glob("layer-*"))


@pytest.mark.parametrize(("family", "options"), FAMILIES)
def test_folding_leaves_a_layer_what_it_was(family: str, options: dict[str, Any], tmp_path: Path) -> None:
    tiny_folder(tmp_path, family, **options)
    with open_checkpoint(tmp_path) as checkpoint:
        spec = checkpoint.spec
        source = CheckpointWeights(checkpoint.tensors, Recipe(), lambda nbytes: None)
        arrays = layer_arrays(spec, source, 1)
        before = dict(arrays)
        random = np.random.default_rng(1)
        hidden = random.standard_normal((40, spec.hidden_size)).astype(np.float32)
        hidden[:, ::7] *= 8
        with Layer(spec, 1, ArrayWeights(arrays), 40, tmp_path, taps=["inputs"]) as run:
            expected, (taps, _) = run.run(hidden)
        # Strengths that are far apart, so that factors are worth while.
        seen = {
            m.name: Inputs(np.diag(np.exp(3 * random.standard_normal(m.inputs))).astype(np.float32))
            for m in matrices(spec)
            if m.layer == 1
        }
        assert set(seen) == set(taps)
        changed = fold(spec, 1, arrays, seen, Recipe())
        assert changed
        assert any(not np.array_equal(arrays[name], before[name]) for name in arrays)
        with Layer(spec, 1, ArrayWeights(arrays), 40, tmp_path) as run:
            found, _ = run.run(hidden)
    assert relative_error(found, expected) < 1e-4
