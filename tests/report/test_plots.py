from __future__ import annotations

import builtins
import html
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects
import pytest
from msgspec.structs import replace

from edgetop.core.errors import EdgetopError
from edgetop.core.figures import DECODE, J_PER_TOKEN
from edgetop.report.page import keys_of, names_of
from edgetop.report.plots import (
    NAME_CHARACTERS,
    Spec,
    energy_against_speed,
    plain,
    plotly_script,
    session_over_time,
    speed_over_time,
    time_series,
)
from edgetop.session.compare.compare import compare
from edgetop.session.compare.result import Comparison, RepeatedFigure, Result
from edgetop.session.file import to_session
from edgetop.session.snapshot import Speed
from tests.support.recorded_sessions import HEAD, fold, turn
from tests.support.shipped_sessions import HOSTILE, example


def result(name: str, tokens_per_s: float, j_per_token: float | None = None, **more: Any) -> Result:
    figures = {DECODE: RepeatedFigure(value=tokens_per_s, made="single")}
    if j_per_token is not None:
        figures[J_PER_TOKEN] = RepeatedFigure(value=j_per_token, made="single")
    return Result(name=name, origin=name, kind="session", energy_scope="wall", figures=figures, **more)


def drawn(plot: Any, comparison: Comparison) -> Spec:
    spec = plot(comparison, keys_of(len(comparison.rows)), names_of(comparison))
    assert spec is not None
    return dict(spec)


def texts(value: object) -> list[str]:
    """All texts in a specification."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for each in value.values() for text in texts(each)]
    return [text for each in value for text in texts(each)] if isinstance(value, Sequence) else []


def test_plotly_knows_everything_that_is_asked_of_it() -> None:
    session = to_session(example())
    comparison = compare([result("a", 10, 2, speed=Speed(step_s=1, tokens_per_s=(1, None, 2))), result("b", 20, 3)])
    specs = [
        drawn(energy_against_speed, comparison),
        drawn(speed_over_time, comparison),
        session_over_time(time_series(session), 4.0, [(3.0, "throttled")]),
    ]
    for spec in specs:
        plotly.graph_objects.Figure(spec)  # raises ValueError for an attribute or a value that does not exist


def test_the_front_is_drawn_through_the_results_that_are_on_it() -> None:
    comparison = compare([result("fast", 30, 3.0), result("thrifty", 10, 1.0), result("neither", 9, 5.0)])
    (front,) = [trace for trace in drawn(energy_against_speed, comparison)["data"] if trace["name"] == "Pareto front"]
    assert sorted(zip(front["x"], front["y"], strict=True)) == [(10, 1.0), (30, 3.0)]


def test_a_result_without_energy_is_not_in_the_plot_of_energy() -> None:
    comparison = compare([result("a", 10, 2.0), result("b", 20)])
    points = [trace for trace in drawn(energy_against_speed, comparison)["data"] if "markers" in trace["mode"]]
    assert [trace["text"] for trace in points] == [["A"]]
    nothing = compare([result("a", 10), result("b", 20)])
    assert energy_against_speed(nothing, keys_of(2), names_of(nothing)) is None


def test_lines_are_broken_at_gaps_and_a_lone_value_is_a_point() -> None:
    comparison = compare([result("a", 10, speed=Speed(step_s=1, tokens_per_s=(5, 6, None, 7, None, 8, 9)))])
    line, points = drawn(speed_over_time, comparison)["data"]
    assert line["y"] == [5, 6, None, 7, None, 8, 9]
    assert line["connectgaps"] is False
    assert (points["x"], points["y"], points["mode"]) == ([3.5], [7], "markers")


def test_without_power_and_memory_there_is_only_the_speed() -> None:
    spec = session_over_time(time_series(fold([*HEAD, *turn()])), None, [])
    titles = [
        axis["title"]["text"] for name, axis in spec["layout"].items() if name.startswith("yaxis") and "title" in axis
    ]
    assert titles == ["tok/s", "MiB"]
    assert all(value is None for trace in spec["data"] if trace["name"] == "resident memory" for value in trace["y"])


def test_names_cannot_be_taken_for_markup_of_plotly() -> None:
    comparison = compare([result(HOSTILE, 10, 2.0), replace(result("b", 20, 3.0), model=HOSTILE)])
    for text in texts(drawn(energy_against_speed, comparison)):
        if not text.startswith("%{x"):  # our own template
            assert "<" not in text
    assert html.unescape(plain("a<b>&amp;")) == "a<b>&amp;"
    assert len(html.unescape(plain("<" * 500))) == NAME_CHARACTERS


def test_without_plotly_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_plotly(name: str, *more: Any, **named: Any) -> Any:
        if name.startswith("plotly"):
            raise ImportError(name)
        return real(name, *more, **named)

    monkeypatch.setattr(builtins, "__import__", without_plotly)
    with pytest.raises(EdgetopError) as caught:
        plotly_script()
    assert "plotly" in caught.value.what
    assert caught.value.hint == "pip install edgetop[report], or leave it out"
