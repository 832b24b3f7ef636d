from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgetop.core.statistics import percentile, percentile_of_pieces

_numbers = st.lists(st.integers(0, 10**7), max_size=60)


_pieces = st.lists(_numbers, max_size=5)


@given(_pieces, st.sampled_from((0, 1, 50, 95, 99, 99.9, 100)))
def test_the_percentile_of_sorted_pieces_is_that_of_numpy_on_all_together(
    pieces: list[list[int]], percent: float
) -> None:
    found = percentile_of_pieces([sorted(piece) for piece in pieces], percent)
    together = [number for piece in pieces for number in piece]
    if not together:
        assert found is None
    else:
        assert found is not None
        assert np.isclose(found, np.percentile(together, percent), rtol=1e-12)


@given(_pieces, st.sampled_from((50, 95, 99)))
def test_splitting_the_numbers_does_not_change_a_digit(pieces: list[list[int]], percent: float) -> None:
    together = sorted(number for piece in pieces for number in piece)
    assert percentile_of_pieces([sorted(piece) for piece in pieces], percent) == percentile(together, percent)


def test_between_two_ranks_the_percentile_is_interpolated() -> None:
    assert percentile([10, 20], 50) == 15
    assert percentile([10, 20, 30, 40], 95) == 38.5
