"""One matrix quantized: by a method, or by the one of several whose error on inputs it was not fitted to is least."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from export.graph.checkpoint_weights import STREAMED
from export.quantize import Inputs, Method, Precision, Quantized
from export.quantize.descent import GptqDescent
from export.quantize.gptq import ROWS, Gptq
from export.quantize.method import Rows

BY_NAME: dict[str, Method] = {
    **STREAMED,
    "gptq": Gptq(),
    "gptq+descent": GptqDescent(),
}


def quantized(
    method: str, rows: Rows, precision: Precision, inputs: Inputs, executor: ThreadPoolExecutor
) -> Quantized:
    """Codes of a matrix float32 [rows, inputs], worked at on every core."""
    inputs, rows = inputs.padded(precision.padding(rows.shape[1])), precision.padded(rows)
    of = BY_NAME[method]
    if of.calibrated:
        # Worked out once, before there are threads.
        inputs.feedback(precision.block)
        inputs.damped  # noqa: B018
    step = min(ROWS, -(-len(rows) // (os.cpu_count() or 1)))
    parts = executor.map(
        lambda start: of.quantize(rows[start : start + step], precision, inputs), range(0, len(rows), step)
    )
    return Quantized.joined(list(parts))


def best_quantized(
    methods: Sequence[str],
    rows: Rows,
    precision: Precision,
    inputs: Inputs,
    unseen: Inputs,
    executor: ThreadPoolExecutor,
) -> tuple[Quantized, str]:
    """The codes of whichever method leaves the least error of outputs on `unseen` inputs, and which it was."""
    found = [(quantized(method, rows, precision, inputs, executor), method) for method in methods]
    if len(found) == 1:
        return found[0]
    return min(found, key=lambda pair: unseen.error(off(pair[0], rows, precision)))


def off(found: Quantized, rows: Rows, precision: Precision) -> Rows:
    """How far the weights of codes are from float32 [rows, inputs]."""
    return found.dequantize(precision.bits)[:, : rows.shape[1]] - rows
