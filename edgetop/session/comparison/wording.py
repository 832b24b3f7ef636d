"""The cells of a comparison in words; the same in the table, on the screen and in the report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from edgetop.core.format import NOT_AVAILABLE, format_bytes, format_significant
from edgetop.session.comparison.comparison import Cell, Comparison, Row, Verdict
from edgetop.session.comparison.figures import BY_NAME

VERDICT_WORDS: dict[Verdict, str] = {
    "base": "base", "better": "better", "worse": "worse", "same": "same", "unclear": "unclear", "unlike": "unlike",
    "absent": "",
}  # fmt: skip
CHANGE_LARGEST = 1000.0
"""Larger changes read as a factor."""
LABELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class CellText(NamedTuple):
    """A cell in two short lines."""

    value: str
    """`12.4 ±0.3`, with `best` behind the best one."""
    change: str
    """`-5.1 % worse`; empty where there is nothing to say."""


def cell_text(cell: Cell, name: str, *, ascii: bool = False) -> CellText:  # noqa: A002 - the option's own name
    """Say a cell of the figure `name`."""
    if cell.value is None:
        return CellText(NOT_AVAILABLE, "")
    best = " best" if cell.best else ""
    change = f"{change_text(cell.change_percent)} {VERDICT_WORDS[cell.verdict]}".strip()
    return CellText(value_text(cell, name, ascii=ascii) + best, change)


def value_text(cell: Cell, name: str, *, ascii: bool = False) -> str:  # noqa: A002 - the option's own name
    """The value with half its interval, without the unit: it stands in the heading."""
    if cell.value is None:
        return NOT_AVAILABLE
    if BY_NAME[name].unit == "bytes":
        return format_bytes(cell.value)
    value = format_significant(cell.value)
    if cell.low is None or cell.high is None:
        return value
    return f"{value} {'+-' if ascii else '±'}{format_significant((cell.high - cell.low) / 2, 2)}"


def change_text(percent: float | None) -> str:
    """A change in per cent with its sign, or as a factor where that says more; empty for `None`."""
    if percent is None:
        return ""
    if percent >= CHANGE_LARGEST:
        return f"x{format_significant(1 + percent / 100)}"
    digits = 1 if abs(percent) < 9.95 else 0
    rounded = f"{percent:+.{digits}f}"
    return "0 %" if float(rounded) == 0 else f"{rounded} %"


def interval_text(cell: Cell) -> str:
    """The change and its interval in a sentence's words: `-5.1 % (-7.0 to -3.2 %)`."""
    if cell.change_percent is None:
        return ""
    if cell.change_low is None or cell.change_high is None:
        return change_text(cell.change_percent)
    low, high = change_text(cell.change_low), change_text(cell.change_high)
    return f"{change_text(cell.change_percent)} ({low} to {high})"


def heading(name: str) -> str:
    """A figure's short name with its unit."""
    figure = BY_NAME[name]
    return figure.heading if figure.unit in {"J", "bytes"} else f"{figure.heading} {figure.unit}"


def label_of(index: int) -> str:
    """How a row is named in plots: A to Z, then its number from 27."""
    return LABELS[index] if index < len(LABELS) else str(index + 1)


def named(comparison: Comparison, index: int) -> str:
    """A row by label and title: `B Q8_0 4 thr`."""
    return f"{label_of(index)} {full_title(comparison, index)}"


def full_title(comparison: Comparison, index: int) -> str:
    """A row's title with that of its group."""
    group = next((group.title for group in comparison.groups if index in group.rows), "")
    return f"{group} {comparison.rows[index].title}".strip()


def front_text(comparison: Comparison) -> str:
    """The Pareto front in words."""
    if not comparison.front:
        return f"No Pareto front: {comparison.front_note}"
    names = ", ".join(named(comparison, index) for index in comparison.front)
    return f"Pareto front, fastest first: {names}. {comparison.front_note}".rstrip()


def flags_text(row: Row) -> str:
    """The names of a row's flags."""
    return ", ".join(flag.name for flag in row.flags)


def alike_text(comparison: Comparison, gap: str = " · ") -> str:
    """What all results have in common."""
    return gap.join(trait.values[0] for trait in comparison.alike)


def order_of(comparison: Comparison, sort_by: str | None) -> list[tuple[str, Sequence[int]]]:
    """Titles of groups and their rows as they are to be listed: by group, or all by a figure, the best first."""
    if sort_by is None:
        return [(group.title, group.rows) for group in comparison.groups]
    sign = -1 if BY_NAME[sort_by].higher_is_better else 1

    def key(index: int) -> tuple[bool, float]:
        value = comparison.rows[index].cells[sort_by].value
        return value is None, 0.0 if value is None else sign * value

    return [("", sorted(range(len(comparison.rows)), key=key))]
