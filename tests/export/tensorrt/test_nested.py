"""How far a build is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from export.tensorrt.nested import Nested

PHASES = ["Building engine", "Optimizing graph", "Computing profile costs", "Timing tactics"]


@given(
    st.lists(
        st.tuples(st.sampled_from(["start", "step", "finish"]), st.sampled_from(PHASES), st.integers(0, 9))
    )
)
def test_it_never_goes_back_nor_past_the_end(told: list[tuple[str, str, int]]) -> None:
    phases, last = Nested(), 0.0
    for what, name, number in told:
        if what == "start":
            phases.start(name, number)
        elif what == "step":
            phases.step(name, number)
        else:
            phases.finish(name)
        assert last <= phases.fraction <= 1
        last = phases.fraction
        assert phases.stage in ("", *PHASES)


def test_code_takes_most_of_the_time() -> None:
    phases = Nested()
    phases.start("Building engine", 4)
    phases.step("Building engine", 1)
    assert round(phases.fraction, 3) == 0.05
    phases.start("Computing profile costs", 10)
    phases.step("Computing profile costs", 4)
    assert 0.45 < phases.fraction < 0.6
    assert phases.stage == "Computing profile costs"
