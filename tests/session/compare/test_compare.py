from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from edgetop.core import figures
from edgetop.session.compare.compare import compare
from edgetop.session.compare.reading import session_result
from edgetop.session.compare.result import Cell, Comparison, RepeatedFigure, Result
from tests.support.simulated_results import energy_of, result, session_file, with_summary

DIFFERENT = ("better", "worse")


def cell(comparison: Comparison, name: str, row: int = 1) -> Cell:
    return comparison.rows[row].cells[name]


def flags(comparison: Comparison, row: int = 1) -> list[str]:
    return [flag.name for flag in comparison.rows[row].flags]


def bench(decode: float, *, count: int = 5, **described: Any) -> Result:
    """A result of llama-bench whose repetitions spread by half a per cent."""
    speeds = tuple(decode * (1 + 0.005 * (index % 3 - 1)) for index in range(count))
    measured = RepeatedFigure(value=decode, made="mean", repetitions=speeds)
    return Result(
        name="bench", origin="bench.json", kind="llama-bench", figures={figures.DECODE: measured}, **described
    )


def test_a_slower_session_is_worse_in_what_follows_the_speed() -> None:
    comparison = compare([result(1), result(2, slower=0.2)])
    decode, energy = cell(comparison, figures.DECODE), cell(comparison, figures.J_PER_TOKEN)
    assert (decode.verdict, energy.verdict) == ("worse", "worse")
    assert decode.change_percent == pytest.approx(-20, abs=4)
    assert decode.change_low is not None
    assert decode.change_high is not None
    assert decode.change_low < -20 + 4 < 0
    assert cell(comparison, figures.PREFILL).verdict == "same"
    assert cell(comparison, figures.DECODE, 0).verdict == "base"
    assert cell(comparison, figures.DECODE, 0).best
    assert comparison.front == (0,)


def test_the_base_is_another_one_by_choice() -> None:
    comparison = compare([result(1), result(2, slower=0.2)], 1)
    assert cell(comparison, figures.DECODE, 0).verdict == "better"
    assert comparison.rows[1].is_base


def test_a_result_held_against_itself_does_not_differ() -> None:
    comparison = compare([result(1), replace(result(1), name="copy")])
    for name in comparison.figures:
        assert cell(comparison, name).verdict not in DIFFERENT
        assert cell(comparison, name).change_percent == pytest.approx(0, abs=1e-9)
    assert comparison.rows[1].flags == ()
    assert not any(each.best for row in comparison.rows for each in row.cells.values())


def test_turns_with_the_same_prompts_are_held_against_each_other_in_pairs() -> None:
    same = compare([result(1, noise=0.01, hard_prompts=0.3), result(2, noise=0.01, hard_prompts=0.3, slower=0.03)])
    other = compare([result(1, noise=0.01), result(2, noise=0.01, question="Why is")])
    assert cell(same, figures.DECODE).why == "bootstrap over 10 turns, in pairs"
    assert cell(same, figures.DECODE).verdict == "worse"
    assert cell(other, figures.DECODE).why == "bootstrap over 10 and 10 repetitions"
    assert flags(same) == []
    assert flags(other) == ["other prompts"]
    assert cell(other, figures.FIRST_TOKEN).verdict == "unlike"


def test_few_turns_are_judged_by_students_t_and_one_by_an_assumed_spread() -> None:
    assert cell(compare([result(1, turns=4), result(2, turns=5)]), figures.DECODE).why.startswith(
        "Student's t over 5 and"
    )
    single = compare([result(1, turns=1), result(2, turns=1, slower=0.08)])
    assert cell(single, figures.DECODE).verdict == "unclear"
    assert cell(single, figures.PREFILL).why == "one or two repetitions show no spread"
    assert cell(single, figures.PREFILL).p_value is None
    assert cell(single, figures.DECODE).low is not None  # from the gaps between its tokens
    assert any("assumed" in note for note in single.notes)
    assert cell(compare([result(1, turns=1), result(2, turns=1, slower=0.4)]), figures.DECODE).verdict == "worse"


def test_more_than_a_hundred_turns_are_not_resampled() -> None:
    found = cell(compare([result(1, turns=120), result(2, turns=120, slower=0.03)]), figures.DECODE)
    assert found.why == "Student's t over 120 and 120 repetitions"
    assert found.verdict == "worse"


def test_energy_of_another_scope_is_shown_and_not_judged() -> None:
    wall = replace(result(2, slower=0.3), energy_scope="wall")
    comparison = compare([result(1), wall])
    assert cell(comparison, figures.J_PER_TOKEN).verdict == "unlike"
    assert cell(comparison, figures.J_PER_TOKEN).value is not None
    assert cell(comparison, figures.J_PER_TOKEN).why == "it covers wall, the base board input"
    assert not cell(comparison, figures.J_PER_TOKEN, 0).best
    assert "other power scope" in flags(comparison)
    assert comparison.front == (0,)
    assert "1 with energy of another power scope left out" in comparison.front_note


def test_a_systematic_error_cancels_on_one_meter_and_not_between_two() -> None:
    def of(seed: int, joules: float, host: str) -> Result:
        file = with_summary(session_file(seed, noise=0.002), energy=energy_of(joules, random=0.002, gain=0.06))
        turns = tuple(
            replace(turn, figures=replace(turn.figures, energy=energy_of(joules * (1 + 0.002 * (turn.turn % 3)))))
            for turn in file.turns
        )
        return replace(session_result(replace(file, turns=turns), Path("x.json")), host=host)

    one_board = cell(compare([of(1, 0.72, "pi5"), of(2, 0.79, "pi5")]), figures.J_PER_TOKEN)
    two_boards = cell(compare([of(1, 0.72, "pi5"), of(2, 0.79, "other")]), figures.J_PER_TOKEN)
    assert one_board.verdict == "worse"
    assert two_boards.verdict == "unclear"
    assert two_boards.change_low is not None
    assert one_board.change_low is not None
    assert two_boards.change_low < 0 < one_board.change_low
    assert two_boards.why == "the difference is within the error of the sensors"


def test_what_is_not_alike_is_flagged() -> None:
    base = result(1)
    odd = replace(
        base, kind="ollama", device="Jetson", n_ctx=2048, depth=400, engine="other", power_mode="15W", energy_grade="C",
        energy_source="power.other", prompts="x", conditions={"throttled": "The device was throttled in 1 of 3 turns."},
    )  # fmt: skip
    assert flags(compare([base, odd])) == [
        "other kind", "other device", "other power mode", "other engine build", "other context length", "other depth",
        "other power source", "other grade", "throttled",
    ]  # fmt: skip
    silent = Result(name="y", origin="y", kind="session", figures=base.figures)
    assert flags(compare([base, silent])) == []  # what is not known is no difference


def test_conditions_come_from_the_turns_and_the_sensors() -> None:
    file = session_file(1)
    slowed = replace(file.turns[0], figures=replace(file.turns[0].figures, limited_by="throttled"))
    found = session_result(replace(file, turns=(slowed, *file.turns[1:])), Path("x.json"))
    assert found.conditions == {"throttled": "The device was throttled in 1 of 10 turns."}


def test_groups_and_titles_say_what_differs() -> None:
    grid = [result(1, quantization=quant, threads=threads) for quant in ("Q4_K_M", "Q8_0") for threads in (2, 4)]
    comparison = compare(grid)
    assert [(group.title, group.rows) for group in comparison.groups] == [("Q4_K_M", (0, 1)), ("Q8_0", (2, 3))]
    assert [row.title for row in comparison.rows] == ["2 thr", "4 thr", "2 thr", "4 thr"]
    assert [trait.name for trait in comparison.differing] == ["quantization", "threads"]
    assert "Raspberry Pi 5" in [trait.values[0] for trait in comparison.alike]


def test_results_that_nothing_tells_apart_have_their_names() -> None:
    comparison = compare([replace(result(1), name="monday"), replace(result(2), name="tuesday")])
    assert [row.title for row in comparison.rows] == ["monday", "tuesday"]


def test_bench_results_need_few_repetitions_to_be_told_apart() -> None:
    comparison = compare([bench(100.0, quantization="Q4_0"), bench(90.0, quantization="Q8_0"), bench(100.2)])
    assert [cell(comparison, figures.DECODE, row).verdict for row in range(3)] == ["base", "worse", "same"]


def test_a_deviation_alone_serves_too() -> None:
    def told(value: float) -> Result:
        measured = RepeatedFigure(value=value, made="mean", deviation=0.5, count=5)
        return Result(name="csv", origin="x.csv", kind="llama-bench", figures={figures.DECODE: measured})

    found = cell(compare([told(100), told(90)]), figures.DECODE)
    assert found.verdict == "worse"
    assert found.low == pytest.approx(90 - 0.62, abs=0.01)


def test_a_figure_that_one_lacks_has_its_reason() -> None:
    comparison = compare([result(1), result(2, energy=False)])
    missing = cell(comparison, figures.J_PER_TOKEN)
    assert (missing.value, missing.missing, missing.verdict) == (None, "this device offers no power reading", "absent")
    reverse = compare([result(2, energy=False), result(1)])
    assert cell(reverse, figures.J_PER_TOKEN).why == "the base lacks this figure"
    assert compare([result(2, energy=False)]).front_note == "No result has both a decode speed and an energy per token."


@settings(max_examples=30)
@given(st.lists(st.floats(1e-12, 1e18), min_size=1, max_size=8), st.floats(1e-12, 1e18), st.floats(0, 1e18))
def test_absurd_figures_break_nothing(repetitions: list[float], value: float, u: float) -> None:
    odd = RepeatedFigure(value=value, made="mean", repetitions=tuple(repetitions), u_random=u, u_systematic=u)
    results = [
        Result(name="a", origin="a", kind="session", figures=dict.fromkeys(figures.COMPARED, odd)),
        result(1),
    ]
    for base in (0, 1):
        comparison = compare(results, base)
        assert all(row.cells.keys() == figures.COMPARED.keys() for row in comparison.rows)


def test_nothing_is_best_that_the_verdict_calls_unclear() -> None:
    for first, second in ((10.0, 10.001), (10.001, 10.0)):
        comparison = compare([bench(first, count=2), bench(second, count=2)])
        assert cell(comparison, figures.DECODE).verdict not in DIFFERENT
        assert not any(row.cells[figures.DECODE].best for row in comparison.rows)
    assert cell(compare([bench(10.0), bench(20.0)]), figures.DECODE).best
