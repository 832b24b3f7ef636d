"""What a comparison says first."""

from __future__ import annotations

import re

from edgetop.core import figures
from edgetop.session.compare.compare import compare
from edgetop.session.compare.wording import conclusion
from tests.support.simulated_results import result


def test_two_results_are_told_apart_with_the_interval() -> None:
    said = conclusion(compare([result(1), result(2, slower=0.3)]))
    assert re.fullmatch(
        r"B is 29 % slower than A \(2\d % to 3\d %\); B takes 99 % more energy a token than A \(9\d % to 10\d %\)\.",
        said,
    ), said


def test_what_noise_hides_is_said_with_the_range_it_lies_in() -> None:
    said = conclusion(compare([result(1, noise=0.2), result(2, noise=0.2, slower=0.05)]))
    assert said.startswith("No significant difference in speed between B and A (")
    assert "; no significant difference in energy between B and A (" in said


def test_small_differences_are_none_and_missing_energy_has_its_reason() -> None:
    said = conclusion(compare([result(1, noise=0.002), result(2, noise=0.002, energy=False)]))
    assert said.startswith("B is as fast as A, within 5 %; energy cannot be compared: ")


def test_several_results_are_named_by_what_is_to_be_said_of_them() -> None:
    said = conclusion(compare([result(1), result(2, slower=0.3), result(3, slower=0.3), result(4, energy=False)]))
    assert re.match(r"Slower than A: B \(-29 %\), C \(-29 %\); as fast: D; more energy a token than A: B", said), said
    assert said.endswith("; energy is not known: D.")


def test_a_single_result_concludes_nothing_and_names_are_the_caller_s() -> None:
    assert conclusion(compare([result(1)])) == ""
    two = compare([result(1), result(2, slower=0.3)])
    assert conclusion(two, lambda index: ("Q4", "Q8")[index]).startswith("Q8 is ")


def test_best_is_never_above_what_noise_hides() -> None:
    found = compare([result(1), result(2, slower=-0.3, noise=0.1), result(3, slower=-0.3, noise=0.1)])
    cells = [row.cells[figures.DECODE] for row in found.rows]
    assert [cell.verdict for cell in cells[1:]] == ["better", "better"]
    assert not any(cell.best for cell in cells), "the two are not told apart"


def test_no_front_is_drawn_through_noise() -> None:
    pair = [result(1, own_noise=True, noise=0.2), result(2, own_noise=True, noise=0.2)]
    for found in (compare(pair), compare(pair[::-1])):
        assert found.front == ()
        assert "Noise hides" in found.front_note
    apart = compare([result(1, noise=0.01), result(2, slower=0.5, noise=0.01)])
    assert apart.front == (0,), "the other is slower and takes more"
