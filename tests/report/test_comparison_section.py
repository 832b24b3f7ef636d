from __future__ import annotations

from math import inf

import pytest

from edgetop.core.figures import COMPARED, DECODE, J_PER_TOKEN, RSS_PEAK
from edgetop.core.format import NOT_AVAILABLE
from edgetop.report.page import cell_text, keys_of, names_of, percent_text, reasons_of, verdict_text
from edgetop.session.compare.compare import compare
from edgetop.session.compare.result import RepeatedFigure, Result


def result(name: str, *decode: float, **more: object) -> Result:
    measured = RepeatedFigure(value=sum(decode) / len(decode), made="mean", repetitions=decode)
    fields = {"name": name, "origin": name, "kind": "session", "figures": {DECODE: measured}, **more}
    return Result(**fields)  # type: ignore[arg-type]


def test_each_cell_has_value_interval_change_and_verdict_in_words() -> None:
    steady = [10 + 0.01 * index for index in range(10)]
    results = [result("a", *steady), result("b", *(2 * each for each in steady)), result("c", *steady)]
    cells = [row.cells[DECODE] for row in compare(results).rows]
    base, double, _ = (cell_text(cell, COMPARED[DECODE]) for cell in cells)
    assert (base.value, base.change) == ("10.0", "")
    assert double.value == "20.1"
    assert cells[1].best
    assert double.change.startswith("+100\u00a0%")
    assert " to " in double.interval
    assert [verdict_text(cell) for cell in cells] == ["base", "better", "no difference"]


def test_a_figure_that_is_not_there_says_so_and_why() -> None:
    with_memory = result("a", 10.0, figures={RSS_PEAK: RepeatedFigure(value=3 * 2**20, made="single")})
    without = result("b", 10.0, absent={RSS_PEAK: "nobody looked"})
    comparison = compare([with_memory, without])
    texts = [cell_text(row.cells[RSS_PEAK], COMPARED[RSS_PEAK]).value for row in comparison.rows]
    assert texts == ["3.00 MiB", NOT_AVAILABLE]
    reasons = reasons_of(comparison, keys_of(2))
    assert ("B", COMPARED[RSS_PEAK].label, NOT_AVAILABLE, "nobody looked") in reasons


def test_energy_of_another_scope_is_shown_and_not_compared() -> None:
    energy = {J_PER_TOKEN: RepeatedFigure(value=2.0, made="ratio", repetitions=(2.0,) * 5)}
    comparison = compare([result("a", 1.0, figures=energy, energy_scope="wall"),
                          result("b", 1.0, figures=energy, energy_scope="module")])  # fmt: skip
    row = comparison.rows[1]
    cell = row.cells[J_PER_TOKEN]
    assert (cell_text(cell, COMPARED[J_PER_TOKEN]).value, verdict_text(cell)) == ("2.00", "not comparable")
    assert "other power scope" in {flag.name for flag in row.flags}


def test_results_are_named_with_their_group() -> None:
    results = [
        result(f"{quantization}{threads}", 10.0, quantization=quantization, threads=threads)
        for quantization in ("Q4_1", "Q8_0")
        for threads in (1, 2)
    ]
    names = names_of(compare(results))
    assert len(set(names)) == 4
    assert all("Q4_1" in name for name in names[:2])


def test_keys_go_on_after_z() -> None:
    keys = keys_of(60)
    assert (keys[0], keys[25], keys[26], keys[27], keys[52]) == ("A", "Z", "AA", "AB", "BA")
    assert len(set(keys)) == 60


@pytest.mark.parametrize(
    ("percent", "text"),
    [(4.06, "+4.1\u00a0%"), (-38.4, "−38\u00a0%"), (-0.01, "0\u00a0%"), (1216, "x13.2"), (inf, "without bound")],
)
def test_changes_are_read_as_people_write_them(percent: float, text: str) -> None:
    assert percent_text(percent) == text
