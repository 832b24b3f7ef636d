"""Cells in words; limits of --fail-if.

A limit is crossed only by what is more than noise. Several limits on changes share the 5 % of false alarms equally.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from math import isfinite
from typing import Literal, NamedTuple

from msgspec import Struct

from edgetop.core.errors import UsageError
from edgetop.core.figures import BY_NAME, COMPARED, cell_of
from edgetop.core.format import NOT_AVAILABLE, format_significant
from edgetop.core.quantity import OPERATORS, Operator
from edgetop.session.compare.compare import FALSE_ALARMS
from edgetop.session.compare.result import Cell, Comparison, Row

CHANGE_LARGEST = 1000.0
"""Larger changes read as a factor."""


class CellText(NamedTuple):
    """A cell in two short lines."""

    value: str
    """`12.4 ±0.3`, with `best` behind the best one."""
    change: str
    """`-5.1 % worse`; empty where there is nothing to say."""


def cell_text(cell: Cell, name: str, *, ascii: bool = False) -> CellText:  # noqa: A002 - the option's own name
    """A cell of the figure `name` in words."""
    if cell.value is None:
        return CellText(NOT_AVAILABLE, "")
    best = " best" if cell.best else ""
    verdict = "" if cell.verdict == "absent" else cell.verdict
    change = f"{change_text(cell.change_percent)} {verdict}".strip()
    return CellText(value_text(cell, name, ascii=ascii) + best, change)


def value_text(cell: Cell, name: str, *, ascii: bool = False) -> str:  # noqa: A002 - the option's own name
    """The value with half its interval, without the unit: it stands in the heading."""
    figure = BY_NAME[name]
    value = cell_of(figure, cell.value)
    if cell.low is None or cell.high is None or figure.unit == "bytes":
        return value
    return f"{value} {'+-' if ascii else '±'}{format_significant((cell.high - cell.low) / 2, 2)}"


def change_text(percent: float | None) -> str:
    """A change in per cent with its sign, or as a factor where that says more; empty for `None`."""
    if percent is None:
        return ""
    if not isfinite(percent):
        return "without bound"
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


def label_of(index: int) -> str:
    """A row's label in tables and plots: A, B, ... Z, AA, AB, ..."""
    rest, letter = divmod(index, 26)
    return (label_of(rest - 1) if rest else "") + chr(ord("A") + letter)


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
    return gap.join(attribute.values[0] for attribute in comparison.alike)


def order_of(comparison: Comparison, sort_by: str | None) -> list[tuple[str, Sequence[int]]]:
    """Titles of groups and their rows as they are to be listed: by group, or all by a figure, the best first."""
    if sort_by is None:
        return [(group.title, group.rows) for group in comparison.groups]
    sign = -1 if BY_NAME[sort_by].better == "higher" else 1

    def key(index: int) -> tuple[bool, float]:
        value = comparison.rows[index].cells[sort_by].value
        return value is None, 0.0 if value is None else sign * value

    return [("", sorted(range(len(comparison.rows)), key=key))]


Finding = Literal["kept", "crossed", "noise", "absent"]

_SHAPE = re.compile(
    r"\s*(?P<name>[\w.]+)\s*(?P<operator><=?|>=?)\s*(?P<number>[+-]?\d+(?:\.\d+)?)\s*(?P<percent>%?)\s*"
)


class Threshold(Struct, frozen=True, kw_only=True):
    """What must not happen: a change from the base in per cent, or a value, below or above a number."""

    figure: str
    operator: Operator
    number: float
    relative: bool
    text: str
    """As the person wrote it."""

    def holds(self, value: float) -> bool:
        """Whether a value is beyond the limit."""
        return OPERATORS[self.operator](value, self.number)


class LimitResult(Struct, frozen=True, kw_only=True):
    """How one row compares with one limit."""

    threshold: str
    row: int
    finding: Finding
    """`noise`: it is beyond the limit, and that may be chance; `absent`: it cannot be judged."""
    text: str
    """One line for a person; empty where the limit is kept."""


def parse(text: str) -> Threshold:
    """Read a limit. Raises UsageError, which lists the figures' names where the name is none of them."""
    found = _SHAPE.fullmatch(text)
    if found is None or not isfinite(float(found["number"])):
        raise UsageError(
            f"--fail-if: {text!r} is not a limit",
            "write one as 'decode_tokens_per_s < -5%' or 'energy.j_per_token > 2'",
        )
    name = found["name"]
    if name not in COMPARED:
        close = difflib.get_close_matches(name, COMPARED, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise UsageError(f"--fail-if: no figure is called {name!r}", f"{hint}there are {', '.join(COMPARED)}")
    operator: Operator = found["operator"]  # type: ignore[assignment]
    return Threshold(
        figure=name,
        operator=operator,
        number=float(found["number"]),
        relative=bool(found["percent"]),
        text=text.strip(),
    )


def judge(comparison: Comparison, thresholds: Sequence[Threshold]) -> list[LimitResult]:
    """Judge every row but the base, or the only one, by every limit."""
    rows = [index for index in range(len(comparison.rows)) if index != comparison.base]
    changes = sum(threshold.relative for threshold in thresholds)
    verdicts = []
    for threshold in thresholds:
        for index in rows if threshold.relative else rows or [comparison.base]:
            cell = comparison.rows[index].cells.get(threshold.figure, Cell(missing="no result has it"))
            who = named(comparison, index)
            finding, what = _change(cell, threshold, changes) if threshold.relative else _value(cell, threshold)
            text = "" if finding == "kept" else f"{threshold.text}: {who}: {what}"
            verdicts.append(LimitResult(threshold=threshold.text, row=index, finding=finding, text=text))
    return verdicts


def _change(cell: Cell, threshold: Threshold, changes: int) -> tuple[Finding, str]:
    if cell.value is None:
        return "absent", f"it has no {threshold.figure}: {cell.missing}"
    if cell.verdict == "unlike" or cell.change_percent is None:
        return "absent", f"{threshold.figure} cannot be compared with the base: {cell.why}"
    if not threshold.holds(cell.change_percent):
        return "kept", ""
    if cell.p_value is None:
        return "noise", f"{interval_text(cell)}, and {cell.why}: not counted"
    within_sensor = (
        cell.change_low is not None and cell.change_high is not None and cell.change_low <= 0 <= cell.change_high
    )
    if cell.p_value > FALSE_ALARMS / changes or within_sensor:
        return "noise", f"{interval_text(cell)} is not more than noise"
    return "crossed", f"{interval_text(cell)} crosses the limit"


def _value(cell: Cell, threshold: Threshold) -> tuple[Finding, str]:
    if cell.value is None:
        return "absent", f"it has no {threshold.figure}: {cell.missing}"
    if not threshold.holds(cell.value):
        return "kept", ""
    unit = BY_NAME[threshold.figure].unit
    nearest = cell.high if threshold.operator in {"<", "<="} else cell.low
    if nearest is not None and not threshold.holds(nearest):
        return "noise", f"{value_text(cell, threshold.figure)} {unit} is not beyond the limit by more than noise"
    return "crossed", f"{format_significant(cell.value, 4)} {unit} crosses the limit"
