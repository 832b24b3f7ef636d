"""What graphs show over any span, at a cost that does not grow with the session."""

from __future__ import annotations

import pytest

from benchmarks.history import begun, second
from edgetop.session.session import Session
from edgetop.session.snapshot import snapshot
from edgetop.tui.panes.pane import SPANS, ChartHistory
from tests.support.demo_session import NOW_US, TURN_1_US, TURN_2_US, S, demo_records, demo_view
from tests.support.recorded_sessions import fold


def at(traces: ChartHistory, session: Session, t_us: int) -> ChartHistory:
    return traces.at(session, snapshot(session, t_us))


def work(length_s: int, span: str) -> int:
    """Steps computed for twenty draws after so much of a session."""
    session, traces = begun(), ChartHistory(span)
    for at_s in range(length_s + 1):
        second(session, at_s)
    counts = []
    for at_s in range(length_s + 1, length_s + 21):
        second(session, at_s)
        now = at(traces, session, at_s * S)
        now.speed(100)
        now.power(100)
        now.channel("engine.rss", 100)
        counts.append(now.work)
    return counts[-1] - counts[0]


@pytest.mark.parametrize("span", [name for name, length_us in SPANS if length_us])
def test_a_draw_in_a_long_session_takes_no_more_steps_than_in_a_short_one(span: str) -> None:
    assert work(6000, span) <= work(600, span) + 3


def test_the_whole_of_a_longer_session_takes_fewer_steps_since_they_are_longer() -> None:
    assert work(6000, "session") <= work(600, "session")


@pytest.mark.parametrize("span", [name for name, _ in SPANS])
def test_what_was_kept_from_draw_to_draw_is_what_a_single_look_shows(span: str) -> None:
    session, kept = fold(demo_records()), ChartHistory(span)
    for t_us in range(TURN_1_US, NOW_US + 1, S // 2):
        now = at(kept, session, t_us)
        shown = [now.speed(60).values, now.power(60).values, now.channel("engine.rss", 60).values]
        now.turns(5)
    alone = at(ChartHistory(span), session, NOW_US)
    assert shown == [alone.speed(60).values, alone.power(60).values, alone.channel("engine.rss", 60).values]
    assert now.turns(5) == alone.turns(5)


def test_time_that_goes_back_shows_nothing_of_what_comes_later() -> None:
    session, traces = fold(demo_records()), ChartHistory("30 s")
    at(traces, session, NOW_US).speed(60)
    early = at(traces, session, TURN_1_US - S)
    assert set(early.speed(60).values) == {None}
    assert early.turns(5) == []
    assert [turn.number for turn in at(traces, session, TURN_2_US + S).turns(1)] == [2]


def test_the_speed_of_the_last_answer_stays_when_it_would_have_left_the_graph_and_says_when_it_was() -> None:
    session = fold(demo_records(until_us=TURN_2_US - S))
    last_us = session.turns[0].token_t_us[-1]
    for span, is_now in (("2 min", True), ("30 s", True)):
        series = at(ChartHistory(span), session, TURN_2_US - 2 * S).speed(60)
        assert (series.end_us, series.is_now) == (TURN_2_US - 2 * S, is_now)
    series = at(ChartHistory("30 s"), session, TURN_2_US + 20 * S).speed(60)
    assert (series.end_us, series.is_now) == (last_us, False)
    assert any(value is not None for value in series.values)


def test_the_speed_stands_against_the_tokens_in_the_context() -> None:
    series = demo_view().history.speed_by_context(30)
    assert series.ends == ("39 in context", "153")
    # Between 96 and 124 tokens nothing was generated: the second prompt was read there.
    assert series.values[17] is None
    rates = [rate for rate in series.values if rate is not None]
    assert 5 < min(rates) < max(rates) < 8
    assert set(demo_view(until_us=TURN_1_US - S).history.speed_by_context(30).values) == {None}
