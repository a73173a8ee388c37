"""Calibration: how large keys and values get while the model that is being exported reads a text.

RoPE turns pairs of a key's numbers. Those that turn slowly have not come round within the text: what is small in it is
large further on (SmolLM2: the largest numbers seen cost a KL of 0.23 behind the text's length, and 0.002 before it).
What a pair keeps at all positions is its length, so both of its numbers have the largest length for their magnitude.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from edge.artifact import ModelSpec
from edge.errors import InvalidArgument, TensorError
from export.graph.static_kv import Largest
from export.layerwise.session import onnxruntime, open_session, running
from export.progress import Counter, Progress
from export.text_file import read_text

Floats = NDArray[np.float32]

OWN_TEXT = "edgewise"
"""What the manifest calls the text beside this file."""
KV_CALIBRATION = "kv_calibration"
"""Where in the provenance it says how KV was calibrated."""
TOKENS = 2048
"""Read at most; KV of so many is in memory, in float32."""
CHUNK = 128
_TOLD = "cannot run the model to calibrate its KV", "export with --kv fp32"


@dataclass(frozen=True)
class CalibrationText:
    """A text that a model is calibrated on."""

    name: str
    text: str

    @classmethod
    def read(cls, path: str | Path | None) -> CalibrationText:
        """The UTF-8 file at `path`; None is a text of our own: prose, talk, lists, code, German, mathematics.

        Raises:
            InvalidArgument: it cannot be read, or is not UTF-8.
        """
        if path is None:
            return cls(OWN_TEXT, Path(__file__).with_suffix(".txt").read_text(encoding="utf-8"))
        return cls(Path(path).name, read_text(path, "calibration text"))

    def tokens(self, tokenizer_json: str, context: int) -> list[int]:
        """The first TOKENS ids of the text, with what the tokenizer puts around a text; `context` at most.

        Raises:
            InvalidArgument: there are too few to learn from.
        """
        ids: list[int] = Tokenizer.from_str(tokenizer_json).encode(self.text).ids
        least = min(CHUNK, context)
        if len(ids) < least:
            raise InvalidArgument(
                f"the calibration text {self.name} has {len(ids)} tokens; give one of {least} or more, "
                "better a thousand or two"
            )
        return ids[: min(TOKENS, context)]

    def provenance(self, tokens: int) -> dict[str, Any]:
        """What the manifest says of a calibration on `tokens` tokens of the text."""
        digest = sha256(self.text.encode()).hexdigest()
        return {"text": self.name, "sha256": digest, "tokens": tokens}


def largest_kv(graph: Path, spec: ModelSpec, ids: list[int], progress: Progress) -> list[Largest]:
    """Run `graph`, of the dialect `onnxruntime` with float32 KV, on `ids`; the model is in memory meanwhile.

    `progress` is told the bytes of KV, of the stage "calibration".

    Raises:
        MissingExtra: onnxruntime is not installed.
        EngineFailed: it cannot run the graph.
        TensorError: a key or a value is no finite number.
    """
    ort = onnxruntime()
    shape = (1, spec.kv_heads, len(ids), spec.head_dim)
    caches = [[np.zeros(shape, np.float32) for _ in range(2)] for _ in range(spec.layers)]
    token_bytes = 2 * spec.layers * spec.kv_heads * spec.head_dim * 4
    tell = Counter(progress, "calibration", len(ids) * token_bytes)
    session = open_session(str(graph), told=_TOLD)
    with running(_TOLD):
        binding = session.io_binding()
        for layer, cache in enumerate(caches):
            for kind, buffer in zip(("key", "value"), cache, strict=True):
                value = ort.OrtValue.ortvalue_from_numpy(buffer)
                binding.bind_ortvalue_input(f"past.{layer}.{kind}", value)
                binding.bind_ortvalue_output(f"present.{layer}.{kind}", value)
        binding.bind_cpu_input("logit_positions", np.zeros(1, np.int64))
        binding.bind_output("logits", "cpu")
        for start in range(0, len(ids), CHUNK):
            chunk = np.array([ids[start : start + CHUNK]], np.int64)
            held = start + chunk.shape[1]
            binding.bind_cpu_input("input_ids", chunk)
            binding.bind_cpu_input("seqlens_k", np.array([held - 1], np.int32))
            binding.bind_cpu_input("total_sequence_length", np.array([held], np.int32))
            session.run_with_iobinding(binding)
            tell.add(chunk.shape[1] * token_bytes)
    return [_largest(keys[0], values[0], layer) for layer, (keys, values) in enumerate(caches)]


def _largest(keys: Floats, values: Floats, layer: int) -> Largest:
    """Of keys and values [kv_heads, tokens, head_dim]."""
    lengths = np.hypot(*np.split(keys, 2, axis=2)).max(axis=1)
    found = Largest(np.concatenate([lengths, lengths], axis=1), np.abs(values).max(axis=1))
    if not np.isfinite([found.keys, found.values]).all():
        raise TensorError(
            f"keys or values of layer {layer} are no finite numbers on the calibration text; "
            "export with --kv fp32, and check the checkpoint"
        )
    return found
