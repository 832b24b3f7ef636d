from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgetop.core.bootstrap import SPREAD_LEAST, Draws, PairedRepetitions, Repetitions

Array = NDArray[np.float64]
COUNT = 6
positive = st.lists(st.floats(0.5, 2.0), min_size=COUNT, max_size=COUNT)
drawn_places = st.lists(st.integers(0, COUNT - 1), min_size=COUNT, max_size=COUNT)


def draws_of(places: Sequence[int]) -> Draws:
    counts = np.bincount(places, minlength=COUNT).astype(np.float64)
    return Draws(np.asarray(places, dtype=np.intp)[:, None], counts[:, None])


def ratio_by_hand(values: Array, weights: Array) -> tuple[float, Array]:
    """The ratio of totals, and what each repetition adds to its logarithm to first order."""
    ratio = (values * weights).sum() / weights.sum()
    return float(np.log(ratio)), (values - ratio) * weights / (ratio * weights.mean())


def uncertainty_by_hand(deviations: Array) -> float:
    return float(np.sqrt((deviations**2).sum() / (COUNT * (COUNT - 1)) + SPREAD_LEAST**2))


@given(positive, positive, drawn_places)
def test_a_resample_of_a_ratio_is_computed_again_from_totals(
    values: list[float], weights: list[float], places: list[int]
) -> None:
    estimate = Repetitions(values, weights, "ratio").estimate(draws_of(places))
    log_value, deviations = ratio_by_hand(np.array(values)[places], np.array(weights)[places])
    assert estimate.log_value[0] == pytest.approx(log_value, abs=1e-9)
    assert estimate.u[0] == pytest.approx(uncertainty_by_hand(deviations), rel=1e-6, abs=1e-7)


@given(positive, positive, positive, drawn_places)
def test_a_resample_of_pairs_draws_both_sides_together(
    first: list[float], second: list[float], weights: list[float], places: list[int]
) -> None:
    pairs = PairedRepetitions(Repetitions(first, weights, "ratio"), Repetitions(second, weights[::-1], "ratio"))
    estimate = pairs.estimate(draws_of(places))
    log_first, from_first = ratio_by_hand(np.array(first)[places], np.array(weights)[places])
    log_second, from_second = ratio_by_hand(np.array(second)[places], np.array(weights[::-1])[places])
    assert estimate.log_value[0] == pytest.approx(log_first - log_second, abs=1e-9)
    assert estimate.u[0] == pytest.approx(uncertainty_by_hand(from_first - from_second), rel=1e-5, abs=1e-6)


def test_what_makes_a_turn_hard_for_both_cancels_in_pairs() -> None:
    hard = [1.0, 3.0, 0.5, 2.0, 9.0, 0.2]
    slower = [each * 0.9 for each in hard]
    alone = Repetitions(hard).estimate()
    pairs = PairedRepetitions(Repetitions(hard), Repetitions(slower)).estimate()
    assert alone.u[0] > 0.4
    assert pairs.u[0] == pytest.approx(SPREAD_LEAST)
    assert pairs.log_value[0] == pytest.approx(-np.log(0.9))


def test_the_median_of_turns_does_not_follow_one_slow_turn() -> None:
    estimate = Repetitions([1.0, 1.0, 1.1, 1.1, 50.0], how="median").estimate()
    assert estimate.log_value[0] == pytest.approx(np.log(1.1))


@pytest.mark.parametrize("values", [(), (0.0, 1.0), (-1.0, 1.0), (float("nan"), 1.0), (float("inf"), 1.0)])
def test_what_cannot_be_a_figure_is_refused(values: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="above 0"):
        Repetitions(values)
    with pytest.raises(ValueError, match="weight"):
        Repetitions((1.0, 2.0), (1.0,))
