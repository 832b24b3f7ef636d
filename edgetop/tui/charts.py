"""All plots in characters: history, stacked layers and scatter, on one set of axes. Without Textual.

Braille needs a font that few consoles have, block elements one that most have, ASCII none. What a font can show cannot
be asked, so the level is guessed from the locale and the terminal, and a person may set it.

What was prefill has another colour, other glyphs where the graph is blank, and a `p` on the time axis, so that it is
told from decode in monochrome and in ASCII too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import groupby
from math import ceil, floor
from typing import NamedTuple

from msgspec import Struct

from edgetop.core.format import format_clock, format_significant
from edgetop.session.history import StepPhase
from edgetop.tui.glyphs import GlyphLevel
from edgetop.tui.styled_text import Line, Role, Span, fit, line_of

AXIS_COLUMNS = 8
"""For the figures of the upright axis."""

MARGIN = 0.05
"""Of the range, left free on each side."""

_SCATTER_AXES: dict[GlyphLevel, tuple[str, str, str, str]] = {
    "braille": ("│", "─", "└", "·"),
    "block": ("│", "─", "└", "·"),
    "ascii": ("|", "-", "+", "."),
}
"""Upright axis, level axis, where they meet, and a point without a label."""


class Point(NamedTuple):
    """A point and its label, which is drawn in its place; an empty one is a dot."""

    x: float
    y: float
    label: str = ""


def scatter(points: Sequence[Point], width: int, height: int, level: GlyphLevel) -> list[str]:
    """Points in `width` by `height` cells, axes included; the first ones are drawn over later ones.

    A label that would lie on another one moves to the nearest free place on its line. Where there is not room for five
    columns and three lines of points nothing is drawn.
    """
    columns, rows = width - AXIS_COLUMNS - 2, height - 2
    if columns < 5 or rows < 3 or not points:
        return []
    upright, across, corner, dot = _SCATTER_AXES[level]
    x_low, x_high = _range([point.x for point in points])
    y_low, y_high = _range([point.y for point in points])
    area = [[" "] * columns for _ in range(rows)]
    for point in points:
        column = _cell(point.x, x_low, x_high, columns)
        line = area[rows - 1 - _cell(point.y, y_low, y_high, rows)]
        if point.label:
            _write(line, column, point.label)
        elif line[column] == " ":
            line[column] = dot
    sides = [""] * rows
    sides[0], sides[-1] = _short(y_high), _short(y_low)
    drawn = [f"{side:>{AXIS_COLUMNS}} {upright}{''.join(line)}" for side, line in zip(sides, area, strict=True)]
    low, high = _short(x_low), _short(x_high)
    ends = f"{low}{high:>{columns - len(low)}}" if len(low) + len(high) < columns else low[:columns]
    return [
        *drawn,
        f"{'':{AXIS_COLUMNS}} {corner}{across * columns}",
        f"{'':{AXIS_COLUMNS}}  {ends}",
    ]


def shortened(values: Sequence[float | None], count: int) -> list[float | None]:
    """A series in at most `count` steps: means of what each step covers, `None` where nothing is known."""
    if len(values) <= count:
        return list(values)
    steps: list[float | None] = []
    for step in range(count):
        begin, end = floor(step * len(values) / count), ceil((step + 1) * len(values) / count)
        known = [value for value in values[begin:end] if value is not None]
        steps.append(sum(known) / len(known) if known else None)
    return steps


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    reach = max((high - low or abs(high)) * MARGIN, abs(low) * 1e-6, abs(high) * 1e-6) or 1.0
    return (max(0.0, low - reach) if low >= 0 else low - reach), high + reach


def _short(value: float) -> str:
    """A figure of an axis in at most AXIS_COLUMNS."""
    texts = (format_significant(value), f"{value:.1e}", f"{value:.0e}")
    return next((text for text in texts if len(text) <= AXIS_COLUMNS), texts[-1])


def _cell(value: float, low: float, high: float, cells: int) -> int:
    return min(cells - 1, max(0, int((value - low) / (high - low) * cells)))


def _write(line: list[str], column: int, label: str) -> None:
    """Write a label as near to its column as there is room; on a full line not at all."""
    starts = range(len(line) - len(label) + 1)
    free = [start for start in starts if not any(cell.isalnum() for cell in line[start : start + len(label)])]
    if free:
        start = min(free, key=lambda start: abs(start - column))
        line[start : start + len(label)] = label


_BLOCKS = " ▁▂▃▄▅▆▇█"

_ASCII_STEPS = " .:|"

_BRAILLE_BLANK = 0x2800

_BRAILLE_LEFT = (0x00, 0x40, 0x44, 0x46, 0x47)

_BRAILLE_RIGHT = (0x00, 0x80, 0xA0, 0xB0, 0xB8)
"""Bits of 0 to 4 dots from the bottom up in one column of a braille pattern (Unicode Standard, Braille Patterns)."""


def capacity(width: int, level: GlyphLevel) -> int:
    """How many values a graph of `width` cells shows."""
    return 2 * width if level == "braille" else width


def plot(  # noqa: PLR0917 - the order of a drawing: what, how large, between which bounds, with what
    values: Sequence[float | None], width: int, height: int, low: float, high: float, level: GlyphLevel
) -> list[str]:
    """A filled history graph: `height` lines of `width` cells, top line first, the newest value at the right edge.

    Braille shows two values in a cell, the others one; only the newest `capacity` values are drawn. `None` and NaN are
    gaps and stay blank from top to bottom, while a value of `low` or less still has its lowest mark, so a gap never
    looks like a small value. Values above `high` fill the column. Where `high` is not above `low`, values have the
    lowest mark.
    """
    shown = list(values[-capacity(width, level) :]) if width > 0 else []
    steps = {"braille": 4, "block": len(_BLOCKS) - 1, "ascii": len(_ASCII_STEPS) - 1}[level]
    columns = [_column(value, low, high, steps * height) for value in shown]
    columns = [0] * (capacity(width, level) - len(columns)) + columns
    lines = []
    for row in range(height - 1, -1, -1):
        filled = [min(max(column - row * steps, 0), steps) for column in columns]
        if level == "braille":
            lines.append("".join(map(_braille, filled[::2], filled[1::2])))
        else:
            alphabet = _BLOCKS if level == "block" else _ASCII_STEPS
            lines.append("".join([alphabet[step] for step in filled]))
    return lines


def _column(value: float | None, low: float, high: float, steps: int) -> int:
    """How many of `steps` marks stand above each other for `value`; 0 only for a gap."""
    if value is None or math.isnan(value):
        return 0
    if value <= low or high <= low:
        return 1
    if value >= high:
        return steps
    return max(1, round((value - low) / (high - low) * steps))


def _braille(left: int, right: int) -> str:
    dots = _BRAILLE_LEFT[left] | _BRAILLE_RIGHT[right]
    return chr(_BRAILLE_BLANK + dots) if dots else " "


class ChartSeries(Struct, frozen=True):
    """One series, each of its values in an equal step of time; `None` where it is not known."""

    values: Sequence[float | None]
    phases: Sequence[StepPhase]
    top: float
    """Of the axis, which begins at 0."""
    span: str
    """How much time it shows, in words."""
    end_us: int
    """The moment it ends with, since the session began."""
    is_now: bool
    """That is the present; otherwise it stands still since then."""
    from_start: bool
    """The series begins with the session at the left edge; otherwise it ends at the right one."""


LABEL_COLUMNS = 5
"""For the figures of the upright axis."""

SIDE_COLUMNS = 13

TURN_MARK, PREFILL_MARK = "^", "p"

LEGEND = f"{TURN_MARK} turn  {PREFILL_MARK} prefill"

_HISTORY_AXES: dict[GlyphLevel, tuple[str, str, str, str, str]] = {
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
    trace_of: Callable[[int], ChartSeries],
    axis: Axis,
    width: int,
    height: int,
    level: GlyphLevel,
    *,
    shaded: bool = False,
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
    trace = padded(trace_of(capacity(columns, level)), columns, level)
    cells = _cells(trace.phases, columns)
    rows = plot(trace.values, columns, height - 2, 0.0, trace.top, level)
    return framed([_plotted(row, cells, level, shaded=shaded) for row in rows], trace, cells, axis, width, level)


def framed(  # noqa: PLR0917 - a drawing: what, of which trace, beside which axis, how wide, with what
    rows: Sequence[Line], trace: ChartSeries, cells: Sequence[StepPhase], axis: Axis, width: int, level: GlyphLevel
) -> list[Line]:
    """Lines of a graph between their axes; `cells` has the phase of each of their cells."""
    return [
        *((*_label(row, len(rows), trace.top, level), *line) for row, line in enumerate(rows)),
        *(fit(line, width) for line in _time_axis(trace, cells, axis, width, level)),
    ]


def padded(trace: ChartSeries, columns: int, level: GlyphLevel) -> ChartSeries:
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
    return ChartSeries(
        values=values, phases=phases, top=trace.top, span=trace.span, end_us=end_us, is_now=trace.is_now,
        from_start=trace.from_start,
    )  # fmt: skip


def _time_axis(trace: ChartSeries, cells: Sequence[StepPhase], axis: Axis, width: int, level: GlyphLevel) -> list[Line]:
    """The level axis with the phases, and below it the time, the unit and the notes. `cells` has one phase for each."""
    _, _, corner, decode, _ = _HISTORY_AXES[level]
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


def _small(
    trace_of: Callable[[int], ChartSeries], axis: Axis, width: int, height: int, level: GlyphLevel
) -> list[Line]:
    has_side = width >= 2 * SIDE_COLUMNS
    columns = width - SIDE_COLUMNS - 1 if has_side else width
    trace = padded(trace_of(capacity(columns, level)), columns, level)
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
    tick, upright, *_ = _HISTORY_AXES[level]
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
    shade = _HISTORY_AXES[level][4]
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
