"""Model: an artifact on an engine, ready to generate."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

from edge.artifact import Artifact, GraphArtifact, ModelSpec, open_any
from edge.cache.model_cache import ModelCache, open_folder
from edge.cache.policy import AtLimit, Window
from edge.cache.session import Session
from edge.chat import Chat
from edge.defaults import end_ids, sampling_defaults, special_tokens
from edge.errors import ArtifactError, ContextExceeded, InvalidArgument
from edge.generate import Generation
from edge.graphs import load_graphs
from edge.limits import Limits, checked_tokens
from edge.memory.admission import admit
from edge.memory.needs import Needs
from edge.memory.plan import Plan
from edge.sampling import SAMPLING_NAMES, Sampling
from edge.template import ChatTemplate
from edge.tokenizer import Tokenizer
from runtimes.protocol import Engine, Grant, Logits, Step
from runtimes.site import Site

PARAMETERS = ("max_tokens", *SAMPLING_NAMES, "stop", "ignore_eos")


class Model:
    """A loaded model. Several generations and chats may live at once; each has a KV cache of its own.

    Raises:
        ArtifactError: its tokenizer or generation defaults cannot be used.
    """

    def __init__(
        self,
        artifact: Artifact,
        engine: Engine,
        plan: Plan | None = None,
        at_limit: AtLimit = "stop",
        cache: ModelCache | None = None,
    ) -> None:
        self.artifact = artifact
        self.engine = engine
        self.cache = cache or ModelCache(engine)
        """What conversations share, and what of them lies on the disk."""
        self.plan = plan
        """What it was admitted with; None where the engine was opened by hand."""
        self.at_limit = at_limit
        """What becomes of an answer where context or memory end: `stop`, `window` or `error`."""
        slides = at_limit == "window"
        self.cache.window = Window.of(engine.context, artifact.spec, engine.kv) if slides else None
        self.load_s = 0.0
        """Seconds from the call of `load` to here."""
        self._end_ids = end_ids(artifact.generation)
        self._special_tokens = special_tokens(artifact.generation)
        self._defaults = sampling_defaults(artifact.generation)

    @property
    def spec(self) -> ModelSpec:
        """What the decoder is made of."""
        return self.artifact.spec

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer; made when text is first wanted: token ids need neither its time nor its memory.

        Raises:
            ArtifactError: it cannot be used.
        """
        return Tokenizer(self.artifact.tokenizer_json)

    @cached_property
    def template(self) -> ChatTemplate:
        """The chat template.

        Raises:
            ArtifactError: there is none, or it is broken.
        """
        source = self.artifact.chat_template
        if source is None:
            raise ArtifactError(
                f"{self.artifact.path} has no chat template, so it cannot chat; "
                "use raw prompts (edge run --raw)"
            )
        return ChatTemplate(source, self._special_tokens)

    def encode(self, text: str, special: bool = True) -> list[int]:
        """Token ids of `text`; `special` adds what the tokenizer puts around a text, such as a BOS token."""
        return self.tokenizer.encode(text, special)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids`, special tokens left out."""
        return self.tokenizer.decode(ids)

    def generate(
        self,
        prompt: str | Sequence[int],
        *,
        max_tokens: int | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        repetition_penalty: float | None = None,
        seed: int | None = None,
        stop: str | Sequence[str] = (),
        logit_bias: Mapping[int, float] | None = None,
        ignore_eos: bool = False,
        private: bool = False,
    ) -> Generation:
        """Go on from `prompt`, a raw text or token ids, until an end token, a stop string or `max_tokens`.

        What is None comes from the artifact's generation defaults; `max_tokens` from the room in the context. What is
        `private` is kept nowhere, neither for other prompts nor on the disk.

        Raises:
            InvalidArgument: a parameter out of range, or an empty prompt.
            ContextExceeded: the prompt has more tokens than the context holds.
        """
        return self.start(
            self.encode(prompt) if isinstance(prompt, str) else prompt,
            self.cache.new_session(private),
            None,
            max_tokens=max_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            repetition_penalty=repetition_penalty,
            seed=seed,
            stop=stop,
            logit_bias=logit_bias,
            ignore_eos=ignore_eos,
        )

    def chat(self, system: str | None = None, *, private: bool = False, **sampling: Any) -> Chat:
        """A new conversation; `sampling` and `private` as for `generate`.

        Raises:
            ArtifactError: the artifact has no chat template, or a broken one.
        """
        return Chat(self, system, session=self.cache.new_session(private), **sampling)

    def session(self, name: str, system: str | None = None, **sampling: Any) -> Chat:
        """The conversation `name` as it was left, in this process or another; a new one where there is none.

        It is on the disk after every answer. Close it: as long as it is open, nobody else can go on with it.

        Raises:
            InvalidArgument: a name that cannot be a file's, a system message other than the one it has, or
                the model was loaded without a `store`.
            SessionInUse: it is open elsewhere.
            StorageError: the folder refuses.
            ArtifactError: as for `chat`.
        """
        self.check_parameters(sampling)
        saved = self.cache.saved_session(name)
        try:
            return Chat(self, system, session=self.cache.new_session(), saved=saved, **sampling)
        except BaseException:
            saved.close()
            raise

    def logits(self, tokens: Sequence[int]) -> Logits:
        """Float32 logits [len(tokens), vocab] behind each of `tokens`.

        Raises:
            InvalidArgument: there are none, or one is outside of the vocabulary.
            ContextExceeded: there are more than the context holds.
        """
        tokens = checked_tokens(tokens, self.spec.vocab_size)
        if len(tokens) > self.engine.context:
            raise ContextExceeded(
                f"there are {len(tokens)} tokens and the context holds {self.engine.context}; pass fewer, "
                "or load the model with a larger context and memory for it"
            )
        cache = self.engine.new_cache()
        try:
            return self.engine.run([Step(tokens, cache, range(len(tokens)))])[0]
        finally:
            cache.close()

    def start(
        self,
        prompt: Sequence[int],
        session: Session,
        on_end: Callable[[Generation], None] | None,
        **parameters: Any,
    ) -> Generation:
        """A generation in `session`, which stays open if there is an `on_end`."""
        self.check_parameters(parameters)
        chosen = {name: parameters.get(name) for name in SAMPLING_NAMES}
        sampling = Sampling(**{**self._defaults, **{k: v for k, v in chosen.items() if v is not None}})
        stop = parameters.get("stop") or ()
        stops = (stop,) if isinstance(stop, str) else tuple(stop)
        # A special token gives no text that a stop string could be found in.
        spelled = [self.tokenizer.token_id(stop) for stop in stops if isinstance(stop, str)]
        ends = {id for id in spelled if id is not None and self.tokenizer.is_special(id)}
        if not parameters.get("ignore_eos"):
            ends |= self._end_ids
        return Generation(
            session,
            lambda: self.tokenizer,
            prompt,
            vocab=self.spec.vocab_size,
            sampling=sampling,
            limits=Limits(
                max_tokens=parameters.get("max_tokens"),
                stop=stops,
                stop_ids=frozenset(ends),
                at_limit=self.at_limit,
            ),
            on_end=on_end,
        )

    def check_parameters(self, parameters: Mapping[str, Any]) -> None:
        """Check that `generate` has parameters of these names.

        Raises:
            InvalidArgument: it has not.
        """
        for name in parameters:
            if name not in PARAMETERS:
                raise InvalidArgument(f"there is no parameter {name!r}; there are {', '.join(PARAMETERS)}")

    def close(self) -> None:
        """Release the engine; nothing can be generated afterwards."""
        self.cache.close()
        self.engine.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


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
        plan = admit(needs, memory, context, sessions, prefix_cache)
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
