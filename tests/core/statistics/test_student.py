from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetop.core.statistics.student import pooled_freedom, quantile, two_sided_p

# Two-sided 5 % and 1 % points of the usual printed tables.
TABLE = [(1, 12.706, 63.657), (2, 4.303, 9.925), (5, 2.571, 4.032), (9, 2.262, 3.250), (30, 2.042, 2.750)]


@pytest.mark.parametrize(("freedom", "at_5", "at_1"), TABLE)
def test_the_points_are_those_of_the_printed_tables(freedom: int, at_5: float, at_1: float) -> None:
    assert quantile(0.95, freedom) == pytest.approx(at_5, abs=6e-4)
    assert quantile(0.99, freedom) == pytest.approx(at_1, abs=2e-3)
    assert two_sided_p(at_5, freedom) == pytest.approx(0.05, abs=5e-5)


def test_without_end_of_freedom_it_is_the_normal_distribution() -> None:
    assert quantile(0.95, inf) == pytest.approx(1.95996, abs=1e-5)
    assert two_sided_p(1.95996, inf) == pytest.approx(0.05, abs=1e-6)
    assert two_sided_p(1.96, 999.0) == pytest.approx(two_sided_p(1.96, 1000.0), abs=5e-4)


@given(st.floats(1, 900), st.floats(0, 50), st.floats(0.001, 10))
def test_a_larger_t_is_less_likely(freedom: float, t: float, more: float) -> None:
    assert 0 <= two_sided_p(t + more, freedom) <= two_sided_p(t, freedom) <= 1


@given(st.floats(0.001, 1), st.integers(1, 50), st.floats(0.001, 1), st.integers(1, 50))
def test_pooled_freedom_lies_between_the_fewer_and_the_sum(u1: float, n1: int, u2: float, n2: int) -> None:
    assert min(n1, n2) - 1e-6 <= pooled_freedom((u1, n1), (u2, n2)) <= n1 + n2 + 1e-6
