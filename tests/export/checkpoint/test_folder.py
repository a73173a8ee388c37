"""Hugging Face folders, read beside transformers' own state_dict."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from safetensors.numpy import load_file, save_file

from edge.errors import (
    CheckpointCorrupt,
    CheckpointError,
    CheckpointNotFound,
    InvalidArgument,
    TensorError,
    Unsupported,
)
from export.checkpoint import open_checkpoint
from export.checkpoint.folder import INDEX, SINGLE, folder_tensors
from tests.checkpoints import state_arrays, tiny_folder
from tests.export.checkpoint.conftest import Source

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama with every bias, own head_dim, tied": (
        "llama",
        {"attention_bias": True, "mlp_bias": True, "head_dim": 24, "tie_word_embeddings": True},
    ),
    "mistral": ("mistral", {"sliding_window": 32}),
    "qwen2": ("qwen2", {}),
    "qwen2 tied, one kv head": ("qwen2", {"tie_word_embeddings": True, "num_key_value_heads": 1}),
    "qwen3": ("qwen3", {}),
    "qwen3 with biases, own head_dim": ("qwen3", {"attention_bias": True, "head_dim": 24}),
}


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_tensor_is_the_model_s(tmp_path: Path, family: str, dtype: str) -> None:
    name, options = FAMILIES[family]
    model = tiny_folder(tmp_path, name, dtype=dtype, **options)
    expected = state_arrays(model)
    with open_checkpoint(tmp_path) as checkpoint:
        assert set(checkpoint.tensors) == set(expected)
        for key, tensor in checkpoint.tensors.items():
            assert tensor.dtype == {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}[dtype]
            assert tensor.nbytes == tensor.read().size * (4 if dtype == "float32" else 2)
            np.testing.assert_array_equal(tensor.read(), expected[key])
        assert checkpoint.spec.parameters == sum(array.size for array in expected.values())


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (5, 64), (63, 64), (7, 7), (0, 64)])
def test_rows_are_a_slice(source: Source, start: int, stop: int) -> None:
    tensor = open_checkpoint(source.folder).tensors["model.layers.1.self_attn.q_proj.weight"]
    rows = tensor.rows(start, stop)
    assert rows.dtype == np.float32
    assert rows.flags.c_contiguous
    assert rows.flags.writeable
    np.testing.assert_array_equal(rows, source.state[tensor.name][start:stop])


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (0, 65), (3, 2)])
def test_rows_outside_are_refused(source: Source, start: int, stop: int) -> None:
    for path in (source.folder, source.gguf):
        tensor = open_checkpoint(path).tensors["model.layers.1.self_attn.q_proj.weight"]
        with pytest.raises(InvalidArgument, match=r"q_proj\.weight: rows"):
            tensor.rows(start, stop)


def test_shards_read_as_one_file(tmp_path: Path) -> None:
    model = tiny_folder(tmp_path, "qwen2", shard="60KB")
    assert (tmp_path / INDEX).is_file()
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    expected = state_arrays(model)
    tensors = open_checkpoint(tmp_path).tensors
    assert set(tensors) == set(expected)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(tensor.read(), expected[name])


def test_the_hub_cache_s_links_are_followed(source: Source, tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "snapshots" / "abc", tmp_path / "blobs"
    snapshot.mkdir(parents=True)
    shutil.copytree(source.folder, blobs)
    for file in blobs.iterdir():
        os.symlink(Path("..", "..", "blobs", file.name), snapshot / file.name)
    tensors = open_checkpoint(snapshot).tensors
    np.testing.assert_array_equal(tensors["model.norm.weight"].read(), source.state["model.norm.weight"])


def test_buffers_and_a_tied_head_are_left_out(tmp_path: Path) -> None:
    tiny_folder(tmp_path, "llama", tie_word_embeddings=True)
    arrays = load_file(tmp_path / SINGLE)
    arrays["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(8, np.float32)
    arrays["lm_head.weight"] = arrays["model.embed_tokens.weight"]
    save_file(arrays, tmp_path / SINGLE)
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.spec.tied
    assert not {"lm_head.weight", "model.layers.0.self_attn.rotary_emb.inv_freq"} & set(checkpoint.tensors)


@pytest.mark.filterwarnings("ignore")
def test_a_head_of_its_own_outranks_tying_as_in_transformers(tmp_path: Path) -> None:
    tiny_folder(tmp_path, "llama", tie_word_embeddings=True)
    arrays = load_file(tmp_path / SINGLE)
    arrays["lm_head.weight"] = arrays["model.embed_tokens.weight"].copy()
    arrays["lm_head.weight"][-1, -1] += 1
    save_file(arrays, tmp_path / SINGLE, metadata={"format": "pt"})
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    checkpoint = open_checkpoint(tmp_path)
    assert not checkpoint.spec.tied
    head = checkpoint.tensors["lm_head.weight"].read()
    np.testing.assert_array_equal(head, model.lm_head.weight.detach().numpy())
    np.testing.assert_array_equal(head, arrays["lm_head.weight"])


def shards(weight_map: Any) -> Any:
    def spoil(folder: Path) -> None:
        (folder / SINGLE).rename(folder / "model-00001-of-00001.safetensors")
        (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))

    return spoil


def arrays(change: Any) -> Any:
    def spoil(folder: Path) -> None:
        tensors = load_file(folder / SINGLE)
        change(tensors)
        save_file(tensors, folder / SINGLE)

    return spoil


def data(change: Any) -> Any:
    def spoil(folder: Path) -> None:
        path = folder / SINGLE
        path.write_bytes(change(path.read_bytes()))

    return spoil


def config(text: str | bytes) -> Any:
    return lambda folder: (folder / "config.json").write_bytes(
        text.encode() if isinstance(text, str) else text
    )


def header(text: str, size: int | None = None, body: bytes = b"") -> Any:
    return data(lambda _: (len(text) if size is None else size).to_bytes(8, "little") + text.encode() + body)


def pickle(folder: Path) -> None:
    (folder / SINGLE).rename(folder / "pytorch_model.bin")


HUGE = '{"a":{"dtype":"F32","shape":[1152921504606846976,16],"data_offsets":[0,4]}}'
PAST = '{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}'
SPOILT: dict[str, tuple[Any, type[CheckpointError], str]] = {
    "truncated": (data(lambda b: b[:-10]), CheckpointCorrupt, r"model\.safetensors: .* bytes"),
    "truncated header": (data(lambda b: b[:100]), CheckpointCorrupt, r"model\.safetensors"),
    "empty file": (data(lambda b: b""), CheckpointCorrupt, r"model\.safetensors"),
    "wrong magic": (data(lambda b: b"GGUF" + b[4:]), CheckpointCorrupt, r"model\.safetensors"),
    "header of 2^60": (data(lambda b: (2**60).to_bytes(8, "little") + b[8:]), CheckpointCorrupt, "header"),
    "shape overflow": (header(HUGE, body=b"0000"), CheckpointCorrupt, r"model\.safetensors"),
    "offsets past the end": (header(PAST, body=b"0000"), CheckpointCorrupt, r"model\.safetensors"),
    "header no JSON": (header("{" * 8), CheckpointCorrupt, r"model\.safetensors"),
    "missing tensor": (
        arrays(lambda t: t.pop("model.layers.1.mlp.up_proj.weight")),
        TensorError,
        r"model\.layers\.1\.mlp\.up_proj\.weight \(96, 64\) is missing",
    ),
    "misshapen tensor": (
        arrays(lambda t: t.update({"model.norm.weight": np.ones(32, np.float32)})),
        TensorError,
        r"model\.norm\.weight has shape \(32,\), .*\(64,\)",
    ),
    "undeclared bias": (
        arrays(lambda t: t.update({"model.layers.0.mlp.up_proj.bias": np.ones(96, np.float32)})),
        TensorError,
        r"model\.layers\.0\.mlp\.up_proj\.bias",
    ),
    "integers": (
        arrays(lambda t: t.update({"model.norm.weight": np.ones(64, np.int8)})),
        Unsupported,
        r"model\.norm\.weight is I8",
    ),
    "a 0-d tensor": (
        arrays(lambda t: t.update({"model.norm.weight": np.array(1.0, np.float32)})),
        TensorError,
        r"model\.norm\.weight has shape \(\)",
    ),
    "pickle only": (pickle, Unsupported, r"pytorch_model\.bin.*never loaded"),
    "no weights": (lambda folder: (folder / SINGLE).unlink(), CheckpointNotFound, "neither"),
    "no config": (lambda folder: (folder / "config.json").unlink(), CheckpointNotFound, r"no config\.json"),
    "config no JSON": (config("{nope"), CheckpointCorrupt, r"config\.json: not JSON"),
    "config binary": (config(b"\xff\xfe\x00"), CheckpointCorrupt, r"config\.json: not JSON"),
    "config a list": (config("[]"), CheckpointCorrupt, r"config\.json: holds a JSON list"),
    "config nested deep": (config('{"a":' * 100_000), CheckpointCorrupt, r"config\.json: not JSON"),
    "config of 65 MiB": (config(b" " * (65 << 20)), CheckpointCorrupt, r"config\.json: over 67108864 bytes"),
    "config empty": (config("{}"), CheckpointCorrupt, "model_type is missing"),
    "index no map": (shards([1]), CheckpointCorrupt, "weight_map"),
    "index of numbers": (shards({"a": 1}), CheckpointCorrupt, "weight_map"),
    "index missing shard": (
        shards({"a": "model-7.safetensors"}),
        CheckpointCorrupt,
        r"model-7\.safetensors: .*missing",
    ),
    "index leads out": (
        shards({"a": "../folder/model-00001-of-00001.safetensors"}),
        CheckpointCorrupt,
        "no file of",
    ),
    "index absolute": (shards({"a": "/etc/passwd"}), CheckpointCorrupt, "/etc/passwd"),
    "index dots": (shards({"a": ".."}), CheckpointCorrupt, r"\.\."),
    "index empty name": (shards({"a": ""}), CheckpointCorrupt, "no file of"),
    "index NUL": (shards({"a": "a\0b"}), CheckpointCorrupt, "no file of"),
    "index backslash": (shards({"a": "..\\a"}), CheckpointCorrupt, "no file of"),
    "index of another shard's tensor": (
        shards({"ghost.weight": "model-00001-of-00001.safetensors"}),
        TensorError,
        r"ghost\.weight is not in this file",
    ),
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_spoilt_folder_is_refused(folder: Path, case: str) -> None:
    spoil, error, message = SPOILT[case]
    spoil(folder)
    with pytest.raises(error, match=message) as raised:
        open_checkpoint(folder)
    assert type(raised.value) is error


def test_a_file_cut_while_it_is_read_is_an_error(folder: Path) -> None:
    tensors = folder_tensors(folder)
    path = folder / SINGLE
    os.truncate(path, path.stat().st_size - 10)
    with pytest.raises(CheckpointCorrupt, match=r"model\.norm\.weight cannot be read"):
        tensors["model.norm.weight"].read()


def test_a_fifo_is_no_config(folder: Path) -> None:
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")
    with pytest.raises(CheckpointNotFound, match=r"config\.json"):
        open_checkpoint(folder)


def test_a_folder_with_a_gguf_says_to_name_it(source: Source, tmp_path: Path) -> None:
    shutil.copy(source.gguf, tmp_path / "model.gguf")
    with pytest.raises(CheckpointNotFound, match=r"name the file: .*model\.gguf"):
        open_checkpoint(tmp_path)
