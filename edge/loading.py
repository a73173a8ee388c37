"""load(): an artifact is opened, admitted by its plan, and ready to generate."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, get_args

from edge.artifact import GraphArtifact, open_any
from edge.cache.model_cache import ModelCache, open_folder
from edge.cache.policy import AtLimit
from edge.errors import InvalidArgument
from edge.graphs import load_graphs
from edge.memory.admission import admit
from edge.memory.needs import Needs
from edge.memory.plan import Plan
from edge.model import Model
from runtimes.protocol import Grant
from runtimes.site import Site


def load(
    path: str | Path,
    engine: str = "auto",
    threads: int | None = None,
    context: int | None = None,
    kv: str | None = None,
    memory: int | str = "auto",
    sessions: int = 1,
    at_limit: AtLimit = "stop",
    prefix_cache: int | str = "auto",
    store: str | Path | None = None,
    disk: int | str = "auto",
) -> Model | Any:
    """Load the artifact at `path`: a Model, or Graphs where it holds graphs that are no decoder of ours.

    Graphs take `threads` alone. Type checkers are told of a Model, since that is what nearly every artifact is.

    `engine` names the engine, or is "auto" for the best one installed; `threads` defaults to the physical
    cores available; `context` to as many tokens as fit, the model's own at most. `kv` is what keys and values are
    kept as: fp32, fp16, int8 or int4, by default what the engine is best at; where that is settled at export, what the
    artifact has. `memory` is what all of this may take, in bytes or as "6GiB"; "auto" is what there is. It is of the
    GPU's memory where weights and KV are on a card that has its own. `sessions` conversations of `context` tokens are
    planned for at once.

    Where context or memory end in the middle of an answer, `at_limit` "stop" ends it with `finish_reason` `length`, and
    "error" raises ContextExceeded or MemoryBudgetError; what was said is kept. With "window" it goes on, and prompts
    may be longer than the context: of what is older than that the first 64 tokens stay.

    What one prompt has read is there for the next that begins alike: as much as `prefix_cache` bytes hold (0 is none,
    "auto" one conversation where there is room), and, in the folder `store`, as much as `disk` bytes hold after a
    restart too. "auto" is the user's cache folder, and a tenth of what the disk has free, 2 GiB at most.

    Raises:
        ArtifactError, EngineError, MissingExtra, InvalidArgument, MemoryBudgetError
        StorageError: `store` cannot be written.
    """
    # Engines are looked for when one is opened, not on import.
    from runtimes import open_engine

    if at_limit not in get_args(AtLimit):
        raise InvalidArgument(f"at_limit is {at_limit!r}; choose one of {', '.join(get_args(AtLimit))}")
    start = time.perf_counter()
    artifact = open_any(path)
    if isinstance(artifact, GraphArtifact):
        return load_graphs(
            artifact,
            engine,
            threads,
            context=(context, None),
            kv=(kv, None),
            memory=(memory, "auto"),
            sessions=(sessions, 1),
            at_limit=(at_limit, "stop"),
            prefix_cache=(prefix_cache, "auto"),
            store=(store, None),
            disk=(disk, "auto"),
        )
    folder = open_folder(store)
    plans: list[Plan] = []

    def grant(name: str, kind: str, site: Site) -> Grant:
        needs = Needs.of_artifact(artifact.manifest, name, kind).at(site)
        plan = admit(needs, memory, context, sessions, prefix_cache, artifact=artifact.path)
        plans.append(plan)
        return Grant(plan.context, plan.kv_budget)

    opened = open_engine(artifact, engine=engine, threads=threads, kv=kv, admit=grant)
    try:
        plan = plans[-1] if plans else None
        cache = ModelCache.of(artifact, opened, plan, folder, disk) if plan is not None else None
        model = Model(artifact, opened, plan, at_limit, cache)
    except BaseException:
        opened.close()
        raise
    model.load_s = time.perf_counter() - start
    return model
