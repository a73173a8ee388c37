from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.chat import Chat
from edge.errors import ArtifactError, ContextExceeded, InvalidArgument, MemoryBudgetError
from edge.model import Model
from runtimes.protocol import Logits
from tests.edge.toy_engine import ToyEngine
from tests.edge.toy_model import CHATML, DROPS_THOUGHTS, byte_level_json, sentencepiece_json, toy_model

SAMPLED: dict[str, Any] = {"temperature": 1.0, "seed": 5, "max_tokens": 8}
# What a SentencePiece tokenizer can be told: the same with and without marks around a turn.
PLAIN = "{% for m in messages %}{{ m.content }}</s>{% endfor %}"
BARE = "{% for m in messages %}{{ m.content }} {% endfor %}"


def engine_of(model: Model) -> ToyEngine:
    assert isinstance(model.engine, ToyEngine)
    return model.engine


def said(chat: Chat) -> list[str]:
    return [message["content"] for message in chat.messages]


def test_turns_are_messages(model: Model) -> None:
    chat = model.chat("Be brief.", **SAMPLED)
    assert chat.messages == [{"role": "system", "content": "Be brief."}]
    first = "".join(chat.send("hello"))
    second = "".join(chat.send("again"))
    assert [message["role"] for message in chat.messages] == [
        "system",
        "user",
        "assistant",
        "user",
        "assistant",
    ]
    assert said(chat) == ["Be brief.", "hello", first, "again", second]
    chat.messages.append({"role": "user", "content": "not in the chat"})
    chat.messages[0]["content"] = "changed"
    assert said(chat) == ["Be brief.", "hello", first, "again", second]


def test_the_first_turn_is_the_template_s_text(model: Model) -> None:
    answer = model.chat(**SAMPLED).send("hello")
    text = "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
    assert answer.prompt_ids == model.encode(text, special=False)
    assert list(answer) == list(model.generate(answer.prompt_ids, **SAMPLED))


def test_no_second_prefill_of_the_history(model: Model) -> None:
    chat = model.chat(**SAMPLED)
    held: list[int] = []
    for text in ("hello", "again", "and again"):
        before = engine_of(model).ran
        answer = chat.send(text)
        list(answer)
        assert chat.cache is not None
        # The last token sampled was not run yet, so it comes with the next turn.
        assert answer.cached_tokens == max(0, len(held) - 1)
        assert answer.prompt_ids[: len(held)] == held
        ran = answer.prompt_tokens - answer.cached_tokens + len(answer.token_ids) - 1
        assert engine_of(model).ran - before == ran
        held = answer.prompt_ids + answer.token_ids
        assert chat.cache.length == len(held) - 1


@settings(deadline=None, max_examples=40)
@given(
    texts=st.lists(st.text("ab é漢<think/>\n", max_size=6), min_size=1, max_size=4),
    seed=st.integers(0, 10**6),
    template=st.sampled_from([CHATML, DROPS_THOUGHTS, PLAIN, BARE]),
    tokenizer=st.sampled_from(["byte level", "normalizer", "first"]),
    forgetful=st.booleans(),
)
def test_reuse_says_what_a_fresh_run_over_the_same_tokens_says(
    texts: list[str], seed: int, template: str, tokenizer: str, forgetful: bool
) -> None:
    model = toy_model(
        tokenizer=byte_level_json() if tokenizer == "byte level" else sentencepiece_json(tokenizer),
        chat_template=template,
        engine={"forgetful": forgetful, "context": 4096},
    )
    chat = model.chat(temperature=1.0, seed=seed, max_tokens=6)
    for text in texts:
        try:
            answer = chat.send(text)
        except InvalidArgument:  # nothing to render
            continue
        ids = list(answer.tokens())
        fresh = model.generate(answer.prompt_ids, temperature=1.0, seed=seed, max_tokens=6)
        assert ids == list(fresh.tokens())
        whole = model.encode(chat._template.render(chat.messages[:-1]), special=False)
        texts_of = [model.tokenizer.decode(ids, special=True) for ids in (answer.prompt_ids, whole)]
        if tokenizer != "byte level":  # tokenizing an answer again puts a space in front of it
            texts_of = [text.replace(" ", "") for text in texts_of]
        assert texts_of[0] == texts_of[1]


def answer_with(model: Model, ids: Sequence[int]) -> None:
    """Make the engine's next answers these tokens."""
    script = iter(ids)

    def shape(logits: Any) -> Any:
        logits[next(script)] = 100
        return logits

    engine_of(model).shape = shape


@pytest.mark.parametrize("scheme", ["normalizer", "always", "first", "never"])
def test_what_follows_an_answer_is_tokenized_as_in_the_whole_text(scheme: str) -> None:
    model = toy_model(tokenizer=sentencepiece_json(scheme), chat_template=PLAIN, engine={"context": 4096})
    # An answer that its own text would be tokenized to.
    ids = [*model.encode(" cd", special=False), 2]
    answer_with(model, [*ids, 2])
    chat = model.chat()
    first = chat.send("ab")
    "".join(first)
    second = chat.send("ab ab")
    held = first.prompt_ids + first.token_ids
    assert second.prompt_ids[: len(held)] == held
    assert (
        second.prompt_ids[len(held) :]
        == model.encode("x</s>ab ab</s>", special=False)[len(model.encode("x</s>")) :]
    )


def test_an_answer_that_the_template_changes_is_run_again_from_there() -> None:
    model = toy_model(chat_template=DROPS_THOUGHTS)
    ids = [*model.encode("<think>aha</think>yes"), 2]
    answer_with(model, [*ids, 2])
    chat = model.chat()
    first = chat.send("hello")
    assert "".join(first) == "<think>aha</think>yes"
    second = chat.send("more")
    "".join(second)
    assert second.cached_tokens == first.prompt_tokens
    assert model.tokenizer.decode(second.prompt_ids, special=True) == (
        "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>\n"
        "<|im_start|>user\nmore<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_cancelled_answer_keeps_what_was_said(model: Model) -> None:
    chat = model.chat(temperature=1.0, seed=5)
    answer = chat.send("hello")
    piece = next(answer)
    answer.cancel()
    piece += "".join(answer)
    assert said(chat) == ["hello", piece]
    following = chat.send("go on")
    list(following)
    assert following.cached_tokens >= answer.prompt_tokens
    assert f"{piece}<|im_end|>\n<|im_start|>user\ngo on" in model.tokenizer.decode(following.prompt_ids, True)


def test_an_answer_cancelled_before_its_first_character_takes_its_turn_back(model: Model) -> None:
    chat = model.chat("s", **SAMPLED)
    list(chat.send("hello"))
    before = chat.messages
    answer = chat.send("again")
    answer.cancel()
    assert list(answer) == []
    assert chat.messages == before


def test_an_answer_not_read_to_its_end_is_cut_by_the_next_message(model: Model) -> None:
    chat = model.chat(temperature=1.0, seed=5)
    unread = chat.send("never read")
    left = chat.send("hello")
    piece = next(left)
    assert unread.finish_reason == "cancelled"
    list(chat.send("again"))
    assert left.finish_reason == "cancelled"
    assert said(chat)[:3] == ["hello", piece, "again"]
    assert list(left) == []


def test_a_message_cuts_the_answer_that_another_thread_reads() -> None:
    running = threading.Event()

    def before_token(ran: int) -> None:
        if ran == 25:
            running.set()
            answer._cancel._event.wait()

    model = toy_model(engine={"before_token": before_token})
    chat = model.chat(temperature=1.0, seed=5, ignore_eos=True)
    answer = chat.send("hello")
    worker = threading.Thread(target=lambda: list(answer))
    worker.start()
    running.wait()
    chat.send("stop")
    worker.join()
    assert said(chat) == ["hello", answer.text]


def test_a_message_that_does_not_fit_changes_nothing() -> None:
    model = toy_model(engine={"context": 60})
    chat = model.chat(**SAMPLED)
    list(chat.send("hello"))
    assert chat.cache is not None
    before = chat.messages, chat.cache.length, chat.cache.nbytes
    with pytest.raises(
        ContextExceeded,
        match=r"with this message the chat has \d+ tokens and the context holds 60; send a shorter",
    ):
        chat.send("é" * 40)
    with pytest.raises(InvalidArgument, match="temperature is -1"):
        chat.send("x", temperature=-1)
    with pytest.raises(InvalidArgument, match="half a surrogate"):
        chat.send("\ud800")
    assert (chat.messages, chat.cache.length, chat.cache.nbytes) == before
    list(chat.send("x"))
    assert len(chat.messages) == 4


@pytest.mark.parametrize("text", ["y" * 70, "yes"])
def test_an_answer_that_fails_changes_nothing(text: str) -> None:
    """The first does not fit the memory at once, the second only after some tokens."""
    model = toy_model(engine={"kv_tokens": 62}, at_limit="error")
    chat = model.chat(temperature=1.0, seed=5, ignore_eos=True)
    list(chat.send("hello", max_tokens=8))
    assert chat.cache is not None
    before = chat.messages, chat.cache.length
    with pytest.raises(MemoryBudgetError):
        list(chat.send(text))
    assert (chat.messages, chat.cache.length) == before
    answer = chat.send("x", max_tokens=2)
    list(answer)
    assert (answer.cached_tokens, len(chat.messages)) == (before[1], 4)


def letters_only(logits: Logits) -> Logits:
    """Of an answer that the template gives back as it was."""
    bias = np.full_like(logits, -np.inf)
    bias[[i for i in range(3, 400) if toy_model().decode([i]).isalpha()]] = 0
    return logits + bias


def test_with_a_window_a_chat_becomes_longer_than_the_context() -> None:
    model = toy_model(engine={"context": 256, "shape": letters_only}, at_limit="window")
    chat = model.chat(max_tokens=30)
    for _ in range(20):
        answer = chat.send("and what else?")
        before = engine_of(model).ran
        list(answer)
        # The end of the last answer, the message and the answer, less its last token; nothing is read again.
        assert engine_of(model).ran - before < 70
    assert answer.prompt_tokens > 3 * 256
    assert len(chat.messages) == 40
    assert chat.cache is not None
    assert chat.cache.length <= 256


def test_reset_forgets_all_but_the_system_message(model: Model) -> None:
    chat = model.chat("Be brief.", **SAMPLED)
    first = "".join(chat.send("hello"))
    left = chat.send("again")
    next(left)
    chat.reset()
    assert (said(chat), chat.cache, engine_of(model).nbytes) == (["Be brief."], None, 0)
    assert list(left) == []
    assert "".join(chat.send("hello")) == first


def test_closing_gives_the_memory_back_and_keeps_the_messages(model: Model) -> None:
    chat = model.chat(**SAMPLED)
    list(chat.send("hello"))
    chat.close()
    assert (len(chat.messages), engine_of(model).nbytes) == (2, 0)
    answer = chat.send("again")
    list(answer)
    assert answer.cached_tokens == 0


def test_a_parameter_of_one_message_goes_before_that_of_the_chat(model: Model) -> None:
    chat = model.chat(**SAMPLED, ignore_eos=True)
    lengths = []
    for parameters in ({}, {"max_tokens": 3}, {"max_tokens": None}):
        answer = chat.send("hello", **parameters)
        list(answer)
        lengths.append(len(answer.token_ids))
    assert lengths == [8, 3, 8]


def test_saved_and_loaded_it_goes_on(model: Model) -> None:
    chat = model.chat("Be brief.", **SAMPLED)
    list(chat.send("hello"))
    data = json.loads(json.dumps(chat.to_json()))
    loaded = Chat.from_json(model, data, **SAMPLED)
    assert loaded.messages == chat.messages
    answer = loaded.send("again")
    assert "".join(answer)
    assert answer.cached_tokens == 0
    loaded.reset()
    assert said(loaded) == ["Be brief."]
    assert Chat.from_json(model, model.chat().to_json()).messages == []


def message(role: str, content: Any = "x") -> dict[str, Any]:
    return {"role": role, "content": content}


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (None, "not of version 1"),
        ({}, "not of version 1"),
        ({"version": 2, "messages": []}, "not of version 1"),
        ({"version": 1}, "no list of messages"),
        ({"version": 1, "messages": ["hi"]}, "message 0 of the saved chat is 'hi'"),
        ({"version": 1, "messages": [message("tool")]}, "message 0 of the saved chat is"),
        ({"version": 1, "messages": [message("user", 3)]}, "message 0 of the saved chat is"),
        ({"version": 1, "messages": [{"role": []}]}, "message 0 of the saved chat is"),
        ({"version": 1, "messages": [message("user")]}, "do not alternate"),
        ({"version": 1, "messages": [message("assistant"), message("user")]}, "do not alternate"),
        ({"version": 1, "messages": [message("user"), message("system")]}, "do not alternate"),
    ],
)
def test_what_is_no_saved_chat(model: Model, data: Any, text: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        Chat.from_json(model, data)
    assert text in str(error.value)


def test_an_artifact_without_a_template_cannot_chat() -> None:
    with pytest.raises(ArtifactError, match=r"toy.edge has no chat template.*raw prompts"):
        toy_model(chat_template=None).chat()
    with pytest.raises(ArtifactError, match="cannot be compiled"):
        toy_model(chat_template="{% if %}").chat()


@pytest.mark.parametrize(
    ("arguments", "parameters", "text"),
    [
        ((3,), {}, "system is int; give a text"),
        ((), {"temprature": 1}, "there is no parameter 'temprature'; there are max_tokens, temperature"),
    ],
)
def test_refused(model: Model, arguments: Any, parameters: Any, text: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        model.chat(*arguments, **parameters)
    assert text in str(error.value)
    with pytest.raises(InvalidArgument, match="the message is NoneType"):
        model.chat().send(None)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="no parameter 'temprature'"):
        model.chat().send("x", temprature=1)
