"""The board, what runs on it, and its files that cannot be used."""

from __future__ import annotations

from collections.abc import Iterator

import boards
from boards.detection import Detection
from boards.files import SystemFiles, printable
from boards.tegra import KERNEL, is_tegra
from edge.doctor.finding import Finding, because_and_next


def which_board(found: Detection, files: SystemFiles) -> Finding:
    """Which one it is, and who says so."""
    facts = {"name": found.board.name, "known": found.known, "decided_by": found.decided_by or None}
    if found.known:
        return Finding(
            "board", "ok", f"{found.board.title} ({found.board.name}), by {found.decided_by}", facts=facts
        )
    if is_tegra(files) and found.notes:
        text, step = because_and_next(found.notes[0])
        return Finding("board", "note", text, step, facts)
    return Finding(
        "board", "ok", f"{found.board.title}: no profile of ours, taken as it shows itself", facts=facts
    )


def system(found: Detection, files: SystemFiles) -> Finding:
    """Release, kernel, and what stands between the process and the machine."""
    kernel = next(iter(files.text(KERNEL).split()[2:3]), "")
    facts = {
        "l4t": found.l4t or None,
        "jetpack": found.release.jetpack if found.release else None,
        "kernel": kernel or None,
        "container": found.container or None,
        "wsl": found.wsl,
    }
    parts = []
    if found.release:
        release = found.release
        parts += [
            f"JetPack {release.jetpack} (L4T {found.l4t})",
            f"CUDA {release.cuda}",
            f"TensorRT {release.tensorrt}",
        ]
    elif found.l4t:
        parts.append(f"L4T {found.l4t}, of no JetPack that is known here")
    parts += [f"Linux {printable(kernel)}"] if kernel else []
    parts += [f"in a container ({found.container})"] if found.container else []
    if found.wsl:
        return Finding(
            "system",
            "note",
            f"{', '.join(parts)}; WSL: memory is what Windows gives it, and sensors are not seen",
            "more memory: memory= in .wslconfig, then wsl --shutdown",
            facts,
        )
    return Finding("system", "ok", ", ".join(parts) or "Linux", facts=facts)


def files_not_usable(found: Detection) -> Iterator[Finding]:
    """Contradictions, profiles of the user that are none, and files of the system that do not tell what they should."""
    for conflict in found.conflicts:
        yield Finding(
            "contradiction",
            "note",
            f"{conflict.what}; {conflict.wins} is believed",
            "what each file says: edge boards show",
        )
    for fault in boards.catalogue().faults.values():
        text, step = because_and_next(str(fault))
        yield Finding("profile", "note", f"left out: {text}", step or "correct the file: docs/boards.md")
    for file in found.unreadable:
        yield Finding("file", "note", f"{file.path} cannot be used: {file.why}", facts={"path": file.path})
