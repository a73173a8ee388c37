"""Artifacts beside llama.cpp's formats: KL divergence from the same full-precision model, over the same tokens.

python -m bench.formats REFERENCE.gguf [--artifact A.edge]... [--gguf F.gguf ... --llama PYTHON] [--tokens 4096]
    [--text FILE] [--kv fp16] [--json]

Windows of 512 tokens without a beginning of text, each by itself. Artifacts run as they would for a user, the reference
layer by layer in float32. llama.cpp's formats run in llama.cpp, beside the reference in llama.cpp, by PYTHON, which has
llama-cpp-python. Sizes are of all files that one engine needs.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

import edge
from edge.cli.inspect import file_bytes
from edge.cli.output import print_table
from export.checkpoint import open_checkpoint
from export.evaluate.divergence import Divergence, log_softmax
from export.evaluate.log_probabilities import CHUNK, log_probabilities
from export.evaluate.text import WINDOW, held_out_text
from export.graph.checkpoint_weights import CheckpointWeights
from export.layerwise import Head, full_precision
from export.quantize import Recipe

_LLAMA = Path(__file__).with_name("llama_formats.py")

Windows = NDArray[np.int64]


@click.command()
@click.argument("reference", type=click.Path(exists=True, path_type=Path))
@click.option("--artifact", "artifacts", multiple=True, type=click.Path(exists=True, path_type=Path))
@click.option("--gguf", "ggufs", multiple=True, type=click.Path(exists=True, path_type=Path))
@click.option("--llama", help="A Python with llama-cpp-python.")
@click.option("--tokens", default=4096, show_default=True)
@click.option("--text", type=click.Path(exists=True, path_type=Path), help="Another text than Python's help.")
@click.option("--kv", help="What artifacts keep KV as, in place of their own; llama.cpp's formats keep fp16.")
@click.option("--json", "as_json", is_flag=True)
def main(
    reference: Path,
    artifacts: tuple[Path, ...],
    ggufs: tuple[Path, ...],
    llama: str | None,
    tokens: int,
    text: Path | None,
    kv: str | None,
    as_json: bool,
) -> None:
    """Print what each costs, and how large it is."""
    with open_checkpoint(reference) as checkpoint:
        tokenizer = Tokenizer.from_str(checkpoint.text.tokenizer_json)
        words = held_out_text() if text is None else text.read_text(encoding="utf-8")
        ids = tokenizer.encode(words, add_special_tokens=False).ids[: tokens // WINDOW * WINDOW]
        windows = np.array(ids, np.int64)[: len(ids) // WINDOW * WINDOW].reshape(-1, WINDOW)
        found = [Divergence() for _ in artifacts]
        models = [edge.load(path, context=WINDOW, kv=kv) for path in artifacts]
        source = CheckpointWeights(checkpoint.tensors, Recipe(weights="fp32"), lambda nbytes: None)
        with tempfile.TemporaryDirectory() as folder:
            hidden = full_precision(checkpoint.spec, source, windows, Path(folder), lambda layers: None)
        head = Head(checkpoint.spec, source)
        for window, states in zip(windows, hidden, strict=True):
            passes = [log_probabilities(model.engine, window.tolist()) for model in models]
            for start in range(0, WINDOW, CHUNK):
                exact = log_softmax(head.logits(states[start : start + CHUNK]))
                following = window[start + 1 : start + 1 + CHUNK].tolist()
                for divergence, logits in zip(found, passes, strict=True):
                    divergence.add(exact, next(logits), following)
    rows = [
        _row(model.artifact.path.name, file_bytes(model.artifact), divergence)
        for model, divergence in zip(models, found, strict=True)
    ]
    if ggufs:
        rows += _llama_rows(llama, reference, ggufs, windows)
    if as_json:
        click.echo(json.dumps({"tokens": windows.size, "formats": rows}, indent=1))
        return
    table = [("format", "MB", "mean KL", "median", "p99", "top-1", "perplexity")]
    table += [
        (
            row["name"],
            f"{row['bytes'] / 1e6:.1f}",
            f"{row['mean_kl']:.5f}",
            f"{row['median_kl']:.5f}",
            f"{row['p99_kl']:.3f}",
            f"{row['top1']:.4f}",
            f"{row['perplexity']:.3f} ({row['reference_perplexity']:.3f})",
        )
        for row in rows
    ]
    print_table(table, right=range(1, 6))
    click.echo(f"\n{windows.size} tokens in windows of {WINDOW}; KL in nats")


def _row(name: str, nbytes: int, d: Divergence) -> dict[str, Any]:
    return {
        "name": name,
        "bytes": nbytes,
        "mean_kl": d.mean_kl,
        "median_kl": d.median_kl,
        "p99_kl": d.p99_kl,
        "top1": d.top1,
        "perplexity": d.perplexity,
        "reference_perplexity": d.reference_perplexity,
    }


def _llama_rows(
    python: str | None, reference: Path, ggufs: tuple[Path, ...], windows: Windows
) -> list[dict[str, Any]]:
    if python is None:
        raise click.UsageError("--gguf needs --llama, a Python with llama-cpp-python")
    asked = json.dumps({"windows": windows.tolist()})
    ended = subprocess.run(
        [python, str(_LLAMA), str(reference), *map(str, ggufs)],
        input=asked,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in ended.stdout.splitlines()]


if __name__ == "__main__":
    main()
