from __future__ import annotations

import gc
import math
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import ContextExceeded, EngineFailed, InvalidArgument, MemoryBudgetError
from edge.generate import Timings
from edge.model import Model
from tests.edge.toy_engine import BYTES_PER_TOKEN, ToyEngine
from tests.edge.toy_model import toy_model

PROMPT = [5, 6, 7, 8]


def engine_of(model: Model) -> ToyEngine:
    assert isinstance(model.engine, ToyEngine)
    return model.engine


def says(ids: list[int]) -> dict[str, Any]:
    """Engine options that make the greedy answer to a prompt of one token `ids`, then end tokens."""
    script = iter([*ids, *[2] * 300])

    def shape(logits: np.ndarray) -> np.ndarray:
        logits[next(script)] = 100
        return logits

    return {"shape": shape}


def test_nothing_runs_before_the_first_iteration(model: Model) -> None:
    generation = model.generate(PROMPT, max_tokens=3)
    engine = engine_of(model)
    assert (engine.ran, engine.caches, generation.text, generation.timings) == (0, [], "", Timings())
    next(generation)
    assert engine.ran >= len(PROMPT)


def test_greedy_is_the_likeliest_token_each_time(model: Model) -> None:
    ids = list(PROMPT)
    for _ in range(12):
        ids.append(int(model.logits(ids)[-1].argmax()))
    assert list(model.generate(PROMPT, max_tokens=12, ignore_eos=True).tokens()) == ids[len(PROMPT) :]


def test_what_is_known_when_it_has_ended(model: Model) -> None:
    generation = model.generate("Memory first", max_tokens=9, temperature=1.0, seed=1, ignore_eos=True)
    assert generation.finish_reason is None
    pieces = list(generation)
    assert generation.text == "".join(pieces) == model.decode(generation.token_ids)
    assert len(generation.token_ids) == 9
    assert generation.prompt_tokens == len(model.encode("Memory first"))
    assert (generation.finish_reason, generation.cached_tokens) == ("length", 0)
    assert generation.kv_bytes == BYTES_PER_TOKEN * (generation.prompt_tokens + 8)
    timings = generation.timings
    assert timings.ttft_s > 0
    assert timings.prefill_tokens_per_s > 0
    assert timings.decode_tokens_per_s > 0
    assert list(generation) == list(generation.tokens()) == []


def test_the_same_seed_gives_the_same_text(model: Model) -> None:
    first, second, other = (
        "".join(model.generate(PROMPT, max_tokens=20, temperature=1.0, seed=seed)) for seed in (3, 3, 4)
    )
    assert first == second != other


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(3, 401), max_size=12),
    st.lists(st.text("aeé 漢t", min_size=1, max_size=3), max_size=2),
)
def test_text_is_the_decoded_tokens_cut_before_the_first_stop_string(
    ids: list[int], stops: list[str]
) -> None:
    plain = toy_model(engine=says(ids))
    whole = "".join(plain.generate([0]))
    assert whole == plain.decode(ids)
    model = toy_model(engine=says(ids))
    generation = model.generate([0], stop=stops)
    pieces = list(generation)
    text = "".join(pieces)
    assert text == generation.text
    assert whole.startswith(text)
    assert not any(stop in text for stop in stops)
    if text == whole:
        assert not any(stop in whole for stop in stops)
    else:
        assert any(whole[len(text) :].startswith(stop) for stop in stops)
    assert generation.finish_reason == "stop"
    assert "" not in pieces


def test_an_end_token_ends_it_and_is_no_text() -> None:
    ids = toy_model().encode("hi")
    generation = toy_model(engine=says(ids)).generate([0])
    assert "".join(generation) == "hi"
    assert (generation.finish_reason, generation.token_ids) == ("stop", [*ids, 2])
    ignoring = toy_model(engine=says(ids)).generate([0], ignore_eos=True, max_tokens=5)
    assert "".join(ignoring) == "hi"
    assert (ignoring.finish_reason, len(ignoring.token_ids)) == ("length", 5)


def test_every_end_token_ends_it() -> None:
    generation = toy_model(engine=says([9, 0]), generation={"eos_token_id": [2, 0]}).generate([0])
    assert len(list(generation.tokens())) == 2


def test_a_stop_string_that_is_a_special_token() -> None:
    model = toy_model(engine=says([9, 1, 9]))
    generation = model.generate([0], stop="<|im_start|>")
    assert "".join(generation) == model.decode([9])
    assert generation.finish_reason == "stop"


def test_one_stop_string_may_be_given_alone() -> None:
    ids = toy_model().encode("some text")
    assert "".join(toy_model(engine=says(ids)).generate([0], stop=" t")) == "some"


def test_it_ends_when_the_context_is_full() -> None:
    model = toy_model(engine={"context": 10})
    generation = model.generate(PROMPT, ignore_eos=True)
    # The last token needs no room: nothing comes behind it.
    assert len(list(generation.tokens())) == 10 - len(PROMPT) + 1
    assert generation.finish_reason == "length"
    assert len(list(model.generate(PROMPT, ignore_eos=True, max_tokens=99).tokens())) == 7
    assert len(list(model.generate([5] * 10, ignore_eos=True).tokens())) == 1


def test_a_prompt_longer_than_the_context() -> None:
    model = toy_model(engine={"context": 10})
    with pytest.raises(ContextExceeded, match="prompt has 11 tokens and the context holds 10; shorten"):
        model.generate([5] * 11)
    with pytest.raises(ContextExceeded, match="11 tokens and the context holds 10"):
        model.logits([5] * 11)
    assert engine_of(model).ran == 0


def test_memory_is_given_back_at_the_end_on_close_and_when_forgotten(model: Model) -> None:
    engine = engine_of(model)
    list(model.generate(PROMPT, max_tokens=2))
    assert engine.nbytes == 0

    with model.generate(PROMPT, max_tokens=50, ignore_eos=True) as generation:
        next(generation)
        assert engine.nbytes > 0
        assert generation.kv_bytes == engine.nbytes
    assert engine.nbytes == 0
    assert generation.finish_reason == "cancelled"
    assert list(generation) == []

    for _ in model.generate(PROMPT, max_tokens=50, ignore_eos=True):
        break
    gc.collect()
    assert engine.nbytes == 0


def test_an_iteration_that_was_left_goes_on(model: Model) -> None:
    whole = "".join(model.generate(PROMPT, max_tokens=20))
    generation = model.generate(PROMPT, max_tokens=20)
    first = next(generation)
    assert first + "".join(generation) == whole


def test_generations_do_not_disturb_each_other(model: Model) -> None:
    prompts = [[5], [6, 7], [5, 8]]
    alone = [list(model.generate(p, max_tokens=8, ignore_eos=True).tokens()) for p in prompts]
    streams = [model.generate(p, max_tokens=8, ignore_eos=True).tokens() for p in prompts]
    together = list(zip(*streams, strict=True))
    assert [list(ids) for ids in zip(*together, strict=True)] == alone


@pytest.mark.parametrize("at", [0, 2, 4, 6])
def test_cancel_from_another_thread_ends_it_within_one_token(at: int) -> None:
    """`at` counts tokens run: the first four are the prompt's."""

    def before_token(ran: int) -> None:
        if ran == at:
            thread = threading.Thread(target=generation.cancel)
            thread.start()
            thread.join()

    model = toy_model(engine={"before_token": before_token})
    generation = model.generate(PROMPT, temperature=1.0, seed=0, ignore_eos=True)
    text = "".join(generation)
    assert generation.finish_reason == "cancelled"
    assert text == generation.text == model.decode(generation.token_ids)
    assert len(generation.token_ids) == max(0, at - 3)
    assert engine_of(model).ran == at
    assert engine_of(model).nbytes == 0


def test_cancel_while_a_run_ends_drops_its_token() -> None:
    def shape(logits: np.ndarray) -> np.ndarray:
        if engine_of(model).ran == len(PROMPT) + 2:
            generation.cancel()
        return logits

    model = toy_model(engine={"shape": shape})
    generation = model.generate(PROMPT, ignore_eos=True)
    assert len(list(generation.tokens())) == 2
    assert generation.finish_reason == "cancelled"


def test_cancel_before_it_begins_and_after_it_ended(model: Model) -> None:
    generation = model.generate(PROMPT)
    generation.cancel()
    assert list(generation) == []
    assert (generation.finish_reason, engine_of(model).ran) == ("cancelled", 0)
    ended = model.generate(PROMPT, max_tokens=1)
    list(ended)
    ended.cancel()
    ended.close()
    assert ended.finish_reason == "length"


def test_cancel_shows_the_text_that_was_held() -> None:
    ids = toy_model().encode("abc")
    model = toy_model(engine=says([*ids, *ids]))
    generation = model.generate([0], stop="abcabcd")
    tokens = generation.tokens()
    for _ in ids:
        next(tokens)
    assert generation.text == ""
    generation.cancel()
    assert "".join(generation) == generation.text == "abc"


def test_close_waits_for_the_thread_that_iterates() -> None:
    closing = threading.Event()

    def before_token(ran: int) -> None:
        if ran == 6:
            closing.set()
            generation._cancel._event.wait()

    model = toy_model(engine={"before_token": before_token})
    generation = model.generate(PROMPT, ignore_eos=True)
    worker = threading.Thread(target=lambda: list(generation))
    worker.start()
    closing.wait()
    generation.close()
    assert engine_of(model).nbytes == 0
    assert generation.finish_reason == "cancelled"
    worker.join()


@pytest.mark.parametrize(
    ("prompt", "parameters", "message"),
    [
        ("", {}, "the prompt is empty: it has 0 tokens"),
        ([], {}, "the prompt is empty"),
        ([5, -1], {}, "token 1 of the prompt is -1; token ids run from 0 to 401"),
        ([402], {}, "token 0 of the prompt is 402"),
        ([1.5], {}, "token 0 of the prompt is 1.5; give whole numbers"),
        (["a"], {}, "token 0 of the prompt is 'a'"),
        ("\udcff", {}, "half a surrogate pair"),
        ("a", {"max_tokens": 0}, "max_tokens is 0; give a whole number, 1 or more"),
        ("a", {"max_tokens": -3}, "max_tokens is -3"),
        ("a", {"max_tokens": 2.0}, "max_tokens is 2.0"),
        ("a", {"max_tokens": True}, "max_tokens is True"),
        ("a", {"temperature": -1}, "temperature is -1; give a number 0"),
        ("a", {"temperature": math.nan}, "temperature is nan"),
        ("a", {"top_p": 2}, "top_p is 2; give a number above 0 and at most 1"),
        ("a", {"top_k": -1}, "top_k is -1"),
        ("a", {"min_p": 1}, "min_p is 1"),
        ("a", {"repetition_penalty": 0}, "repetition_penalty is 0"),
        ("a", {"seed": "x"}, "seed is 'x'"),
        ("a", {"stop": [""]}, "stop has ''; give texts of at least one character"),
        ("a", {"stop": ["a", 3]}, "stop has 3"),
        ("a", {"logit_bias": {402: 1.0}}, "logit_bias names token 402; token ids run from 0 to 401"),
    ],
)
def test_refused_before_anything_runs(model: Model, prompt: Any, parameters: Any, message: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        model.generate(prompt, **parameters)
    assert message in str(error.value)
    assert engine_of(model).caches == []


def test_numpy_prompts_and_parameters(model: Model) -> None:
    plain = model.generate(PROMPT, max_tokens=4, temperature=0.5, seed=1)
    array = model.generate(
        np.array(PROMPT, np.int32),  # type: ignore[arg-type]
        max_tokens=np.int64(4),  # type: ignore[arg-type]
        temperature=np.float32(0.5),  # type: ignore[arg-type]
        seed=np.int64(1),  # type: ignore[arg-type]
    )
    assert list(plain) == list(array)


def test_an_error_in_the_middle_gives_the_memory_back_and_keeps_the_text() -> None:
    model = toy_model(engine={"kv_tokens": 6}, at_limit="error")
    generation = model.generate(PROMPT, ignore_eos=True)
    tokens = []
    with pytest.raises(MemoryBudgetError):
        tokens.extend(generation.tokens())
    assert len(generation.token_ids) == 3
    assert (generation.finish_reason, engine_of(model).nbytes) == (None, 0)
    assert list(generation) == []


def test_memory_that_ends_in_the_middle_ends_the_answer() -> None:
    model = toy_model(engine={"kv_tokens": 6})
    expected = toy_model().generate(PROMPT, ignore_eos=True, max_tokens=3)
    list(expected)
    generation = model.generate(PROMPT, ignore_eos=True)
    assert "".join(generation) == expected.text
    assert generation.token_ids == expected.token_ids
    assert (generation.finish_reason, engine_of(model).nbytes) == ("length", 0)


def test_the_end_of_the_context_is_an_error_where_that_is_asked_for() -> None:
    for at_limit, max_tokens in (("stop", None), ("error", 5), ("error", 2)):
        model = toy_model(engine={"context": 8}, at_limit=at_limit)
        generation = model.generate(PROMPT, ignore_eos=True, max_tokens=max_tokens)
        list(generation)
        assert generation.finish_reason == "length"
    model = toy_model(engine={"context": 8}, at_limit="error")
    generation = model.generate(PROMPT, ignore_eos=True)
    with pytest.raises(ContextExceeded, match="the context of 8 tokens is full after 5 tokens of the answer"):
        list(generation)
    assert len(generation.token_ids) == 5
    assert (generation.finish_reason, engine_of(model).nbytes) == (None, 0)


def test_with_a_window_an_answer_goes_on_beyond_the_context() -> None:
    model = toy_model(engine={"context": 256}, at_limit="window")
    generation = model.generate([5] * 600, max_tokens=500, ignore_eos=True)
    tokens = []
    for token in generation.tokens():
        tokens.append(token)
        assert engine_of(model).nbytes <= 256 * BYTES_PER_TOKEN
    assert len(tokens) == 500
    assert (generation.finish_reason, engine_of(model).nbytes) == ("length", 0)


def test_with_a_window_memory_that_ends_takes_from_the_middle_too() -> None:
    model = toy_model(engine={"context": 1024, "kv_tokens": 400}, at_limit="window")
    generation = model.generate([5] * 600, max_tokens=500, ignore_eos=True)
    assert len(list(generation.tokens())) == 500
    # Not even the beginning and one step of a quarter fit.
    model = toy_model(engine={"context": 1024, "kv_tokens": 60}, at_limit="window")
    with pytest.raises(MemoryBudgetError):
        list(model.generate([5] * 600))


def test_memory_that_does_not_suffice_for_the_prompt() -> None:
    model = toy_model(engine={"kv_tokens": 3})
    with pytest.raises(MemoryBudgetError):
        list(model.generate(PROMPT))
    assert (engine_of(model).ran, engine_of(model).nbytes) == (0, 0)


def test_an_interrupt_leaves_the_engine_usable() -> None:
    def before_token(ran: int) -> None:
        if ran == 5:
            raise KeyboardInterrupt

    model = toy_model(engine={"before_token": before_token})
    with pytest.raises(KeyboardInterrupt):
        list(model.generate(PROMPT, ignore_eos=True))
    assert engine_of(model).nbytes == 0


def test_a_closed_model() -> None:
    with toy_model() as model:
        pass
    with pytest.raises(EngineFailed, match="closed"):
        list(model.generate(PROMPT))


def test_repetition_penalty_counts_the_prompt_and_the_answer() -> None:
    model = toy_model(engine={"shape": lambda logits: np.where(np.arange(len(logits)) < 6, 10, logits)})
    ids = list(model.generate([3], max_tokens=5, repetition_penalty=100.0, ignore_eos=True).tokens())
    assert ids == [0, 1, 2, 4, 5]
