"""The comparison in words, for the template: each cell, and why it says so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from edgetop.core.figures import COMPARED, Figure, cell_of
from edgetop.core.format import NOT_AVAILABLE
from edgetop.core.text import one_line
from edgetop.session.compare.result import Cell, Comparison, Row, Verdict
from edgetop.session.compare.wording import change_text, full_title, label_of

NAME_CHARACTERS = 60

VERDICT_WORDS: dict[Verdict, str] = {"same": "no difference", "unlike": "not comparable", "absent": ""}
"""In place of a verdict's own name."""


class CellText(NamedTuple):
    """One figure of one result."""

    value: str
    interval: str = ""
    change: str = ""


def keys_of(count: int) -> tuple[str, ...]:
    """Short names of results: A, B, ... Z, AA, AB, ..."""
    return tuple(map(label_of, range(count)))


def names_of(comparison: Comparison) -> tuple[str, ...]:
    """What each result is called where it does not stand below its group's title."""
    return tuple(short_name(full_title(comparison, index)) for index in range(len(comparison.rows)))


def short_name(text: str) -> str:
    """A name on one line, cut off where it is longer than a name should be."""
    shown = one_line(text)
    return shown if len(shown) <= NAME_CHARACTERS else f"{shown[: NAME_CHARACTERS - 1]}…"


def row_facts(row: Row) -> str:
    """What stands below a result's name."""
    facts = [row.result.name, f"{row.result.turns} turns" if row.result.turns else ""]
    return ", ".join(fact for fact in facts if fact and fact not in row.title)


def cell_text(cell: Cell, figure: Figure) -> CellText:
    """A cell with its interval and its change from the base."""
    if cell.value is None:
        return CellText(NOT_AVAILABLE)
    interval = ""
    if cell.low is not None and cell.high is not None:
        interval = f"{cell_of(figure, cell.low)} to {cell_of(figure, cell.high)}"
    change = "" if cell.change_percent is None else percent_text(cell.change_percent)
    if change and cell.change_low is not None and cell.change_high is not None:
        change += f", {percent_text(cell.change_low)} to {percent_text(cell.change_high)}"
    return CellText(cell_of(figure, cell.value), interval, change)


def verdict_text(cell: Cell) -> str:
    """A verdict in words."""
    return VERDICT_WORDS.get(cell.verdict, cell.verdict)


def reasons_of(comparison: Comparison, keys: Sequence[str]) -> list[tuple[str, str, str, str]]:
    """Key, figure, verdict, and what the verdict rests on, or why there is no value."""
    return [
        (key, COMPARED[name].label, verdict_text(cell) or NOT_AVAILABLE, why)
        for key, row in zip(keys, comparison.rows, strict=True)
        for name in comparison.figures
        if (why := (cell := row.cells[name]).why or cell.missing)
    ]


def percent_text(percent: float) -> str:
    """A change, with a minus that is not a hyphen and a space that does not break: +4.1 %, −38 %, x25.0."""
    return change_text(percent).replace(" %", "\u00a0%").replace("-", "−")
