"""Power rails upon each other over time: who takes how much of it, each in its own pattern and named below."""

from __future__ import annotations

from itertools import groupby
from typing import NamedTuple

from edgetop.core.format import format_significant
from edgetop.core.records import Missing
from edgetop.tui.glyphs import GlyphLevel
from edgetop.tui.history_chart import LABEL_COLUMNS, Axis, framed, placed
from edgetop.tui.view import View
from edgetop.tui.widgets.lines import Line, Role, Span, joined, line_of
from edgetop.tui.wrap import wrap

_FILLS: dict[GlyphLevel, str] = {"braille": "█▓▒░▚•", "block": "█▓▒░▚•", "ascii": "#%+:=."}
"""Patterns from the bottom up; the last one is for all rails that have none of their own."""
_ROLES: tuple[Role, ...] = ("graph", "prefill", "accent", "good", "warning", "dim")
_ROWS_LEAST = 3


class Rail(NamedTuple):
    """A layer of the stack: one rail, or all the smallest ones together."""

    name: str
    now_w: float
    values: list[float | None]


def rail_stack(view: View, width: int, height: int) -> list[Line]:
    """The rails of the headline's own sensor in `width` by `height` cells; empty where it has none, or no room."""
    columns = width - LABEL_COLUMNS - 1
    names = view.traces.parts_of_power()
    if columns < 8 or not names:
        return []
    rails = _rails(view, names, columns)
    legend = _legend(view, rails, width)
    rows = height - len(legend) - 2
    if rows < _ROWS_LEAST:
        return []
    trace = placed(view.traces.power(columns), columns, "block")
    filled = [_column([rail.values[at] for rail in rails], trace.top, rows) for at in range(columns)]
    lines = [_line([column[row] for column in filled], view.level) for row in range(rows)]
    power = view.snapshot.power
    idle_w = None if isinstance(power, Missing) else power.idle_w
    notes = [] if idle_w is None else [f"idle {format_significant(idle_w)} W"]
    return [*framed(lines, trace, trace.phases, Axis("W", notes), width, view.level), *legend]


def _rails(view: View, names: list[str], columns: int) -> list[Rail]:
    """The layers from the bottom up, the largest first."""
    rails = []
    for name in names:
        values = list(placed(view.traces.channel(name, columns), columns, "block").values)
        rails.append(Rail(name.removeprefix("power."), view.value(name) or 0.0, values))
    rails.sort(key=lambda rail: -rail.now_w)
    most = len(_ROLES)
    if len(rails) <= most:
        return rails
    small = rails[most - 1 :]
    sums = [
        sum(value or 0.0 for value in values) if any(value is not None for value in values) else None
        for values in zip(*(rail.values for rail in small), strict=True)
    ]
    return [*rails[: most - 1], Rail(f"{len(small)} more", sum(rail.now_w for rail in small), sums)]


def _column(values: list[float | None], top: float, rows: int) -> list[int]:
    """Which layer each cell of a column belongs to, from the top; -1 for none. A cell goes by its middle."""
    cells = [-1] * rows
    low = 0.0
    for layer, value in enumerate(values):
        high = low + (value or 0.0)
        for step in range(rows):
            if low <= (step + 0.5) / rows * top < high:
                cells[rows - 1 - step] = layer
        low = high
    return cells


def _line(layers: list[int], level: GlyphLevel) -> Line:
    fills = _FILLS[level]
    return tuple(
        Span((fills[layer] if layer >= 0 else " ") * sum(1 for _ in run), _ROLES[layer] if layer >= 0 else "text")
        for layer, run in groupby(layers)
    )


def _legend(view: View, rails: list[Rail], width: int) -> list[Line]:
    """Each rail with its pattern and what it takes now, in as many lines as that takes."""
    fills = _FILLS[view.level]
    lines: list[Line] = []
    for at, rail in enumerate(rails):
        name = wrap(rail.name, max(4, width - 12))[0].rstrip() if rail.name else ""
        entry = (Span(fills[at], _ROLES[at]), *line_of(Span(f" {name} {format_significant(rail.now_w)} W", "dim")))
        longer = joined([lines[-1], entry], width) if lines else ()
        if lines and longer != lines[-1] and longer:
            lines[-1] = longer
        else:
            lines.append(joined([entry], width))
    return [line for line in lines if line]
