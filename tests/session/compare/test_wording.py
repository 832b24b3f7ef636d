from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetop.core.figures import DECODE, RSS_PEAK
from edgetop.session.compare.result import Cell
from edgetop.session.compare.wording import cell_text, change_text, label_of


@pytest.mark.parametrize(
    ("percent", "text"),
    [
        (-5.12, "-5.1 %"),
        (0.04, "0 %"),
        (-0.04, "0 %"),
        (9.96, "+10 %"),
        (138.2, "+138 %"),
        (1900.0, "x20.0"),
        (None, ""),
    ],
)
def test_changes_are_told_with_their_sign_and_no_more_digits_than_mean_anything(
    percent: float | None, text: str
) -> None:
    assert change_text(percent) == text


def test_a_cell_has_its_value_with_half_the_interval_and_the_verdict_in_words() -> None:
    cell = Cell(value=12.43, low=12.1, high=12.76, change_percent=-5.1, verdict="worse", best=True)
    assert cell_text(cell, DECODE) == ("12.4 ±0.33 best", "-5.1 % worse")
    assert cell_text(cell, DECODE, ascii=True).value == "12.4 +-0.33 best"
    assert cell_text(Cell(value=2.0**30, verdict="base"), RSS_PEAK) == ("1.00 GiB", "base")
    assert cell_text(Cell(missing="why"), DECODE) == ("n/a", "")


@given(st.integers(0, 1000), st.integers(0, 1000))
def test_labels_are_unique(one: int, other: int) -> None:
    assert (label_of(one) == label_of(other)) == (one == other)
