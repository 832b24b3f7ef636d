"""Graphs with axes: gaps stay gaps, prefill is told from decode without colour, the axis does not jitter."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len

from edgetop.session.snapshot import StepPhase
from edgetop.tui.charts import (
    LABEL_COLUMNS,
    ROUND_STEPS,
    SCATTER_LABEL_COLUMNS,
    Axis,
    ChartSeries,
    Layer,
    Point,
    capacity,
    history_chart,
    nice_y_max,
    plot,
    scatter,
    stacked_chart,
)
from edgetop.tui.panes.column import PANES
from edgetop.tui.panes.pane import DEFAULT_SPAN, SPANS, Scales
from edgetop.tui.themes import LEVELS, GlyphLevel
from tests.support.demo_session import NOW_US, TURN_1_US, TURN_2_US, S, demo_view

IDLE = StepPhase("", turn_begins=False)


def trace(
    values: list[float | None], phases: list[StepPhase] | None = None, *, from_start: bool = False
) -> ChartSeries:
    known = [value for value in values if value is not None]
    return ChartSeries(
        values=values,
        phases=phases or [IDLE] * len(values),
        y_max=nice_y_max(max(known, default=0.0)),
        span="2 min",
        end_us=60 * S,
        is_now=True,
        from_start=from_start,
    )


def chart(given_trace: ChartSeries, level: GlyphLevel = "ascii", *, shaded: bool = False) -> list[str]:
    lines = history_chart(lambda _: given_trace, Axis("tok/s"), 26, 6, level, shaded=shaded)
    return ["".join(span.text for span in line) for line in lines]


def test_a_gap_stays_blank_and_the_axes_say_what_is_shown() -> None:
    values: list[float | None] = [5.0] * 8 + [None] * 4 + [2.5] * 8
    assert chart(trace(values)) == [
        "    5+||||||||            ",
        "     |||||||||            ",
        "     |||||||||    ::::::::",
        "     |||||||||    ||||||||",
        "    0+||||||||    ||||||||",
        "tok/s+-2 min              ",
    ]


def test_prefill_is_shaded_marked_on_the_axis_and_in_another_role() -> None:
    prefill, decode = StepPhase("prefill", turn_begins=False), StepPhase("decode", turn_begins=False)
    values: list[float | None] = [None] * 12 + [5.0] * 8
    phases = [IDLE] * 8 + [StepPhase("prefill", turn_begins=True), *[prefill] * 3, *[decode] * 8]
    rows = chart(trace(values, phases), shaded=True)
    assert rows[0] == "    5+        ////||||||||"
    assert rows[5] == "tok/s+-2 min  ^ppp--------"
    plain = chart(trace(values, phases))
    assert "/" not in plain[0]
    lines = history_chart(lambda _: trace(values, phases), Axis("W"), 26, 6, "braille")
    assert "prefill" in {span.role for span in lines[0]}


@pytest.mark.parametrize("level", LEVELS)
def test_values_that_do_not_fill_the_width_stand_at_the_right_or_of_a_whole_session_at_the_left(
    level: GlyphLevel,
) -> None:
    values: list[float | None] = [5.0] * (capacity(20, level) // 4)
    right = chart(trace(values), level=level)[3][LABEL_COLUMNS + 1 :]
    left = chart(trace(values, from_start=True), level=level)[3][LABEL_COLUMNS + 1 :]
    assert (len(right) - len(right.lstrip()), len(left.rstrip())) == (15, 5)
    assert chart(trace(values, from_start=True), level=level)[5].split()[1:] == ["s", "00:04:00"]


@given(
    st.lists(st.none() | st.floats(0, 1e9) | st.just(float("nan")), max_size=80),
    st.integers(0, 60),
    st.integers(0, 12),
    st.sampled_from(LEVELS),
)
def test_a_graph_is_never_larger_than_its_place(
    values: list[float | None], width: int, height: int, level: GlyphLevel
) -> None:
    known: list[float | None] = [value if value == value else None for value in values]  # noqa: PLR0124
    lines = history_chart(
        lambda count: trace((known * (count + 1))[:count] if known else []), Axis("W"), width, height, level
    )
    assert len(lines) in {0, height}
    assert all(cell_len("".join(span.text for span in line)) <= width for line in lines)


@given(st.floats(1e-6, 1e9))
@example(1.0)
@example(5.0)
def test_an_axis_ends_at_a_round_figure_and_its_values_fill_it(most: float) -> None:
    top = nice_y_max(most)
    assert most <= top <= most / 0.66
    assert float(f"{top:e}"[:3]) in ROUND_STEPS
    assert len(f"{top / 10 ** math.floor(math.log10(top)):g}") <= 3


def test_what_wavers_around_a_step_of_the_axis_does_not_make_it_jitter() -> None:
    scales = Scales()
    tops = [scales.end_of("speed", most) for most in (0.0, 4.9, 5.1, 4.9, 5.1, 4.8, 4.2, 4.4, 0.0)]
    assert tops == [1, 5, 6, 6, 6, 6, 5, 5, 1]


def test_graphs_side_by_side_have_one_scale_that_fits_the_largest_of_them() -> None:
    scales = Scales(shared=True)

    def drawn(*largest: float) -> set[float]:
        ends = {scales.end_of("speed", each) for each in largest}
        while scales.fit():
            ends = {scales.end_of("speed", each) for each in largest}
        return ends

    assert drawn(4.9, 9.9) == {10.0}
    assert drawn(40.0, 9.9) == {40.0}
    assert drawn(4.9, 0.0) == {5.0}
    scales.end_of("speed", 4.9)
    assert not scales.fit()


def test_every_span_shows_its_time_and_all_of_a_session_fits() -> None:
    view = demo_view(level="ascii")
    for name, length_us in SPANS:
        view.history.span = name
        shown = view.history.power(40)
        assert len(shown.values) <= 40
        assert shown.span == ("75 s" if name == DEFAULT_SPAN else name)
        assert any(phase.turn_begins for phase in shown.phases)
        assert sum(value is not None for value in shown.values) >= min(67 * S / (length_us or 67 * S), 0.9) * 40 - 3


def test_rails_stand_upon_each_other_in_their_own_patterns_beside_their_figures() -> None:
    stack = PANES["power"].render(demo_view(level="ascii"), 46, 10)
    lines = ["".join(span.text for span in line) for line in stack]
    legend = [" ".join(line[24:].split()) for line in lines]
    assert legend[:4] == [": other 0.911 W", "+ 3v3 0.400 W", "% ddr 1.26 W", "# core 6.12 W"]
    column = [line[21] for line in lines[:9]]
    assert column == [" ", ":", "%", "%", *"#####"]
    assert lines[9].lstrip().startswith("W+-75 s")


def test_without_power_there_is_nothing_to_stack() -> None:
    assert demo_view(power=False).history.power_parts() == []
    series = trace([1.0] * 40)
    assert stacked_chart(lambda _: [], lambda _: series, Axis("W"), 46, 12, "ascii") == ([], [])


def test_more_layers_than_patterns_end_in_one_for_all_the_last() -> None:
    def layers(count: int) -> list[Layer]:
        return [Layer(f"rail{watts}", watts, trace([float(watts)] * count)) for watts in range(8, 0, -1)]

    def total(count: int) -> ChartSeries:
        return trace([36.0] * count)

    _, legend = stacked_chart(layers, total, Axis("W"), 46, 30, "ascii")
    assert [(each.name, each.value) for each in (legend[-1], legend[0])] == [("# rail8", "8.00"), (". 3 more", "6.00")]


def test_graphs_above_each_other_have_one_time_axis() -> None:
    for until_us in (TURN_1_US + 4 * S, TURN_2_US - S, NOW_US):
        history = demo_view(until_us=until_us).history
        both = [history.speed(40), history.power(40), history.channel("engine.rss", 40)]
        assert len({(each.span, each.end_us, each.is_now, len(each.values)) for each in both}) == 1


def test_a_young_session_fills_its_graphs() -> None:
    for seconds in (15, 22, 37, 58, 67):
        values = demo_view(until_us=seconds * S).history.power(40).values
        assert sum(value is not None for value in values) >= 0.75 * len(values) - 2


def test_the_colour_of_a_graph_says_what_the_model_adds_to_the_idle_power() -> None:
    lines = PANES["power"].render(demo_view(level="ascii"), 46, 7)
    roles = [{span.role for span in line[2:] if "||" in span.text} for line in lines[:6]]
    assert (roles[2], roles[3], roles[5]) == ({"energy"}, {"energy"}, {"dim"})


@pytest.mark.parametrize(
    ("level", "values", "lines"),
    [
        ("block", [0.0, 25.0, 50.0, 75.0, 100.0], ["▁▂▄▆█"]),
        ("ascii", [0.0, 50.0, 100.0], [".:|"]),
        ("braille", [0.0, 25.0, 50.0, 75.0, 100.0, 100.0], ["⣀⣴⣿"]),
        ("block", [10.0, None, 0.0, math.nan, 10.0], ["▁ ▁ ▁"]),
        ("braille", [100.0, None, None, 100.0, None, None], ["⡇⢸ "]),
        ("block", [-5.0, 900.0], ["   ▁█"]),
    ],
)
def test_draws_one_row(level: GlyphLevel, values: list[float | None], lines: list[str]) -> None:
    width = len(lines[0])
    assert plot(values, width, 1, 0.0, 100.0, level) == lines


def test_fills_upward_over_several_rows() -> None:
    assert plot([0.0, 50.0, 100.0], 3, 2, 0.0, 100.0, "block") == ["  █", "▁██"]
    assert plot([0.0, 50.0, 100.0], 3, 2, 0.0, 100.0, "ascii") == ["  |", ".||"]


def test_keeps_only_the_newest_values_and_sets_them_at_the_right_edge() -> None:
    assert plot([100.0] * 50 + [0.0, 0.0], 2, 1, 0.0, 100.0, "block") == ["▁▁"]
    assert plot([100.0], 4, 1, 0.0, 100.0, "block") == ["   █"]


@given(
    st.lists(st.none() | st.floats(), max_size=50),
    st.integers(0, 20),
    st.integers(0, 4),
    st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)),
    st.sampled_from(LEVELS),
)
def test_any_series_gives_a_full_rectangle_with_marks_only_where_there_are_values(
    values: list[float | None], width: int, height: int, bounds: tuple[float, float], level: GlyphLevel
) -> None:
    low, high = bounds
    lines = plot(values, width, height, low, high, level)
    assert [len(line) for line in lines] == [width] * height
    shown = values[-capacity(width, level) :] if width else []
    drawn = any(value is not None and not math.isnan(value) for value in shown)
    assert any(line.strip() for line in lines) == (drawn and height > 0)


@given(
    st.lists(st.tuples(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9)), min_size=1, max_size=40),
    st.integers(0, 120), st.integers(0, 30), st.sampled_from(LEVELS),
)  # fmt: skip
def test_points_stay_within_their_plot(
    places: list[tuple[float, float]], width: int, height: int, level: GlyphLevel
) -> None:
    points = [Point(x, y, chr(65 + index % 26)) for index, (x, y) in enumerate(places)]
    drawn = scatter(points, width, height, level)
    assert len(drawn) in {0, height}
    assert all(cell_len(line) <= max(width, SCATTER_LABEL_COLUMNS + 40) for line in drawn)
    assert not drawn or any(points[0].label in line[SCATTER_LABEL_COLUMNS + 2 :] for line in drawn)


def test_a_point_lies_where_its_figures_are() -> None:
    drawn = scatter([Point(0, 0, "A"), Point(10, 10, "B"), Point(10, 0, "C"), Point(10, 0, "D")], 40, 12, "ascii")
    found = {letter: (row, line.index(letter)) for letter in "ABCD" for row, line in enumerate(drawn) if letter in line}
    assert found["A"][0] > found["B"][0]
    assert found["A"][1] < found["B"][1]
    assert found["C"][0] == found["A"][0] == found["D"][0]
    assert abs(found["D"][1] - found["C"][1]) == 1  # beside the one whose place it has
