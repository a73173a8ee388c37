"""Run by a Python with llama-cpp-python: KL of GGUF files from a reference GGUF, a JSON line each.

python llama_formats.py REFERENCE.gguf FILE.gguf ... < {"windows": [[token, ...], ...]}
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

Array = Any


def log_probabilities(path: str, windows: list[list[int]]) -> Iterator[Array]:
    """Of each window [tokens, vocab], float32."""
    from llama_cpp import Llama

    size = len(windows[0])
    threads = len(os.sched_getaffinity(0))
    model = Llama(
        path,
        n_ctx=size,
        n_batch=size,
        logits_all=True,
        verbose=False,
        n_threads=threads,
        n_threads_batch=threads,
    )
    for window in windows:
        model.reset()
        model.eval(window)
        logits = model.scores[:size].astype(np.float64)
        logits -= logits.max(1, keepdims=True)
        logits -= np.log(np.exp(logits).sum(1, keepdims=True))
        yield logits.astype(np.float32)


def compared(reference: str, path: str, windows: list[list[int]]) -> dict[str, object]:
    """What `bench.formats` prints of a format."""
    kl, top, loss, reference_loss = [], [], [], []
    pairs = zip(log_probabilities(reference, windows), log_probabilities(path, windows), strict=True)
    for window, (exact, found) in zip(windows, pairs, strict=True):
        kl.append((np.exp(exact.astype(np.float64)) * (exact - found)).sum(1))
        top.append(exact.argmax(1) == found.argmax(1))
        rows, following = np.arange(len(window) - 1), np.array(window[1:])
        loss.append(-found[rows, following])
        reference_loss.append(-exact[rows, following])
    every = np.concatenate(kl)
    return {
        "name": os.path.basename(path),
        "bytes": os.path.getsize(path),
        "mean_kl": float(every.mean()),
        "median_kl": float(np.median(every)),
        "p99_kl": float(np.quantile(every, 0.99)),
        "top1": float(np.concatenate(top).mean()),
        "perplexity": float(np.exp(np.concatenate(loss).mean())),
        "reference_perplexity": float(np.exp(np.concatenate(reference_loss).mean())),
    }


if __name__ == "__main__":
    asked = json.load(sys.stdin)["windows"]
    for candidate in sys.argv[2:]:
        print(json.dumps(compared(sys.argv[1], candidate, asked)), flush=True)
