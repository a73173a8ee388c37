"""build(): engines for an artifact's graphs, in the artifact."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from boards.targets import short
from edge.artifact import Artifact, Variant, open_artifact
from edge.errors import InvalidArgument
from export.progress import Counter, Progress
from export.tensorrt import installed
from export.tensorrt.gate import check_precision, coded_weights
from export.tensorrt.graph import (
    check_capacities,
    chosen_variant,
    form_name,
    kv_type,
    profiles,
    read_graph,
)
from export.tensorrt.job import Job
from export.tensorrt.need import available_bytes, build_bytes, check_memory, workspace_bytes
from export.tensorrt.place import aside, put
from export.tensorrt.process import run
from export.tensorrt.target import Target, parse_targets
from runtimes.tensorrt.header import TENSORRT, EngineHeader, artifact_fingerprint
from runtimes.tensorrt.library import this_platform

DEFAULT_CAPACITY = 4096
"""Tokens of a cache, where the model's context is not shorter."""
DEFAULT_CHUNK = 256
"""Tokens of a prompt that are computed at once."""
LOGITS = 32
"""Of those, tokens whose logits are wanted in one call at most; more take more calls."""


@dataclass(frozen=True, kw_only=True)
class BuiltEngine:
    """An engine file, what its header says, and what its build took. Sizes in bytes."""

    path: str
    file_bytes: int
    header: EngineHeader
    bits_per_parameter: float
    needed_bytes: int
    """What the build was expected to allocate."""
    memory_bytes: int
    """What it was allowed to."""
    workspace_bytes: int
    """What the engine may use of the GPU's memory beside weights and KV."""
    peak_rss_bytes: int
    """Of the process that built, pages of the weights file included."""
    seconds: float


@dataclass(frozen=True, kw_only=True)
class BuildReport:
    """What a build did."""

    artifact: str
    engines: tuple[BuiltEngine, ...]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON object."""
        return asdict(self)


@dataclass(frozen=True)
class _Group:
    """Targets that one plan serves."""

    flavour: str
    targets: tuple[Target, ...]
    variant: Variant
    weights: tuple[str, ...]
    kv: str

    @property
    def sms(self) -> tuple[str, ...]:
        return tuple(target.sm for target in self.targets)


def build(
    artifact: str | Path,
    targets: Iterable[str],
    *,
    contexts: Sequence[int] | None = None,
    chunk: int = DEFAULT_CHUNK,
    form: str | None = None,
    memory: int | None = None,
    progress: Progress | None = None,
) -> BuildReport:
    """Build an engine for each of `contexts`, which all `targets` share that one TensorRT builds for.

    An engine is in the artifact whole or not at all; the manifest lists it, and one that it replaces is removed.
    What a target cannot have is refused before anything is built, and graphs and weights are checked by their hashes.

    Args:
        artifact: the folder, with graphs for TensorRT.
        targets: sm89 and the like, or boards; a text may name several, with commas between.
        contexts: tokens that the cache holds, an engine for each; by default DEFAULT_CAPACITY or the model's context.
        chunk: tokens of a prompt that are computed at once, no more than the cache holds.
        form: opset24 or opset21; by default the newest that the TensorRT reads.
        memory: bytes that the builder may take; by default what is free.
        progress: called with (stage, done, in all).

    Raises:
        InvalidArgument: a context, chunk or form that there is not, or no target.
        UnknownTarget, TargetRefused: a target that is none, cannot be had here, or cannot compute such weights.
        TensorRTMissing: what builds for a target is not installed.
        MemoryBudgetError: the build needs more memory than there is, or than `memory`.
        EngineFailed, EngineTooOld, EngineError: TensorRT refuses, or the artifact has no graph for it.
        ArtifactError, StorageError
    """
    started = time.perf_counter()
    report = progress or (lambda stage, done, total: None)
    opened = open_artifact(artifact)
    capacities = tuple(dict.fromkeys(contexts or (min(DEFAULT_CAPACITY, opened.spec.context),)))
    check_capacities(capacities, opened.spec.context)
    if chunk < 1:
        raise InvalidArgument(f"chunk is {chunk}; give 1 or more tokens")
    context = f" --context {','.join(map(str, capacities))}" if contexts else ""
    groups = _groups(opened, parse_targets(targets), form, context)
    _check_files(opened, groups, report)
    jobs = [(group, capacity) for group in groups for capacity in capacities]
    engines = []
    for number, (group, capacity) in enumerate(jobs, 1):
        label = f"build {' '.join(map(short, group.sms))}, {capacity} tokens: "
        if len(jobs) > 1:
            label = f"{number} of {len(jobs)}, {label}"
        engines.append(_engine(opened, group, capacity, chunk, memory, _labelled(report, label)))
    return BuildReport(artifact=str(artifact), engines=tuple(engines), seconds=time.perf_counter() - started)


def sorted_targets(
    names: Iterable[str], weights: Iterable[str] = ()
) -> tuple[tuple[Target, ...], tuple[Target, ...]]:
    """Targets whose engines are built here, and those whose board builds its own; what builds here is installed.

    All can multiply weights of the types `weights`, such as int4.

    Raises:
        InvalidArgument, TargetRefused, TensorRTMissing, BoardError
    """
    targets = parse_targets(names)
    for target in targets:
        check_precision(weights, target)
    later = installed.built_elsewhere(targets)
    here = tuple(target for target in targets if target not in later)
    for target in here:
        installed.check_installed(target.flavour)
    return here, later


def _check_files(artifact: Artifact, groups: Iterable[_Group], progress: Progress) -> None:
    """Raises ArtifactCorrupt where graphs and weights that are built from are not what the manifest says."""
    names = {name for group in groups for name in (group.variant.model, *group.variant.files)}
    total = sum(entry.size for entry in artifact.entries if entry.path in names)
    artifact.verify(Counter(progress, "verify", total).add, names)


def _groups(artifact: Artifact, targets: Sequence[Target], form: str | None, context: str) -> list[_Group]:
    """One for each TensorRT; all that can be refused is refused here."""
    artifact.variant(TENSORRT)
    any_form = next(v for v in artifact.manifest.variants if v.engine == TENSORRT)
    weights = coded_weights(read_graph(artifact.file(any_form.model)))
    for target in targets:
        check_precision(weights, target)
    for target in targets:
        installed.check_here(target, artifact.path, context)
    groups = []
    for flavour in dict.fromkeys(target.flavour for target in targets):
        version = installed.module(flavour).__version__
        variant = chosen_variant(artifact, flavour, version, form)
        kv = kv_type(read_graph(artifact.file(variant.model)))
        own = tuple(target for target in targets if target.flavour == flavour)
        groups.append(_Group(flavour, own, variant, weights, kv))
    return groups


def _engine(
    artifact: Artifact, group: _Group, capacity: int, chunk: int, memory: int | None, progress: Progress
) -> BuiltEngine:
    started = time.perf_counter()
    shapes = profiles(capacity, chunk, LOGITS)
    needed = build_bytes(artifact.manifest.weight_bytes, artifact.spec.layers, len(shapes))
    most = check_memory(needed, available_bytes(), memory)
    unified = group.flavour == TENSORRT
    workspace = workspace_bytes(most, needed, unified)
    progress("start", 0, 1000)
    with aside(artifact) as part:
        built = run(
            Job(
                flavour=group.flavour,
                graph=os.path.abspath(artifact.file(group.variant.model)),
                capacity=capacity,
                profiles=shapes,
                sms=group.sms,
                out=os.path.abspath(part),
                workspace=workspace,
                # Where it opens a GPU, it maps more than it takes.
                memory=None if unified else most,
            ),
            progress,
        )
        header = EngineHeader(
            flavour=group.flavour,
            version=built.version,
            sms=group.sms,
            platform=this_platform(),
            artifact=artifact_fingerprint(artifact, group.variant),
            form=form_name(group.variant),
            capacity=capacity,
            profiles=shapes,
            weights=group.weights,
            kv=group.kv,
            built=int(time.time()),
            activation_bytes=built.activation_bytes,
            plan_bytes=built.plan_bytes,
            plan_sha256=built.plan_sha256,
        )
        path = put(artifact, part, header)
    return BuiltEngine(
        path=str(path),
        file_bytes=path.stat().st_size,
        header=header,
        bits_per_parameter=8 * built.plan_bytes / artifact.spec.parameters,
        needed_bytes=needed,
        memory_bytes=most,
        workspace_bytes=workspace,
        peak_rss_bytes=built.peak_rss_bytes,
        seconds=time.perf_counter() - started,
    )


def _labelled(progress: Progress, label: str) -> Progress:
    return lambda stage, done, total: progress(f"{label}{stage}", done, total)
