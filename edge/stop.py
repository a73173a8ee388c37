"""Stop strings: text is held back exactly as long as it could still become one."""

from __future__ import annotations

from collections.abc import Sequence

from edge.errors import InvalidArgument


class StopStrings:
    """Cuts a stream of text before the stop string that is complete first (of several at once, the longest).

    Raises:
        InvalidArgument: a stop string is empty or no string.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        for stop in stops:
            if not isinstance(stop, str) or not stop:
                raise InvalidArgument(f"stop has {stop!r}; give texts of at least one character")
        self._matchers = [_Matcher(stop) for stop in stops]
        self._begin = frozenset(stop[0] for stop in stops)
        self._held = ""
        self.stopped = False

    def push(self, piece: str) -> str:
        """Text that can be shown now that `piece` has come; sets `stopped` if it completed a stop string."""
        if not self._held and self._begin.isdisjoint(piece):
            return piece
        text = self._held + piece
        for at, char in enumerate(piece, len(self._held) + 1):
            complete = [m.stop for m in self._matchers if m.advance(char)]
            if complete:
                self.stopped = True
                self._held = ""
                return text[: at - max(map(len, complete))]
        keep = max(m.matched for m in self._matchers)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def finish(self) -> str:
        """The text still held: nothing will complete it any more."""
        rest, self._held = self._held, ""
        return rest


class _Matcher:
    """Finds one string in a stream of characters (Knuth, Morris and Pratt 1977)."""

    def __init__(self, stop: str) -> None:
        self.stop = stop
        self.matched = 0
        """Length of the longest beginning of `stop` that the stream ends with."""
        self._fallback = [0] * len(stop)
        length = 0
        for i in range(1, len(stop)):
            while length and stop[i] != stop[length]:
                length = self._fallback[length - 1]
            length += stop[i] == stop[length]
            self._fallback[i] = length

    def advance(self, char: str) -> bool:
        """Whether `char` completes the string; nothing may follow then."""
        while self.matched and char != self.stop[self.matched]:
            self.matched = self._fallback[self.matched - 1]
        self.matched += char == self.stop[self.matched]
        return self.matched == len(self.stop)
