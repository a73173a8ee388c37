"""Text to token ids and back, and back as a stream."""

from __future__ import annotations

import json
from collections.abc import Iterable

import tokenizers

from edge.detokenizer import Decoding, Detokenizer
from edge.errors import ArtifactCorrupt, InvalidArgument


class Tokenizer:
    """The artifact's tokenizer: `tokenizer.json` as the `tokenizers` library reads it.

    Raises:
        ArtifactCorrupt: the text is no tokenizer.
        ArtifactError: its decoder is one that Edgewise does not know.
    """

    def __init__(self, text: str) -> None:
        try:
            self._tokenizer = tokenizers.Tokenizer.from_str(text)
            decoder = json.loads(text).get("decoder")
        except Exception as e:  # the library raises bare Exception
            raise ArtifactCorrupt(
                f"tokenizer.json is no tokenizer ({e}); export the artifact again"
            ) from None
        # A file saved for training may cut or fill up every text.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._decoding = Decoding.read(decoder)
        added = self._tokenizer.get_added_tokens_decoder()
        self._added = frozenset(added)
        self._special = frozenset(id for id, token in added.items() if token.special)

    @property
    def vocab_size(self) -> int:
        """Number of tokens, added ones included; the model's own vocabulary may be padded beyond it."""
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    def encode(self, text: str, special: bool = True) -> list[int]:
        """Token ids of `text`; `special` adds what the tokenizer puts around a text, such as a BOS token.

        Special tokens written in the text become those tokens either way.

        Raises:
            InvalidArgument: the text holds half a surrogate pair, so it is no Unicode text.
        """
        try:
            return list(self._tokenizer.encode(text, add_special_tokens=special).ids)
        except TypeError:
            at = next((i for i, c in enumerate(text) if "\ud800" <= c <= "\udfff"), 0)
            raise InvalidArgument(
                f"the text holds {text[at : at + 1]!r} at character {at}, half a surrogate pair; "
                "pass text decoded from valid UTF-8"
            ) from None

    def decode(self, ids: Iterable[int], special: bool = False) -> str:
        """Text of `ids`, special tokens left out unless `special`; ids without a token give nothing.

        Bytes that are no UTF-8 become U+FFFD, one for each maximal run that could have begun a character.
        """
        stream = self.detokenizer(special)
        return "".join([stream.add(id) for id in ids]) + stream.finish()

    def detokenizer(self, special: bool = False) -> Detokenizer:
        """A stream whose pieces concatenate to what `decode` gives."""
        return Detokenizer(self._content if special else self._plain, self._decoding)

    def token_id(self, token: str) -> int | None:
        """Id of the token spelled `token` in the vocabulary, or None."""
        id: int | None = self._tokenizer.token_to_id(token)
        return id

    def is_special(self, id: int) -> bool:
        """Whether `decode` leaves the token out."""
        return id in self._special

    def is_added(self, id: int) -> bool:
        """Whether the token is split off a text before anything else, so that what follows stands alone."""
        return id in self._added

    def _content(self, id: int) -> str | None:
        try:
            content: str | None = self._tokenizer.id_to_token(id)
        except (OverflowError, TypeError):
            raise InvalidArgument(
                f"token id {id!r} is none; ids run from 0 to {self.vocab_size - 1}"
            ) from None
        return content

    def _plain(self, id: int) -> str | None:
        return None if id in self._special else self._content(id)
