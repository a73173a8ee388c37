"""A Hugging Face folder: config.json and safetensors, in one file or in shards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edge.errors import CheckpointCorrupt, CheckpointNotFound, TensorError, Unsupported
from export.architecture import family_for_model_type
from export.architecture.fields import Fields
from export.checkpoint.check import checked_tensors
from export.checkpoint.checkpoint import QUANTIZATION, Checkpoint
from export.checkpoint.json_file import read_json
from export.checkpoint.packed import packing_from_config, unpacked
from export.checkpoint.safetensors_file import SafetensorsTensor, safetensors_tensors
from export.checkpoint.tensor import CHUNK_ELEMENTS, LazyTensor

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


def open_folder(path: Path, source: str) -> Checkpoint:
    """The checkpoint in a folder, `source` being what the user called it.

    Raises:
        CheckpointNotFound: no config.json or no safetensors in it.
        CheckpointCorrupt, TensorError, Unsupported: see `export.checkpoint.open_checkpoint`.
    """
    from export.checkpoint.tokenizer import text_from_folder

    config = read_config(path)
    family = family_for_model_type(Fields("config.json", config).text("model_type"))
    packing = packing_from_config(config)
    provenance = {"format": "safetensors"} | ({} if packing is None else {QUANTIZATION: packing.METHOD})
    tensors = unpacked(packing, folder_tensors(path))
    spec = family.spec_from_config(config)
    if spec.tied and not _may_tie(tensors):
        spec = replace(spec, tied=False)
    return Checkpoint(
        source=source,
        spec=spec,
        tensors=checked_tensors(source, spec, tensors),
        text=text_from_folder(path, config),
        provenance=provenance,
    )


def _may_tie(tensors: Mapping[str, LazyTensor]) -> bool:
    """Whether the LM head is absent or equal to the embedding: weights outrank `tie_word_embeddings`."""
    head, embedding = tensors.get("lm_head.weight"), tensors.get("model.embed_tokens.weight")
    if head is None or embedding is None:
        return True
    if head.shape != embedding.shape or len(head.shape) != 2:
        return False
    step = max(1, CHUNK_ELEMENTS // max(1, head.shape[1]))
    return all(
        np.array_equal(head.rows(start, stop), embedding.rows(start, stop), equal_nan=True)
        for start in range(0, head.shape[0], step)
        for stop in [min(start + step, head.shape[0])]
    )


def read_config(path: Path) -> dict[str, Any]:
    """config.json of a folder; errors as `read_json`, with a hint at a GGUF beside it."""
    if not (path / "config.json").is_file():
        ggufs = sorted(path.glob("*.gguf"))
        hint = f"to export the GGUF in it, name the file: {ggufs[0]}" if ggufs else "name a checkpoint folder"
        raise CheckpointNotFound(f"{path}: there is no config.json in this folder; {hint}")
    return read_json(path / "config.json")


def folder_tensors(path: Path) -> dict[str, SafetensorsTensor]:
    """The tensors of every shard by name. Only headers are read.

    Raises:
        CheckpointNotFound: no safetensors in the folder.
        CheckpointCorrupt: a shard is missing or damaged, or the index names a file outside the folder.
        TensorError: a tensor is not in the shard that the index says.
    """
    if (path / SINGLE).is_file():
        return safetensors_tensors(path / SINGLE)
    if not (path / INDEX).is_file():
        pickles = sorted(file.name for file in path.iterdir() if file.suffix in PICKLES)
        if pickles:
            raise Unsupported(
                f"{path}: the weights are a pickle ({pickles[0]}), which can run code and is never loaded; "
                "convert it to safetensors first"
            )
        raise CheckpointNotFound(f"{path}: there is neither {SINGLE} nor {INDEX} in this folder")
    index = read_json(path / INDEX)
    shards = _shards(path, index)
    tensors: dict[str, SafetensorsTensor] = {}
    for shard in sorted(set(shards.values())):
        found = safetensors_tensors(path / shard)
        for name in found:
            if shards.get(name, shard) == shard:
                tensors[name] = found[name]
    for name, shard in shards.items():
        if name not in tensors:
            raise TensorError(
                f"{path / shard}: tensor {name:.200} is not in this file, where {INDEX} says it is; "
                "get the checkpoint again from its publisher"
            )
    return tensors


def _shards(path: Path, index: dict[str, Any]) -> dict[str, str]:
    shards = index.get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise CheckpointCorrupt(
            f"{path / INDEX}: weight_map is missing or no object; get the checkpoint again from its publisher"
        )
    for shard in dict.fromkeys(shards.values()) if _all_text(shards) else [None]:
        # Links are followed (the hub's cache is made of them); names that lead elsewhere are not.
        if not shard or Path(shard).name != shard or "\\" in shard or "\0" in shard:
            raise CheckpointCorrupt(
                f"{path / INDEX}: weight_map names {shard!r:.80}, which is no file of this folder; "
                "do not use this checkpoint unless you trust its publisher"
            )
        if not (path / shard).is_file():
            raise CheckpointCorrupt(
                f"{path / shard}: this shard is missing, and {INDEX} names it; download the checkpoint again"
            )
    return shards


def _all_text(shards: dict[str, Any]) -> bool:
    return all(isinstance(shard, str) for shard in shards.values())
