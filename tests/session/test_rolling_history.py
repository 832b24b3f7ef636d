"""Series that are kept between two drawings: the same values as computed anew, for the work of what is new."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from edgetop.session.history import RollingHistory, decode_rate_history, phase_history
from edgetop.session.session import Session
from tests.support.recorded_sessions import HEAD, MS, S, fold, turn


def numbers(t_us: int, steps: int, step_us: int) -> list[int]:
    """Each step's own number."""
    end = t_us // step_us + 1
    return list(range(end - steps, end))


@given(
    st.lists(
        st.tuples(
            st.integers(0, 60 * S), st.integers(1, 40), st.sampled_from((S // 4, S, 3 * S)), st.integers(0, 9 * S)
        ),
        min_size=1,
        max_size=20,
    )
)  # fmt: skip
def test_whatever_is_asked_for_the_values_are_those_of_their_steps(asked: list[tuple[int, int, int, int]]) -> None:
    history = RollingHistory(numbers)
    for t_us, steps, step_us, behind_us in asked:
        assert history.until(t_us, steps, step_us, t_us - behind_us) == numbers(t_us, steps, step_us)


def test_time_that_goes_on_costs_the_new_steps_and_those_that_are_not_settled() -> None:
    history = RollingHistory(numbers)
    history.until(1000 * S, 120, S, 995 * S)
    assert history.computed == 120
    for second in range(1001, 1101):
        history.until(second * S, 120, S, (second - 5) * S)
    assert history.computed == 120 + 100 * 7


def test_another_version_and_time_that_goes_back_are_computed_anew() -> None:
    history = RollingHistory(numbers)
    history.until(100 * S, 10, S, 100 * S, "a")
    history.until(100 * S, 10, S, 100 * S, "b")
    assert history.computed == 20
    history.until(50 * S, 10, S, 50 * S, "b")
    assert history.computed == 30


def recorded() -> Session:
    return fold(
        [
            *HEAD,
            *turn(at_us=1 * S, prefill_us=2 * S, gaps_us=[100 * MS] * 20),
            *turn(2, at_us=8 * S, prefill_us=300 * MS, gaps_us=[700 * MS] * 6),
        ]
    )


@settings(max_examples=30)
@given(st.integers(200, 2000), st.sampled_from((S // 4, S, 5 * S)), st.integers(5, 60))
def test_a_session_that_is_looked_at_again_and_again_shows_what_one_look_shows(
    every_ms: int, step_us: int, steps: int
) -> None:
    session = recorded()
    rates = RollingHistory(lambda *asked: decode_rate_history(session, *asked))
    phases = RollingHistory(lambda *asked: phase_history(session, *asked))
    for t_us in range(0, 14 * S, every_ms * MS):
        index = session.turn_at(t_us)
        stamps = [] if index is None else [each for each in session.turns[index].token_t_us if each <= t_us]
        settled_us = min(t_us, stamps[-1]) if stamps else t_us
        if index is not None and session.turns[index].finished_at(t_us) is None:
            assert rates.until(t_us, steps, step_us, settled_us) == decode_rate_history(session, t_us, steps, step_us)
        assert phases.until(t_us, steps, step_us, t_us) == phase_history(session, t_us, steps, step_us)
