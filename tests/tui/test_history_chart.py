"""Graphs with axes: gaps stay gaps, prefill is told from decode without colour, the axis does not jitter."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len

from edgetop.session.history import StepPhase
from edgetop.tui.charts import LABEL_COLUMNS, Axis, ChartSeries, capacity, history_chart
from edgetop.tui.glyphs import LEVELS, GlyphLevel
from edgetop.tui.panes.power import stacked_chart
from edgetop.tui.panes.view import SPANS, ChartHistory, nice_y_max
from tests.support.demo_session import S, demo_view

IDLE = StepPhase("", turn_begins=False)


def trace(
    values: list[float | None], phases: list[StepPhase] | None = None, *, from_start: bool = False
) -> ChartSeries:
    known = [value for value in values if value is not None]
    return ChartSeries(
        values=values,
        phases=phases or [IDLE] * len(values),
        top=nice_y_max(max(known, default=0.0)),
        span="2 min",
        end_us=60 * S,
        is_now=True,
        from_start=from_start,
    )


def chart(given_trace: ChartSeries, level: GlyphLevel = "ascii", *, shaded: bool = False) -> list[str]:
    lines = history_chart(lambda _: given_trace, Axis("tok/s", ["mean 4"]), 26, 6, level, shaded=shaded)
    return ["".join(span.text for span in line) for line in lines]


def test_a_gap_stays_blank_and_the_axes_say_what_is_shown() -> None:
    values: list[float | None] = [5.0] * 8 + [None] * 4 + [2.5] * 8
    assert chart(trace(values)) == [
        "    5+||||||||            ",
        "     |||||||||            ",
        "     |||||||||    ||||||||",
        "    0+||||||||    ||||||||",
        "     +                    ",
        "      -2 min   tok/s   now",
    ]


def test_prefill_is_shaded_marked_on_the_axis_and_in_another_role() -> None:
    prefill, decode = StepPhase("prefill", turn_begins=False), StepPhase("decode", turn_begins=False)
    values: list[float | None] = [None] * 10 + [5.0] * 10
    phases = [IDLE] * 6 + [StepPhase("prefill", turn_begins=True), *[prefill] * 3, *[decode] * 10]
    rows = chart(trace(values, phases), shaded=True)
    assert rows[0] == "    5+      ////||||||||||"
    assert rows[4] == "     +      ^ppp----------"
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
    assert chart(trace(values, from_start=True), level=level)[5].split() == ["0", "s", "tok/s", "00:04:00"]


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
        lambda count: trace((known * (count + 1))[:count] if known else []), Axis("W", ["a", "b"]), width, height, level
    )
    assert len(lines) in {0, height}
    assert all(cell_len("".join(span.text for span in line)) <= width for line in lines)


@given(st.floats(1e-6, 1e9))
@example(1.0)
@example(5.0)
def test_the_top_of_an_axis_is_one_two_or_five_times_a_power_of_ten(most: float) -> None:
    top = nice_y_max(most)
    assert most <= top <= 2.5 * most * 1.000001
    assert f"{top:e}"[0] in "125"
    assert float(f"{top:e}"[0] + f"{top:e}"[8:]) == pytest.approx(top)


def test_what_wavers_around_a_step_of_the_axis_does_not_make_it_jitter() -> None:
    traces = ChartHistory()
    tops = [traces._top("speed", most) for most in (4.9, 5.1, 4.9, 5.1, 4.8, 4.0, 4.4, 0.0)]
    assert tops == [5, 10, 10, 10, 10, 5, 5, 1]


def test_every_span_shows_its_time_and_all_of_a_session_fits() -> None:
    view = demo_view(level="ascii")
    for name, length_us in SPANS:
        view.traces.span = name
        shown = view.traces.power(40)
        assert len(shown.values) <= 40
        assert shown.span == name
        assert any(phase.turn_begins for phase in shown.phases)
        assert sum(value is not None for value in shown.values) >= min(67 * S / (length_us or 67 * S), 0.9) * 40 - 3


def test_rails_stand_upon_each_other_in_their_own_patterns_and_names() -> None:
    lines = ["".join(span.text for span in line) for line in stacked_chart(demo_view(level="ascii"), 46, 12)]
    assert lines[-1].split("  ") == ["# core 6.12 W", "% ddr 1.26 W", "+ 3v3 0.400 W"]
    column = [line[-1] for line in lines[:9]]
    assert column == [" ", " ", "%", "%", *"#####"]
    assert "W * idle 3.10 W".replace("*", "·") in lines[-2]


def test_rails_of_another_sensor_are_not_put_upon_each_other() -> None:
    assert stacked_chart(demo_view(power=False), 46, 12) == []
