from __future__ import annotations

import random
from math import floor, inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetop.core import numbers
from edgetop.core.energy import curves
from edgetop.core.energy.curves import PowerCurve
from edgetop.core.energy.windows import Window, measure
from edgetop.core.sources import Unavailable
from tests.core.energy.scripted_meters import S, average_meter, feed, point_meter, polled


def energy(curve: PowerCurve, start_s: float, end_s: float) -> float:
    return curve.energy_j(round(end_s * S)) - curve.energy_j(round(start_s * S))


@given(
    power_w=st.floats(0.5, 500),
    gaps_s=st.lists(st.floats(0.01, 1.5), min_size=3, max_size=60),
    averaging=st.booleans(),
    cut=st.floats(0, 1),
)
def test_constant_power_is_exact_however_it_is_polled(
    power_w: float, gaps_s: list[float], averaging: bool, cut: float
) -> None:
    curve = PowerCurve(average_meter() if averaging else point_meter())
    t_s = 0.0
    for gap_s in gaps_s:
        feed(curve, [(t_s, power_w)])
        t_s += gap_s
    end_s = t_s - gaps_s[-1]
    middle_s = round(end_s * cut * S) / S
    # Stamps are whole microseconds.
    assert energy(curve, 0, end_s) == pytest.approx(power_w * end_s, rel=1e-5, abs=1e-6 * power_w)
    assert energy(curve, 0, middle_s) + energy(curve, middle_s, end_s) == pytest.approx(
        energy(curve, 0, end_s), rel=1e-9
    )


@given(start_w=st.floats(10, 50), slope=st.floats(-0.5, 5), a=st.floats(0, 9.9), length=st.floats(0.01, 5))
def test_linear_ramp_is_exact_for_a_point_sensor_between_any_two_moments(
    start_w: float, slope: float, a: float, length: float
) -> None:
    curve = PowerCurve(point_meter(update_s=0.05))
    feed(curve, polled(15, 0.05, lambda t: start_w + slope * t))
    a, b = round(a * S) / S, round((a + length) * S) / S
    truth = start_w * (b - a) + slope * (b * b - a * a) / 2
    assert energy(curve, a, b) == pytest.approx(truth, rel=1e-6, abs=1e-6)


def test_first_reading_under_load_does_not_reach_back_over_a_constant_idle() -> None:
    """The trap of removing repeats: 60 s at one code, then load. A hold over the whole gap would say 550 J."""
    for meter in (average_meter(window_s=1.0, update_s=1.0, poll_s=0.5), point_meter(update_s=0.05)):
        curve = PowerCurve(meter)
        feed(curve, polled(70, meter.poll_s, lambda t: 4.0 if t < 60 else 9.0))
        assert energy(curve, 0, 70) == pytest.approx(4 * 60 + 9 * 10, abs=5 * 1.5)
        assert energy(curve, 0, 55) == pytest.approx(4 * 55)


@given(
    poll_s=st.sampled_from([0.01, 0.02, 0.03, 0.05]),
    jitter=st.lists(st.floats(0, 0.5), min_size=40, max_size=40),
    repeats=st.booleans(),
)
def test_energy_is_invariant_to_polling_rate_jitter_and_duplicate_readings(
    poll_s: float, jitter: list[float], repeats: bool
) -> None:
    """A sensor of the mean over the last 100 ms; the load steps from 4 to 9 W. The tolerance is a poll at the step."""
    curve = PowerCurve(average_meter(poll_s=poll_s, update_s=0.1))
    for i in range(round(20 / poll_s)):
        t_s = (i + jitter[i % 40] * 0.9) * poll_s
        update = floor(t_s / 0.1)
        value = (4.0 if update <= 100 else 9.0) + 0.01 * (update % 7)
        feed(curve, [(t_s, value)])
        if repeats:
            feed(curve, [(t_s, value), (t_s + 1e-6, value)])
    assert energy(curve, 2, 18) == pytest.approx(4.03 * 8 + 9.03 * 8, abs=5 * (poll_s + 0.01))


@given(
    readings=st.lists(
        st.one_of(st.none(), st.floats(-1e6, 1e6), st.sampled_from([nan, inf, -inf, 0.0, 9_999.0])), max_size=80
    ),
    sleeps=st.sets(st.integers(0, 79)),
)
def test_no_failed_read_glitch_or_suspend_yields_more_than_the_greatest_power(
    readings: list[float | None], sleeps: set[int]
) -> None:
    for meter in (point_meter(p_max_w=100.0, offset_w=0.5), average_meter(p_max_w=100.0, offset_w=0.5)):
        curve = PowerCurve(meter)
        for i, value in enumerate(readings):
            if i in sleeps:
                curve.suspended()
            feed(curve, [(i * 0.7, value)])
        if curve.first_us is not None:
            length_s = len(readings) * 0.7
            assert -0.5 * length_s - 1e-6 <= energy(curve, 0, length_s) <= 100 * length_s + 1e-6


def test_missing_readings_are_bridged_with_the_mean_of_the_neighbours_and_counted() -> None:
    curve = PowerCurve(point_meter(update_s=0.05))
    feed(curve, polled(20, 0.05, lambda t: None if 10 < t < 15 else (4.0 if t <= 10 else 8.0)))
    share = curve.gap_share(5 * S, 20 * S)
    assert share.estimated_s == pytest.approx(5, abs=0.1)
    assert share.u_j == pytest.approx(5 * 4 / 12**0.5, rel=0.02)
    assert energy(curve, 10, 15) == pytest.approx(5 * 6, rel=0.02)
    assert curve.gap_share(0, 9 * S).estimated_s == 0


def test_a_window_over_a_suspend_is_marked_and_others_are_not() -> None:
    curve = PowerCurve(point_meter())
    feed(curve, polled(5, 0.05, lambda t: 4.0))
    curve.suspended()
    feed(curve, [(5.1 + i * 0.05, 9.0) for i in range(50)])
    assert curve.gap_share(4 * S, 6 * S).suspended
    assert not curve.gap_share(1 * S, 4 * S).suspended
    assert not curve.gap_share(6 * S, 7 * S).suspended


def test_negative_codes_near_zero_count_and_lower_ones_are_rejected() -> None:
    """A real Thor rail at rest says -392 mW, which is one step; two steps and the offset are the limit."""
    curve = PowerCurve(point_meter(lsb_w=0.392, offset_w=0.0))
    feed(curve, polled(10, 0.05, lambda t: -0.392 if round(t * 20) % 2 else 0.392))
    assert energy(curve, 0, 10) == pytest.approx(0, abs=0.02)
    feed(curve, [(10.05, -0.9)])
    assert curve.last_us is not None
    assert curve.asked_us is not None
    assert curve.last_us < curve.asked_us


def test_a_single_zero_of_a_plug_is_dropped_and_a_lasting_one_is_believed() -> None:
    plug = average_meter(poll_s=0.5, window_s=1.0, update_s=1.0, scope="wall")
    curve = PowerCurve(plug)
    feed(curve, polled(20, 0.5, lambda t: 0.0 if 10 <= t < 11 else 3_500.0 if 14 <= t < 15 else 25.0))
    assert energy(curve, 0, 20) == pytest.approx(25 * 20)
    feed(curve, [(20.5 + i * 0.5, 0.0) for i in range(20)])
    assert energy(curve, 22, 30) == pytest.approx(0, abs=1e-9)


def test_recomputing_from_the_same_readings_gives_the_same_energies_whenever_it_was_asked() -> None:
    """The update period is revised on the way; asking in between must not leave a trace."""
    live, replayed = (PowerCurve(average_meter(poll_s=0.03, window_s=1.0)) for _ in range(2))
    readings = polled(30, 0.03, lambda t: 4.0 + floor(t / 0.1) % 11 + (5 if t > 15 else 0))
    for reading in readings:
        feed(live, [reading])
        live.energy_j(live.last_us or 0)
    feed(replayed, readings)
    assert [live.energy_j(t * S / 7) for t in range(210)] == [replayed.energy_j(t * S / 7) for t in range(210)]
    assert live.update_s == pytest.approx(0.1, rel=0.05)
    assert live.revision >= 1


@pytest.mark.parametrize("averaging", [True, False], ids=["means", "points"])
def test_what_is_packed_and_added_up_again_changes_nothing(averaging: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs, gaps, a suspend and a revised period, asked for anywhere, also from marks that were left on the way."""
    chance = random.Random(3)  # noqa: S311 - the same every time
    readings = [
        (0.05 * index, None if 300 <= index < 380 else round(8 + (index // 3 % 5) + chance.gauss(0, 0.2), 2))
        for index in range(900)
        if not 600 <= index < 640
    ]
    moments = [chance.randrange(46 * S) for _ in range(60)]

    def told(curve: PowerCurve) -> list[object]:
        return [
            (curve.energy_j(t_us), curve.readings(t_us, t_us + S), curve.still_s(t_us, t_us + 3 * S))
            for t_us in moments
        ]

    def goes_on(curve: PowerCurve, begin: int, end: int) -> PowerCurve:
        for number in range(begin, end):
            if number == 500:
                curve.suspended()
            feed(curve, [readings[number]])
        return curve

    def folded() -> tuple[PowerCurve, list[list[object]]]:
        curve, marks, begin = PowerCurve(average_meter() if averaging else point_meter()), [], 0
        for end in (0, 7, 250, 700):
            marks.append((end, goes_on(curve, begin, end).mark()))
            begin = end
        goes_on(curve, begin, len(readings))
        return curve, [told(goes_on(mark.resumed(), end, len(readings))) for end, mark in marks]

    plain, plainly_resumed = folded()
    expected = told(plain)
    assert plainly_resumed == [expected] * 4
    monkeypatch.setattr(numbers, "BLOCK", 8)
    monkeypatch.setattr(curves, "SUMS_APART", 4)
    monkeypatch.setattr(curves, "SUMS_KEPT", 8)
    monkeypatch.setattr(curves, "SUMS_OPENED", 2)
    packed, resumed = folded()
    assert told(packed) == expected
    assert resumed == [expected] * 4


@pytest.mark.parametrize("averaging", [True, False])
@pytest.mark.parametrize("step_s", [0.0, 3.0, 1000.0])
def test_the_uncertainty_of_a_window_is_the_same_whenever_it_is_asked_for(averaging: bool, step_s: float) -> None:
    """The last readings in the window may go on unchanged long after it, or for ever."""
    chance = random.Random(1)  # noqa: S311 - the same every time
    curve = PowerCurve(average_meter(poll_s=0.1) if averaging else point_meter(update_s=0.1, poll_s=0.1))
    quiet_s = 9.5 if step_s else 60.0
    readings = polled(40, 0.1, lambda t: 8.0 if quiet_s < t < 9.5 + step_s else chance.gauss(8.0, 0.3))
    found: list[Window | Unavailable] = []
    for t_s, power_w in readings:
        feed(curve, [(t_s, power_w)])
        if curve.is_complete(round(10.2 * S)):
            found.append(measure(curve, 4 * S, 10 * S, Unavailable("none")))
    assert len(found) > 100
    assert isinstance(found[0], Window)
    assert all(each == found[0] for each in found)


def test_a_window_is_final_only_after_the_sensor_has_updated_again() -> None:
    curve = PowerCurve(average_meter(poll_s=0.5, window_s=1.0, update_s=1.0))
    feed(curve, polled(10, 0.5, lambda t: 4.0))
    assert not curve.is_final(10 * S)
    assert not curve.is_final(9 * S)
    assert curve.is_final(8 * S)
    feed(curve, [(10.5 + i * 0.5, None) for i in range(12)])
    assert curve.is_final(10 * S)


@pytest.mark.parametrize(("step_s", "unseen_s"), [(0.1, 0.0), (0.05, 0.0), (0.14, 2.0), (0.2, 0.0)])
def test_what_no_mean_covers_is_counted(step_s: float, unseen_s: float) -> None:
    """Means over 0.1 s that come every 0.14 s leave 0.04 s uncovered each; one every 0.2 s repeats the one before."""
    curve = PowerCurve(average_meter(window_s=0.1, update_s=0.1, poll_s=0.05))
    feed(curve, [(k * step_s, 5.0 + k % 2) for k in range(round(7 / step_s) + 2)])
    assert curve.readings(0, 7 * S).unseen_s == pytest.approx(unseen_s, abs=0.06)


def test_a_late_program_makes_a_mean_of_a_changing_load_less_certain() -> None:
    on_time, late = (PowerCurve(average_meter(window_s=0.1, update_s=0.1, poll_s=0.05)) for _ in range(2))
    feed(on_time, [(k * 0.1, 5.0 + k % 2) for k in range(120)])
    feed(late, [(k * 0.14, 5.0 + k % 2) for k in range(90)])
    spread_j = []
    for curve in (on_time, late):
        window = measure(curve, S, 9 * S, Unavailable("none"))
        assert isinstance(window, Window)
        spread_j.append(window.gross.u.sampling)
    assert spread_j[1] > 1.5 * spread_j[0] > 0
