"""An artifact as users run it: the same engine, operators and type of KV."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from types import TracebackType

import numpy as np

from edge.artifact import Artifact
from edge.errors import ContextExceeded
from export.usage import give_back
from runtimes import Step, default_threads, open_engine
from runtimes.protocol import Grant
from runtimes.site import Site


class ArtifactRun:
    """A context manager around the engine of an artifact, for sequences of up to `tokens`."""

    def __init__(
        self,
        artifact: Artifact,
        tokens: int,
        engine: str = "auto",
        admit: Callable[[str, str, Site], Grant] | None = None,
    ) -> None:
        """`engine` and `admit` as `runtimes.open_engine` takes them.

        Raises:
            InvalidArgument, EngineError, ArtifactError, MissingExtra, and what `admit` raises
            ContextExceeded: an engine was built for shorter sequences.
        """
        wanted = min(tokens, artifact.spec.context)
        self.engine = open_engine(artifact, engine, default_threads(), wanted, admit=admit)
        if self.engine.context < wanted:
            held = self.engine.context
            self.engine.close()
            raise ContextExceeded(
                f"engine {self.engine.name} of {artifact.path} holds {held} tokens, and {wanted} are wanted; build it "
                f"with --context {wanted} or more"
            )

    @property
    def kv(self) -> str:
        """What keys and values are kept as."""
        return self.engine.kv[0].type

    def continued(self, prompt: Sequence[int], count: int, stop: Collection[int] = ()) -> list[int]:
        """`prompt` and the `count` likeliest tokens behind it, one by one; none behind one of `stop`."""
        ids = list(prompt)
        cache = self.engine.new_cache()
        try:
            logits = self.engine.run([Step(ids, cache, [len(ids) - 1])])[0]
            for _ in range(count):
                ids.append(int(np.argmax(logits[0])))
                if ids[-1] in stop:
                    break
                logits = self.engine.run([Step(ids[-1:], cache, [0])])[0]
        finally:
            cache.close()
        return ids

    def __enter__(self) -> ArtifactRun:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.engine.close()
        give_back()
