"""The oracle: transformers on the same weights, run the same way, with its own cache."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from tests.checkpoints import VOCABULARY
from tests.logits import Logits

PROMPT, STEPS = 37, 64
TOKENS: list[int] = np.random.default_rng(7).integers(0, VOCABULARY, PROMPT + STEPS).tolist()


def reference_model(folder: Path, rope: Mapping[str, Any] | None = None) -> Any:
    """The checkpoint in float32 with eager attention; `rope` changes what it knows of the position embedding."""
    config = transformers.AutoConfig.from_pretrained(folder)
    config.rope_parameters = {**config.rope_parameters, **(rope or {})}
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, config=config, dtype=torch.float32, attn_implementation="eager"
    ).eval()


def reference_logits(model: Any, tokens: Sequence[int], prompt: int) -> Logits:
    """`prompt` tokens in one run, the others each in its own, on one cache: float32 [tokens, vocab]."""
    with one_thread(), torch.no_grad():
        out = model(torch.tensor([tokens[:prompt]]), use_cache=True)
        parts = [out.logits[0]]
        for token in tokens[prompt:]:
            held = {_cache_name(model): out.past_key_values}
            out = model(torch.tensor([[token]]), use_cache=True, **held)
            parts.append(out.logits[0])
    logits: Logits = torch.cat(parts).numpy()
    return logits


def _cache_name(model: Any) -> str:
    """How `model` calls the cache it is given: transformers 5.24 has renamed it."""
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"


@contextmanager
def one_thread() -> Iterator[None]:
    """torch on one thread: a tiny model is several times faster so."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
