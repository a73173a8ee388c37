"""`edge` on a pseudo-terminal: type into it, and read until something is there."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import termios
from pathlib import Path

# The child makes the terminal its controlling one, so that Ctrl-C reaches it as a signal.
LAUNCH = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from edge.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[@-Z\\-_]|\r")
# How long a hung program may hang; nothing is measured by it.
PATIENCE = 60


class Terminal:
    def __init__(self, args: list[str], *, state: Path) -> None:
        self._master, self._slave = pty.openpty()
        self.attributes = termios.tcgetattr(self._slave)
        self._text = ""
        self._at = 0
        environment = os.environ | {
            "PROMPT_TOOLKIT_NO_CPR": "1",
            "TERM": "xterm",
            "XDG_STATE_HOME": str(state),
            "COLUMNS": "100",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, *args],
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            start_new_session=True,
            env=environment,
        )

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def expect(self, text: str) -> str:
        """Read until `text` is there, behind what was expected before; what came before it."""
        while (found := self._text.find(text, self._at)) < 0:
            if not self._read():
                raise AssertionError(f"{text!r} did not come; there is: {self._text[self._at :]!r}")
        before, self._at = self._text[self._at : found], found + len(text)
        return before

    def wait(self) -> int:
        """The exit code."""
        while self.process.poll() is None and self._read(0.05):
            pass
        return self.process.wait(PATIENCE)

    def is_restored(self) -> bool:
        """Whether echo, line editing and signals are as they were found."""
        return termios.tcgetattr(self._slave)[:4] == self.attributes[:4]

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._slave)
        os.close(self._master)

    def _read(self, patience: float = PATIENCE) -> bool:
        if not select.select([self._master], [], [], patience)[0]:
            return False
        data = os.read(self._master, 65536)
        self._text = ESCAPES.sub("", self._text + data.decode("utf-8", "replace"))
        return bool(data)
