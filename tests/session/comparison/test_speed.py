from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetop.session.history import STEPS, speed_over_time

gaps = st.lists(st.floats(0.001, 5), min_size=1, max_size=40)


@given(st.lists(gaps, min_size=1, max_size=4), st.floats(0, 10))
def test_the_area_under_the_rates_is_the_number_of_tokens_after_the_first_ones(
    turns: list[list[float]], pause_s: float
) -> None:
    stamps: list[list[float]] = []
    begin_s = 1.0
    for turn in turns:
        stamps.append(list(accumulate(turn, initial=begin_s)))
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
