"""Token ids to text, one at a time: every piece is whole UTF-8, and nothing is held that could be shown."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from edge.errors import ArtifactError

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@dataclass(frozen=True)
class Decoding:
    """How a tokenizer spells bytes: its decoder, reduced to what can be applied token by token."""

    byte_level: bool = False
    """Every character of a token stands for one byte (GPT-2)."""
    byte_fallback: bool = False
    """Tokens spelled <0xE2> stand for that byte (SentencePiece)."""
    replace: tuple[tuple[str, str], ...] = ()
    """Texts replaced in every token, in this order."""
    drop_first: str = ""
    """A character whose every occurrence in the first token is dropped."""
    strip_char: str = ""
    strip_count: int = 0
    """How many `strip_char` are dropped from the beginning of the text, at most."""

    @classmethod
    def read(cls, decoder: Any) -> Decoding:
        """Read the `decoder` of a tokenizer.json.

        Raises:
            ArtifactError: a decoder that cannot be applied token by token, or none at all.
        """
        parts = [decoder]
        if isinstance(decoder, dict) and decoder.get("type") == "Sequence":
            parts = decoder.get("decoders", [])
        if len(parts) == 1 and isinstance(parts[0], dict) and parts[0].get("type") == "ByteLevel":
            return cls(byte_level=True)
        values: dict[str, Any] = {"replace": ()}
        fused = False
        for part in parts:
            match part:
                case {"type": "Fuse"}:
                    fused = True
                case {"type": "Strip", "content": str(char), "start": int(start), "stop": 0} if fused:
                    values |= {"strip_char": char, "strip_count": start}
                case {"type": "ByteFallback"} if not fused:
                    values["byte_fallback"] = True
                case {"type": "Replace", "pattern": {"String": str(old)}, "content": str(new)} if not fused:
                    values["replace"] += ((old, new),)
                case {"type": "Metaspace", "replacement": str(mark)} if not fused:
                    values["drop_first"] = mark if part.get("prepend_scheme") != "never" else ""
                    values["replace"] += ((mark, " "),)
                case _:
                    raise ArtifactError(
                        f"tokenizer.json has the decoder {decoder!r}, of which Edgewise does not know "
                        f"{part!r}; report the model so that it can be added"
                    )
        return cls(**values)

    def bytes_of(self, token: str, first: bool) -> bytes:
        """Bytes that `token` stands for; `first` if no token came before it."""
        if self.byte_level:
            table = _byte_of_character()
            try:
                return bytes([table[c] for c in token])
            except KeyError:  # a token with a character outside of the table was added as it is spelled
                return token.encode()
        if first and self.drop_first:
            token = token.replace(self.drop_first, "")
        for old, new in self.replace:
            token = token.replace(old, new)
        if self.byte_fallback and (match := _BYTE_TOKEN.fullmatch(token)):
            return bytes([int(match[1], 16)])
        return token.encode()


class Detokenizer:
    """A stream of text: `add` ids, then `finish` once."""

    def __init__(self, content: Callable[[int], str | None], decoding: Decoding) -> None:
        self._content = content
        self._decoding = decoding
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._first = True
        self._strip = decoding.strip_count

    def add(self, id: int) -> str:
        """Text that is certain now that `id` has come; "" while a character lacks bytes."""
        token = self._content(id)
        if token is None:
            return ""
        data = self._decoding.bytes_of(token, self._first)
        self._first = False
        return self._stripped(self._utf8.decode(data))

    def finish(self) -> str:
        """The rest: U+FFFD where a character was left without its last bytes."""
        return self._stripped(self._utf8.decode(b"", True))

    def _stripped(self, piece: str) -> str:
        while self._strip and piece:
            if piece[0] != self._decoding.strip_char:
                self._strip = 0
                break
            piece = piece[1:]
            self._strip -= 1
        return piece


@cache
def _byte_of_character() -> dict[str, int]:
    """The byte that each character of a byte-level vocabulary stands for.

    Printable bytes stand for themselves; the others follow on from U+0100 in their order.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    table = {chr(b): b for b in printable}
    hidden = [b for b in range(256) if b not in printable]
    return table | {chr(0x100 + i): b for i, b in enumerate(hidden)}
