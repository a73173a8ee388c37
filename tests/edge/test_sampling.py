from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.errors import EngineFailed, InvalidArgument
from edge.sampling import Sampler, Sampling

Floats = NDArray[np.float32]


def reference(logits: Floats, history: list[int], sampling: Sampling) -> NDArray[np.float64]:
    """Probabilities [vocab] by transformers' processors, in the order in which it builds them."""
    torch = pytest.importorskip("torch", reason="the oracle is not installed")
    hf = pytest.importorskip("transformers.generation.logits_process", reason="the oracle is not installed")
    processors: list[Any] = []
    if sampling.logit_bias:
        processors.append(
            hf.SequenceBiasLogitsProcessor({(i,): float(b) for i, b in sampling.logit_bias.items()})
        )
    if sampling.repetition_penalty != 1:
        processors.append(hf.RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    processors.append(hf.TemperatureLogitsWarper(float(sampling.temperature)))
    if sampling.top_k:
        processors.append(hf.TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        processors.append(hf.TopPLogitsWarper(float(sampling.top_p)))
    if sampling.min_p:
        processors.append(hf.MinPLogitsWarper(float(sampling.min_p)))
    ids = torch.tensor([history], dtype=torch.long)
    scores = torch.tensor(logits)[None].clone()
    for processor in processors:
        scores = processor(ids, scores)
    return scores[0].double().softmax(-1).numpy()


def probabilities(sampler: Sampler, logits: Floats, history: list[int]) -> NDArray[np.float64]:
    ids, weights = sampler.candidates(logits, history)
    out = np.zeros(len(logits))
    out[ids] = weights / weights.sum(dtype=np.float64)
    return out


def at_an_edge(logits: Floats, sampling: Sampling, history: list[int]) -> bool:
    """Whether rounding decides what top_p or min_p keep."""
    plain = Sampling(
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        repetition_penalty=sampling.repetition_penalty,
        logit_bias=sampling.logit_bias,
    )
    p = np.sort(probabilities(Sampler(plain, len(logits)), logits, history))[::-1]
    sums = np.abs(np.cumsum(p) - sampling.top_p)
    return bool((sums < 1e-5).any() or (np.abs(p / p[0] - sampling.min_p) < 1e-5).any())


@st.composite
def cases(draw: st.DrawFn) -> tuple[Floats, list[int], Sampling]:
    vocab = draw(st.sampled_from([1, 2, 7, 50, 600, 3000]))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    logits = random.standard_normal(vocab) * draw(st.sampled_from([0.1, 3.0, 30.0]))
    if draw(st.booleans()):
        logits = np.round(logits)  # many ties
    ids = st.integers(0, vocab - 1)
    sampling = Sampling(
        temperature=draw(st.floats(0.05, 3)),
        top_k=draw(st.sampled_from([0, 1, 3, 40, 5000])),
        top_p=draw(st.sampled_from([1.0, 0.95, 0.5, 0.011])),
        min_p=draw(st.sampled_from([0.0, 0.013, 0.3])),
        repetition_penalty=draw(st.sampled_from([1.0, 1.3, 0.7])),
        # In eighths: a bias so small that float32 loses it makes ties only where it is lost before top_k.
        logit_bias=draw(
            st.dictionaries(ids, st.integers(-160, 160).filter(bool).map(lambda n: n / 8), max_size=3)
        ),
    )
    return logits.astype(np.float32), draw(st.lists(ids, min_size=1, max_size=20)), sampling


@settings(deadline=None, max_examples=300)
@given(cases())
def test_distributions_are_those_of_transformers(case: tuple[Floats, list[int], Sampling]) -> None:
    logits, history, sampling = case
    assume(not at_an_edge(logits, sampling, history))
    before = logits.copy()
    ours = probabilities(Sampler(sampling, len(logits)), logits, history)
    # transformers divides by the temperature first: its float32 scores are only as exact as they are large.
    largest = (
        np.abs(logits).max() + max(map(abs, sampling.logit_bias.values()), default=0)
    ) / sampling.temperature
    rounding = float(np.spacing(np.float32(largest)))
    assert_equal_but_for_ties(ours, reference(logits, history, sampling), 1e-6 + rounding)
    assert (logits == before).all()


def assert_equal_but_for_ties(
    ours: NDArray[np.float64], theirs: NDArray[np.float64], bound: float = 1e-6
) -> None:
    """Of tokens as likely as the last one kept, transformers keeps any."""
    assert np.abs(np.sort(ours) - np.sort(theirs)).max() < bound
    either = ours + theirs
    only_one = (ours > 0) != (theirs > 0)
    last = min(ours[ours > 0].min(), theirs[theirs > 0].min())
    assert np.abs(either[only_one] - last).max(initial=0) < bound


def definition(logits: Floats, sampling: Sampling) -> NDArray[np.float64]:
    """Probabilities [vocab] without penalty and bias, in float64 and with a full sort."""
    scores = (logits.astype(np.float64) - logits.max()) / sampling.temperature
    p = np.exp(scores)
    if 0 < sampling.top_k < len(p):
        p[scores < np.sort(scores)[-sampling.top_k]] = 0
    order = np.argsort(-p, kind="stable")
    before = np.cumsum(p[order]) - p[order]
    p[order[before >= sampling.top_p * p.sum()]] = 0
    p[p < sampling.min_p] = 0
    return np.asarray(p / p.sum())


def parted_by_rounding(logits: Floats, sampling: Sampling, kept: NDArray[np.bool_]) -> bool:
    """Whether float32 cannot tell the least likely of the kept tokens from the likeliest of the others."""
    scores = (logits.astype(np.float64) - logits.max()) / sampling.temperature
    return bool(0 < scores[kept].min() - scores[~kept].max(initial=-np.inf) < 1e-6)


@st.composite
def hard_cases(draw: st.DrawFn) -> tuple[Floats, Sampling]:
    """Few likely tokens above many unlikely ones, at all distances from what is left out; ties, masks, extremes."""
    vocab = draw(st.sampled_from([1, 2, 40, 700, 5000]))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    temperature = draw(st.sampled_from([1e-5, 0.05, 0.6, 1.0, 1e4]))
    # In thousandths: of a distance that float32 loses only some would be ties.
    distance = draw(st.integers(0, 45_000)) / 1000
    scores = np.full(vocab, -distance) + random.standard_normal(vocab) * draw(
        st.sampled_from([0.0, 0.01, 5.0])
    )
    for at in random.integers(vocab, size=draw(st.integers(0, 60))):
        scores[at] = -random.integers(0, 12) / 4
    scores[random.random(vocab) < draw(st.sampled_from([0.0, 0.1, 0.99]))] = -np.inf
    scores[random.integers(vocab)] = 0
    sampling = Sampling(
        temperature=temperature,
        top_k=draw(st.sampled_from([0, 0, 1, 5, 40, 10**9])),
        top_p=draw(st.sampled_from([1.0, 0.999999, 0.95, 0.5, 1e-9])),
        min_p=draw(st.sampled_from([0.0, 0.0, 0.1])),
    )
    # Near 0, so that float32 holds the scores exactly enough at every temperature.
    return (scores * temperature).astype(np.float32), sampling


@settings(deadline=None, max_examples=500)
@given(hard_cases())
def test_distributions_are_those_of_the_definition(case: tuple[Floats, Sampling]) -> None:
    logits, sampling = case
    assume(not at_an_edge(logits, sampling, []))
    theirs = definition(logits, sampling)
    assume(not parted_by_rounding(logits, sampling, theirs > 0))
    ours = probabilities(Sampler(sampling, len(logits)), logits, [])
    assert np.abs(ours - theirs).max() < 2e-6


@pytest.mark.parametrize("vocab", [600, 152_000])
@pytest.mark.parametrize("kept", [1, 2])
def test_the_unlikely_count_where_top_p_depends_on_them(vocab: int, kept: int) -> None:
    tail = 6e-6
    p = np.full(vocab, tail / (vocab - 2))
    p[[5, 7]] = [1, 0.25]
    # The first alone reaches top_p of the two, but not of all.
    top_p = 1 / (1.25 + tail / 2) if kept == 2 else 1 / (1.25 + 2 * tail)
    ids, _ = Sampler(Sampling(temperature=1.0, top_p=top_p), vocab).candidates(
        np.log(p).astype(np.float32), []
    )
    assert ids.tolist() == [5, 7][:kept]


@pytest.mark.parametrize("top_k", [0, 3])
def test_few_likely_tokens_do_not_hide_the_rest(top_k: int) -> None:
    logits = np.full(1000, -22.0, np.float32)
    logits[3] = 0
    ids, _ = Sampler(Sampling(temperature=1.0, top_k=top_k), 1000).candidates(logits, [])
    assert len(ids) == 1000  # as likely as the third: all others


@pytest.mark.parametrize("spread", [0.01, 3.0])
@pytest.mark.parametrize("top_p", [0.3, 0.95])
def test_a_large_vocabulary(spread: float, top_p: float) -> None:
    logits = (np.random.default_rng(0).standard_normal(152_000) * spread).astype(np.float32)
    sampling = Sampling(temperature=0.6, top_p=top_p)
    ours, theirs = probabilities(Sampler(sampling, len(logits)), logits, []), reference(logits, [0], sampling)
    # Near the edge the weights are nearly equal, and rounding says which of them is the last.
    assert abs((ours > 0).sum() - (theirs > 0).sum()) <= 5e-4 * (theirs > 0).sum()
    both = (ours > 0) & (theirs > 0)
    assert np.abs(ours - theirs)[both].max() < 1e-6
    of_one = logits[(ours > 0) != (theirs > 0)]
    assert np.abs(of_one - logits[both].min()).max(initial=0) < 1e-3 * spread


def test_of_equal_logits_top_p_keeps_as_many_as_transformers() -> None:
    for count in (4, 10, 1000):
        logits = np.zeros(count, np.float32)
        sampling = Sampling(temperature=1.0, top_p=0.5)
        ours = probabilities(Sampler(sampling, count), logits, [])
        assert_equal_but_for_ties(ours, reference(logits, [0], sampling))
        assert np.flatnonzero(ours).tolist() == list(range(count // 2))


def test_greedy_takes_the_first_of_equals_after_penalty_and_bias() -> None:
    logits = np.array([1, 3, 3, 2.9, -1], np.float32)
    assert Sampler(Sampling(), 5).pick(logits, []) == 1
    assert Sampler(Sampling(repetition_penalty=1.1), 5).pick(logits, [1, 2, 1]) == 3
    assert Sampler(Sampling(logit_bias={4: 5.0}), 5).pick(logits, []) == 4


def test_the_same_seed_picks_the_same() -> None:
    logits = np.random.default_rng(1).standard_normal(2000).astype(np.float32)

    def picks(seed: int | None) -> list[int]:
        sampler = Sampler(Sampling(temperature=1.0, seed=seed), 2000)
        return [sampler.pick(logits, []) for _ in range(20)]

    assert picks(7) == picks(7)
    assert picks(7) != picks(8)
    assert picks(None) != picks(None)


def test_picks_come_as_often_as_they_are_likely() -> None:
    # Enough tokens for several blocks, nearly all of the weight on a few far apart.
    p = np.full(1500, 1e-9)
    p[[3, 511, 512, 1499]] = [0.4, 0.3, 0.2, 0.1]
    sampler = Sampler(Sampling(temperature=1.0, seed=0), len(p))
    logits = np.log(p).astype(np.float32)
    counts = np.bincount([sampler.pick(logits, []) for _ in range(4000)], minlength=len(p))
    assert np.abs(counts[[3, 511, 512, 1499]] / 4000 - [0.4, 0.3, 0.2, 0.1]).max() < 0.03


@pytest.mark.parametrize("temperature", [1e-320, 1e-30, 1e-7, 1e-5, 1e30, 1e300])
def test_extreme_temperatures(temperature: float) -> None:
    logits = np.array([-3e38, 0, 1, 3e38], np.float32)
    ids, weights = Sampler(Sampling(temperature=temperature), 4).candidates(logits, [])
    assert np.isfinite(weights).all()
    assert ids[weights.argmax()] == 3


@pytest.mark.parametrize(
    "parameters",
    [
        {"repetition_penalty": 1e300},
        {"repetition_penalty": 1e-300},
        {"logit_bias": {1: 1e300, 2: -1e300}},
        {"top_p": 1e-300},
        {"min_p": 1 - 1e-16},
        {"top_k": 10**30},
        {"seed": 10**30},
    ],
)
def test_extreme_parameters(parameters: dict[str, Any]) -> None:
    logits = np.array([-10, 0, 1, 10], np.float32)
    ids, weights = Sampler(Sampling(temperature=1.0, **parameters), 4).candidates(logits, [0, 1, 3])
    assert len(ids)
    assert np.isfinite(weights).all()
    assert weights.max() == 1


def test_masked_logits_are_never_picked() -> None:
    logits = np.full(600, -np.inf, np.float32)
    logits[550] = -5
    assert Sampler(Sampling(temperature=1.0, top_p=0.9, min_p=0.1), 600).pick(logits, []) == 550


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_no_numbers(bad: float, temperature: float) -> None:
    logits = np.array([0, bad, 1], np.float32)
    with pytest.raises(EngineFailed, match=f"the logit of token 1 is {bad}.*edge verify"):
        Sampler(Sampling(temperature=temperature), 3).pick(logits, [])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"temperature": -1}, "temperature is -1; give a number 0 (greedy) or more"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"temperature": math.inf}, "temperature is inf"),
        ({"temperature": "hot"}, "temperature is 'hot'"),
        ({"temperature": True}, "temperature is True"),
        ({"top_p": 2}, "top_p is 2; give a number above 0 and at most 1 (off)"),
        ({"top_p": 0}, "top_p is 0"),
        ({"top_p": math.nan}, "top_p is nan"),
        ({"min_p": -0.1}, "min_p is -0.1; give a number 0 (off) or more, and below 1"),
        ({"min_p": 1}, "min_p is 1"),
        ({"top_k": -1}, "top_k is -1; give a whole number, 0 (off) or more"),
        ({"top_k": 2.5}, "top_k is 2.5"),
        ({"repetition_penalty": 0}, "repetition_penalty is 0; give a number above 0; 1 is off"),
        ({"repetition_penalty": math.inf}, "repetition_penalty is inf"),
        ({"seed": -1}, "seed is -1; give a whole number, 0 or more"),
        ({"seed": 1.5}, "seed is 1.5"),
        ({"logit_bias": [1]}, "logit_bias is [1]; give a mapping"),
        ({"logit_bias": {"a": 1}}, "logit_bias has 'a': 1"),
        ({"logit_bias": {1: math.nan}}, "logit_bias has 1: nan"),
        ({"logit_bias": {50: 1.0}}, "logit_bias names token 50; token ids run from 0 to 49"),
        ({"logit_bias": {-1: 1.0}}, "logit_bias names token -1"),
    ],
)
def test_parameters_out_of_range(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        Sampler(Sampling(**parameters), 50)
    assert message in str(error.value)
