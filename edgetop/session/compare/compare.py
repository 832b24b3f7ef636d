"""Changes with interval, verdict and Pareto front.

A verdict of better or worse has at most 5 % of false alarms for all figures of a row together (Holm's method, decode
speed and energy per token with five shares each). The interval of a change is that of its figure alone, so it may leave
out zero where the verdict is still `unclear`. What differs between two sessions as a whole, such as the temperature
they began at, cannot be seen from the sessions alone: record several.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from math import hypot, inf, log, sqrt
from typing import NamedTuple

from msgspec.structs import replace

from edgetop.core.bootstrap import (
    RESAMPLED_MAX,
    RESAMPLED_MIN,
    How,
    PairedRepetitions,
    Repetitions,
    Resampled,
    difference,
    from_zero,
    resampled,
)
from edgetop.core.figures import BY_NAME, COMPARED, DECODE, J_PER_TOKEN, REPETITIONS_LEAST
from edgetop.core.quantity import COVERAGE_FACTOR, Components, Quantity, differs
from edgetop.core.sources import Scope
from edgetop.core.statistics import Difference, adjusted, front, quantile, welch_difference
from edgetop.session.compare.result import (
    Cell,
    Comparison,
    RepeatedFigure,
    Result,
    Row,
    Verdict,
    attributes_of,
    flags_of,
    grouped,
)

BASE_SEED, OTHER_SEED, PAIR_SEED = 1, 2, 3

PAIRED_BELOW, PAIRED_FROM = 10, 0.7
"""Pairs remove the difficulty of the prompts, and cost half the degrees of freedom. From ten turns on the correlation
shows which weighs more; of fewer, choosing by it would raise the false alarms from 5 to 6.5 % (simulated), so that they
are always paired."""


class Spread(NamedTuple):
    """Relative standard uncertainty of a value and its degrees of freedom."""

    u: float
    freedom: float


class ComparedValue:
    """One figure of one result, resampled once for all that it is compared with."""

    def __init__(self, result: Result, figure: str, *, is_base: bool) -> None:
        self.result = result
        self.measured = result.figures[figure]
        self.repetitions = _repetitions(self.measured)
        self.assumed = False
        """The spread is that of `Figure.spread`."""
        self._seed = BASE_SEED if is_base else OTHER_SEED
        self._resampled: Resampled | None = None
        self.spread = self._spread(figure)

    @property
    def count(self) -> int:
        """Turns or repetitions behind the value."""
        measured = self.measured
        return len(measured.repetitions) or measured.count or 1

    @property
    def can_be_resampled(self) -> bool:
        """Whether there are enough repetitions for a bootstrap, and not so many that it is a waste."""
        return self.repetitions is not None and RESAMPLED_MIN <= len(self.repetitions) <= RESAMPLED_MAX

    @property
    def resampled(self) -> Resampled:
        """Resamples; only where there are repetitions."""
        if self._resampled is None:
            assert self.repetitions is not None  # noqa: S101 - as the docstring says
            self._resampled = resampled(self.repetitions, self._seed)
        return self._resampled

    def interval(self) -> tuple[float, float] | None:
        """The value's 95 % interval, the sensor's systematic error included; `None` where the spread is not known."""
        value, systematic = self.measured.value, COVERAGE_FACTOR * self.measured.u_systematic
        if self.can_be_resampled:
            reach = value * from_zero(self.resampled).reach
        elif self.spread is not None and not self.assumed:
            reach = value * self.spread.u * quantile(0.95, self.spread.freedom)
        elif self.measured.within is not None:
            reach = COVERAGE_FACTOR * value * self.measured.within
        elif self.measured.u_random > 0:
            reach = COVERAGE_FACTOR * self.measured.u_random
        else:
            return None
        return max(0.0, value - hypot(reach, systematic)), value + hypot(reach, systematic)

    def _spread(self, figure: str) -> Spread | None:
        measured = self.measured
        if self.repetitions is not None:
            return Spread(float(self.repetitions.estimate().u[0]), len(self.repetitions) - 1)
        if measured.deviation is not None and measured.count is not None and measured.count > 1:
            return Spread(measured.deviation / sqrt(measured.count) / measured.value, measured.count - 1)
        assumed = BY_NAME[figure].spread
        if assumed is None:
            return None
        self.assumed = True
        return Spread(hypot(assumed, measured.within or 0.0, measured.u_random / measured.value), inf)


class Change(NamedTuple):
    """What changed from the base, and how that was found."""

    difference: Difference
    reach: float
    """Half the 95 % interval of the logarithm, with the systematic errors that do not cancel."""
    beyond_sensor: bool
    """The difference is larger than the error of the sensors; always so for what no sensor measured."""
    basis: str


def change(side: ComparedValue, base: ComparedValue) -> Change | None:
    """From the base to the other result; `None` where the spread of one of them is not known."""
    found = _found(side, base)
    if found is None:
        return None
    same = same_meter(side.result, base.result)
    systematic = 0.0 if same else hypot(*(each.measured.u_systematic / each.measured.value for each in (side, base)))
    return Change(
        found[0],
        hypot(found[0].reach, COVERAGE_FACTOR * systematic),
        differs(_quantity(side.measured), _quantity(base.measured), same) or not _was_metered(side, base),
        found[1],
    )


def same_meter(first: Result, second: Result) -> bool:
    """Whether both were metered by the same sensor of the same machine, whose systematic error cancels then."""
    return (
        (first.host, first.device, first.energy_source, first.energy_scope)
        == (second.host, second.device, second.energy_source, second.energy_scope)
    ) and bool(first.energy_source)


def _found(side: ComparedValue, base: ComparedValue) -> tuple[Difference, str] | None:
    if side.repetitions is not None and base.repetitions is not None:
        if _can_be_paired(side, base):
            pairs = PairedRepetitions(side.repetitions, base.repetitions)
            if len(pairs) < PAIRED_BELOW or pairs.correlation > PAIRED_FROM:
                return _paired(pairs)
        counts = f"{side.count} and {base.count} repetitions"
        if side.can_be_resampled and base.can_be_resampled:
            return difference(side.resampled, base.resampled), f"bootstrap over {counts}"
        log_ratio = float(side.repetitions.estimate().log_value[0] - base.repetitions.estimate().log_value[0])
        basis = f"Student's t over {counts}"
    elif side.spread is None or base.spread is None:
        return None
    else:
        log_ratio = log(side.measured.value / base.measured.value)
        basis = (
            "fewer than three turns: their spread is assumed"
            if side.assumed or base.assumed
            else "Student's t with the deviation that the bench gives"
        )
    assert side.spread is not None and base.spread is not None  # noqa: S101, PT018 - what has repetitions has a spread
    return welch_difference(log_ratio, side.spread, base.spread), basis


def _paired(pairs: PairedRepetitions) -> tuple[Difference, str]:
    if RESAMPLED_MIN <= len(pairs) <= RESAMPLED_MAX:
        return from_zero(resampled(pairs, PAIR_SEED)), f"bootstrap over {len(pairs)} turns, in pairs"
    one = pairs.estimate()
    known = Spread(float(one.u[0]), len(pairs) - 1)
    return (
        welch_difference(float(one.log_value[0]), known, Spread(0.0, inf)),
        f"Student's t over {len(pairs)} turns, in pairs",
    )


def _can_be_paired(side: ComparedValue, base: ComparedValue) -> bool:
    """Whether turn belongs to turn: the same prompts in the same order, and every turn has the figure in both."""
    same = bool(side.result.sequence) and side.result.sequence == base.result.sequence
    return same and side.count == base.count == side.result.turns == base.result.turns


def _repetitions(measured: RepeatedFigure) -> Repetitions | None:
    if measured.made == "single" or len(measured.repetitions) < REPETITIONS_LEAST:
        return None
    how: How = measured.made
    return Repetitions(measured.repetitions, measured.weights, how)


def _was_metered(side: ComparedValue, base: ComparedValue) -> bool:
    return any(each.measured.u_systematic > 0 or each.measured.u_random > 0 for each in (side, base))


def _quantity(measured: RepeatedFigure) -> Quantity:
    return Quantity(value=measured.value, u=Components(gain=measured.u_systematic, edges=measured.u_random))


FALSE_ALARMS = 0.05
SAME_PERCENT = 5.0
"""A change whose interval stays within so much either way counts as none."""

NOTES = (
    "Intervals are 95 %: studentised bootstrap over turns or repetitions; Student's t for fewer than six.",
    "They hold the spread between turns and the meter's error; beside one answer, live or replayed, the meter's alone.",
    "Better or worse: at most 5 % false alarms for all figures of a row together (Holm's method). Same: within 5 %.",
)

ASSUMED_NOTE = (
    "Fewer than three turns show no spread: from turn to turn 5 % is assumed for decode speed and energy, 1 % for "
    "memory."
)


def compare(results: Sequence[Result], base: int = 0) -> Comparison:
    """Compare results with the one at index `base`. Raises IndexError if there is none."""
    results = list(results)
    reference = results[base]
    names = [name for name in COMPARED if any(name in result.figures for result in results)]
    differing, alike = attributes_of(results)
    groups, titles = grouped(differing, results)
    bases = {name: ComparedValue(reference, name, is_base=True) for name in names if name in reference.figures}
    rows = [
        Row(
            result=result,
            title=titles[index],
            cells=_cells(result, names, bases, is_base=index == base),
            flags=flags_of(result, reference),
            is_base=index == base,
        )
        for index, result in enumerate(results)
    ]
    scope = _scope_of_front(results, reference)
    rows = _with_best(rows, names, scope)
    on_front, note = _front(rows, scope)
    rows = [replace(row, on_front=index in on_front) for index, row in enumerate(rows)]
    assumed = any("assumed" in cell.why for row in rows for cell in row.cells.values())
    return Comparison(
        rows=tuple(rows),
        base=base,
        groups=tuple(groups),
        figures=tuple(names),
        differing=tuple(differing),
        alike=tuple(alike),
        front=tuple(on_front),
        front_note=note,
        notes=(*NOTES, ASSUMED_NOTE) if assumed else NOTES,
    )


def _cells(result: Result, names: Sequence[str], bases: dict[str, ComparedValue], *, is_base: bool) -> dict[str, Cell]:
    cells: dict[str, Cell] = {}
    changes: dict[str, Change] = {}
    for name in names:
        base = bases.get(name)
        if name not in result.figures:
            cells[name] = Cell(missing=result.absent.get(name, "it was not measured"))
        elif is_base and base is not None:
            cells[name] = _valued(base, "base")
        elif base is None:
            cells[name] = replace(_valued(ComparedValue(result, name, is_base=False)), why="the base lacks this figure")
        else:
            side = ComparedValue(result, name, is_base=False)
            found = change(side, base)
            unlike = _unlike(name, result, base.result)
            cells[name] = _changed(side, base, found, unlike)
            if found is not None and not unlike:
                changes[name] = found
    return cells | _judged(cells, changes)


def _valued(side: ComparedValue, verdict: Verdict = "absent") -> Cell:
    low, high = side.interval() or (None, None)
    return Cell(value=side.measured.value, low=low, high=high, verdict=verdict, repetitions=side.count)


def _changed(side: ComparedValue, base: ComparedValue, found: Change | None, unlike: str) -> Cell:
    """A cell with its change from the base, not judged yet."""
    cell = replace(_valued(side), verdict="unlike" if unlike else "unclear")
    if found is None:
        percent = 100 * (side.measured.value / base.measured.value - 1)
        return replace(cell, change_percent=percent, why=unlike or "one or two repetitions show no spread")
    low, high = found.difference.interval(found.reach)
    return replace(
        cell,
        change_percent=found.difference.percent,
        change_low=low,
        change_high=high,
        p_value=found.difference.p_value,
        why=unlike or found.basis,
    )


def _judged(cells: dict[str, Cell], changes: dict[str, Change]) -> dict[str, Cell]:
    """The cells that can be judged, with their verdicts."""
    p_values = adjusted(
        {name: found.difference.p_value for name, found in changes.items()},
        {name: BY_NAME[name].share for name in changes},
    )
    judged: dict[str, Cell] = {}
    for name, found in changes.items():
        cell = cells[name]
        if p_values[name] <= FALSE_ALARMS and found.beyond_sensor:
            direction = "higher" if found.difference.log_ratio > 0 else "lower"
            judged[name] = replace(cell, verdict="better" if direction == BY_NAME[name].better else "worse")
        elif p_values[name] <= FALSE_ALARMS:
            judged[name] = replace(cell, why="the difference is within the error of the sensors")
        elif max(map(abs, found.difference.interval(found.reach))) < SAME_PERCENT:
            judged[name] = replace(cell, verdict="same")
    return judged


def _unlike(name: str, result: Result, base: Result) -> str:
    """Why the figure cannot be compared with the base's; empty if it can."""
    same = BY_NAME[name].same
    if same == "scope" and result.energy_scope != base.energy_scope:
        scopes = [(each.energy_scope or "an unknown scope").replace("_", " ") for each in (result, base)]
        return f"it covers {scopes[0]}, the base {scopes[1]}"
    if same == "prompts" and result.prompts != base.prompts:
        return "the prompts differ, and so does the time to read them"
    return ""


def _scope_of_front(results: Sequence[Result], reference: Result) -> Scope | None:
    """The scope in which energies are compared: the base's, or else the most frequent one."""
    if reference.energy_scope is not None:
        return reference.energy_scope
    scopes = Counter(result.energy_scope for result in results if result.energy_scope is not None)
    return scopes.most_common(1)[0][0] if scopes else None


def _with_best(rows: list[Row], names: Sequence[str], scope: Scope | None) -> list[Row]:
    for name in names:
        values = {
            index: value
            for index, row in enumerate(rows)
            if (value := row.cells[name].value) is not None
            if BY_NAME[name].same != "scope" or row.result.energy_scope == scope
        }
        if len(values) < 2 or len(set(values.values())) < 2:
            continue
        best = (max if BY_NAME[name].better == "higher" else min)(values, key=values.__getitem__)
        if not _stands_out(rows, best, name, values):
            continue
        cells = rows[best].cells
        rows[best] = replace(rows[best], cells={**cells, name: replace(cells[name], best=True)})
    return rows


def _stands_out(rows: Sequence[Row], best: int, name: str, compared: Mapping[int, float]) -> bool:
    """Whether the verdicts bear out the best value: better than the base or, of the base, all others worse.

    What is better than the base must also differ from the next best value by more than noise.
    """
    if rows[best].is_base:
        return all(rows[other].cells[name].verdict == "worse" for other in compared if other != best)
    better = max if BY_NAME[name].better == "higher" else min
    second = better((index for index in compared if index != best), key=compared.__getitem__)
    return rows[best].cells[name].verdict == "better" and _are_apart(rows[best], rows[second], name)


def _are_apart(first: Row, second: Row, name: str) -> bool:
    """Whether two rows differ in a figure by more than noise, held against each other and not against the base."""
    if first.is_base or second.is_base:
        return (second if first.is_base else first).cells[name].verdict in {"better", "worse"}
    sides = [ComparedValue(row.result, name, is_base=index == 0) for index, row in enumerate((first, second))]
    found = change(sides[1], sides[0])
    return found is not None and found.difference.p_value <= FALSE_ALARMS and found.beyond_sensor


def _front(rows: Sequence[Row], scope: Scope | None) -> tuple[list[int], str]:
    """Rows on the front of speed and energy per token, and what is to be said about it.

    Noise makes no front: a row is on it that takes less energy than the faster ones by more than noise, and where
    no difference is certain there is none.
    """
    points: dict[int, tuple[float, float]] = {}
    left_out = 0
    for index, row in enumerate(rows):
        speed, energy = (row.cells.get(name, Cell()).value for name in (DECODE, J_PER_TOKEN))
        if speed is None or energy is None:
            continue
        if row.result.energy_scope == scope:
            points[index] = (speed, energy)
        else:
            left_out += 1
    if not points:
        return [], "No result has both a decode speed and an energy per token."
    order = list(points)
    note = f"{left_out} with energy of another power scope left out." if left_out else ""
    found: list[int] = []
    unclear = False
    for index in (order[each] for each in front([points[each] for each in order])):
        thriftier = not found or _are_apart(rows[found[-1]], rows[index], J_PER_TOKEN)
        slower = not found or _are_apart(rows[found[-1]], rows[index], DECODE)
        if thriftier and slower:
            found.append(index)
        elif thriftier:  # as fast as far as is known, at less energy
            found[-1] = index
        else:
            unclear = True
    if len(found) == 1 and len(points) > 1:
        others = [rows[index] for index in points if index != found[0]]
        alone = any(_are_apart(rows[found[0]], other, name) for other in others for name in (DECODE, J_PER_TOKEN))
        if unclear or not alone:
            return [], f"{note} Noise hides which results are faster or take less energy.".lstrip()
    return found, note
