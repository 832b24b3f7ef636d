"""The comparison table in words; figures, units and headings from the table of figures."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from msgspec import Struct

from edgetop.core.figures import BY_NAME, ComparedFigure, Unit
from edgetop.core.format import NOT_AVAILABLE, format_bytes, format_seconds, format_significant
from edgetop.core.text import one_line
from edgetop.session.compare.result import Cell, Comparison, Verdict

NAME_CHARACTERS = 60

TIMES_FROM_PERCENT = 900

VERDICT_WORDS: dict[Verdict, str] = {
    "base": "base",
    "better": "better",
    "worse": "worse",
    "same": "no difference",
    "unclear": "unclear",
    "unlike": "not comparable",
    "absent": "",
}


class Heading(Struct, frozen=True, kw_only=True):
    """One column."""

    short: str
    """With the unit, where the values do not carry it."""
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
    return tuple(_key(index) for index in range(count))


def names_of(comparison: Comparison) -> tuple[str, ...]:
    """What each result is called where it does not stand below its group's title."""
    names = [row.title for row in comparison.rows]
    for group in comparison.groups:
        for index in group.rows:
            names[index] = f"{group.title} {names[index]}"
    return tuple(short_name(name) for name in names)


def short_name(text: str) -> str:
    """A name on one line, cut off where it is longer than a name should be."""
    shown = one_line(text)
    return shown if len(shown) <= NAME_CHARACTERS else f"{shown[: NAME_CHARACTERS - 1]}…"


def comparison_table(comparison: Comparison, recorded: Sequence[bool]) -> ComparisonTable:
    """The table; `recorded` says of each row whether a section of the report tells more of it."""
    keys = keys_of(len(comparison.rows))
    figures = [BY_NAME[name] for name in comparison.figures]

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
            Heading(
                short=_with_unit(figure),
                label=figure.label,
                better="higher is better" if figure.higher_is_better else "lower is better",
            )
            for figure in figures
        ),
        groups=tuple(
            GroupText(title=short_name(group.title), rows=tuple(row_text(index) for index in group.rows))
            for group in comparison.groups
        ),
        base_key=keys[comparison.base],
        reasons=tuple(
            Reason(key=keys[index], figure=figure.label, verdict=VERDICT_WORDS[cell.verdict] or NOT_AVAILABLE, why=why)
            for index, row in enumerate(comparison.rows)
            for figure in figures
            if (why := (cell := row.cells[figure.name]).why or cell.missing)
        ),
    )


def value_text(value: float | None, unit: Unit, digits: int = 3) -> str:
    """A figure's value as it is read; units that are the same for all values are not repeated."""
    if value is None or not isfinite(value):
        return NOT_AVAILABLE
    if unit == "bytes":
        return format_bytes(value)
    if unit == "s":
        return format_seconds(value)
    return format_significant(value, digits)


def percent_text(percent: float) -> str:
    """A change, with a sign that is not a hyphen and as many digits as mean something: +4.1 %, −38 %, 25 times."""
    if not isfinite(percent):
        return "without bound"
    if percent >= TIMES_FROM_PERCENT:
        return f"{format_significant(1 + percent / 100, 2)} times"
    digits = 1 if abs(percent) < 9.95 else 0
    shown = f"{percent:+.{digits}f}" if abs(percent) >= 0.05 else "0.0"
    return f"{shown}\u00a0%".replace("-", "−")


def _cell_text(cell: Cell, figure: ComparedFigure, *, alone: bool) -> CellText:
    if cell.value is None:
        return CellText(value=NOT_AVAILABLE)
    interval = ""
    if cell.low is not None and cell.high is not None:
        interval = f"{value_text(cell.low, figure.unit)} to {value_text(cell.high, figure.unit)}"
    change = "" if cell.change_percent is None else percent_text(cell.change_percent)
    if change and cell.change_low is not None and cell.change_high is not None:
        change += f", {percent_text(cell.change_low)} to {percent_text(cell.change_high)}"
    return CellText(
        value=value_text(cell.value, figure.unit),
        interval=interval,
        change=change,
        verdict="" if alone else VERDICT_WORDS[cell.verdict],
        tone=cell.verdict,
        best=cell.best,
    )


def _with_unit(figure: ComparedFigure) -> str:
    return figure.heading if figure.unit in {"bytes", "s", "J"} else f"{figure.heading}, {figure.unit}"


def _key(index: int) -> str:
    key = ""
    index += 1
    while index:
        index, letter = divmod(index - 1, 26)
        key = chr(ord("A") + letter) + key
    return key
