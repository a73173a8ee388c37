"""Peak memory of the exporter, anonymous and mapped pages apart.

    python -m bench.export_memory MODEL.gguf OTHER.gguf

Each source is exported to INT4 by a process of its own. Its pages are sampled from /proc/PID/status; the peak of
their sum is the kernel's own count. A synthetic checkpoint comes last, with the sizes of
DeepSeek-R1-Distill-Qwen-1.5B and random bfloat16 weights in shards: it needs 5 GB of disk for a while.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

R1_DISTILL_QWEN_1_5B: dict[str, Any] = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_act": "silu",
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_hidden_layers": 28,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "vocab_size": 151936,
    "max_position_embeddings": 131072,
    "rope_theta": 10000,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "use_sliding_window": False,
    "torch_dtype": "bfloat16",
    "bos_token_id": 0,
    "eos_token_id": 1,
}
_SHARD_BYTES = 1 << 30
_CHUNK = 1 << 22
_SAMPLE_S = 0.002
_EXPORT = (
    "import sys; from export import export; "
    "export(*sys.argv[1:3], weights=sys.argv[3], method='rtn', fidelity=False)"
)


@dataclass(frozen=True)
class Peak:
    """Peaks of one export in bytes: `anonymous` and `mapped` as sampled, `total` as the kernel counted."""

    source: str
    source_bytes: int
    artifact_bytes: int
    anonymous: int
    mapped: int
    total: int
    seconds: float


def measure(source: Path, out: Path, weights: str = "int4") -> Peak:
    """Export `source` to `out` in a process of its own."""
    started = time.perf_counter()
    command = [sys.executable, "-c", _EXPORT, str(source), str(out), weights]
    child = subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    )
    anonymous = mapped = total = 0
    while child.poll() is None:
        pages = _pages(child.pid)
        # Until it has begun its own program, the child shows its parent's memory.
        if pages.get("VmHWM", total) < total:
            anonymous = mapped = 0
        anonymous, mapped = max(anonymous, pages.get("RssAnon", 0)), max(mapped, pages.get("RssFile", 0))
        total = pages.get("VmHWM", total)
        time.sleep(_SAMPLE_S)
    if child.returncode:
        raise SystemExit(f"the export of {source} failed with code {child.returncode}")
    return Peak(
        source=source.name,
        source_bytes=size(source),
        artifact_bytes=size(out),
        anonymous=anonymous,
        mapped=mapped,
        total=total,
        seconds=time.perf_counter() - started,
    )


def write_synthetic(folder: Path, config: dict[str, Any], seed: int = 0) -> Path:
    """A Hugging Face folder of `config` with random bfloat16 weights in shards, written a few MB at a time."""
    from export.architecture import family_for_model_type
    from export.architecture.expected import expected_tensors

    folder.mkdir(parents=True)
    spec = family_for_model_type(config["model_type"]).spec_from_config(config)
    rng = np.random.default_rng(seed)
    shards = list(_shards(expected_tensors(spec)))
    weight_map = {}
    for number, shapes in enumerate(shards, 1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        weight_map.update(dict.fromkeys(shapes, name))
        _write_shard(folder / name, shapes, rng)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|end|>"}))
    _tokenizer().save(str(folder / "tokenizer.json"))
    return folder


def size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def _pages(pid: int) -> dict[str, int]:
    """Bytes by kind, empty for a process that has just ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    fields = (line.split(":", 1) for line in lines if line.startswith(("Rss", "VmHWM")))
    return {name: int(value.split()[0]) * 1024 for name, value in fields}


def _shards(shapes: dict[str, tuple[int, ...]]) -> Iterator[dict[str, tuple[int, ...]]]:
    shard: dict[str, tuple[int, ...]] = {}
    held = 0
    for name, shape in shapes.items():
        nbytes = 2 * int(np.prod(shape))
        if shard and held + nbytes > _SHARD_BYTES:
            yield shard
            shard, held = {}, 0
        shard[name] = shape
        held += nbytes
    yield shard


def _write_shard(path: Path, shapes: dict[str, tuple[int, ...]], rng: np.random.Generator) -> None:
    header, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for shape in shapes.values():
            left = int(np.prod(shape))
            while left:
                values = rng.standard_normal(min(left, _CHUNK), dtype=np.float32) * np.float32(0.02)
                # The upper half of a float32 is a bfloat16.
                file.write((values.view(np.uint32) >> 16).astype("<u2").tobytes())
                left -= len(values)


def _tokenizer() -> Tokenizer:
    tokens = ["<|begin|>", "<|end|>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(tokens[:2])
    return tokenizer


def _print(peaks: list[Peak]) -> None:
    columns = ("checkpoint", "artifact", "anonymous", "mapped", "total")
    print(f"{'peak of an INT4 export, MB':32}" + "".join(f"{column:>12}" for column in columns))
    for peak in peaks:
        values = (peak.source_bytes, peak.artifact_bytes, peak.anonymous, peak.mapped, peak.total)
        print(f"{peak.source[:31]:32}" + "".join(f"{value / 1e6:12.0f}" for value in values))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Peak memory of the exporter.")
    parser.add_argument(
        "sources", nargs="*", type=Path, help="checkpoints: GGUF files or Hugging Face folders"
    )
    parser.add_argument("--no-synthetic", action="store_true", help="leave the 1.5B-shaped checkpoint out")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the synthetic checkpoint in DIR")
    parser.add_argument("--out", type=Path, metavar="DIR", help="keep the artifacts in DIR")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="export-memory-", dir=args.out) as scratch:
        sources = list(args.sources)
        if not args.no_synthetic:
            folder = args.keep or Path(scratch) / "synthetic-1.5b"
            if not (folder / "config.json").is_file():
                write_synthetic(folder, R1_DISTILL_QWEN_1_5B)
            sources.append(folder)
        peaks = []
        for source in sources:
            out = (
                args.out or Path(scratch)
            ) / f"{source.stem if source.is_file() else source.name}-int4.edge"
            peaks.append(measure(source, out))
            if args.out is None:
                shutil.rmtree(out)
    if args.json:
        print(json.dumps([asdict(peak) for peak in peaks]))
    else:
        _print(peaks)


if __name__ == "__main__":
    main()
