from __future__ import annotations

import numpy as np
import pytest

from edgetop.core.bootstrap import LONGEST, block_length, mean_uncertainty


def autoregressive(count: int, coefficient: float, seed: int) -> list[float]:
    """Values around 80 whose neighbours resemble each other."""
    chance = np.random.default_rng(seed)
    value, values = 0.0, []
    for step in chance.standard_normal(count + 100):
        value = coefficient * value + step
        values.append(80 + value)
    return values[100:]


@pytest.mark.parametrize("coefficient", [0.0, 0.7])
def test_the_uncertainty_is_what_means_of_such_series_really_vary_by(coefficient: float) -> None:
    series = [autoregressive(500, coefficient, seed) for seed in range(200)]
    true = float(np.std([np.mean(each) for each in series])) / 80
    told = float(np.median([mean_uncertainty(each) or 0.0 for each in series]))
    assert told == pytest.approx(true, rel=0.25)


def test_taking_neighbours_for_independent_would_say_far_too_little() -> None:
    series = autoregressive(500, 0.9, 1)
    independent = float(np.std(series)) / np.sqrt(500) / 80
    assert (mean_uncertainty(series) or 0.0) > 2 * independent


def test_too_few_values_say_nothing() -> None:
    assert mean_uncertainty([80.0] * 15) is None
    assert mean_uncertainty([0.0] * 100) is None
    assert mean_uncertainty([]) is None
    assert mean_uncertainty([80.0] * 100) == 0.0


def test_a_trend_does_not_make_blocks_without_end() -> None:
    assert block_length(np.linspace(1, 2, 100)) <= 25
    assert block_length(np.linspace(1, 2, 20_000)) <= LONGEST
