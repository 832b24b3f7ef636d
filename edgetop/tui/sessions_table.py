"""How the list of sessions is drawn and sorted: which columns there is room for, and the lines of text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from rich.cells import cell_len

from edgetop.core.text import one_line
from edgetop.session.listing import COLUMNS, ListColumn, SessionEntry, energy_cell
from edgetop.tui.glyphs import GlyphLevel
from edgetop.tui.widgets.lines import Line, Role, Span, shortened
from edgetop.tui.wrap import fit

GAP: Final = 2
MARKS: Final = 2
"""Cells before the columns: the cursor and the mark."""
IMPORTANCE: Final = ("#", "MODEL", "QUANT", "TOK/S", "J/TOKEN", "STARTED", "TAGS", "LENGTH", "DEVICE")
"""Those at the end go first where there is too little room."""
LEAST: Final = {"MODEL": 16, "TAGS": 10, "DEVICE": 12}
"""Columns that can be narrower than what stands in them, down to so many cells."""
MOST: Final = {"MODEL": 36, "TAGS": 40, "DEVICE": 24}
WIDEST: Final = 20
"""Of the other columns: only a file that was tampered with has more in them."""


class Placed(NamedTuple):
    """A column and its width in cells."""

    column: ListColumn
    width: int


def placed(entries: Sequence[SessionEntry], width: int, level: GlyphLevel) -> list[Placed]:
    """The columns that there is room for in `width` cells, marks included, as wide as what stands in them needs."""
    readable = [entry for entry in entries if entry.listed.head is not None]
    natural = {
        column.heading: max([len(column.heading) + 1, *(cell_len(cell_text(column, each, level)) for each in readable)])
        for column in COLUMNS
    }
    widths: dict[str, int] = {}
    left = width - MARKS + GAP
    for heading in IMPORTANCE:
        most = min(natural[heading], MOST.get(heading, WIDEST))
        least = min(most, LEAST.get(heading, most))
        if left < least + GAP:
            break
        widths[heading] = least
        left -= least + GAP
    for heading in LEAST:
        if heading in widths:
            more = min(left, min(natural[heading], MOST[heading]) - widths[heading])
            widths[heading] += more
            left -= more
    return [Placed(column, widths[column.heading]) for column in COLUMNS if column.heading in widths]


def heading_line(columns: Sequence[Placed], by: ListColumn, *, reverse: bool, level: GlyphLevel) -> Line:
    """The names of the columns; the one that is sorted by has an arrow."""
    up, down = ("^", "v") if level == "ascii" else ("▲", "▼")
    spans = [Span(" " * MARKS)]
    for index, (column, width) in enumerate(columns):
        sorted_by = column is by
        name = column.heading + ((down if reverse else up) if sorted_by else "")
        spans += [
            Span(" " * GAP if index else ""),
            Span(_aligned(name, width, column), "headline" if sorted_by else "title"),
        ]
    return tuple(span for span in spans if span.text)


def row_line(
    entry: SessionEntry, columns: Sequence[Placed], width: int, *, chosen: bool, marked: bool, level: GlyphLevel
) -> Line:
    """A session in `width` cells. The chosen one begins with `>`, a marked one has `*`."""
    marks = f"{'>' if chosen else ' '}{'*' if marked else ' '}"
    if entry.listed.head is None:
        number = fit(str(entry.listed.number), columns[0].width) if columns else ""
        name = one_line(f"{entry.listed.path.name}: {_problem(entry)}", ascii=level == "ascii")
        text = shortened(f"{number}{' ' * GAP}{name}", max(0, width - MARKS), level)
    else:
        cells = (_aligned(shortened(cell_text(each, entry, level), wide, level), wide, each) for each, wide in columns)
        text = (" " * GAP).join(cells)
    role: Role = "key" if chosen else "warning" if marked else "dim" if entry.listed.head is None else "text"
    return (Span(fit(marks + text, width), role),)


def cell_text(column: ListColumn, entry: SessionEntry, level: GlyphLevel) -> str:
    """What stands in a column, in the characters of the level."""
    if column.heading == "J/TOKEN":
        return energy_cell(entry, "+-" if level == "ascii" else "±")
    return one_line(column.text(entry), ascii=level == "ascii")


def sorted_entries(entries: Sequence[SessionEntry], by: ListColumn, *, reverse: bool) -> list[SessionEntry]:
    """In the order of a column, those of equal rank as in the list; those that have nothing there come last."""
    ranked = [(rank, entry) for entry in entries if (rank := by.rank(entry)) is not None]
    ranked.sort(key=lambda pair: pair[0], reverse=reverse)
    return [entry for _, entry in ranked] + [entry for entry in entries if by.rank(entry) is None]


def _aligned(text: str, width: int, column: ListColumn) -> str:
    return " " * max(0, width - cell_len(text)) + text if column.numeric else fit(text, width)


def _problem(entry: SessionEntry) -> str:
    """Why it cannot be read; the path stands before it already."""
    return entry.listed.problem.removeprefix(f"{entry.listed.path}: ")
