"""Cells in words; limits of --fail-if.

A limit is crossed only by what is more than noise. Several limits on changes share the 5 % of false alarms equally.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from math import isfinite
from typing import Literal, NamedTuple

from msgspec import Struct

from edgetop.core.errors import UsageError
from edgetop.core.figures import BY_NAME, COMPARED, DECODE, J_PER_TOKEN, cell_of
from edgetop.core.format import NOT_AVAILABLE, format_significant
from edgetop.core.quantity import OPERATORS, Operator
from edgetop.session.compare.compare import FALSE_ALARMS, SAME_PERCENT
from edgetop.session.compare.result import Cell, Comparison, Row, Verdict

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


class _Claim(NamedTuple):
    """The words for a difference of one figure."""

    verb: str
    better: str
    worse: str
    same: str
    what: str

    def heading(self, verdict: Verdict) -> str:
        """What stands before the rows of a verdict."""
        known: dict[Verdict, str] = {"better": self.better, "worse": self.worse, "same": self.same}
        rest: dict[Verdict, str] = {"unclear": "not significantly different", "unlike": "cannot be compared"}
        return known.get(verdict) or f"{self.what} {rest.get(verdict, 'is not known')}"


_CLAIMS = {
    DECODE: _Claim("is", "faster", "slower", "as fast", "speed"),
    J_PER_TOKEN: _Claim("takes", "less energy a token", "more energy a token", "as much energy a token", "energy"),
}
"""The figures by which a person chooses, the first one first."""

NAMED_MOST = 6
"""A sentence names so many rows of one verdict."""


def conclusion(comparison: Comparison, name: Callable[[int], str] = label_of) -> str:
    """What is faster, what takes less energy, and what does not differ significantly, in a sentence.

    Empty for a single result. `name` calls a row by something.
    """
    others = [index for index in range(len(comparison.rows)) if index != comparison.base]
    if not others:
        return ""
    say = _of_two if len(others) == 1 else _of_several
    said = [say(comparison, figure, others, name) for figure in _CLAIMS]
    cells = [row.cells[figure] for row in comparison.rows for figure in _CLAIMS if figure in row.cells]
    said += sorted({cell.why for cell in cells if "assumed" in cell.why})
    if len(others) == 1 and comparison.rows[others[0]].flags:
        said.append(f"not alike: {flags_text(comparison.rows[others[0]])}")
    text = "; ".join(said)
    begins_with_name = text.startswith(tuple(map(name, others)))
    return f"{text if begins_with_name else text[:1].upper() + text[1:]}."


def _of_two(comparison: Comparison, figure: str, others: Sequence[int], name: Callable[[int], str]) -> str:
    claim, cell = _CLAIMS[figure], comparison.rows[others[0]].cells.get(figure, Cell(missing="not measured"))
    who, base = name(others[0]), name(comparison.base)
    if cell.change_percent is None:
        missing = cell.missing or comparison.rows[comparison.base].cells[figure].missing
        return f"{claim.what} cannot be compared: {missing}"
    reach = ""
    if cell.change_low is not None and cell.change_high is not None:
        ends = (cell.change_low, cell.change_high)
        if cell.verdict in {"better", "worse"}:
            ends = (min(map(abs, ends)), max(map(abs, ends)))
        reach = f" ({' to '.join(map(change_text, ends))})"
        reach = reach if cell.verdict == "unclear" else reach.replace("+", "")
    match cell.verdict:
        case "better" | "worse":
            amount = change_text(abs(cell.change_percent)).removeprefix("+")
            amount = f"{amount[1:]} times" if amount.startswith("x") else amount
            return f"{who} {claim.verb} {amount} {claim.heading(cell.verdict)} than {base}{reach}"
        case "same":
            return f"{who} {claim.verb} {claim.same} as {base}, within {SAME_PERCENT:g} %"
        case "unlike":
            return f"{claim.what} cannot be compared: {cell.why}"
        case _:
            # The interval is of this figure alone; held to all figures together, these turns may not be enough.
            alone = reach and min(cell.change_low or 0, 0) * max(cell.change_high or 0, 0) == 0
            text = f"no significant difference in {claim.what} between {who} and {base}{reach}"
            return f"{text}; it would be one if no other figure were compared" if alone else text


def _of_several(comparison: Comparison, figure: str, others: Sequence[int], name: Callable[[int], str]) -> str:
    claim = _CLAIMS[figure]
    found: dict[Verdict, list[str]] = {}
    for index in others:
        cell = comparison.rows[index].cells.get(figure, Cell())
        change = f" ({change_text(cell.change_percent)})" if cell.verdict in {"better", "worse"} else ""
        found.setdefault(cell.verdict, []).append(f"{name(index)}{change}")
    order: tuple[Verdict, ...] = ("better", "worse", "same", "unclear", "unlike", "absent")
    parts: list[str] = []
    for verdict in sorted(found, key=order.index):
        more = len(found[verdict]) - NAMED_MOST
        who = ", ".join(found[verdict][:NAMED_MOST]) + (f" and {more} more" if more > 0 else "")
        than = f" than {name(comparison.base)}" if verdict in {"better", "worse"} and not parts else ""
        parts.append(f"{claim.heading(verdict)}{than}: {who}")
    return "; ".join(parts)


def front_text(comparison: Comparison) -> str:
    """The Pareto front in words."""
    if not comparison.front:
        return f"No Pareto front. {comparison.front_note}"
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
