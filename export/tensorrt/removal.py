"""remove(): engines out of an artifact."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from boards.targets import short
from edge.artifact import Artifact, open_artifact
from edge.artifact.engine_files import is_engine, told_by_name
from edge.errors import InvalidArgument
from export.tensorrt.place import take_out
from export.tensorrt.target import parse_targets


@dataclass(frozen=True, kw_only=True)
class RemovedEngine:
    """An engine file that was, and the bytes that it took, kernels compiled for it included."""

    path: str
    file_bytes: int


@dataclass(frozen=True, kw_only=True)
class RemovalReport:
    """What was removed."""

    artifact: str
    removed: tuple[RemovedEngine, ...]

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON object."""
        return asdict(self)


def remove(
    artifact: str | Path, targets: Iterable[str] = (), *, contexts: Sequence[int] | None = None
) -> RemovalReport:
    """Remove engines: all of them, or those for `targets` and for `contexts` where such are named.

    One that serves other targets too is removed only with them.

    Raises:
        InvalidArgument: there is no such engine, or it is for targets that are not named.
        UnknownTarget, TargetRefused, ArtifactError, StorageError
    """
    targets = tuple(targets)
    wanted = [short(target.sm) for target in parse_targets(targets)] if targets else None
    freed = take_out(open_artifact(artifact), lambda now: _chosen(now, wanted, contexts))
    removed = tuple(RemovedEngine(path=name, file_bytes=nbytes) for name, nbytes in freed.items())
    return RemovalReport(artifact=str(artifact), removed=removed)


def _chosen(artifact: Artifact, wanted: Sequence[str] | None, contexts: Sequence[int] | None) -> list[str]:
    there = [entry.path for entry in artifact.manifest.files if is_engine(entry.path)]
    chosen = []
    for name in there:
        # Names say what even a damaged engine was for.
        targets, capacity = told_by_name(name)
        if contexts and capacity not in contexts:
            continue
        if wanted is not None and not set(targets) & set(wanted):
            continue
        if others := [target for target in targets if wanted is not None and target not in wanted]:
            raise InvalidArgument(
                f"{artifact.path / name} is for {' and '.join(others)} too: add {','.join(others)} to --target to "
                "remove it"
            )
        chosen.append(name)
    if not chosen:
        which = "such engine" if there else "engine"
        raise InvalidArgument(
            f"{artifact.path} has no {which} to remove{''.join(f'; it has {name}' for name in there[:4])}"
        )
    return chosen
