"""Sessions of one benchmark setting as repetitions of one result."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from edgetop.core.figures import DECODE, J_PER_TOKEN, LOAD
from edgetop.session.compare.compare import compare
from edgetop.session.compare.reading import pooled
from edgetop.session.compare.result import RepeatedFigure, Result


def run(bench: str, origin: str, rates: tuple[float, ...], **changes: object) -> Result:
    figures = {
        DECODE: RepeatedFigure(
            value=sum(rates) / len(rates), made="ratio", repetitions=rates, weights=(1.0,) * len(rates)
        ),
        LOAD: RepeatedFigure(value=2.0 + len(rates), made="single"),
        J_PER_TOKEN: RepeatedFigure(
            value=2.0, made="ratio", repetitions=(2.0,), weights=(10.0,), u_random=0.3, u_systematic=0.1
        ),
    }
    return replace(
        Result(name=bench, origin=origin, kind="session", bench=bench, turns=len(rates), figures=figures), **changes
    )


def test_runs_of_a_setting_are_repetitions_of_one_result() -> None:
    results = pooled([run("a", "1", (10.0, 12.0)), run("b", "2", (20.0,)), run("a", "3", (14.0,))])
    assert [(result.name, result.origins, result.turns) for result in results] == [
        ("a", ("1", "3"), 3),
        ("b", ("2",), 1),
    ]
    decode = results[0].figures[DECODE]
    assert decode.repetitions == (10.0, 12.0, 14.0)
    assert decode.value == pytest.approx(12.0)
    load = results[0].figures[LOAD]
    assert (load.made, load.repetitions, load.value) == ("mean", (4.0, 3.0), 3.5)
    energy = results[0].figures[J_PER_TOKEN]
    assert energy.u_systematic == pytest.approx(0.1), "what the meter gets wrong alike each time stays"
    assert energy.u_random == pytest.approx(0.3 / 2**0.5)


def test_other_sessions_stay_by_themselves_even_when_they_are_alike() -> None:
    chats = [run("", str(number), (10.0,)) for number in range(3)]
    assert pooled(chats) == chats


def test_a_figure_that_one_run_lacks_is_none_of_the_setting() -> None:
    lacking = run("a", "2", (11.0,))
    lacking = replace(lacking, figures={DECODE: lacking.figures[DECODE]}, absent={J_PER_TOKEN: "the sensor was lost"})
    (result,) = pooled([run("a", "1", (10.0,)), lacking])
    assert set(result.figures) == {DECODE}
    assert result.absent == {J_PER_TOKEN: "the sensor was lost"}


def test_more_runs_tell_settings_apart_that_one_run_does_not() -> None:
    def verdict(rounds: int) -> str:
        slow = [run("slow", f"s{number}", (10.0 + number % 3 * 0.05,)) for number in range(rounds)]
        quick = [run("quick", f"q{number}", (11.0 + number % 3 * 0.05,)) for number in range(rounds)]
        return compare(pooled([*slow, *quick])).rows[1].cells[DECODE].verdict

    assert (verdict(1), verdict(8)) == ("unclear", "better")
