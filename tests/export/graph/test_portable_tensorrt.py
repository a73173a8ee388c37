"""TensorRT for RTX reads both forms and builds them ahead of time; no GPU is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest

from edge.artifact import open_artifact
from export import export
from export.graph.capacity import with_capacity
from export.graph.portable_form import FORMS
from tests.checkpoints import tiny_folder

trt = pytest.importorskip(
    "tensorrt_rtx", reason="TensorRT for RTX is not installed: pip install tensorrt-rtx"
)

CAPACITY, CHUNK = 64, 32
TARGETS = ("SM86", "SM89", "SM120")
# Said of every input of whole numbers; they are bound as int64.
EXPECTED = "has Int64 binding"


class Log(trt.ILogger):  # type: ignore[misc]
    """Keeps what the builder warns of: TensorRT takes one logger a process."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self.lines: list[str] = []

    def log(self, severity: Any, line: str) -> None:
        if severity <= trt.ILogger.WARNING and EXPECTED not in line:
            self.lines.append(line)


@pytest.fixture(scope="module")
def log() -> Log:
    return Log()


CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "llama, int4": ("llama", {}, {"block": 32}),
    "qwen2, int8, tied": ("qwen2", {"tie_word_embeddings": True}, {"weights": "int8", "block": 64}),
    # Rows of 76 and 90 weights, whose last block is not full.
    "mistral, int4, window, padded": (
        "mistral",
        {"sliding_window": 12, "hidden_size": 76, "intermediate_size": 90, "head_dim": 16},
        {"block": 128},
    ),
    "qwen3, int4, tied": ("qwen3", {"tie_word_embeddings": True, "attention_bias": True}, {"block": 32}),
    "qwen2, int4, KV in int8": ("qwen2", {}, {"kv": "int8"}),
    "llama, fp16": ("llama", {"num_key_value_heads": 4}, {"weights": "fp16"}),
}


@pytest.mark.parametrize("form", FORMS, ids=[form.name for form in FORMS])
@pytest.mark.parametrize("case", CASES)
def test_it_parses_without_a_warning_and_builds(case: str, form: Any, log: Log, tmp_path: Path) -> None:
    family, options, recipe = CASES[case]
    kept = trt.DataType.INT8 if "kv" in recipe else trt.DataType.HALF
    if "kv" in recipe and form.in_place:
        pytest.skip("TensorScatter takes no int8")
    tiny_folder(tmp_path / "checkpoint", family, **options)
    export(
        tmp_path / "checkpoint",
        tmp_path / "m.edge",
        engine="tensorrt",
        method="rtn",
        fidelity=False,
        **recipe,
    )
    spec = open_artifact(tmp_path / "m.edge").spec
    path = tmp_path / "m.edge/tensorrt" / f"{form.name}.onnx"
    model = with_capacity(onnx.load(path, load_external_data=False), CAPACITY)
    path.write_bytes(model.SerializeToString())

    log.lines.clear()
    builder = trt.Builder(log)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, log)
    assert parser.parse_from_file(str(path)), [parser.get_error(i).desc() for i in range(parser.num_errors)]

    inputs = {tensor.name: tensor for tensor in map(network.get_input, range(network.num_inputs))}
    outputs = {tensor.name: tensor for tensor in map(network.get_output, range(network.num_outputs))}
    assert set(inputs) == {value.name for value in model.graph.input}
    assert set(outputs) == {value.name for value in model.graph.output}
    rows = (1, spec.kv_heads, CAPACITY, spec.head_dim)
    for layer in range(spec.layers):
        for kind in ("key", "value"):
            past = inputs[f"past.{layer}.{kind}"]
            assert (past.dtype, tuple(past.shape)) == (kept, rows)
            name, shape = f"new.{layer}.{kind}", (1, spec.kv_heads, -1, spec.head_dim)
            if form.in_place:
                name, shape = f"present.{layer}.{kind}", rows
            assert (outputs[name].dtype, tuple(outputs[name].shape)) == (kept, shape)
    assert (outputs["logits"].dtype, tuple(outputs["logits"].shape)) == (
        trt.DataType.FLOAT,
        (-1, spec.vocab_size),
    )

    config = builder.create_builder_config()
    for tokens in (CHUNK, 1):
        config.add_optimization_profile(profile(builder, model, tokens))
    config.num_compute_capabilities = len(TARGETS)
    for i, target in enumerate(TARGETS):
        config.set_compute_capability(getattr(trt.ComputeCapability, target), i)
    plan = builder.build_serialized_network(network, config)
    assert plan is not None, log.lines
    assert plan.nbytes > 0
    # An input that is dropped in silence shows as "Unused Input" here.
    assert log.lines == []


def profile(builder: Any, model: onnx.ModelProto, tokens: int) -> Any:
    """Shapes for up to `tokens` tokens at once."""
    profile, least, most = builder.create_optimization_profile(), 1, tokens
    free = {
        "tokens": (least, most),
        "positions": (least, most),
        "keys": (CAPACITY + least, CAPACITY + most),
    }
    for value in model.graph.input:
        dims = [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        shortest, longest = ([free[d][end] if isinstance(d, str) else d for d in dims] for end in (0, 1))
        profile.set_shape(value.name, shortest, longest, longest)
    return profile
