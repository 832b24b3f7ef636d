"""Figures in rows, as zoomed panes show them: a name and a value, and tables of turns."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from edgetop.tui.widgets.lines import Line, Span, fit, line_of, width_of
from edgetop.tui.wrap import wrap

NAME_COLUMNS = 14
BESIDE_COLUMNS = 100
"""From this width on figures and turns have room beside each other."""
GAP = "   "


def figure_row(name: str, *value: str | Span) -> Line:
    """A name and its value."""
    return line_of(Span(f"{name:<{NAME_COLUMNS}} ", "dim"), *value)


def told(name: str, sentence: str, width: int) -> list[Line]:
    """A name and a sentence, in as many lines as it takes."""
    rows = wrap(sentence, max(10, width - NAME_COLUMNS - 1)) or [""]
    return [figure_row(name if not at else "", row.rstrip()) for at, row in enumerate(rows)]


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, named: bool = False) -> list[Line]:
    """Columns as wide as their widest cell, flush right but for the last one; `named` rows begin with a name."""
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        last = len(cells) - 1
        return "  ".join(
            f"{cell:{'<' if at == last or (named and not at) else '>'}{widths[at]}}" for at, cell in enumerate(cells)
        )

    return [line_of(Span(line(headings), "title")), *(line_of(line(row)) for row in rows)]


def beside(left: Sequence[Line], right: Sequence[Line], width: int) -> list[Line]:
    """Two blocks beside each other where there is room, otherwise the second one below the first."""
    columns = max(map(width_of, left), default=0)
    if columns + len(GAP) + max(map(width_of, right), default=0) > width:
        return [*left, *([()] if left and right else []), *right]
    return [(*fit(one, columns), Span(GAP), *other) for one, other in zip_longest(left, right, fillvalue=())]
