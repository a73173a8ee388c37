"""Plans: the engines of an artifact that can run here, one for each bucket."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import TypeVar

from edge.artifact import Artifact, ModelSpec
from edge.artifact.engine_files import build_command, target_name, told_by_name
from edge.errors import EngineError, EngineMismatch
from runtimes.site import HOST, Site
from runtimes.static.bindings import Binding, Interface
from runtimes.static.chunks import Profile
from runtimes.static.form import FORMS, form_of
from runtimes.tensorrt import library
from runtimes.tensorrt.header import (
    PLAN_OFFSET,
    TENSORRT,
    EngineHeader,
    Here,
    artifact_fingerprint,
    engines,
    mismatch,
    rebuild,
    sm_name,
    survey,
)


@dataclass(frozen=True)
class Plan:
    """An engine's file, of which TensorRT reads `nbytes` from `offset` on; profiles as TensorRT numbers them."""

    path: Path
    offset: int
    nbytes: int
    form: str
    kv: str
    capacity: int
    profiles: tuple[Profile, ...]
    activations: int
    """What a context for prompts and one for single tokens take of the GPU's memory; 0 where TensorRT did not say."""
    built: int
    """See `EngineHeader.built`."""

    @property
    def prefill(self) -> int:
        """The profile with the most tokens."""
        return max(range(len(self.profiles)), key=lambda i: self.profiles[i].tokens)

    @property
    def decode(self) -> int:
        """The profile with the fewest tokens, which is the one for a single one where there are two."""
        return min(range(len(self.profiles)), key=lambda i: self.profiles[i].tokens)

    def interface(self, spec: ModelSpec) -> Interface:
        """What it takes and gives, of the model `spec`."""
        return Interface(spec, next(form for form in FORMS if form.name == self.form), self.kv)


_Built = TypeVar("_Built", Plan, EngineHeader)


def consistent(plans: Sequence[_Built]) -> tuple[_Built, ...]:
    """Of plans that can run here those in the form of the newest, of each capacity the newest, the smallest first.

    A sequence that outgrows a bucket goes on in the next: all have to keep KV alike.

    Raises:
        EngineError: there are none.
    """
    if not plans:
        raise EngineError("there is no engine to run; build one with: edge build ARTIFACT --target TARGET")
    *_, newest = ordered = sorted(plans, key=attrgetter("built"))
    alike = [plan for plan in ordered if (plan.form, plan.kv) == (newest.form, newest.kv)]
    by_capacity = {plan.capacity: plan for plan in alike}
    return tuple(by_capacity[capacity] for capacity in sorted(by_capacity))


def left_out(headers: Sequence[EngineHeader]) -> list[tuple[str, ...]]:
    """For each engine of an artifact the compute capabilities on which newer ones are run, and it is not."""
    rivals: dict[tuple[str, ...], list[EngineHeader]] = {}
    for header in headers:
        for sm in header.sms:
            rivals.setdefault((sm, header.flavour, header.version, header.platform), []).append(header)
    run = {place: consistent(several) for place, several in rivals.items()}
    return [
        tuple(sm for sm in each.sms if each not in run[sm, each.flavour, each.version, each.platform])
        for each in headers
    ]


def common(plans: Sequence[Plan]) -> Profile:
    """What a prefill call of every plan takes."""
    widest = [plan.profiles[plan.prefill] for plan in plans]
    return Profile(min(p.tokens for p in widest), min(p.logits for p in widest))


def staged(interface: Interface, plan: Plan) -> list[Binding]:
    """What the calls of `plan` are fed and what is read of them, at its largest."""
    tokens = max(profile.tokens for profile in plan.profiles)
    table = interface.table(tokens, plan.capacity, plan.profiles[plan.prefill].logits)
    return [binding for binding in table.values() if binding.where in ("fed", "read")]


def site_of(spec: ModelSpec, plans: Sequence[Plan], card: int | None) -> Site:
    """Where `plans`, as `consistent` gives them, put a model; of a card with its own memory `card` bytes are free."""
    interface = plans[0].interface(spec)
    fed = max(sum(binding.nbytes for binding in staged(interface, plan)) for plan in plans)
    new = interface.new_rows(1) + interface.new_rows(common(plans).tokens)
    return Site(
        buckets=tuple(plan.capacity for plan in plans),
        more=build_command(plans[-1].path, context=False),
        # One is loaded at a time.
        weights=max(plan.nbytes for plan in plans),
        staged=fed + new + max(plan.activations for plan in plans),
        pinned=0 if card is None else fed,
        card=card,
    )


def built_site(artifact: Artifact, card: int | None) -> Site:
    """The same for the whole engines of an artifact, whatever GPU they are for; a guess where none is there."""
    known = _fingerprints(artifact)
    plans = [
        _plan(artifact.path / name, header)
        for name, header in engines(artifact)
        if header.artifact == known.get(header.form)
    ]
    return site_of(artifact.spec, consistent(plans), card) if plans else replace(HOST, card=card)


def found_plans(artifact: Artifact, sm: str, versions: Mapping[str, str]) -> dict[str, tuple[Plan, ...]]:
    """The plans of `artifact` that run here, by flavour: on a GPU of capability `sm`, with `versions` of TensorRT.

    Raises:
        EngineMismatch: there are engines, and none of them does; it says why not, and what to run.
        EngineDamaged: so is the one that would.
        EngineError: there are none.
        ArtifactError
    """
    fingerprints = _fingerprints(artifact)
    whole, bad = survey(artifact)
    fitting: dict[str, list[Plan]] = {}
    refusals: list[str] = []
    for name, header in sorted(whole, key=lambda each: -each[1].built):
        whys: list[str] = []
        for flavour, version in versions.items():
            here = Here(
                flavour=flavour,
                version=version,
                sm=sm,
                platform=library.this_platform(),
                artifact=fingerprints.get(header.form, ""),
            )
            why = mismatch(header, here, artifact.path)
            if why is None:
                fitting.setdefault(flavour, []).append(_plan(artifact.file(name), header))
            # What is said of the same flavour tells most.
            whys.insert(0 if flavour == header.flavour else len(whys), why or "")
        if all(whys):
            refusals.append(f"{artifact.path / name} is {whys[0]}")
    if not fitting:
        wanted = [e for name, e in bad if target_name(sm) in told_by_name(name)[0]]
        if wanted or (bad and not refusals):
            raise (wanted or [e for _, e in bad])[-1]
        if refusals:
            # That of the newest engine, which is what was built last.
            raise EngineMismatch(refusals[0])
        raise EngineError(
            f"{artifact.path} has no engine for {sm_name(sm)}; build one: {rebuild(artifact.path, sm)}"
        )
    return {flavour: consistent(plans) for flavour, plans in fitting.items()}


def _fingerprints(artifact: Artifact) -> dict[str, str]:
    """What engines of each form were built of."""
    return {
        form_of(variant).name: artifact_fingerprint(artifact, variant)
        for variant in artifact.manifest.variants
        if variant.engine == TENSORRT
    }


def _plan(path: Path, header: EngineHeader) -> Plan:
    return Plan(
        path=path,
        offset=PLAN_OFFSET,
        nbytes=header.plan_bytes,
        form=header.form,
        kv=header.kv,
        capacity=header.capacity,
        profiles=tuple(Profile(shapes.tokens, shapes.logits) for shapes in header.profiles),
        # Two contexts, where there is one profile too.
        activations=header.activation_bytes * 2 // len(header.profiles),
        built=header.built,
    )
