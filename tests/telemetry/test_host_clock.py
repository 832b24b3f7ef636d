from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetop.core.clock import DRIFT, SLEW, UNASKED_DELAY_US, HostClock

S = 1_000_000
DELAYS_US = st.integers(0, 400_000)
MESSAGES = st.lists(
    st.tuples(st.sampled_from(["line", "ping"]), DELAYS_US, DELAYS_US, st.integers(1, 5 * S)), min_size=1, max_size=40
)


@given(MESSAGES, st.integers(-(10**12), 10**12), st.floats(-0.9 * DRIFT, 0.9 * DRIFT))
def test_the_truth_lies_within_the_bounds_whatever_the_delays_of_pings(
    messages: list[tuple[str, int, int, int]], offset_us: int, drift: float
) -> None:
    """Of a clock that drifts by less than the limit; stamps are whole microseconds, so that two of them may be off."""
    clock, now_us = HostClock(), 10**13
    began_us = now_us

    def remote_us(local_us: int) -> int:
        return round(local_us - offset_us + drift * (local_us - began_us))

    was_pinged = False
    for kind, there, back, pause in messages:
        now_us += pause
        if kind == "line":
            clock.arrived(remote_us(now_us), now_us + back)
            now_us += back
        else:
            was_pinged = True
            clock.answered(now_us, remote_us(now_us + there), now_us + there + back)
            now_us += there + back
        if was_pinged:
            assert abs(clock.local_us(remote_us(now_us)) - now_us) <= clock.half_width_s * S + 3


def test_a_ping_is_worth_half_its_way_and_a_line_the_whole() -> None:
    clock = HostClock()
    clock.arrived(0, 7 * S + 10_000)
    assert clock.local_us(0) == 7 * S + 10_000 - UNASKED_DELAY_US / 2
    assert clock.half_width_s == UNASKED_DELAY_US / 2 / S
    clock.answered(17 * S - 20_000, 10 * S, 17 * S + 20_000)
    assert clock.half_width_s == pytest.approx(0.015, abs=0.002)


def test_lines_alone_leave_open_what_their_delays_vary_by() -> None:
    clock = HostClock()
    for second in range(1, 20):
        delay_us = 600_000 if second % 3 == 0 else 1000
        clock.arrived(second * S, second * S + delay_us)
    assert clock.half_width_s > 0.25


def test_a_clock_that_stood_still_while_its_machine_slept_is_learnt_anew() -> None:
    clock = HostClock()
    clock.answered(100 * S, 50 * S, 100 * S + 2000)
    clock.answered(220 * S, 110 * S, 220 * S + 2000)
    assert clock.local_us(110 * S) == pytest.approx(220 * S + 1000, abs=2)
    assert clock.half_width_s < 0.002


def test_what_is_taken_for_the_offset_does_not_jump_while_it_may_be_right() -> None:
    clock = HostClock()
    clock.answered(0, 0, 200_000)
    before_us = clock.local_us(S)
    clock.answered(S + 40_000, S + 41_000, S + 240_000)
    after_us = clock.local_us(S)
    assert after_us != before_us
    assert abs(after_us - before_us) <= SLEW * (S + 40_000)
