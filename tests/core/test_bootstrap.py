from __future__ import annotations

from math import inf, isfinite

import numpy as np
import pytest

from edgetop.core.bootstrap import Repetitions, difference, from_zero, resampled
from edgetop.core.statistics import welch_difference

PAIRS = 400


def share_called_different(count: int, other_count: int, slower: float, *, skewed: bool = False) -> float:
    """Of PAIRS pairs of runs whose repetitions vary by 3 %, how many have p below 0.05."""
    chance = np.random.default_rng((count, other_count, round(1000 * slower)))

    def run(size: int) -> Repetitions:
        noise = chance.gamma(1.0, 1.0, size) - 1 if skewed else chance.standard_normal(size)
        return Repetitions(
            [float(each) for each in 1 / (1 + 0.03 * noise)], list(chance.uniform(0.7, 1.3, size)), "ratio"
        )

    def slowed(run: Repetitions) -> Repetitions:
        return Repetitions([float(each) * (1 - slower) for each in run.values], list(run.weights), "ratio")

    found = sum(
        difference(resampled(slowed(run(count)), 1), resampled(run(other_count), 2)).p_value <= 0.05
        for _ in range(PAIRS)
    )
    return found / PAIRS


@pytest.mark.parametrize(("count", "other_count", "skewed"), [(10, 10, False), (10, 10, True), (6, 20, False)])
def test_equal_runs_are_seldom_called_different(count: int, other_count: int, skewed: bool) -> None:
    # 5 % are meant; of 400 pairs, 8 % would be three standard deviations more. The seeds are fixed.
    assert share_called_different(count, other_count, 0.0, skewed=skewed) <= 0.075


def test_five_per_cent_are_seen_in_ten_repetitions() -> None:
    assert share_called_different(10, 10, 0.05) >= 0.85


def test_the_interval_and_the_chance_agree() -> None:
    chance = np.random.default_rng(3)
    for slower in (0.0, 0.02, 0.04, 0.08):
        one, other = (
            Repetitions([float(each) for each in (1 - share) * (1 + 0.03 * chance.standard_normal(10))])
            for share in (slower, 0.0)
        )
        found = difference(resampled(one, 1), resampled(other, 2))
        low, high = found.interval()
        assert (low <= 0 <= high) == (found.p_value > 0.05)
        assert low < found.percent < high


def test_repetitions_that_are_all_alike_have_a_narrow_interval() -> None:
    found = from_zero(resampled(Repetitions([2.0] * 8), 1))
    assert 0 < found.reach < 0.001


def test_a_last_digit_of_repetitions_that_are_all_alike_is_no_difference() -> None:
    one, other = Repetitions([2.0] * 8), Repetitions([2.0001] * 8)
    assert difference(resampled(one, 1), resampled(other, 2)).p_value > 0.5


def test_one_stray_among_equal_ones_gives_no_number_beyond_floats() -> None:
    low, high = from_zero(resampled(Repetitions([1.0] * 7 + [1e12]), 1)).interval()
    assert isfinite(low)
    assert isfinite(high)


def test_the_fewer_repetitions_count_where_the_numbers_differ() -> None:
    alike = welch_difference(0.05, (0.01, 4), (0.01, 4))
    fewer = welch_difference(0.05, (0.01, 2), (0.01, 20))
    assert alike.p_value == pytest.approx(0.0077, abs=5e-4)  # t = 3.54 with 8 degrees of freedom
    assert fewer.p_value == pytest.approx(0.0713, abs=5e-4)  # and with 2
    assert welch_difference(0.05, (0.01, 2), (0.05, inf)).p_value == pytest.approx(0.327, abs=2e-3)
