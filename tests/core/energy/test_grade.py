from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from edgetop.core.energy.tokens import grade_text
from edgetop.core.energy.uncertainty import GRADES_AT_BEST, Grade, graded
from edgetop.core.quantity import Components, Quantity, differs, summed
from edgetop.core.sources import Unavailable
from tests.support.recorded_power import with_energy


def quantity(relative: float, value: float = 100.0) -> Quantity:
    """A value whose 2u is `relative` times it."""
    return Quantity(value=value, u=Components(edges=relative * abs(value) / 2))


def rank(grade: Grade | Unavailable) -> str:
    return "n/a" if isinstance(grade, Unavailable) else grade.letter


@pytest.mark.parametrize(("relative", "letter"), [(0.04, "A"), (0.06, "B"), (0.2, "C"), (0.4, "D"), (0.6, "n/a")])
def test_the_letter_follows_the_width_of_the_interval(relative: float, letter: str) -> None:
    assert rank(graded(quantity(relative), "wall", averaged=True)) == letter


@given(
    widths=st.lists(st.floats(0, 1), min_size=2, max_size=6),
    flags=st.lists(st.sampled_from(sorted(GRADES_AT_BEST)), max_size=3),
    averaged=st.booleans(),
)
def test_the_grade_never_rises_with_the_uncertainty_nor_by_a_flag(
    widths: list[float], flags: list[str], averaged: bool
) -> None:
    ranks = [rank(graded(quantity(width), "module", averaged, flags)) for width in sorted(widths)]
    assert all(before <= after for before, after in pairwise(ranks))
    assert all(
        rank(graded(quantity(width), "module", averaged)) <= rank(graded(quantity(width), "module", averaged, flags))
        for width in widths
    )


def test_a_part_of_the_device_or_a_point_sensor_is_no_better_than_b_and_says_why() -> None:
    part = graded(quantity(0.01), "cpu_package", averaged=True)
    point = graded(quantity(0.01), "module", averaged=False)
    assert isinstance(part, Grade)
    assert isinstance(point, Grade)
    assert (part.letter, point.letter) == ("B", "B")
    assert "part of the device" in part.reason
    assert part.hint


def test_no_figure_names_what_contributes_most_and_what_would_hint_it() -> None:
    missing = graded(quantity(0.9), "wall", averaged=True)
    assert isinstance(missing, Unavailable)
    assert "slow" in missing.reason
    assert "more tokens" in missing.hint
    assert isinstance(graded(quantity(0.1, value=0.0), "wall", averaged=True), Unavailable)


def test_gain_cancels_between_values_of_one_meter_only() -> None:
    first, second = (Quantity(value=v, u=Components(gain=5, edges=0.5)) for v in (100.0, 104.0))
    assert differs(first, second, same_meter=True)
    assert not differs(first, second, same_meter=False)


def test_sums_keep_systematic_parts_linear() -> None:
    total = summed([Quantity(value=1, u=Components(gain=3, offset=1, edges=3, baseline=1))] * 4)
    assert (total.value, total.u.gain, total.u.offset, total.u.edges, total.u.baseline) == (4, 12, 4, 6, 4)


def test_a_grade_is_said_with_all_that_weakens_the_figure_each_in_one_wording() -> None:
    energy = with_energy().summary.energy
    assert energy is not None
    assert grade_text(replace(energy, grade="A", grade_reason="", flags=())) == "A"
    assert grade_text(replace(energy, grade="A", grade_reason="", flags=("slow",))) == "A: the sensor is slow"
    said = GRADES_AT_BEST["other-load"][1]
    assert grade_text(replace(energy, grade="B", grade_reason=said, flags=("other-load", "bridged"))) == (
        "B: other programs used the device; readings were missing for a part of it"
    )
    assert grade_text(replace(energy, grade="D", grade_reason="", flags=("of-tomorrow",))) == "D: of tomorrow"
