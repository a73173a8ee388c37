"""The pass on a graph that torch wrote: numbers beside torch's own."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import onnx
import pytest
import torch

from export.optimum.verify import relative_error
from export.quantize import Recipe
from tests.export.optimum.made import VOCAB, WIDTH, ids, run
from tests.export.optimum.test_graph_pass import operators, quantized


class Tied(torch.nn.Module):
    """An encoder layer between an embedding and a head that is the same matrix."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.embedding = torch.nn.Embedding(VOCAB, WIDTH)
        self.layer = torch.nn.TransformerEncoderLayer(WIDTH, 4, 2 * WIDTH, batch_first=True)
        self.head = torch.nn.Linear(WIDTH, VOCAB, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.layer(self.embedding(tokens)))
        return logits


@pytest.mark.parametrize(("weights", "allowed"), [("int8", 0.01), ("int4", 0.12), ("fp32", 1e-5)])
def test_a_graph_of_torch(tmp_path: Path, weights: str, allowed: float) -> None:
    module, buffer = Tied().eval(), io.BytesIO()
    with warnings.catch_warnings():
        # torch's newer exporter needs a package more; optimum uses this one too.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (torch.from_numpy(ids()),),
            buffer,
            dynamo=False,
            input_names=["ids"],
            output_names=["logits"],
            opset_version=18,
        )
    source = onnx.load_model_from_string(buffer.getvalue())
    path, report, shared = quantized(tmp_path, source, Recipe(weights=weights))
    if weights != "fp32":
        # The head is written as a transposed copy: its codes are the embedding's.
        assert (report.embeddings, report.products, shared.matrices) == (1, 5, 5)
        assert not {"MatMulNBits", "GatherBlockQuantized"} - set(operators(path))
    # Traced attention keeps the sizes that it was traced with.
    tokens = ids(5)
    with torch.inference_mode():
        wanted = module(torch.from_numpy(tokens)).numpy()
    assert relative_error(run(path, {"ids": tokens})["logits"], wanted) < allowed
