"""The vocabulary in a GGUF file's metadata, checked before anything is built from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from edge.errors import CheckpointCorrupt

# Values of tokenizer.ggml.token_type.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)


def _list(metadata: Mapping[str, Any], key: str, kind: type, what: str) -> list[Any] | None:
    value = metadata.get(key)
    if value is None:
        return None
    if not isinstance(value, list):
        raise CheckpointCorrupt(f"{key} is {type(value).__name__}, not a list; fetch the GGUF file again")
    for index, item in enumerate(value):
        if type(item) is not kind:
            raise CheckpointCorrupt(f"{key}[{index}] is {item!r}, not {what}; fetch the GGUF file again")
    return value


@dataclass(frozen=True)
class Vocabulary:
    """Tokens of a GGUF file by id, with their types."""

    metadata: Mapping[str, Any]
    tokens: list[str]
    types: list[int]
    """One of NORMAL … BYTE for each token."""

    @classmethod
    def read(cls, metadata: Mapping[str, Any]) -> Vocabulary:
        """Read and check the lists.

        Raises:
            CheckpointCorrupt: tokens are missing, doubled, or do not match their types in number.
        """
        tokens = _list(metadata, "tokenizer.ggml.tokens", str, "text")
        if not tokens:
            raise CheckpointCorrupt(
                "the GGUF file has no tokenizer.ggml.tokens; take one that was converted with its vocabulary"
            )
        types = _list(metadata, "tokenizer.ggml.token_type", int, "a whole number")
        if types is None:
            types = [NORMAL] * len(tokens)
        if len(types) != len(tokens):
            raise CheckpointCorrupt(
                f"tokenizer.ggml.token_type has {len(types)} entries for {len(tokens)} tokens; "
                "fetch the GGUF file again"
            )
        for index, kind in enumerate(types):
            if not NORMAL <= kind <= BYTE:
                raise CheckpointCorrupt(
                    f"tokenizer.ggml.token_type[{index}] is {kind}, but types go from {NORMAL} to {BYTE}"
                )
        vocabulary = cls(metadata, tokens, types)
        named = sum(1 for token in tokens[: vocabulary.used] if token)
        if len(vocabulary.ids) != named:
            double = next(
                token
                for i, token in enumerate(tokens)
                if token in vocabulary.ids and vocabulary.ids[token] != i
            )
            raise CheckpointCorrupt(
                f"token {double!r} is in tokenizer.ggml.tokens more than once; its id would be a guess"
            )
        return vocabulary

    @cached_property
    def used(self) -> int:
        """Number of leading rows that are tokens; the rest only pads the embedding to a round size."""
        end = len(self.types)
        while end and self.types[end - 1] == UNUSED:
            end -= 1
        return end

    @cached_property
    def ids(self) -> dict[str, int]:
        """Token text to id, without padding rows and tokens of no text."""
        return {token: index for index, token in enumerate(self.tokens[: self.used]) if token}

    def id(self, role: str) -> int | None:
        """The id under `tokenizer.ggml.<role>_token_id`, None where the file has none.

        Raises:
            CheckpointCorrupt: it is no id of this vocabulary.
        """
        key = f"tokenizer.ggml.{role}_token_id"
        value = self.metadata.get(key)
        if value is None:
            return None
        if type(value) is not int or not 0 <= value < len(self.tokens):
            raise CheckpointCorrupt(
                f"{key} is {value!r}, but the vocabulary has ids 0 to {len(self.tokens) - 1}; "
                "fetch the GGUF file again"
            )
        return value

    def flag(self, name: str, default: bool) -> bool:
        """The switch `tokenizer.ggml.<name>`.

        Raises:
            CheckpointCorrupt: it is neither true nor false.
        """
        value = self.metadata.get(f"tokenizer.ggml.{name}")
        if value is None:
            return default
        if not isinstance(value, bool):
            raise CheckpointCorrupt(f"tokenizer.ggml.{name} is {value!r}, neither true nor false")
        return value

    def merges(self) -> list[tuple[str, str]]:
        """The pairs of `tokenizer.ggml.merges` in their order.

        Raises:
            CheckpointCorrupt: there are none, or one names what is no token.
        """
        lines = _list(self.metadata, "tokenizer.ggml.merges", str, "text")
        if lines is None:
            raise CheckpointCorrupt(
                "the GGUF file has no tokenizer.ggml.merges, without which its tokenizer cannot be built; "
                "convert the model again or export its Hugging Face folder"
            )
        pairs = []
        for index, line in enumerate(lines):
            left, _, right = line.partition(" ")
            for token in (left, right, left + right):
                if token not in self.ids:
                    raise CheckpointCorrupt(
                        f"tokenizer.ggml.merges[{index}] is {line!r}, but {token!r} is no token"
                    )
            pairs.append((left, right))
        return pairs

    def scores(self) -> list[float]:
        """`tokenizer.ggml.scores`, one number a token.

        Raises:
            CheckpointCorrupt: there are none, too few, or one is no number.
        """
        scores = _list(self.metadata, "tokenizer.ggml.scores", float, "a number")
        if scores is None or len(scores) != len(self.tokens):
            count = 0 if scores is None else len(scores)
            raise CheckpointCorrupt(
                f"tokenizer.ggml.scores has {count} entries for {len(self.tokens)} tokens; "
                "convert the model again or export its Hugging Face folder"
            )
        for index, score in enumerate(scores):
            if math.isnan(score):
                raise CheckpointCorrupt(f"tokenizer.ggml.scores[{index}] is {score}, which ranks nothing")
        return scores

    def added_tokens(self) -> list[dict[str, Any]]:
        """Tokens matched in the text before it is split: control tokens (special) and user-defined ones."""
        return [
            {
                "id": index,
                "content": self.tokens[index],
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": self.types[index] != USER_DEFINED,
            }
            for index in sorted(self.ids.values())
            if self.types[index] in (UNKNOWN, CONTROL, USER_DEFINED)
        ]

    def post_processor(self, adds_bos: bool) -> dict[str, Any] | None:
        """BOS before and EOS after a text, where the file asks for them; `adds_bos` is the family's habit.

        Raises:
            CheckpointCorrupt: the file asks for a token that it does not name.
        """
        before = self._asked("bos", adds_bos)
        after = self._asked("eos", False)
        if before is None and after is None:
            return None

        def template(sequence: str, type_id: int) -> list[dict[str, Any]]:
            text = {"Sequence": {"id": sequence, "type_id": type_id}}
            first = [{"SpecialToken": {"id": before, "type_id": type_id}}] if before is not None else []
            last = [{"SpecialToken": {"id": after, "type_id": type_id}}] if after is not None else []
            return [*first, text, *last]

        names = {name for name in (before, after) if name is not None}
        return {
            "type": "TemplateProcessing",
            "single": template("A", 0),
            "pair": template("A", 0) + template("B", 1),
            "special_tokens": {
                name: {"id": name, "ids": [self.ids[name]], "tokens": [name]} for name in sorted(names)
            },
        }

    def _asked(self, role: str, default: bool) -> str | None:
        if not self.flag(f"add_{role}_token", default):
            return None
        index = self.id(role)
        if index is None:
            if f"tokenizer.ggml.add_{role}_token" not in self.metadata:
                return None  # only a habit, and nothing to add
            raise CheckpointCorrupt(
                f"tokenizer.ggml.add_{role}_token is true, but there is no tokenizer.ggml.{role}_token_id; "
                "convert the model again"
            )
        if self.tokens[index] not in self.ids:
            raise CheckpointCorrupt(
                f"tokenizer.ggml.{role}_token_id is {index}, a row without a token; convert the model again"
            )
        return self.tokens[index]
