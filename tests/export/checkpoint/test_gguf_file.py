"""GGUF checkpoints beside the models they were written from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind

from edge.errors import CheckpointCorrupt, CheckpointError, CheckpointNotFound, TensorError, Unsupported
from export.checkpoint import Checkpoint, open_checkpoint
from tests import models
from tests.checkpoints import interleave, llama3_factors, state_arrays, tiny_folder, tiny_model, write_gguf
from tests.export.checkpoint.conftest import Source

CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama tied, biases, own head_dim": (
        "llama",
        {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True, "head_dim": 24},
    ),
    "llama linear": ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 5e5}}),
    "mistral window": ("mistral", {"sliding_window": 32}),
    "qwen2": ("qwen2", {}),
    "qwen2 window from layer 1": (
        "qwen2",
        {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1},
    ),
    "qwen3": ("qwen3", {}),
    "qwen3 yarn": (
        "qwen3",
        {
            "rope_parameters": {
                "rope_type": "yarn",
                "factor": 4.0,
                "original_max_position_embeddings": 64,
                "rope_theta": 1e6,
            }
        },
    ),
}


def rounded(checkpoint: Checkpoint) -> dict[str, Any]:
    """The spec with floats as a GGUF holds them."""
    spec = checkpoint.spec.to_json()
    return json.loads(json.dumps(spec), parse_float=lambda text: float(np.float32(text)))


@pytest.mark.parametrize("case", CONFIGS)
def test_a_gguf_is_the_checkpoint_it_was_made_from(tmp_path: Path, case: str) -> None:
    family, options = CONFIGS[case]
    model = tiny_folder(tmp_path, family, **options)
    config = json.loads((tmp_path / "config.json").read_text())
    state = state_arrays(model)
    write_gguf(tmp_path / "model.gguf", state, config)
    theirs, ours = open_checkpoint(tmp_path), open_checkpoint(tmp_path / "model.gguf")
    assert rounded(ours) == rounded(theirs)
    assert list(ours.tensors) == list(theirs.tensors)
    for name, tensor in ours.tensors.items():
        assert tensor.name == name
        np.testing.assert_array_equal(tensor.read(), state[name], name)


@pytest.mark.parametrize("kind", [Kind.F16, Kind.BF16, Kind.Q4_0, Kind.Q8_0], ids=lambda kind: kind.name)
def test_quantized_rows_are_put_in_order_too(tmp_path: Path, source: Source, kind: Kind) -> None:
    held = write_gguf(tmp_path / "model.gguf", source.state, source.config, types=kind)
    tensors = open_checkpoint(tmp_path / "model.gguf").tensors
    key = tensors["model.layers.1.self_attn.k_proj.weight"]
    assert key.dtype == kind.name
    np.testing.assert_array_equal(interleave(key.read(), 2), held["blk.1.attn_k.weight"])
    value = tensors["model.layers.1.self_attn.v_proj.weight"]
    np.testing.assert_array_equal(value.read(), held["blk.1.attn_v.weight"])


def test_llama3_scaling_comes_as_divisors(tmp_path: Path) -> None:
    scaling = {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    model = tiny_model("llama", rope_parameters=scaling)
    config = model.config.to_dict()
    factors = llama3_factors(config)
    write_gguf(tmp_path / "model.gguf", state_arrays(model), config, rope_factors=factors)
    rope = open_checkpoint(tmp_path / "model.gguf").spec.rope
    assert (rope.kind, rope.theta) == ("factors", 500000.0)
    np.testing.assert_allclose(rope.factors, factors, rtol=1e-6)
    plain = 500000.0 ** (-np.arange(0, 16, 2) / 16)
    np.testing.assert_allclose(plain / rope.factors, model.model.rotary_emb.inv_freq.numpy(), rtol=1e-5)


def split(path: Path, names: list[str], state: Any, config: Any, **changed: int) -> list[Path]:
    """Two parts; the second has no metadata but its place."""
    whole = path / "whole.gguf"
    write_gguf(whole, state, config)
    reader = gguf.GGUFReader(whole)
    write_gguf(
        path / names[0], {}, config, metadata={"split.no": 0, "split.count": 2, "split.tensors.count": 99}
    )
    parts = [path / name for name in names]
    for number, part in enumerate(parts):
        writer = gguf.GGUFWriter(part.with_suffix(".new"), "llama")
        if number == 0:
            for field in gguf.GGUFReader(part).fields.values():
                if not field.name.startswith(("GGUF.", "general.architecture")):
                    sub = field.types[-1] if len(field.types) > 1 else None
                    writer.add_key_value(field.name, field.contents(), field.types[0], sub)
        else:
            for key, value in {"split.no": 1, "split.count": 2, **changed}.items():
                writer.add_uint16(key.replace("_", "."), value)
        for index, tensor in enumerate(reader.tensors):
            if index % 2 == number:
                writer.add_tensor(tensor.name, np.array(tensor.data), raw_dtype=tensor.tensor_type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        part.with_suffix(".new").replace(part)
    return parts


NAMES = ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"]


def test_parts_read_as_one(tmp_path: Path, source: Source) -> None:
    for part in split(tmp_path, NAMES, source.state, source.config):
        checkpoint = open_checkpoint(part)
        for name, tensor in checkpoint.tensors.items():
            np.testing.assert_array_equal(tensor.read(), source.state[name])


def test_parts_that_do_not_fit_are_refused(tmp_path: Path, source: Source) -> None:
    first, second = split(tmp_path, NAMES, source.state, source.config, split_no=0)
    with pytest.raises(CheckpointCorrupt, match=r"00002-of-00002\.gguf: its split\.no and split\.count"):
        open_checkpoint(first)
    second.unlink()
    with pytest.raises(CheckpointNotFound, match=r"00002-of-00002\.gguf: .*split\.count"):
        open_checkpoint(first)
    with pytest.raises(CheckpointCorrupt, match=r"split\.count .* NAME-00001-of-00002\.gguf"):
        open_checkpoint(first.rename(tmp_path / "other.gguf"))


def drop(name: str) -> Any:
    return lambda state, metadata: state.pop(name)


def put(name: str, array: np.ndarray) -> Any:
    return lambda state, metadata: state.update({name: array})


def key(name: str, value: Any) -> Any:
    return lambda state, metadata: metadata.update({name: value})


BIAS = np.zeros(64, np.float32)
SPOILT: dict[str, tuple[Any, type[CheckpointError], str]] = {
    "no embedding": (drop("model.embed_tokens.weight"), TensorError, r"token_embd\.weight is missing"),
    "missing": (
        drop("model.layers.1.mlp.up_proj.weight"),
        TensorError,
        r"layers\.1\.mlp\.up_proj\.weight .* missing",
    ),
    "bias of one layer": (
        drop("model.layers.1.self_attn.k_proj.bias"),
        TensorError,
        r"k_proj\.bias .*missing",
    ),
    "bias of no family": (
        put("model.layers.0.input_layernorm.bias", BIAS),
        TensorError,
        r"input_layernorm\.bias",
    ),
    "norm misshapen": (
        put("model.norm.weight", BIAS[:32]),
        TensorError,
        r"model\.norm\.weight has shape \(32,\)",
    ),
    "embedding a vector": (
        put("model.embed_tokens.weight", BIAS),
        TensorError,
        r"token_embd\.weight has shape",
    ),
    "layers 2^31": (key("llama.block_count", 2**31), CheckpointCorrupt, r"llama\.block_count is 2147483648"),
    "layers 3": (key("llama.block_count", 3), TensorError, r"layers\.2\.\S+ .* missing"),
    "layers 1": (key("llama.block_count", 1), TensorError, r"layers\.1\.\S+ .* no place"),
    "heads 0": (key("llama.attention.head_count", 0), CheckpointCorrupt, r"head_count is 0"),
    "heads 3 of 2": (key("llama.attention.head_count", 3), CheckpointCorrupt, "not a multiple"),
    "heads a list": (key("llama.attention.head_count", [4, 4]), CheckpointCorrupt, r"head_count is \[4, 4\]"),
    "context a text": (key("llama.context_length", "long"), CheckpointCorrupt, r"context_length is 'long'"),
    "partial rope": (key("llama.rope.dimension_count", 8), Unsupported, r"rope\.dimension_count is 8"),
    "rope kind": (key("llama.rope.scaling.type", "longrope"), Unsupported, "longrope"),
    "rope theta NaN": (
        key("llama.rope.freq_base", float("nan")),
        CheckpointCorrupt,
        r"rope\.freq_base is nan",
    ),
    "value heads": (key("llama.attention.value_length", 8), Unsupported, r"value_length 8"),
    "experts": (key("llama.expert_count", 8), Unsupported, "expert_count"),
    "logit scale": (key("llama.logit_scale", 8.0), Unsupported, r"llama\.logit_scale 8\.0"),
    "window a text": (
        key("llama.attention.sliding_window", "4k"),
        CheckpointCorrupt,
        r"sliding_window is '4k'",
    ),
    "split a text": (key("split.count", "2"), CheckpointCorrupt, r"split\.count is '2'"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_spoilt_gguf_is_refused(tmp_path: Path, source: Source, case: str) -> None:
    spoil, error, message = SPOILT[case]
    state, metadata = dict(source.state), dict[str, Any]()
    spoil(state, metadata)
    write_gguf(tmp_path / "model.gguf", state, source.config, metadata=metadata)
    with pytest.raises(error, match=message) as raised:
        open_checkpoint(tmp_path / "model.gguf")
    assert type(raised.value) is error


@pytest.mark.parametrize("architecture", ["gemma3", "qwen2moe", ""])
def test_an_unknown_architecture_is_named_with_the_known(tmp_path: Path, architecture: str) -> None:
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", architecture or "x")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(Unsupported, match=f"'{architecture or 'x'}' .*llama, qwen2, qwen3"):
        open_checkpoint(tmp_path / "model.gguf")


def test_no_architecture_is_an_error(tmp_path: Path) -> None:
    from tests.export.checkpoint.gguf_bytes import gguf as raw

    (tmp_path / "model.gguf").write_bytes(raw())
    with pytest.raises(CheckpointCorrupt, match=r"general\.architecture is missing"):
        open_checkpoint(tmp_path / "model.gguf")


def test_a_real_file_says_where_it_comes_from() -> None:
    checkpoint = open_checkpoint(models.smollm2())
    spec = checkpoint.spec
    assert (spec.architecture, spec.layers, spec.hidden_size, spec.context, spec.tied) == (
        "llama",
        30,
        576,
        8192,
        True,
    )
    assert spec.parameters == 134_515_008
    assert checkpoint.provenance["format"] == "gguf"
    assert checkpoint.provenance["license"] == "apache-2.0"
    assert {tensor.dtype for tensor in checkpoint.tensors.values()} == {"Q4_1", "Q8_0", "F32"}
