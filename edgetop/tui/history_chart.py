"""A history graph with its axes: values against time, prefill told from decode, and a mark where each turn began.

What was prefill has another colour, other glyphs where the graph is blank, and a `p` on the time axis, so that it is
told from decode in monochrome and in ASCII too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import NamedTuple

from edgetop.core.format import format_clock
from edgetop.session.history import StepPhase
from edgetop.tui.glyphs import GlyphLevel, capacity, plot
from edgetop.tui.traces import Trace
from edgetop.tui.widgets.lines import Line, Role, Span, fit, line_of

LABEL_COLUMNS = 5
"""For the figures of the upright axis."""
SIDE_COLUMNS = 13
TURN_MARK, PREFILL_MARK = "^", "p"
LEGEND = f"{TURN_MARK} turn  {PREFILL_MARK} prefill"
_AXES: dict[GlyphLevel, tuple[str, str, str, str, str]] = {
    "braille": ("┤", "│", "└", "─", "░"),
    "block": ("┤", "│", "└", "─", "░"),
    "ascii": ("+", "|", "+", "-", "/"),
}
"""A figure's tick, upright axis, corner, decode on the time axis, and prefill where the graph is blank."""


class Axis(NamedTuple):
    """What stands at the axes of a graph."""

    unit: str
    notes: Sequence[str] = ()
    """Below the graph, or beside it where it has only a line or two; as many as there is room for."""


def history_chart(
    trace_of: Callable[[int], Trace], axis: Axis, width: int, height: int, level: GlyphLevel, *, shaded: bool = False
) -> list[Line]:
    """A graph in `width` by `height` cells; `trace_of` gives it for a number of values.

    `shaded` fills what is blank above and below a prefill, for graphs that have no value there. Below four lines there
    is no room for axes, and the notes stand beside it.
    """
    if height < 1 or width < LABEL_COLUMNS + 4:
        return []
    if height < 4:
        return _small(trace_of, axis, width, height, level)
    columns = width - LABEL_COLUMNS - 1
    trace = placed(trace_of(capacity(columns, level)), columns, level)
    cells = _cells(trace.phases, columns)
    rows = plot(trace.values, columns, height - 2, 0.0, trace.top, level)
    return framed([_plotted(row, cells, level, shaded=shaded) for row in rows], trace, cells, axis, width, level)


def framed(  # noqa: PLR0917 - a drawing: what, of which trace, beside which axis, how wide, with what
    rows: Sequence[Line], trace: Trace, cells: Sequence[StepPhase], axis: Axis, width: int, level: GlyphLevel
) -> list[Line]:
    """Lines of a graph between their axes; `cells` has the phase of each of their cells."""
    return [
        *((*_label(row, len(rows), trace.top, level), *line) for row, line in enumerate(rows)),
        *(fit(line, width) for line in _time_axis(trace, cells, axis, width, level)),
    ]


def placed(trace: Trace, columns: int, level: GlyphLevel) -> Trace:
    """`trace` with as many values as `columns` cells show, blank on the side where it has none, and its end there."""
    count = capacity(columns, level)
    missing = count - len(trace.values)
    values: list[float | None] = [None] * missing
    phases = [StepPhase("", turn_begins=False)] * missing
    end_us = trace.end_us
    if trace.from_start:
        end_us = round(end_us * count / max(1, len(trace.values)))
        values, phases = [*trace.values, *values], [*trace.phases, *phases]
    else:
        values, phases = [*values, *trace.values], [*phases, *trace.phases]
    return Trace(
        values=values, phases=phases, top=trace.top, span=trace.span, end_us=end_us, is_now=trace.is_now,
        from_start=trace.from_start,
    )  # fmt: skip


def _time_axis(trace: Trace, cells: Sequence[StepPhase], axis: Axis, width: int, level: GlyphLevel) -> list[Line]:
    """The level axis with the phases, and below it the time, the unit and the notes. `cells` has one phase for each."""
    _, _, corner, decode, _ = _AXES[level]
    marks = "".join(
        TURN_MARK if cell.turn_begins else PREFILL_MARK if cell.phase == "prefill" else decode if cell.phase else " "
        for cell in cells
    )
    ruler: Line = (
        Span(" " * LABEL_COLUMNS + corner, "border"),
        *(Span("".join(run), _ruler_role(mark)) for mark, run in groupby(marks)),
    )
    begin = "0 s" if trace.from_start else f"-{trace.span}"
    at = format_clock(trace.end_us / 1e6)
    end = at if trace.from_start else "now" if trace.is_now else f"at {at}"
    room = width - LABEL_COLUMNS - 1 - len(begin) - len(end) - 2
    told = axis.unit
    for note in axis.notes:
        longer = f"{told} · {note}"
        if len(longer) <= room:
            told = longer
    told = told if len(told) <= room else ""
    return [
        ruler,
        line_of(Span(f"{'':{LABEL_COLUMNS + 1}}{begin} {told:^{max(0, room)}} {end}", "dim")),
    ]


def _ruler_role(mark: str) -> Role:
    return "prefill" if mark == PREFILL_MARK else "title" if mark == TURN_MARK else "border"


def _small(trace_of: Callable[[int], Trace], axis: Axis, width: int, height: int, level: GlyphLevel) -> list[Line]:
    has_side = width >= 2 * SIDE_COLUMNS
    columns = width - SIDE_COLUMNS - 1 if has_side else width
    trace = placed(trace_of(capacity(columns, level)), columns, level)
    cells = _cells(trace.phases, columns)
    span = f"to {format_clock(trace.end_us / 1e6)}" if trace.from_start else trace.span
    side = [*axis.notes[: max(1, height - 2)], f"top {_figure(trace.top)} {axis.unit}", span][:height]
    return [
        (
            *_plotted(line, cells, level, shaded=False),
            *((Span(" "), *fit(line_of(Span(side[row], "dim")), SIDE_COLUMNS)) if has_side and row < len(side) else ()),
        )
        for row, line in enumerate(plot(trace.values, columns, height, 0.0, trace.top, level))
    ]


def _label(row: int, rows: int, top: float, level: GlyphLevel) -> Line:
    """The upright axis in one line: its top, its middle where there is room for that, and its beginning at 0."""
    tick, upright, *_ = _AXES[level]
    figure = None
    if row == 0:
        figure = _figure(top)
    elif row == rows - 1 and rows > 1:
        figure = "0"
    elif rows >= 6 and rows % 2 and row == rows // 2:
        figure = _figure(top / 2)
    if figure is None or len(figure) > LABEL_COLUMNS:
        return (Span(" " * LABEL_COLUMNS), Span(upright, "border"))
    return (Span(f"{figure:>{LABEL_COLUMNS}}", "dim"), Span(tick, "border"))


def _figure(value: float) -> str:
    return f"{value:g}"


def _cells(phases: Sequence[StepPhase], columns: int) -> list[StepPhase]:
    """One phase for each cell: of two values in it the one that is not idle, and prefill before decode."""
    per_cell = len(phases) // columns
    if per_cell <= 1:
        return list(phases)
    cells = []
    for at in range(0, len(phases), per_cell):
        parts = phases[at : at + per_cell]
        told = {part.phase for part in parts}
        phase = max(told, key=("", "decode", "prefill").index)
        cells.append(StepPhase(phase, turn_begins=any(part.turn_begins for part in parts)))
    return cells


def _plotted(line: str, cells: Sequence[StepPhase], level: GlyphLevel, *, shaded: bool) -> Line:
    """A line of the graph, each stretch in the colour of its phase."""
    shade = _AXES[level][4]
    spans: list[Span] = []
    at = 0
    for is_prefill, run in groupby(cells, key=lambda cell: cell.phase == "prefill"):
        until = at + sum(1 for _ in run)
        text = line[at:until]
        if is_prefill and shaded:
            text = text.replace(" ", shade)
        spans.append(Span(text, "prefill" if is_prefill else "graph"))
        at = until
    return tuple(spans)
