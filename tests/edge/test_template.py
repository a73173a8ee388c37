from __future__ import annotations

import re
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from edge.errors import ArtifactError, InvalidArgument
from edge.template import ChatTemplate
from export.checkpoint.gguf_header import read_gguf_header
from tests import models
from tests.edge.toy_model import CHATML

USER = {"role": "user", "content": "What is 漢字 & <b>?"}
ANSWER = {"role": "assistant", "content": "<think>\nhm\n</think>\n\nA script."}
AGAIN = {"role": "user", "content": "  Thanks\n"}
SYSTEM = {"role": "system", "content": "Be brief."}
CONVERSATIONS = [
    [USER],
    [SYSTEM, USER],
    [USER, ANSWER, AGAIN],
    [SYSTEM, USER, ANSWER, AGAIN, ANSWER],
    [ANSWER, SYSTEM],
]
SPECIAL = {"bos_token": "<｜begin▁of▁sentence｜>", "eos_token": "<｜end▁of▁sentence｜>"}


@cache
def real_template(path: Path) -> str:
    return str(read_gguf_header(path).metadata["tokenizer.chat_template"])


def reference(source: str, messages: list[dict[str, Any]], **variables: Any) -> str:
    transformers = pytest.importorskip("transformers", reason="the oracle is not installed")
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=_empty_tokenizer(), **SPECIAL)
    return str(tokenizer.apply_chat_template(messages, chat_template=source, tokenize=False, **variables))


@cache
def _empty_tokenizer() -> Any:
    from tokenizers import Tokenizer
    from tokenizers.models import BPE

    return Tokenizer(BPE())


@pytest.mark.parametrize("opening", [True, False])
@pytest.mark.parametrize("messages", CONVERSATIONS)
@pytest.mark.parametrize("model", [models.smollm2, models.r1_header])
def test_real_templates_render_as_in_transformers(
    model: Any, messages: list[dict[str, Any]], opening: bool
) -> None:
    source = real_template(model())
    ours = ChatTemplate(source, SPECIAL).render(messages, add_generation_prompt=opening)
    assert ours == reference(source, messages, add_generation_prompt=opening)


@pytest.mark.parametrize(
    "source",
    [
        CHATML,
        "  {% if true %}\n    x\n  {% endif %}\ny\n",
        "{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}{{ m.content }}{% endfor %}",
        "{% for m in messages %}{% if m.role == 'user' %}{% continue %}{% endif %}{{ m.role }}{% endfor %}",
        "a{% generation %}{{ messages[0].content }}{% endgeneration %}\nb",
        "{{ {'ключ': '<b>&\\'', 'a': [1, none, true]} | tojson }}",
        "{{ {'b': 1, 'a': 2} | tojson(indent=2, sort_keys=true) }}",
        "{{ bos_token }}{{ unk_token }}{{ eos_token }}",
        "{{ tools is none }}{{ documents is none }}{{ add_generation_prompt }}{{ strftime_now is defined }}",
        "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
        "{{ messages | map(attribute='role') | join(',') }}{{ messages[-1].content | trim }}",
        "{{ thinking }}",
    ],
)
def test_what_templates_rely_on(source: str) -> None:
    messages = [USER, ANSWER, AGAIN]
    variables = {"add_generation_prompt": True, "thinking": "on"}
    assert ChatTemplate(source, SPECIAL).render(messages, **variables) == reference(
        source, messages, **variables
    )


def test_the_date() -> None:
    assert ChatTemplate("{{ strftime_now('%Y') }}").render([USER]) in {
        str(datetime.now().year),
        str(datetime.now().year - 1),
    }


def test_rendering_leaves_the_messages_alone() -> None:
    messages = [dict(USER)]
    with pytest.raises(ArtifactError):
        ChatTemplate("{{ messages.append(1) }}").render(messages)
    with pytest.raises(ArtifactError):
        ChatTemplate("{{ messages[0].update(role='x') }}").render(messages)
    assert messages == [USER]


def test_a_conversation_that_the_template_refuses() -> None:
    template = ChatTemplate("{{ raise_exception('roles must alternate') }}")
    with pytest.raises(InvalidArgument, match="conversation of 2 messages: roles must alternate; change"):
        template.render([USER, USER])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "{% for m in messages %}",
            "chat_template.jinja, line 1 cannot be compiled: Unexpected end of template",
        ),
        ("\n{{ x | nosuchfilter }}", "line 2 cannot be compiled: No filter named 'nosuchfilter'"),
        ("{% generation %}x", "cannot be compiled"),
        ("{{ " + "(" * 5000, "cannot be compiled"),
    ],
)
def test_a_template_that_is_no_jinja(source: str, message: str) -> None:
    with pytest.raises(ArtifactError, match=re.escape(message)):
        ChatTemplate(source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages[9].content }}",
        "{{ 1 / 0 }}",
        "{{ messages[0].content + 1 }}",
        "{{ nothing() }}",
        "{% include 'file' %}",
        "{% for i in range(10 ** 9) %}{% endfor %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ messages | tojson(indent=messages) }}",
        # Ways out of the sandbox.
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ raise_exception.__globals__['json'] }}",
        "{{ strftime_now.__globals__['json'] }}",
        "{{ namespace.__init__.__globals__ }}",
        "{{ self.__init__.__globals__ }}",
        "{{ (messages[0] | attr('__class__')).__base__.x }}",
        "{% set ns = namespace() %}{% set ns.__class__ = 1 %}{{ 0 }}",
        "{{ namespace(__class__=1) }}",
        "{{ '{0.__class__.__init__.__globals__}'.format(namespace) }}",
    ],
)
def test_a_template_that_fails(source: str) -> None:
    with pytest.raises(ArtifactError, match=r"fails on this conversation of 1 messages: .*raw prompts"):
        ChatTemplate(source).render([USER])
