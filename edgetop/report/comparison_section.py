"""The comparison table in words; figures, units and headings from the table of figures."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from edgetop.core.figures import COMPARED, Figure, cell_of
from edgetop.core.format import NOT_AVAILABLE
from edgetop.core.text import one_line
from edgetop.session.compare.result import Cell, Comparison, Verdict
from edgetop.session.compare.wording import change_text, full_title, label_of

NAME_CHARACTERS = 60

VERDICT_WORDS: dict[Verdict, str] = {"same": "no difference", "unlike": "not comparable", "absent": ""}
"""In place of a verdict's own name."""


class Heading(Struct, frozen=True, kw_only=True):
    """One column."""

    short: str
    """With the unit."""
    label: str
    """In words."""
    better: str
    """Which way is better, in words."""


class CellText(Struct, frozen=True, kw_only=True):
    """One figure of one result."""

    value: str
    interval: str = ""
    change: str = ""
    verdict: str = ""
    tone: Verdict = "absent"
    best: bool = False


class RowText(Struct, frozen=True, kw_only=True):
    """One result."""

    key: str
    name: str
    recorded: bool
    """Whether a section of the report tells more of it."""
    facts: str
    cells: tuple[CellText, ...]
    flags: tuple[tuple[str, str], ...]
    """Name and sentence of each."""
    on_front: bool


class Reason(Struct, frozen=True, kw_only=True):
    """What one verdict rests on, or why there is no value."""

    key: str
    figure: str
    verdict: str
    why: str


class GroupText(Struct, frozen=True, kw_only=True):
    """Results that have the title in common."""

    title: str
    rows: tuple[RowText, ...]


class ComparisonTable(Struct, frozen=True, kw_only=True):
    """All of it."""

    headings: tuple[Heading, ...]
    groups: tuple[GroupText, ...]
    base_key: str
    reasons: tuple[Reason, ...]


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


def comparison_table(comparison: Comparison, recorded: Sequence[bool]) -> ComparisonTable:
    """The table; `recorded` says of each row whether a section of the report tells more of it."""
    keys = keys_of(len(comparison.rows))
    figures = [COMPARED[name] for name in comparison.figures]

    def row_text(index: int) -> RowText:
        row = comparison.rows[index]
        facts = [row.result.name, f"{row.result.turns} turns" if row.result.turns else ""]
        return RowText(
            key=keys[index],
            name=short_name(row.title),
            recorded=recorded[index],
            facts=", ".join(fact for fact in facts if fact and fact not in row.title),
            cells=tuple(_cell_text(row.cells[figure.name], figure, alone=len(keys) == 1) for figure in figures),
            flags=tuple((flag.name, flag.text) for flag in row.flags),
            on_front=row.on_front,
        )

    return ComparisonTable(
        headings=tuple(
            Heading(short=figure.heading_with_unit, label=figure.label, better=f"{figure.better} is better")
            for figure in figures
        ),
        groups=tuple(
            GroupText(title=short_name(group.title), rows=tuple(row_text(index) for index in group.rows))
            for group in comparison.groups
        ),
        base_key=keys[comparison.base],
        reasons=tuple(
            Reason(key=keys[index], figure=figure.label, verdict=_verdict_text(cell) or NOT_AVAILABLE, why=why)
            for index, row in enumerate(comparison.rows)
            for figure in figures
            if (why := (cell := row.cells[figure.name]).why or cell.missing)
        ),
    )


def percent_text(percent: float) -> str:
    """A change, with a minus that is not a hyphen and a space that does not break: +4.1 %, −38 %, x25.0."""
    return change_text(percent).replace(" %", "\u00a0%").replace("-", "−")


def _verdict_text(cell: Cell) -> str:
    return VERDICT_WORDS.get(cell.verdict, cell.verdict)


def _cell_text(cell: Cell, figure: Figure, *, alone: bool) -> CellText:
    if cell.value is None:
        return CellText(value=NOT_AVAILABLE)
    interval = ""
    if cell.low is not None and cell.high is not None:
        interval = f"{cell_of(figure, cell.low)} to {cell_of(figure, cell.high)}"
    change = "" if cell.change_percent is None else percent_text(cell.change_percent)
    if change and cell.change_low is not None and cell.change_high is not None:
        change += f", {percent_text(cell.change_low)} to {percent_text(cell.change_high)}"
    return CellText(
        value=cell_of(figure, cell.value),
        interval=interval,
        change=change,
        verdict="" if alone else _verdict_text(cell),
        tone=cell.verdict,
        best=cell.best,
    )
