"""A small run of the simulation in `benchmarks/comparison.py`; the seeds are fixed, so that nothing is left to luck."""

from __future__ import annotations

import pytest

from benchmarks.comparison import Case, rates

PAIRS = 100


@pytest.mark.parametrize(
    "case",
    [
        Case("every figure its own noise", (10, 10)),
        Case("in pairs", (10, 10), paired=True),
        Case("few turns", (4, 4)),
        Case("single turns that vary by as much as is assumed", (1, 1), noise=0.05),
    ],
    ids=lambda case: case.name,
)
def test_equal_sessions_are_seldom_called_different_in_any_figure(case: Case) -> None:
    any_figure, _ = rates(case, PAIRS, 0.0)
    assert any_figure <= 0.05


def test_a_session_that_is_five_per_cent_slower_is_found_out() -> None:
    _, decode = rates(Case("every figure its own noise", (10, 10)), 50, 0.05)
    assert decode >= 0.8
