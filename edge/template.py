"""Chat templates: a conversation rendered as the model was trained to read it.

Templates come with the checkpoint and are not trusted: they run in Jinja's sandbox.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from edge.errors import ArtifactError, InvalidArgument

Message = Mapping[str, Any]


class ChatTemplate:
    """A compiled template and the texts of the special tokens it may name (`bos_token`, `eos_token`, …).

    Raises:
        ArtifactError: the template is no Jinja.
    """

    def __init__(self, source: str, special_tokens: Mapping[str, str] | None = None) -> None:
        self._special_tokens = dict(special_tokens or {})
        try:
            self._template = _environment().from_string(source)
        except (jinja2.TemplateError, RecursionError) as e:
            line = f", line {e.lineno}" if isinstance(e, jinja2.TemplateSyntaxError) else ""
            raise ArtifactError(
                f"chat_template.jinja{line} cannot be compiled: {e}; "
                "correct the template in the checkpoint and export again, or use raw prompts"
            ) from None

    def render(
        self, messages: Sequence[Message], *, add_generation_prompt: bool = True, **variables: Any
    ) -> str:
        """The text of `messages`, and of the opening of the answer with `add_generation_prompt`.

        Raises:
            InvalidArgument: the template refuses this conversation.
            ArtifactError: the template fails.
        """
        given = {
            **self._special_tokens,
            "messages": [dict(message) for message in messages],
            "tools": None,
            "documents": None,
            "add_generation_prompt": add_generation_prompt,
            **variables,
        }
        try:
            return self._template.render(given)
        except _Refused as e:
            raise InvalidArgument(
                f"the chat template refuses this conversation of {len(messages)} messages: {e}; "
                "change the messages, or use raw prompts"
            ) from None
        except Exception as e:  # a template can fail in any way Python can
            raise ArtifactError(
                f"chat_template.jinja fails on this conversation of {len(messages)} messages: "
                f"{type(e).__name__}: {e}; correct the template in the checkpoint and export again, "
                "or use raw prompts"
            ) from None


class _Refused(jinja2.TemplateError):
    """The template called `raise_exception`."""


class _GenerationTag(Extension):
    """{% generation %}: marks what the model said, for training; here only its body counts."""

    tags = {"generation"}  # noqa: RUF012  # Jinja's own name, read on the class

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Namespace(jinja2.utils.Namespace):
    """Jinja's namespace without names that Python keeps to itself."""

    def __init__(self, *args: Any, **values: Any) -> None:
        given = dict(*args, **values)
        for name in given:
            _refuse_private(name)
        super().__init__(given)

    def __setitem__(self, name: str, value: Any) -> None:
        _refuse_private(name)
        super().__setitem__(name, value)


def _refuse_private(name: Any) -> None:
    if str(name).startswith("_"):
        raise SecurityError(f"a namespace cannot hold {name!r}")


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    environment.globals["namespace"] = _Namespace
    return environment


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as models were trained on it: Jinja's own filter escapes for HTML and sorts keys."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: Any = "") -> NoReturn:
    raise _Refused(str(message))


def _strftime_now(format: str) -> str:
    return datetime.now().strftime(format)
