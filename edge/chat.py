"""Chat: turns of one conversation; the KV of what was said before is kept and not run again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from edge.cache.session import Session
from edge.errors import ContextExceeded, InvalidArgument, StorageError
from edge.generate import Generation

if TYPE_CHECKING:
    from edge.cache.saved import SavedSession
    from edge.model import Model
    from runtimes.protocol import Cache

_log = logging.getLogger("edgewise.chat")
_ROLES = ("system", "user", "assistant")
_VERSION = 1


class Chat:
    """A conversation with `model`; `sampling` holds for every answer unless `send` says otherwise.

    Raises:
        ArtifactError: the artifact has no chat template, or a broken one.
        InvalidArgument: a sampling parameter that `Model.generate` does not take.
    """

    def __init__(
        self,
        model: Model,
        system: str | None = None,
        *,
        session: Session | None = None,
        saved: SavedSession | None = None,
        **sampling: Any,
    ) -> None:
        model.check_parameters(sampling)
        self._model = model
        self._template = model.template
        self._sampling = _given(sampling)
        self._system: list[dict[str, str]] = []
        if system is not None:
            self._system.append({"role": "system", "content": _checked_text("system", system)})
        self._session = session or model.cache.new_session()
        self._answer: Generation | None = None
        self._messages = list(self._system)
        self._said = ""
        """The text that `_ids` stand for: a rendering and the answer to it, end token included."""
        self._ids: list[int] = []
        self._saved: SavedSession | None = None
        if saved is not None:
            self._resume(saved)

    @property
    def messages(self) -> list[dict[str, str]]:
        """What was said, oldest first: {"role", "content"}. A turn is added when its answer has ended."""
        return [dict(message) for message in self._messages]

    @property
    def cache(self) -> Cache | None:
        """The engine's memory of the conversation; None before the first answer."""
        return self._session.cache

    def send(self, text: str, **sampling: Any) -> Generation:
        """Say `text` and get the answer, which is computed while it is iterated.

        An answer before it that was not iterated to its end is cut there. A cancelled answer keeps what was
        said; one cancelled before its first character takes its turn back, as does one that fails.

        Raises:
            ContextExceeded: the conversation does not fit the context.
            InvalidArgument: a parameter out of range, or a conversation that the template refuses.
        """
        self._settle()
        turn = {"role": "user", "content": _checked_text("the message", text)}
        rendered = self._template.render([*self._messages, turn])
        prompt = self._tokens(rendered)
        context = self._model.engine.context
        if len(prompt) > context and self._model.at_limit != "window":
            raise ContextExceeded(
                f"with this message the chat has {len(prompt)} tokens and the context holds {context}; "
                "send a shorter message, reset the chat, or load the model with a larger context and memory for it"
            )
        self._answer = self._model.start(
            prompt,
            self._session,
            self._committer(turn, rendered),
            **{**self._sampling, **_given(sampling)},
        )
        return self._answer

    def reset(self) -> None:
        """Forget everything but the system message, and give the memory back."""
        self._settle()
        with self._session.busy:
            self._session.close()
        self._forget()
        self._save()

    def close(self) -> None:
        """End the answer that is running and give the memory back; what was said stays, and its name is free again."""
        self._settle()
        with self._session.busy:
            self._session.keep()
            self._session.close()
        if self._saved is not None:
            self._saved.close()
            self._saved = None

    def __enter__(self) -> Chat:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def to_json(self) -> dict[str, Any]:
        """The conversation as a JSON object that `from_json` reads back."""
        return {"version": _VERSION, "messages": self.messages}

    @classmethod
    def from_json(cls, model: Model, data: Any, **sampling: Any) -> Chat:
        """A chat that goes on where `to_json` left one; its history is run with the first answer.

        Raises:
            InvalidArgument: `data` is not what `to_json` writes.
        """
        messages = _checked_messages(data)
        system = messages.pop(0)["content"] if messages and messages[0]["role"] == "system" else None
        chat = cls(model, system, **sampling)
        chat._messages += messages
        return chat

    def _resume(self, saved: SavedSession) -> None:
        """Go on where `saved` was left, or begin it."""
        record = saved.read()
        if record is not None:
            data = record.header.get("chat") or {}
            messages = _checked_messages(data)
            held = [message for message in messages[:1] if message["role"] == "system"]
            if self._system and held != self._system:
                raise InvalidArgument(
                    f"session {saved.name} was begun with another system message; leave it out to go on, "
                    "or give the session another name"
                )
            self._system, self._messages = held, messages
            said, ids = data.get("said"), data.get("ids")
            if isinstance(said, str) and isinstance(ids, list) and all(isinstance(id, int) for id in ids):
                self._said, self._ids = said, ids
            saved.restore(record, self._session)
        self._saved = saved

    def _save(self) -> None:
        if self._saved is None:
            return
        chat = {**self.to_json(), "said": self._said, "ids": self._ids}
        try:
            self._saved.write(chat, self._session)
        except StorageError as e:
            _log.warning("%s", e)

    def _forget(self) -> None:
        self._messages = list(self._system)
        self._said, self._ids = "", []

    def _settle(self) -> None:
        if self._answer is not None:
            self._answer.close()
            self._answer = None

    def _tokens(self, rendered: str) -> list[int]:
        """Token ids of a rendering; where it goes on from what was said, those that were really sampled.

        Tokenizing an answer again may split it differently, and its KV would be lost.
        """
        tokenizer = self._model.tokenizer
        if self._ids and rendered.startswith(self._said):
            rest = rendered[len(self._said) :]
            last = self._ids[-1]
            if tokenizer.is_added(last):
                # What follows an added token is tokenized as what follows it, not as the beginning of a text.
                spelled = tokenizer.decode([last], special=True)
                ids = tokenizer.encode(spelled + rest, special=False)
                if ids[0] == last:
                    return self._ids + ids[1:]
            ids = tokenizer.encode(rest, special=False)
            if ids and tokenizer.is_added(ids[0]):
                return self._ids + ids
        return tokenizer.encode(rendered, special=False)

    def _committer(self, turn: dict[str, str], rendered: str) -> Callable[[Generation], None]:
        before = list(self._session.tokens)

        def commit(answer: Generation) -> None:
            if answer.finish_reason is None:
                self._session.truncate(self._session.common(before))
                return
            if answer.finish_reason == "cancelled" and not answer.text:
                return
            self._messages += [turn, {"role": "assistant", "content": answer.text}]
            self._said = rendered + self._model.tokenizer.decode(answer.token_ids, special=True)
            self._ids = answer.prompt_ids + answer.token_ids
            self._save()

        return commit


def _given(parameters: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if value is not None}


def _checked_text(name: str, text: Any) -> str:
    if not isinstance(text, str):
        raise InvalidArgument(f"{name} is {type(text).__name__}; give a text")
    return text


def _checked_messages(data: Any) -> list[dict[str, str]]:
    if not isinstance(data, dict) or data.get("version") != _VERSION:
        raise InvalidArgument(
            f"the saved chat is not of version {_VERSION}; save it again with this version of Edgewise"
        )
    messages = data.get("messages")
    if not isinstance(messages, list):
        raise InvalidArgument("the saved chat has no list of messages; save the chat again")
    for at, message in enumerate(messages):
        well = isinstance(message, dict) and set(message) == {"role", "content"}
        if not well or message["role"] not in _ROLES or not isinstance(message["content"], str):
            raise InvalidArgument(
                f"message {at} of the saved chat is {message!r}; give role ({', '.join(_ROLES)}) and content"
            )
    turns = messages[1:] if messages and messages[0]["role"] == "system" else messages
    if [message["role"] for message in turns] != ["user", "assistant"] * (len(turns) // 2):
        raise InvalidArgument(
            "the messages of the saved chat do not alternate between user and assistant up to an answer; "
            "correct it or save the chat again"
        )
    return [dict(message) for message in messages]
