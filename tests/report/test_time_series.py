from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from edgetop.core.energy.scopes import Headline
from edgetop.core.records import Sampled
from edgetop.core.sources import Unavailable
from edgetop.report.plots import COLUMNS, History, decimated, time_series
from edgetop.session.energy import SessionEnergy
from tests.support import recorded_sessions
from tests.support.long_sessions import an_hour
from tests.support.recorded_power import SENSORS, record
from tests.support.recorded_sessions import HEAD, MEMORY, S, fold, sample, turn

values = st.lists(st.none() | st.floats(-1e6, 1e6).map(lambda value: float(f"{value:.5g}")), max_size=200)


def history(*steps: float | None) -> History:
    return History(step_us=S, values=steps)


@given(values, st.integers(1, 40))
def test_a_drawn_curve_has_real_values_in_their_order_and_the_extremes(steps: list[float | None], columns: int) -> None:
    curve = decimated(history(*steps), columns)
    assert len(curve.values) <= max(len(steps), 5 * columns)
    assert all(earlier < later for earlier, later in pairwise(curve.t_s))
    for t_s, value in zip(curve.t_s, curve.values, strict=True):
        assert steps[int(t_s)] == value
    present = [value for value in steps if value is not None]
    kept = [value for value in curve.values if value is not None]
    assert bool(present) == bool(kept)
    if present:
        assert (min(kept), max(kept)) == (min(present), max(present))


@given(values, st.integers(1, 40))
def test_no_line_is_drawn_across_a_gap(steps: list[float | None], columns: int) -> None:
    curve = decimated(history(*steps), columns)
    for (begin_s, begin), (end_s, end) in pairwise(zip(curve.t_s, curve.values, strict=True)):
        if begin is not None and end is not None:
            assert None not in steps[int(begin_s) : int(end_s)]


def test_a_long_curve_keeps_a_single_spike() -> None:
    steps = [1.0] * (COLUMNS * 20)
    steps[7777] = 50.0
    assert 50.0 in decimated(history(*steps)).values


def test_gaps_are_stretches_between_values() -> None:
    assert history(None, 1.0, None, None, 2.0, 3.0, None, 4.0, None).gaps == [(2.0, 4.0), (6.0, 7.0)]


def test_power_is_that_of_the_headline_with_the_readings_that_failed_left_out() -> None:
    made = record(SENSORS["fast point"], seed=1)
    begin_us, end_us = 5 * S, 9 * S
    failed = [
        Sampled(source=each.source, t_us=each.t_us, values=(None,), reasons=("asleep",))
        if isinstance(each, Sampled) and begin_us < each.t_us - recorded_sessions.START_US < end_us
        else each
        for each in made.records
    ]
    whole, broken = time_series(fold(made.records)).power, time_series(fold(failed)).power
    assert isinstance(whole, History)
    assert isinstance(broken, History)
    assert whole.gaps == []
    ((gap_begin_s, gap_end_s),) = broken.gaps
    assert abs(gap_begin_s - 5) < 0.2
    assert abs(gap_end_s - 9) < 0.2
    session = fold(made.records)
    account = SessionEnergy(session)
    account.advance(session.end_us)
    assert isinstance(account.headline, Headline)
    truth = made.turns[0]
    between = whole.between(truth.submitted_us / S + 0.5, truth.stamps_us[-1] / S)
    assert abs(sum(between) / len(between) * (truth.stamps_us[-1] - truth.submitted_us) / S - truth.gross_j) < 3


def test_without_a_meter_the_reason_stands_for_the_power() -> None:
    series = time_series(fold([*HEAD, *turn()]))
    assert series.power == Unavailable("this board has no power sensor", "use an external meter")
    assert series.private is None


def test_memory_has_a_gap_where_it_was_not_read() -> None:
    there, lost = (100 * 2**20, 0, 0), (None, None, None)
    readings = [
        sample(recorded_sessions.ENGINE, second * S, *(lost if 4 <= second <= 6 else there)) for second in range(1, 10)
    ]
    series = time_series(fold([*HEAD, sample(MEMORY, 0, 1, 1), *readings]))
    assert series.resident is not None
    assert {value for value in series.resident.values if value is not None} == {100.0}
    assert series.resident.gaps == [(4.0, 7.0)]


def test_phases_are_those_of_the_turns_and_close_ones_are_merged() -> None:
    session = fold([*HEAD, *turn(1, at_us=1 * S), *turn(2, at_us=10 * S)])
    series = time_series(session)
    assert [(phase.begin_s, phase.end_s) for phase in series.prefills] == [(1.0, 1.251), (10.0, 10.251)]
    assert [(phase.begin_s, phase.end_s) for phase in series.decodes] == [(1.251, 1.651), (10.251, 10.651)]
    many = time_series(an_hour())
    assert len(many.decodes) <= COLUMNS + 1
    assert many.decodes[-1].end_s <= many.length_s
    assert len(decimated(many.speed).values) <= 5 * COLUMNS
