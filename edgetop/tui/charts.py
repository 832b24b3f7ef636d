"""All plots in characters: history, stacked layers and scatter, on one set of axes. Without Textual.

Prefill has its own colour, a shade where the graph is blank and a `p` on the time axis, so that it differs from decode
in monochrome and in ASCII, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import groupby
from math import ceil, floor, log10
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.format import format_clock, format_significant
from edgetop.session.snapshot import StepPhase
from edgetop.tui.styled_text import Figure, Line, Role, Span
from edgetop.tui.themes import GlyphLevel

LABEL_COLUMNS = 5
"""For the figures of the y axis of a graph over time."""

SCATTER_LABEL_COLUMNS = 8
"""For those of a scatter plot, whose ends are not round."""

ROUND_STEPS = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)
"""Times a power of ten, where an axis may end: its values fill two thirds of it or more."""

TURN_MARK, PREFILL_MARK = "^", "p"

MARGIN = 0.05
"""Of the range of a scatter plot, left free on each side."""

RANGE_LEAST = 0.1
"""Of the largest value, which the range of a scatter plot is at least: a smaller difference is no picture."""


class _AxisGlyphs(NamedTuple):
    """Characters of the axes and of what is drawn between them."""

    tick: str
    vertical: str
    corner: str
    horizontal: str
    shade: str
    dot: str


_LINES = _AxisGlyphs(tick="┤", vertical="│", corner="└", horizontal="─", shade="░", dot="·")

_AXES: dict[GlyphLevel, _AxisGlyphs] = {
    "braille": _LINES,
    "block": _LINES,
    "ascii": _AxisGlyphs(tick="+", vertical="|", corner="+", horizontal="-", shade="/", dot="."),
}

_BLOCKS = " ▁▂▃▄▅▆▇█"
_ASCII_STEPS = " .:|"
_BRAILLE_BLANK = 0x2800
_BRAILLE_LEFT = (0x00, 0x40, 0x44, 0x46, 0x47)
_BRAILLE_RIGHT = (0x00, 0x80, 0xA0, 0xB0, 0xB8)
"""Bits of 0 to 4 dots from the bottom up in one column of a braille pattern (Unicode Standard, Braille Patterns)."""

_FILLS: dict[GlyphLevel, str] = {"braille": "█▓▒░▚•", "block": "█▓▒░▚•", "ascii": "#%+:=."}
"""Patterns of stacked layers from the bottom up; the last one is for all that have none of their own."""

_LAYER_ROLES: tuple[Role, ...] = ("graph", "prefill", "accent", "good", "warning", "dim")

COLUMNS_MIN, AXIS_ROWS_MIN = 4, 3
"""Below so many columns of values there is no graph, and below so many lines no time axis."""


class ChartSeries(Struct, frozen=True):
    """One series, each of its values for an equal step of time; `None` where it is not known."""

    values: Sequence[float | None]
    phases: Sequence[StepPhase]
    y_max: float
    """The end of the y axis, which begins at 0."""
    span: str
    """How much time it shows, as text."""
    end_us: int
    """The end of the last step, since the session began."""
    is_now: bool
    """The end is the present; otherwise the series has stood still since then."""
    from_start: bool
    """The series begins with the session at the left edge; otherwise it ends at the right edge."""
    ends: tuple[str, str] | None = None
    """What stands at the ends of an axis that is not of time."""


class Axis(NamedTuple):
    """The unit of a graph, and the colours of its values, by what they mean."""

    unit: str
    tone: Callable[[float, float], Role] = lambda _value, _y: "graph"
    """The role of one cell of a value's column, by the value and how high that cell stands, in the unit."""


class Layer(NamedTuple):
    """One layer of a stacked chart."""

    name: str
    latest: float
    series: ChartSeries


class Point(NamedTuple):
    """A point of a scatter plot and its label, which is drawn in its place; a point without a label is a dot."""

    x: float
    y: float
    label: str = ""
    x_ends: tuple[float, float] | None = None
    """Its interval, drawn as a bar through the point; `None` where that is not known."""
    y_ends: tuple[float, float] | None = None


def nice_y_max(value: float) -> float:
    """The least round figure that is not below `value`; 1 where that is not above 0."""
    if not value > 0:
        return 1.0
    power = 10.0 ** floor(log10(value))
    return next((step * power for step in ROUND_STEPS if step * power >= value), 10 * power)


def downsampled(values: Sequence[float | None], count: int) -> list[float | None]:
    """A series in at most `count` steps: means of what each step covers, `None` where nothing is known."""
    if len(values) <= count:
        return list(values)
    steps: list[float | None] = []
    for step in range(count):
        begin, end = floor(step * len(values) / count), ceil((step + 1) * len(values) / count)
        known = [value for value in values[begin:end] if value is not None]
        steps.append(sum(known) / len(known) if known else None)
    return steps


# Values as filled columns


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


# Over time


def history_chart(
    series_of: Callable[[int], ChartSeries],
    axis: Axis,
    width: int,
    height: int,
    level: GlyphLevel,
    *,
    shaded: bool = False,
) -> list[Line]:
    """A graph in `width` by `height` cells; `series_of` gives it for a number of values.

    `shaded` fills the blank above and below a prefill, for graphs that have no value there.
    """
    columns = width - LABEL_COLUMNS - 1
    if height < 1 or columns < COLUMNS_MIN:
        return []
    series = _padded(series_of(capacity(columns, level)), columns, level)
    cells = _cell_phases(series.phases, columns)
    per_cell = capacity(1, level)
    tops = [
        max((value for value in series.values[at : at + per_cell] if value is not None), default=0.0)
        for at in range(0, len(series.values), per_cell)
    ]
    count = height if height < AXIS_ROWS_MIN else height - 1
    rows = plot(series.values, columns, count, 0.0, series.y_max, level)
    lines = []
    for row, text in enumerate(rows):
        y = (count - row - 0.5) / count * series.y_max
        roles = [
            "prefill" if cell.phase == "prefill" else axis.tone(top, y) for cell, top in zip(cells, tops, strict=True)
        ]
        shade = _AXES[level].shade if shaded else " "
        marks = [
            shade if mark == " " and cell.phase == "prefill" else mark for mark, cell in zip(text, cells, strict=True)
        ]
        lines.append(_runs(marks, roles))
    return _framed(lines, series, cells, axis, level)[:height]


def stacked_chart(  # noqa: PLR0917 - as in `plot`
    layers_of: Callable[[int], Sequence[Layer]],
    total_of: Callable[[int], ChartSeries],
    axis: Axis,
    width: int,
    height: int,
    level: GlyphLevel,
) -> tuple[list[Line], list[Figure]]:
    """Layers on top of each other on the axes of their total, and their legend; empty without layers or room.

    Both functions give the series for a number of values. The first layer is at the bottom; the last ones become one
    where there are more than there are patterns.
    """
    columns = width - LABEL_COLUMNS - 1
    rows = height - 1
    if columns < COLUMNS_MIN or rows < AXIS_ROWS_MIN:
        return [], []
    layers = [
        (layer.name, layer.latest, _padded(layer.series, columns, "block").values) for layer in layers_of(columns)
    ]
    if not layers:
        return [], []
    if len(layers) > len(_LAYER_ROLES):
        rest = layers[len(_LAYER_ROLES) - 1 :]
        sums = [
            sum(value or 0.0 for value in values) if any(value is not None for value in values) else None
            for values in zip(*(values for _, _, values in rest), strict=True)
        ]
        layers[len(_LAYER_ROLES) - 1 :] = [(f"{len(rest)} more", sum(latest for _, latest, _ in rest), sums)]
    total = _padded(total_of(columns), columns, "block")
    filled = [_stacked([values[at] for _, _, values in layers], total.y_max, rows) for at in range(columns)]
    lines = []
    for row in range(rows):
        shown = [column[row] for column in filled]
        lines.append(
            _runs(
                [_FILLS[level][layer] if layer >= 0 else " " for layer in shown],
                [_LAYER_ROLES[layer] if layer >= 0 else "text" for layer in shown],
            )
        )
    legend = [
        Figure(f"{fill} {name}", format_significant(latest), axis.unit, role)
        for fill, role, (name, latest, _) in zip(_FILLS[level], _LAYER_ROLES, layers, strict=False)
    ]
    return _framed(lines, total, total.phases, axis, level), legend[::-1]


def _runs(marks: Sequence[str], roles: Sequence[Role]) -> Line:
    """One character after the other, those of one role as one span."""
    return tuple(
        Span("".join(mark for mark, _ in run), role)
        for role, run in groupby(zip(marks, roles, strict=True), key=lambda cell: cell[1])
    )


def _stacked(values: Sequence[float | None], y_max: float, rows: int) -> list[int]:
    """Which layer each cell of a column shows, from the top; -1 for none. What counts is the middle of the cell."""
    cells = [-1] * rows
    low = 0.0
    for layer, value in enumerate(values):
        high = low + (value or 0.0)
        for step in range(rows):
            if low <= (step + 0.5) / rows * y_max < high:
                cells[rows - 1 - step] = layer
        low = high
    return cells


def _padded(series: ChartSeries, columns: int, level: GlyphLevel) -> ChartSeries:
    """`series` with as many values as `columns` cells show: blank where it has none, and the end of the axis moved."""
    count = capacity(columns, level)
    missing = count - len(series.values)
    blank: list[float | None] = [None] * missing
    idle = [StepPhase("", turn_begins=False)] * missing
    if not series.from_start:
        return replace(series, values=[*blank, *series.values], phases=[*idle, *series.phases])
    end_us = round(series.end_us * count / max(1, len(series.values)))
    return replace(series, values=[*series.values, *blank], phases=[*series.phases, *idle], end_us=end_us)


def _framed(
    rows: Sequence[Line], series: ChartSeries, cells: Sequence[StepPhase], axis: Axis, level: GlyphLevel
) -> list[Line]:
    """Lines of a graph between their axes; `cells` has the phase of each column."""
    return [
        *((*_y_label(row, len(rows), series.y_max, level), *line) for row, line in enumerate(rows)),
        _time_axis(series, cells, axis, level),
    ]


def _y_label(row: int, rows: int, y_max: float, level: GlyphLevel) -> Line:
    """One line of the y axis: its end, its middle where there is room for that, and its beginning at 0."""
    figure = None
    if row == 0:
        figure = f"{y_max:g}"
    elif row == rows - 1 and rows > 1:
        figure = "0"
    elif rows >= 6 and rows % 2 and row == rows // 2:
        figure = f"{y_max / 2:g}"
    if figure is None or len(figure) > LABEL_COLUMNS:
        return (Span(" " * LABEL_COLUMNS), Span(_AXES[level].vertical, "border"))
    return (Span(f"{figure:>{LABEL_COLUMNS}}", "dim"), Span(_AXES[level].tick, "border"))


def _time_axis(series: ChartSeries, cells: Sequence[StepPhase], axis: Axis, level: GlyphLevel) -> Line:
    """The unit, and the time with the phases; its end is the present, unless it says another time."""
    decode = _AXES[level].horizontal
    marks = "".join(
        TURN_MARK if cell.turn_begins else PREFILL_MARK if cell.phase == "prefill" else decode if cell.phase else " "
        for cell in cells
    )
    at = format_clock(series.end_us / 1e6)
    end = f" {at}" if series.from_start else "" if series.is_now else f" at {at}"
    begin = "0 s " if series.from_start else f"-{series.span} "
    if series.ends is not None:
        begin, end = f"{series.ends[0]} ", f" {series.ends[1]}"
    if len(begin) + len(end) > len(cells):
        begin = end = ""
    roles: dict[str, Role] = {PREFILL_MARK: "prefill", TURN_MARK: "title"}
    return (
        Span(f"{axis.unit[:LABEL_COLUMNS]:>{LABEL_COLUMNS}}", "dim"),
        Span(_AXES[level].corner, "border"),
        Span(begin, "dim"),
        *(
            Span("".join(run), roles.get(mark, "border"))
            for mark, run in groupby(marks[len(begin) : len(marks) - len(end)])
        ),
        Span(end, "dim"),
    )


def _cell_phases(phases: Sequence[StepPhase], columns: int) -> list[StepPhase]:
    """One phase for each cell: of two values in it the one that is not idle, and prefill before decode."""
    per_cell = len(phases) // columns
    if per_cell <= 1:
        return list(phases)
    cells = []
    for at in range(0, len(phases), per_cell):
        parts = phases[at : at + per_cell]
        phase = max((part.phase for part in parts), key=("", "decode", "prefill").index)
        cells.append(StepPhase(phase, turn_begins=any(part.turn_begins for part in parts)))
    return cells


def interval_bar(  # noqa: PLR0917 - as in `plot`
    low: float, value: float, high: float, end: float, width: int, level: GlyphLevel
) -> str:
    """A bar in `width` cells, which is `end`: full up to `low`, shaded to `high`, and a mark at `value`."""
    full, shade, mark = ("#", "-", "|") if level == "ascii" else ("█", "▒", "│")
    cells = [_cell(each, 0.0, end or 1.0, width) for each in (low, value, high)]
    bar = full * cells[0] + shade * (cells[2] - cells[0] + 1)
    return bar[: cells[1]] + mark + bar[cells[1] + 1 :]


# One figure against another


def scatter(points: Sequence[Point], width: int, height: int, level: GlyphLevel) -> list[str]:
    """Points in `width` by `height` cells, axes included; the first ones are drawn over later ones.

    The range has room for the intervals of all points, so that noise does not fill the picture. A label that would lie
    on another one moves to the nearest free place on its line. Where there is not room for five columns and three lines
    of points nothing is drawn.
    """
    columns, rows = width - SCATTER_LABEL_COLUMNS - 2, height - 2
    if columns < 5 or rows < 3 or not points:
        return []
    axes = _AXES[level]
    x_low, x_high = _range([end for point in points for end in (point.x, *(point.x_ends or ()))])
    y_low, y_high = _range([end for point in points for end in (point.y, *(point.y_ends or ()))])
    area = [[" "] * columns for _ in range(rows)]
    for point in points:
        left, right = (_cell(end, x_low, x_high, columns) for end in point.x_ends or (point.x, point.x))
        low, high = (rows - 1 - _cell(end, y_low, y_high, rows) for end in point.y_ends or (point.y, point.y))
        row, column = rows - 1 - _cell(point.y, y_low, y_high, rows), _cell(point.x, x_low, x_high, columns)
        for at in range(left, right + 1):
            area[row][at] = axes.horizontal
        for at in range(high, low + 1):
            area[at][column] = axes.vertical
    for point in points:
        column = _cell(point.x, x_low, x_high, columns)
        line = area[rows - 1 - _cell(point.y, y_low, y_high, rows)]
        if point.label:
            _write(line, column, point.label)
        elif not line[column].isalnum():
            line[column] = axes.dot
    labels = [_axis_figure(y_high), *[""] * (rows - 2), _axis_figure(y_low)]
    begin, end = _axis_figure(x_low), _axis_figure(x_high)
    ends = f"{begin}{end:>{columns - len(begin)}}" if len(begin) + len(end) < columns else begin[:columns]
    return [
        *(
            f"{label:>{SCATTER_LABEL_COLUMNS}} {axes.vertical}{''.join(line)}"
            for label, line in zip(labels, area, strict=True)
        ),
        f"{'':{SCATTER_LABEL_COLUMNS}} {axes.corner}{axes.horizontal * columns}",
        f"{'':{SCATTER_LABEL_COLUMNS}}  {ends}",
    ]


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = max((high - low) * MARGIN, (RANGE_LEAST * max(abs(low), abs(high)) - (high - low)) / 2) or 1.0
    return (max(0.0, low - margin) if low >= 0 else low - margin), high + margin


def _axis_figure(value: float) -> str:
    """A figure in at most SCATTER_LABEL_COLUMNS."""
    texts = (format_significant(value), f"{value:.1e}", f"{value:.0e}")
    return next((text for text in texts if len(text) <= SCATTER_LABEL_COLUMNS), texts[-1])


def _cell(value: float, low: float, high: float, cells: int) -> int:
    return min(cells - 1, max(0, int((value - low) / (high - low) * cells)))


def _write(line: list[str], column: int, label: str) -> None:
    """Write a label as near to its column as there is room; on a full line not at all."""
    starts = range(len(line) - len(label) + 1)
    free = [start for start in starts if not any(cell.isalnum() for cell in line[start : start + len(label)])]
    if free:
        start = min(free, key=lambda start: abs(start - column))
        line[start : start + len(label)] = label
