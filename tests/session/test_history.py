"""Series for graphs, the same for a session that grows and for one that is replayed."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgetop.core.records import Record, SourceAdded, Tokens
from edgetop.core.sources import Channel, SourceInfo
from edgetop.session.session import Session
from edgetop.session.snapshot import (
    STEPS,
    RollingHistory,
    channel_history,
    decode_rate_history,
    phase_history,
    snapshot,
    speed_over_time,
)
from tests.support.recorded_sessions import HEAD, MS, S, fold, sample, turn

POWER = SourceInfo(
    name="power", driver="fake", kind="power", period_s=0.5, channels=(Channel(name="power.x", unit="W"),)
)
FIRST_US = 1_251 * MS
"""The first token of a turn that is submitted after a second."""


def rates(session: Session, t_us: int, steps: int = 6, step_us: int = S) -> list[float | None]:
    return decode_rate_history(session, t_us, steps, step_us)


def steady(gap_us: int, count: int, at_us: int = 1 * S, number: int = 1) -> list[Record]:
    return turn(number, at_us=at_us, gaps_us=[gap_us] * count)


def test_a_steady_rate_is_flat_whatever_the_steps_are() -> None:
    session = fold([*HEAD, *steady(130 * MS, 40)])
    for step_us in (100 * MS, 1 * S, 3 * S):
        shown = [rate for rate in rates(session, 7 * S, 60, step_us) if rate is not None]
        assert shown == pytest.approx([1000 / 130] * len(shown))


def test_a_model_slower_than_the_steps_leaves_no_holes() -> None:
    session = fold([*HEAD, *steady(2500 * MS, 3)])  # tokens at 1.251, 3.751, 6.251, 8.751 s
    assert rates(session, 9 * S, 10) == [None, *[pytest.approx(0.4)] * 8, None]


def test_nothing_is_shown_before_the_first_token_and_between_turns() -> None:
    session = fold([*HEAD, *steady(100 * MS, 8), *steady(50 * MS, 20, at_us=4 * S, number=2)])
    assert rates(session, int(5.5 * S)) == [
        None, pytest.approx(10.0), pytest.approx(10.0), None, pytest.approx(20.0), pytest.approx(20.0),
    ]  # fmt: skip


def test_two_turns_in_one_step_are_averaged_by_their_time() -> None:
    quick, slow = turn(at_us=0, gaps_us=[10 * MS] * 10), turn(2, at_us=500 * MS, prefill_us=0, gaps_us=[100 * MS] * 2)
    session = fold([*HEAD, *quick, *slow])
    assert rates(session, 999 * MS, 1) == [pytest.approx(12 / 0.3)]


def test_a_stall_is_as_slow_as_it_was_long() -> None:
    session = fold([*HEAD, *turn(gaps_us=[100 * MS, 4 * S, 100 * MS])])  # from 1.351 to 5.351 s
    assert rates(session, 5_400 * MS, 4)[:3] == [pytest.approx(0.25)] * 3
    # While it lasts nobody knows how long it will be.
    assert rates(session, 5_300 * MS, 4) == [None] * 4


def test_one_token_and_tokens_of_one_moment_have_no_rate() -> None:
    assert rates(fold([*HEAD, *turn(gaps_us=[])]), 2 * S) == [None] * 6
    assert rates(fold([*HEAD, *turn(gaps_us=[0, 0])]), 2 * S) == [None] * 6
    assert rates(fold([*HEAD, *turn(gaps_us=[], finished=False)][:-2]), 2 * S) == [None] * 6


def test_a_graph_moves_by_whole_steps() -> None:
    session = fold([*HEAD, *steady(100 * MS, 40)])
    early, late = rates(session, 4 * S, 4), rates(session, 5 * S - 1, 4)
    assert early == [*[pytest.approx(10.0)] * 3, None]
    assert late == [pytest.approx(10.0)] * 4
    assert rates(session, 5 * S, 4) == [*[pytest.approx(10.0)] * 3, None]


@settings(deadline=None)
@example([0, 100 * MS], 50 * MS)
@given(st.lists(st.integers(0, 3 * S), max_size=30), st.integers(50 * MS, 2 * S))
def test_the_area_under_the_rates_is_the_number_of_tokens(gaps_us: list[int], step_us: int) -> None:
    session = fold([*HEAD, *turn(gaps_us=gaps_us)])
    only = session.turns[0]
    first_us, last_us = only.token_t_us[0], only.token_t_us[-1]
    end_us = session.end_us
    steps = end_us // step_us + 1
    area = 0.0
    for step, rate in enumerate(decode_rate_history(session, end_us, steps, step_us)):
        low_us, high_us = max(first_us, step * step_us), min(last_us, (step + 1) * step_us)
        assert (rate is None) == (high_us <= low_us)
        area += (rate or 0.0) * max(0, high_us - low_us) / S
    simultaneous = last_us == first_us
    assert area == pytest.approx(0 if simultaneous else len(gaps_us), rel=1e-6)


@settings(deadline=None)
@given(st.lists(st.integers(0, 2 * S), min_size=1, max_size=20), st.integers(0, 20 * S))
def test_replay_shows_what_the_live_graph_showed(gaps_us: list[int], t_us: int) -> None:
    records = turn(gaps_us=gaps_us)
    whole = fold([*HEAD, *records])
    tokens = [record for record in records if isinstance(record, Tokens)]
    seen = fold([*HEAD, *records[:3], *(each for each in tokens if whole.relative(each.t_us[0]) <= t_us)])
    assert rates(whole, t_us, 20) == rates(seen, t_us, 20)


def powers(*readings: tuple[int, float | None]) -> Session:
    return fold([*HEAD, SourceAdded(source=POWER), *(sample(POWER, at_us, value) for at_us, value in readings)])


def test_a_channel_is_averaged_in_each_step() -> None:
    session = powers((0, 1.0), (500 * MS, 3.0), (1 * S, 5.0), (1_500 * MS, 7.0), (2 * S, 9.0), (3 * S, 99.0))
    assert channel_history(session, "power.x", 2 * S, 4, S) == [None, 2.0, 6.0, 9.0]


def test_a_missing_reading_is_a_hole_and_not_a_zero() -> None:
    session = powers((0, 4.0), (500 * MS, None), (1 * S, None), (1_500 * MS, None), (2 * S, 6.0))
    assert channel_history(session, "power.x", 2 * S, 3, S) == [4.0, None, 6.0]


def test_a_meter_slower_than_the_steps_holds_its_reading_but_not_for_ever() -> None:
    session = powers((0, 4.0), (500 * MS, 5.0), (1_000 * MS, 6.0))
    held = channel_history(session, "power.x", 2_100 * MS, 11, 200 * MS)
    assert held == [4.0, 4.0, 5.0, 5.0, 5.0, 6.0, 6.0, 6.0, 6.0, None, None]
    # A reading just before the first step is held into it.
    assert channel_history(session, "power.x", 1_900 * MS, 3, 200 * MS) == [6.0, 6.0, None]


def test_a_channel_that_nobody_reads_has_no_history() -> None:
    assert channel_history(powers(), "power.y", 5 * S, 3, S) == [None] * 3
    assert channel_history(powers(), "power.x", 5 * S, 3, S) == [None] * 3


def test_the_peak_of_the_gpus_is_the_sum_of_theirs_and_that_of_swap_the_machines() -> None:
    def gpu(index: int) -> SourceInfo:
        names = (f"gpu.{index}.memory_used", f"gpu.{index}.memory_total", f"gpu.{index}.use")
        return SourceInfo(
            name=f"gpu.{index}", driver="nvml", period_s=1.0, channels=tuple(Channel(name=n, unit="B") for n in names)
        )

    none = fold([*HEAD, SourceAdded(source=gpu(0)), sample(gpu(0), S, None, 8.0, 1.0)])
    assert snapshot(none, 9 * S).summary.memory.gpu_peak_bytes is None
    session = fold([
        *HEAD,
        SourceAdded(source=gpu(0)),
        SourceAdded(source=gpu(1)),
        sample(gpu(0), 1 * S, 300.0, 8000.0, 50.0),
        sample(gpu(0), 2 * S, 100.0, 8000.0, 50.0),
        sample(gpu(1), 2 * S, 40.0, 8000.0, 50.0),
        sample(gpu(1), 3 * S, 50.0, 8000.0, 50.0),
    ])  # fmt: skip
    assert snapshot(session, 9 * S).summary.memory.gpu_peak_bytes == 350
    assert snapshot(session, 2 * S).summary.memory.gpu_peak_bytes == 340


def test_phases_are_told_by_the_longer_part_of_a_step_and_turns_by_where_they_begin() -> None:
    session = fold(
        [
            *HEAD,
            *turn(at_us=1 * S, prefill_us=2 * S, gaps_us=[500 * MS] * 4),  # tokens from 3.051 to 5.051 s
            *turn(2, at_us=8 * S, prefill_us=300 * MS, gaps_us=[700 * MS] * 3, finished=False),
        ]
    )
    told = phase_history(session, 9 * S + 500 * MS, 10, S)
    phases = ["", "prefill", "prefill", "decode", "decode", "decode", "", "", "decode", "decode"]
    assert [each.phase for each in told] == phases
    assert [at for at, each in enumerate(told) if each.turn_begins] == [1, 8]


def test_nothing_of_a_turn_shows_before_it_happens() -> None:
    session = fold([*HEAD, *turn(at_us=1 * S, prefill_us=2 * S, gaps_us=[500 * MS] * 4)])
    told = phase_history(session, 2 * S + 500 * MS, 4, S)
    assert [each.phase for each in told] == ["", "", "prefill", "prefill"]


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


gaps = st.lists(st.floats(0.001, 5), min_size=1, max_size=40)


@given(st.lists(gaps, min_size=1, max_size=4), st.floats(0, 10))
def test_the_area_under_the_rates_is_the_number_of_tokens_after_the_first_ones(
    turns: list[list[float]], pause_s: float
) -> None:
    stamps: list[list[float]] = []
    begin_s = 1.0
    for gaps_s in turns:
        stamps.append(list(accumulate(gaps_s, initial=begin_s)))
        begin_s = stamps[-1][-1] + pause_s + 0.5
    speed = speed_over_time(stamps)
    assert speed is not None
    assert len(speed.tokens_per_s) == STEPS
    decoded = sum((stamps[-1][-1] - stamps[0][0]) / STEPS * (rate or 0) for rate in speed.tokens_per_s)
    tokens = sum(map(len, turns))
    # Steps that a turn only partly fills have the rate of that part, so the area may be larger, never smaller.
    assert decoded >= tokens * (1 - 1e-9)


def test_a_steady_turn_has_its_rate_and_a_pause_has_none() -> None:
    speed = speed_over_time([[index / 10 for index in range(61)], [20 + index / 5 for index in range(61)]])
    assert speed is not None
    assert speed.tokens_per_s[5] == pytest.approx(10)
    assert speed.tokens_per_s[-1] == pytest.approx(5)
    assert speed.tokens_per_s[40] is None


def test_without_two_tokens_there_is_no_rate() -> None:
    assert speed_over_time([]) is None
    assert speed_over_time([[1.0], [2.0]]) is None
    assert speed_over_time([[1.0, 1.0]]) is None
