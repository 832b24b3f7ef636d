from __future__ import annotations

from math import atan2, cos, inf, pi, sin, sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetop.core.statistics import mcnemar_p, pooled_freedom, quantile, two_sided_p, wilson_interval

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


def _closed_form(t: float, freedom: int) -> float:
    """Abramowitz and Stegun, 26.7.3 and 26.7.4, for whole degrees of freedom."""
    angle = atan2(t, sqrt(freedom))
    term = cos(angle) if freedom % 2 else 1.0
    total = term if freedom > 1 else 0.0
    for k in range(3 if freedom % 2 else 2, freedom - 1, 2):
        term *= (k - 1) / k * cos(angle) ** 2
        total += term
    return 1 - (2 / pi * (angle + sin(angle) * total) if freedom % 2 else sin(angle) * total)


@given(st.integers(1, 200), st.floats(0, 50))
def test_whole_degrees_of_freedom_have_a_closed_form(freedom: int, t: float) -> None:
    assert two_sided_p(t, freedom) == pytest.approx(_closed_form(t, freedom), abs=1e-12)


@given(st.floats(0, 1e9))
def test_one_and_two_degrees_of_freedom_are_exact_far_out(t: float) -> None:
    assert two_sided_p(t, 1) == pytest.approx(2 / pi * atan2(1, t), rel=1e-12)
    assert two_sided_p(t, 2) == pytest.approx(2 / (2 + t * t + t * sqrt(2 + t * t)), rel=1e-12)


@given(st.floats(1, inf))
def test_zero_is_always_reached_and_infinity_never(freedom: float) -> None:
    assert two_sided_p(0, freedom) == 1
    assert two_sided_p(inf, freedom) == 0


@given(st.floats(-1e3, 1e3), st.floats(1, 998), st.floats(0, 900))
def test_more_freedom_has_thinner_tails(t: float, freedom: float, more: float) -> None:
    fewer, greater = two_sided_p(t, freedom), two_sided_p(t, min(999.0, freedom + more))
    assert greater <= fewer * (1 + 1e-11)
    assert two_sided_p(-t, freedom) == fewer


@given(st.floats(0.01, 0.9999), st.floats(1, 2000))
def test_a_quantile_is_where_the_chance_is_left(confidence: float, freedom: float) -> None:
    assert two_sided_p(quantile(confidence, freedom), freedom) == pytest.approx(1 - confidence, rel=1e-7)


@given(st.floats(1, 900), st.floats(0, 50), st.floats(0.001, 10))
def test_a_larger_t_is_less_likely(freedom: float, t: float, more: float) -> None:
    assert 0 <= two_sided_p(t + more, freedom) <= two_sided_p(t, freedom) <= 1


@given(st.floats(0.001, 1), st.integers(1, 50), st.floats(0.001, 1), st.integers(1, 50))
def test_pooled_freedom_lies_between_the_fewer_and_the_sum(u1: float, n1: int, u2: float, n2: int) -> None:
    assert min(n1, n2) - 1e-6 <= pooled_freedom((u1, n1), (u2, n2)) <= n1 + n2 + 1e-6


def test_a_share_has_the_interval_of_wilson() -> None:
    """8 of 10 by hand: (0.8 + 0.19207) / 1.38415 ± 0.22654."""
    assert wilson_interval(8, 10) == pytest.approx((0.4902, 0.9433), abs=5e-5)
    low, high = wilson_interval(0, 40)
    assert 0.0 <= low < 1e-12
    assert high == pytest.approx(3.8415 / 43.8415, abs=1e-4)


@pytest.mark.parametrize(("won", "lost", "p"), [(0, 0, 1.0), (5, 5, 1.0), (10, 2, 2 * 79 / 4096), (0, 6, 2 / 64)])
def test_pairs_that_differ_are_split_by_chance_so_often(won: int, lost: int, p: float) -> None:
    assert mcnemar_p(won, lost) == mcnemar_p(lost, won) == pytest.approx(p)
