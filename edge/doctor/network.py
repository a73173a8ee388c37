"""Whether what a run loads opens a connection: watched while it is loaded and tried."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from boards.files import system_text

# What Python says before it does it.
_EVENTS = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "urllib.Request")
_TABLES = ("tcp", "tcp6", "udp", "udp6")
_MOST = 10


@dataclass
class Network:
    """What was seen."""

    calls: list[str] = field(default_factory=list)
    """Connections and look-ups by Python code."""
    sockets: int | None = None
    """Internet sockets that are open now and were not before, by whatever code; None where it cannot be told."""
    reports: bool | None = None
    """Whether onnxruntime has what uploads reports of its use; None where it cannot be told."""
    silenced: bool = True
    """Whether that is switched off."""


_watched: list[Network] = []
_hooked = False


@contextmanager
def watching() -> Iterator[Network]:
    """Note what code does inside of this that has to do with the network."""
    global _hooked
    if not _hooked:  # a hook stays for the life of the process
        sys.addaudithook(_heard)
        _hooked = True
    network, before = Network(), _internet_sockets()
    _watched.append(network)
    try:
        yield network
    finally:
        _watched.remove(network)
        after = _internet_sockets()
        network.sockets = None if before is None or after is None else len(after - before)
        _ask_onnxruntime(network)


def _ask_onnxruntime(network: Network) -> None:
    try:
        from runtimes.onnxruntime.telemetry import can_report, is_silenced
    except Exception:  # where numpy is missing or broken there are no engines, and nothing to report
        return
    network.reports, network.silenced = can_report(), is_silenced()


def _heard(event: str, arguments: tuple[Any, ...]) -> None:
    if _watched and event in _EVENTS:
        words = " ".join(repr(a) for a in arguments if isinstance(a, (str, bytes, tuple, int)))[:120]
        for network in _watched:
            if len(network.calls) < _MOST:
                network.calls.append(f"{event} {words}")


def _internet_sockets(process: Path = Path("/proc/self")) -> set[str] | None:
    """Inodes of this process's sockets that are of the internet."""
    try:
        links = [os.readlink(entry.path) for entry in os.scandir(process / "fd") if entry.is_symlink()]
    except OSError:
        return None
    ours = {link[len("socket:[") : -1] for link in links if link.startswith("socket:[")}
    lines = [line.split() for table in _TABLES for line in system_text(process / "net" / table).splitlines()]
    return ours & {words[9] for words in lines if len(words) > 9}
