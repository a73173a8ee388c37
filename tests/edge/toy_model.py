"""A Model on the toy engine, with tokenizers made on the spot."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from edge.artifact import ModelSpec, Rope
from edge.model import Model
from tests.edge.toy_engine import ToyEngine

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Drops the reasoning of earlier answers, as R1's template does.
DROPS_THOUGHTS = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'].split('</think>')[-1] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXT = """Memory first: weights, caches and a reserve must fit into what there is. Ünïcödé, 漢字,
emoji 🙂🙃 and tabs\tare texts too. <think> is no special token </think>.
Die Katze läuft über den Hof; kočka běží přes dvůr."""


@cache
def byte_level_json() -> str:
    """A byte-level BPE tokenizer of 402 tokens with ChatML's special tokens and <think> as added ones."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT] * 3, trainer)
    tokenizer.add_tokens(["<think>", "</think>"])
    return str(tokenizer.to_str())


@cache
def sentencepiece_json(scheme: str = "normalizer") -> str:
    """A SentencePiece-like BPE: ▁ for spaces, a token for every byte; `scheme` says what ▁ is put before."""
    words = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), "▁", *"abcdefghijklmnop", "é"]
    merges = [("▁", "a"), ("a", "b"), ("▁a", "b"), ("c", "d"), ("▁", "▁")]
    words += [a + b for a, b in merges]
    vocab = {word: i for i, word in enumerate(words)}
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    if scheme == "normalizer":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        parts = [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", scheme, split=False)
        parts = [decoders.ByteFallback(), decoders.Metaspace("▁", scheme, split=False)]
    tokenizer.decoder = decoders.Sequence(parts)
    tokenizer.add_special_tokens([AddedToken(s, normalized=False) for s in ("<unk>", "<s>", "</s>")])
    return str(tokenizer.to_str())


@dataclass
class ToyArtifact:
    """What a Model reads of an artifact."""

    tokenizer_json: str
    chat_template: str | None = CHATML
    generation: dict[str, Any] = field(default_factory=lambda: {"eos_token_id": [2]})
    path: Path = Path("toy.edge")
    vocab_size: int = 0
    weight_bytes: int = 10

    @property
    def manifest(self) -> SimpleNamespace:
        return SimpleNamespace(
            weight_bytes=self.weight_bytes,
            decode_bytes=self.weight_bytes,
            spec=self.spec,
            recipe={"weights": "int4"},
        )

    @property
    def spec(self) -> ModelSpec:
        return ModelSpec(
            architecture="llama",
            vocab_size=self.vocab_size,
            hidden_size=1,
            intermediate_size=1,
            layers=1,
            heads=1,
            kv_heads=1,
            head_dim=1,
            context=256,
            norm_eps=1e-5,
            rope=Rope(),
            tied=True,
        )


def toy_model(
    *,
    tokenizer: str | None = None,
    engine: dict[str, Any] | None = None,
    at_limit: Any = "stop",
    **artifact: Any,
) -> Model:
    """A Model on a ToyEngine; `engine` and `artifact` are their fields."""
    text = tokenizer or byte_level_json()
    added = json.loads(text)["added_tokens"]
    vocab = max(len(json.loads(text)["model"]["vocab"]), *(token["id"] + 1 for token in added))
    options = {"vocab": vocab, **(engine or {})}
    made = ToyArtifact(text, vocab_size=options["vocab"], **artifact)
    return Model(made, ToyEngine(**options), at_limit=at_limit)  # type: ignore[arg-type]
