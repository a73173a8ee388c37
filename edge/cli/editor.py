"""Where chat reads from: an editor on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import termios
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from edge.errors import InvalidArgument

if TYPE_CHECKING:
    from prompt_toolkit.key_binding import KeyBindings


class Reader(Protocol):
    """Gives what the person says, a message at a time."""

    def read(self) -> str:
        """The next message, without its last line end; its lines are parted by newlines.

        Raises:
            EOFError: there is no more.
            KeyboardInterrupt: Ctrl-C was pressed while typing.
        """


class TerminalReader:
    """Reads with history. Enter sends; Alt-Enter, or a backslash before Enter, goes to a new line.

    Without a file `history` the arrow keys know what was typed here only.
    """

    def __init__(self, history: Path | None) -> None:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.history import FileHistory, InMemoryHistory
        from prompt_toolkit.output import create_output

        kept: FileHistory | InMemoryHistory = InMemoryHistory()
        if history is not None:
            try:
                history.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                history.touch(mode=0o600)
                kept = FileHistory(str(history))
            except OSError:  # a read-only home: this session's lines only
                pass
        self._terminal = termios.tcgetattr(sys.stdin)
        self._session: PromptSession[str] = PromptSession(
            "> ",
            multiline=True,
            prompt_continuation="  ",
            history=kept,
            key_bindings=_bindings(),
            output=create_output(always_prefer_tty=True),
        )

    def read(self) -> str:
        """The next message."""
        try:
            return self._session.prompt()
        finally:
            # A signal can end the prompt between two steps of its own cleaning up.
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._terminal)


class LineReader:
    """Reads a message a line from what is no terminal; a backslash at its end joins the next line to it."""

    def __init__(self) -> None:
        self._offset = 0

    def read(self) -> str:
        """The next message."""
        lines: list[str] = []
        while True:
            data = sys.stdin.buffer.readline()
            if not data:
                if not lines:
                    raise EOFError
                return "\n".join(lines)
            line = self._decoded(data)
            if not line.endswith("\\"):
                return "\n".join([*lines, line])
            lines.append(line[:-1])

    def _decoded(self, data: bytes) -> str:
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as e:
            raise InvalidArgument(
                f"stdin is not UTF-8: byte 0x{data[e.start]:02x} at offset {self._offset + e.start}; "
                "convert it first, such as with iconv"
            ) from None
        self._offset += len(data)
        return text.removesuffix("\n").removesuffix("\r")


def history_path(environment: Mapping[str, str] = os.environ) -> Path:
    """The file with what was typed, in the folder that the XDG base directories name for state."""
    state = environment.get("XDG_STATE_HOME", "")
    folder = Path(state) if os.path.isabs(state) else Path.home() / ".local" / "state"
    return folder / "edgewise" / "history"


def _bindings() -> KeyBindings:
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
    from prompt_toolkit.keys import Keys

    bindings = KeyBindings()

    @bindings.add(Keys.Enter)
    def _send(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.document.char_before_cursor == "\\" and buffer.document.is_cursor_at_the_end:
            buffer.delete_before_cursor()
            buffer.insert_text("\n")
        else:
            buffer.validate_and_handle()

    # Typed ahead, while an answer ran, the terminal has made a line feed of it.
    @bindings.add(Keys.Escape, Keys.Enter)
    @bindings.add(Keys.Escape, Keys.ControlJ)
    def _new_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return bindings
