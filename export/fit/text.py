"""The tokens that a model is calibrated on: windows of a text, spread over all of it."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pydoc_data.topics import topics
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from edge.artifact import ModelSpec
from edge.errors import InvalidArgument
from export.calibration import OWN_TEXT, CalibrationText

WINDOW = 512
# Characters of Python's help that calibration may see; what is behind them is left for evaluation.
SEEN = 290_000


def help_text() -> str:
    """All topics of Python's help, sorted by name. Releases of Python word some of them differently."""
    return "\n".join(topics[name] for name in sorted(topics))


@dataclass(frozen=True)
class CalibrationTokens:
    """`windows` int64 [n, tokens], and what the manifest says of them."""

    windows: NDArray[np.int64]
    provenance: dict[str, Any]

    @classmethod
    def of(cls, text: CalibrationText, tokenizer_json: str, spec: ModelSpec, count: int) -> CalibrationTokens:
        """At most `count` windows of the text; of our own and the first part of Python's help where it is ours.

        Every other window begins with what the tokenizer puts before a text.

        Raises:
            InvalidArgument: the text is shorter than a window.
        """
        whole = text.text + "\n" + help_text()[:SEEN] if text.name == OWN_TEXT else text.text
        tokenizer = Tokenizer.from_str(tokenizer_json)
        ids = np.array(tokenizer.encode(whole, add_special_tokens=False).ids, np.int64)
        before = np.array(tokenizer.encode("").ids, np.int64)
        window = min(WINDOW, spec.context)
        if len(ids) < window:
            raise InvalidArgument(
                f"the calibration text {text.name} has {len(ids)} tokens, less than one window of {window}; "
                "give a longer text, or leave it out to use our own"
            )
        if len(ids) and (most := int(ids.max())) >= spec.vocab_size:
            raise InvalidArgument(
                f"the tokenizer makes token {most} of the calibration text {text.name}, and the model has "
                f"{spec.vocab_size}; the checkpoint's tokenizer is another model's"
            )
        starts = np.linspace(0, len(ids) - window, max(1, min(count, len(ids) // window))).astype(int)
        windows = np.stack([ids[start : start + window] for start in starts])
        if 0 < len(before) < window:
            windows[1::2] = np.concatenate(
                [np.tile(before, (len(windows[1::2]), 1)), windows[1::2, : -len(before)]], axis=1
            )
        digest = sha256(whole.encode()).hexdigest()
        return cls(windows, {"text": text.name, "sha256": digest, "tokens": int(windows.size)})

    @property
    def ours(self) -> bool:
        """Whether the user gave no text."""
        return bool(self.provenance["text"] == OWN_TEXT)

    def with_talk(self, talk: NDArray[np.int64]) -> CalibrationTokens:
        """The same with windows of `talk` in place of some, but for the first, which is of our text."""
        windows = np.concatenate([self.windows[:1], talk, self.windows[1 + len(talk) :]])
        return CalibrationTokens(windows, {**self.provenance, "talk": int(talk.size)})
