"""Limits on a comparison, for use in CI: `decode_tokens_per_s < -5%`, `energy.j_per_token > 2`.

A limit is crossed only by what is more than noise. Several limits on changes share the 5 % of false alarms equally.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from math import isfinite
from typing import Literal

from msgspec import Struct

from edgetop.core.errors import UsageError
from edgetop.core.format import format_significant
from edgetop.session.comparison.compare import FALSE_ALARMS
from edgetop.session.comparison.comparison import Cell, Comparison
from edgetop.session.comparison.figures import BY_NAME
from edgetop.session.comparison.wording import interval_text, named, value_text

Operator = Literal["<", "<=", ">", ">="]
Finding = Literal["kept", "crossed", "noise", "absent"]
_SHAPE = re.compile(
    r"\s*(?P<name>[\w.]+)\s*(?P<operator><=?|>=?)\s*(?P<number>[+-]?\d+(?:\.\d+)?)\s*(?P<percent>%?)\s*"
)


class Threshold(Struct, frozen=True, kw_only=True):
    """What must not be: a change from the base in per cent, or a value, below or above a number."""

    figure: str
    operator: Operator
    number: float
    relative: bool
    text: str
    """As the person wrote it."""

    def holds(self, value: float) -> bool:
        """Whether a value is what must not be."""
        match self.operator:
            case "<":
                return value < self.number
            case "<=":
                return value <= self.number
            case ">":
                return value > self.number
        return value >= self.number


class Verdict(Struct, frozen=True, kw_only=True):
    """How one row stands to one limit."""

    threshold: str
    row: int
    finding: Finding
    """`noise`: it is beyond the limit, and that may be chance; `absent`: it cannot be told."""
    text: str
    """One line for a person; empty where the limit is kept."""


def parse(text: str) -> Threshold:
    """Read a limit. Raises UsageError, which lists the figures' names where the name is none of them."""
    found = _SHAPE.fullmatch(text)
    if found is None or not isfinite(float(found["number"])):
        raise UsageError(
            f"--fail-if: {text!r} is no limit", "write one as 'decode_tokens_per_s < -5%' or 'energy.j_per_token > 2'"
        )
    name = found["name"]
    if name not in BY_NAME:
        close = difflib.get_close_matches(name, BY_NAME, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise UsageError(f"--fail-if: there is no figure {name!r}", f"{hint}there are {', '.join(BY_NAME)}")
    operator: Operator = found["operator"]  # type: ignore[assignment]
    return Threshold(
        figure=name,
        operator=operator,
        number=float(found["number"]),
        relative=bool(found["percent"]),
        text=text.strip(),
    )


def judge(comparison: Comparison, thresholds: Sequence[Threshold]) -> list[Verdict]:
    """Hold every row but the base, or the only one, against every limit."""
    rows = [index for index in range(len(comparison.rows)) if index != comparison.base]
    changes = sum(threshold.relative for threshold in thresholds)
    verdicts = []
    for threshold in thresholds:
        for index in rows if threshold.relative else rows or [comparison.base]:
            cell = comparison.rows[index].cells.get(threshold.figure, Cell(missing="no result has it"))
            who = named(comparison, index)
            finding, what = _change(cell, threshold, changes) if threshold.relative else _value(cell, threshold)
            text = "" if finding == "kept" else f"{threshold.text}: {who}: {what}"
            verdicts.append(Verdict(threshold=threshold.text, row=index, finding=finding, text=text))
    return verdicts


def _change(cell: Cell, threshold: Threshold, changes: int) -> tuple[Finding, str]:
    if cell.value is None:
        return "absent", f"it has no {threshold.figure}: {cell.missing}"
    if cell.verdict == "unlike" or cell.change_percent is None:
        return "absent", f"{threshold.figure} cannot be held against the base: {cell.why}"
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
