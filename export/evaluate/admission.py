"""Admission of a comparison: the plan of a load, with what the reference takes beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from edge.artifact import Artifact, ModelSpec
from edge.errors import ContextExceeded
from edge.memory.admission import admit
from edge.memory.needs import Needs
from export.evaluate.log_probabilities import CHUNK
from runtimes.protocol import Grant
from runtimes.site import Site

# A layer of the reference as arrays and in its session; log-probabilities of both models, what is between them.
_COPIES_OF_LAYER, _FLOAT64_ROWS = 2, 4


def admission(artifact: Artifact, tokens: int) -> Callable[[str, str, Site], Grant]:
    """What `runtimes.open_engine` asks before it loads anything, for one sequence of `tokens` at a time.

    It raises MemoryBudgetError where that and the reference need more memory than there is, and ContextExceeded where
    the engine was built for less.
    """

    def grant(engine: str, kv: str, site: Site) -> Grant:
        needs = Needs.of_artifact(artifact.manifest, engine, kv).at(site)
        if needs.longest < tokens:
            raise ContextExceeded(
                f"engine {engine} of {artifact.path} holds {needs.longest} tokens, and {tokens} are wanted; build it "
                f"with --context {tokens} or more"
            )
        # The reference is computed by the host, whatever memory the artifact is in.
        reference = reference_bytes(artifact.spec)
        if needs.card is None:
            needs = replace(needs, weights=needs.weights + reference)
        else:
            needs = replace(needs, pinned=needs.pinned + reference)
        plan = admit(needs, "auto", tokens, 1, prefix_cache=0)
        return Grant(plan.context, plan.kv_budget)

    return grant


def reference_bytes(spec: ModelSpec) -> int:
    """What the reference takes at its peak, in bytes: a layer in float32, or the LM head and a chunk behind it."""
    table = spec.vocab_size * spec.hidden_size
    layer = max(0, spec.parameters - table * (1 if spec.tied else 2)) // spec.layers
    return max(4 * _COPIES_OF_LAYER * layer, 4 * table + 8 * _FLOAT64_ROWS * CHUNK * spec.vocab_size)
