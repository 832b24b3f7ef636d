from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgetop.core.percentile import percentile, percentile_of_two

_numbers = st.lists(st.integers(0, 10**7), max_size=60)


@given(_numbers, _numbers, st.sampled_from((0, 1, 50, 95, 99, 99.9, 100)))
def test_the_percentile_of_two_sorted_lists_is_that_of_numpy_on_both_together(
    first: list[int], second: list[int], percent: float
) -> None:
    found = percentile_of_two(sorted(first), sorted(second), percent)
    if not first and not second:
        assert found is None
    else:
        assert found is not None
        assert np.isclose(found, np.percentile(first + second, percent), rtol=1e-12)


@given(_numbers, _numbers, st.sampled_from((50, 95, 99)))
def test_splitting_the_numbers_does_not_change_a_digit(first: list[int], second: list[int], percent: float) -> None:
    assert percentile_of_two(sorted(first), sorted(second), percent) == percentile(sorted(first + second), percent)


def test_between_two_ranks_the_percentile_is_interpolated() -> None:
    assert percentile([10, 20], 50) == 15
    assert percentile([10, 20, 30, 40], 95) == 38.5
