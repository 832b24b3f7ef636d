from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetop.core.energy.curves import CounterCurve
from tests.core.energy.scripted_meters import S, counter_meter, feed, polled

CLIENT_WRAP_J = 262143.328850
SERVER_WRAP_J = 65532.610987


def energy(curve: CounterCurve, start_s: float, end_s: float) -> float:
    return curve.energy_j(round(end_s * S)) - curve.energy_j(round(start_s * S))


@given(
    start_j=st.floats(0, CLIENT_WRAP_J - 1),
    power_w=st.floats(1, 400),
    poll_s=st.sampled_from([0.05, 0.5, 1.0]),
    window_s=st.tuples(st.floats(0, 20), st.floats(0, 20)),
)
def test_a_wrap_anywhere_equals_no_wrap(
    start_j: float, power_w: float, poll_s: float, window_s: tuple[float, float]
) -> None:
    """Windows that end just after the wrap are among them; another tool gives -262 142.5 J there."""
    wrapping, endless = CounterCurve(counter_meter(wrap_j=CLIENT_WRAP_J)), CounterCurve(counter_meter())
    begin_j = CLIENT_WRAP_J - (CLIENT_WRAP_J - start_j) % (power_w * 20)
    feed(wrapping, polled(20, poll_s, lambda t: (begin_j + power_w * t) % CLIENT_WRAP_J))
    feed(endless, polled(20, poll_s, lambda t: begin_j + power_w * t))
    a, b = sorted(window_s)
    assert energy(wrapping, a, b) == pytest.approx(energy(endless, a, b), rel=1e-6, abs=1e-4)
    assert energy(wrapping, a, b) >= 0


def test_the_amd_package_near_its_wrap_counts_on() -> None:
    curve = CounterCurve(counter_meter(wrap_j=SERVER_WRAP_J))
    feed(curve, polled(20, 0.05, lambda t: (64930.873566 + 60 * t) % SERVER_WRAP_J))
    assert energy(curve, 5, 15) == pytest.approx(600, rel=1e-6)


def test_one_read_that_returns_zero_is_no_wrap() -> None:
    """Another tool made 261 134 J of it."""
    curve = CounterCurve(counter_meter(wrap_j=CLIENT_WRAP_J))
    feed(curve, polled(10, 0.05, lambda t: 0.0 if t == 5.0 else 1020.0 + 20 * t))
    assert energy(curve, 0, 10) == pytest.approx(200, rel=0.01)
    assert 0 < curve.gap_share(0, 10 * S).estimated_s < 0.2


def test_a_counter_that_failed_and_came_back_lower_has_begun_anew() -> None:
    """A zone that went 40 J before its wrap and came back from zero looked like a wrap, 15 J instead of 60."""
    curve = CounterCurve(counter_meter(wrap_j=SERVER_WRAP_J))

    def value(t: float) -> float | None:
        if 5 < t < 11:
            return None
        return SERVER_WRAP_J - 95 + 10 * t if t <= 5 else 10 * (t - 10.95)

    feed(curve, polled(20, 0.05, value))
    assert energy(curve, 0, 20) == pytest.approx(200, rel=0.03)
    assert curve.gap_share(0, 20 * S).estimated_s == pytest.approx(6, abs=0.2)


def test_failed_reads_lose_no_energy_of_a_counter() -> None:
    curve = CounterCurve(counter_meter(wrap_j=CLIENT_WRAP_J))
    feed(curve, polled(20, 0.05, lambda t: None if 5 < t < 12 else 1000 + 20 * t))
    assert energy(curve, 0, 20) == pytest.approx(400, rel=1e-6)
    assert curve.gap_share(0, 20 * S).u_j == 0
    cut = curve.gap_share(0, 8 * S)
    assert cut.u_j > 0
    assert cut.estimated_s == pytest.approx(3, abs=0.1)


@given(
    readings=st.lists(st.one_of(st.none(), st.floats(0, CLIENT_WRAP_J), st.floats(0, 50)), max_size=60),
    sleeps=st.sets(st.integers(0, 59)),
    wraps=st.booleans(),
)
def test_no_reset_failed_read_or_suspend_yields_more_than_the_greatest_power(
    readings: list[float | None], sleeps: set[int], wraps: bool
) -> None:
    curve = CounterCurve(counter_meter(wrap_j=CLIENT_WRAP_J if wraps else None, p_max_w=100.0))
    for i, value in enumerate(readings):
        if i in sleeps:
            curve.suspended()
        feed(curve, [(i * 0.7, value)])
    if curve.first_us is not None:
        assert 0 <= energy(curve, 0, len(readings) * 0.7) <= 100 * len(readings) * 0.7 + 1e-6


def test_a_counter_that_stands_still_is_frozen_and_gives_no_window() -> None:
    curve = CounterCurve(counter_meter())
    feed(curve, polled(20, 0.05, lambda t: 20 * min(t, 10)))
    assert curve.reaches(10 * S)
    assert not curve.reaches(15 * S)
    assert energy(curve, 0, 20) <= 20 * 12.1
    never = CounterCurve(counter_meter())
    feed(never, polled(20, 0.05, lambda t: 0.0))
    assert never.changes == 0
    assert not never.reaches(1 * S)


def test_a_driver_loaded_anew_is_bridged_and_no_energy_is_invented() -> None:
    curve = CounterCurve(counter_meter())
    feed(curve, polled(10, 0.05, lambda t: 50_000 + 30 * t if t < 5 else 30 * (t - 5)))
    assert energy(curve, 0, 10) == pytest.approx(300, rel=0.01)


def test_a_coarse_counter_is_straight_between_its_steps() -> None:
    """An NVML counter that steps each 100 ms, polled at 20 ms."""
    curve = CounterCurve(counter_meter(poll_s=0.02))
    feed(curve, polled(10, 0.02, lambda t: 5.0 * int(t * 10 + 1e-9)))
    assert curve.update_s == pytest.approx(0.1, rel=0.02)
    for start_s in (2.0, 2.013, 2.05):
        assert energy(curve, start_s, start_s + 3.33) == pytest.approx(50 * 3.33, rel=1e-3)
    assert not curve.is_final(10 * S + 1)
