"""Seeded simulations of what intervals and the order of runs promise; those of `benchmarks/` are larger."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.bench_statistics import COVERED_AT_LEAST, DRIFT, NOISES, coverage, drifted, energy_coverage
from edgetop.bench.results import combined, interval_of, per_token
from tests.bench.made_results import figure

PLANS = 3000
SURELY = 0.012
"""Three standard deviations of a share near 95 % that is counted over so many plans."""


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("repetitions", [3, 5, 10])
def test_intervals_cover_the_true_mean(noise: str, repetitions: int) -> None:
    chance = np.random.default_rng(repetitions)
    covered = coverage(NOISES[noise], repetitions, PLANS, chance)
    assert COVERED_AT_LEAST <= covered <= 0.95 + SURELY, "nor are they wider than they must be"
    assert energy_coverage(NOISES[noise], repetitions, 0.05, PLANS // 3, chance) >= COVERED_AT_LEAST


@pytest.mark.parametrize(("settings", "repetitions"), [(2, 5), (6, 5), (6, 10)])
def test_interleaving_removes_a_drift_that_blocks_do_not(settings: int, repetitions: int) -> None:
    chance = np.random.default_rng(7)
    taken_turns = drifted("interleaved", settings, repetitions, 400, chance)
    in_blocks = drifted("blocks", settings, repetitions, 400, chance)
    # The first block is measured before most of the drift, the last one behind it.
    assert in_blocks.bias < -DRIFT * 0.4
    assert abs(taken_turns.bias) < DRIFT * 0.03 + 0.002
    assert in_blocks.false_alarms > 0.5
    assert taken_turns.false_alarms < 0.08


def test_what_the_sensor_gets_wrong_each_time_does_not_fall_with_repetitions() -> None:
    one = figure(1.0, u_random=0.04, u_systematic=0.05)
    mean = combined([one] * 16)
    assert mean.u_systematic == pytest.approx(0.05)
    assert mean.u_random == pytest.approx(0.01)
    assert mean.high - mean.value == pytest.approx(2 * (0.05**2 + 0.01**2) ** 0.5)
    scattered = combined([figure(value, u_random=0.001) for value in (0.9, 1.1)])
    assert scattered.value == 1.0
    assert scattered.high - 1.0 == pytest.approx(12.706 * 0.1, rel=1e-3), "two repetitions tell little"
    assert combined([one]) == one


def test_energies_of_turns_in_a_row_add_up_before_they_are_divided() -> None:
    found = per_token([figure(3.0, u_random=0.3, u_systematic=0.1), figure(5.0, u_random=0.4, u_systematic=0.3)], 4)
    assert [found.value, found.u_systematic, found.u_random] == pytest.approx([2.0, 0.1, 0.125])


def test_a_rate_is_never_below_zero() -> None:
    assert interval_of([1.0, 30.0]).low == 0.0
