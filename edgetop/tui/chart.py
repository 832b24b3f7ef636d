"""Plots in characters besides history graphs: points against two axes, and a long series in few columns."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor
from typing import NamedTuple

from edgetop.core.format import format_significant
from edgetop.tui.glyphs import GlyphLevel

AXIS_COLUMNS = 8
"""For the figures of the upright axis."""
MARGIN = 0.05
"""Of the range, left free on each side."""
_AXES: dict[GlyphLevel, tuple[str, str, str, str]] = {
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
    upright, across, corner, dot = _AXES[level]
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
