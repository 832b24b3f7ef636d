"""Results held against one of them: every figure's interval, change and verdict, flags, groups and the front.

A verdict of better or worse has at most 5 % of false alarms for all figures of a row together (Holm's method, decode
speed and energy per token with five shares each). The interval of a change is that of its figure alone, so it may leave
out zero where the verdict is still `unclear`. What differs between two sessions as a whole, such as the temperature
they began at, no statistics can tell from the sessions alone: record several.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from msgspec.structs import replace

from edgetop.core.records import Scope
from edgetop.core.statistics.holm import adjusted
from edgetop.core.statistics.pareto import front
from edgetop.session.comparison import figures
from edgetop.session.comparison.comparison import Cell, Comparison, Row, Verdict
from edgetop.session.comparison.differences import Change, Side, change
from edgetop.session.comparison.figures import BY_NAME
from edgetop.session.comparison.flags import flags_of
from edgetop.session.comparison.result import Result
from edgetop.session.comparison.traits import grouped, traits_of

FALSE_ALARMS = 0.05
SAME_PERCENT = 5.0
"""A change whose interval stays within so much either way counts as none."""
ENERGY_PREFIX = "energy."
NOTES = (
    "Intervals are 95 %: studentised bootstrap over turns or repetitions; Student's t for fewer than six.",
    "Better or worse: at most 5 % false alarms for all figures of a row together (Holm's method). Same: within 5 %.",
)
ASSUMED_NOTE = (
    "Fewer than three turns show no spread: from turn to turn 5 % is assumed for decode speed and energy, 1 % for "
    "memory."
)


def compare(results: Sequence[Result], base: int = 0) -> Comparison:
    """Hold results against the one at index `base`. Raises IndexError if there is none."""
    results = list(results)
    reference = results[base]
    names = [name for name in BY_NAME if any(name in result.figures for result in results)]
    differing, alike = traits_of(results)
    groups, titles = grouped(differing, results)
    bases = {name: Side(reference, name, is_base=True) for name in names if name in reference.figures}
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


def _cells(result: Result, names: Sequence[str], bases: dict[str, Side], *, is_base: bool) -> dict[str, Cell]:
    cells: dict[str, Cell] = {}
    changes: dict[str, Change] = {}
    for name in names:
        base = bases.get(name)
        if name not in result.figures:
            cells[name] = Cell(missing=result.absent.get(name, "it was not measured"))
        elif is_base and base is not None:
            cells[name] = _valued(base, "base")
        elif base is None:
            cells[name] = replace(_valued(Side(result, name, is_base=False)), why="the base lacks this figure")
        else:
            side = Side(result, name, is_base=False)
            found = change(side, base)
            unlike = _unlike(name, result, base.result)
            cells[name] = _changed(side, base, found, unlike)
            if found is not None and not unlike:
                changes[name] = found
    return cells | _judged(cells, changes)


def _valued(side: Side, verdict: Verdict = "absent") -> Cell:
    low, high = side.interval() or (None, None)
    return Cell(value=side.measured.value, low=low, high=high, verdict=verdict, repetitions=side.count)


def _changed(side: Side, base: Side, found: Change | None, unlike: str) -> Cell:
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
            rises = found.difference.log_ratio > 0
            judged[name] = replace(cell, verdict="better" if rises == BY_NAME[name].higher_is_better else "worse")
        elif p_values[name] <= FALSE_ALARMS:
            judged[name] = replace(cell, why="the sensors cannot tell the two apart")
        elif max(map(abs, found.difference.interval(found.reach))) < SAME_PERCENT:
            judged[name] = replace(cell, verdict="same")
    return judged


def _unlike(name: str, result: Result, base: Result) -> str:
    """Why the figure cannot be held against the base's; empty if it can."""
    if name.startswith(ENERGY_PREFIX) and result.energy_scope != base.energy_scope:
        scopes = [(each.energy_scope or "an unknown scope").replace("_", " ") for each in (result, base)]
        return f"it covers {scopes[0]}, the base {scopes[1]}"
    if name == figures.FIRST_TOKEN and result.prompts != base.prompts:
        return "other prompts take another time to read"
    return ""


def _scope_of_front(results: Sequence[Result], reference: Result) -> Scope | None:
    """The scope in which energies are held against each other: the base's, or else the most frequent one."""
    if reference.energy_scope is not None:
        return reference.energy_scope
    scopes = Counter(result.energy_scope for result in results if result.energy_scope is not None)
    return scopes.most_common(1)[0][0] if scopes else None


def _with_best(rows: list[Row], names: Sequence[str], scope: Scope | None) -> list[Row]:
    for name in names:
        is_energy = name.startswith(ENERGY_PREFIX)
        values = {
            index: value
            for index, row in enumerate(rows)
            if (value := row.cells[name].value) is not None and (not is_energy or row.result.energy_scope == scope)
        }
        if len(values) < 2 or len(set(values.values())) < 2:
            continue
        best = (max if BY_NAME[name].higher_is_better else min)(values, key=values.__getitem__)
        cells = rows[best].cells
        rows[best] = replace(rows[best], cells={**cells, name: replace(cells[name], best=True)})
    return rows


def _front(rows: Sequence[Row], scope: Scope | None) -> tuple[list[int], str]:
    """Rows on the front of speed and energy per token, and what is to be said about it."""
    points: dict[int, tuple[float, float]] = {}
    others = 0
    for index, row in enumerate(rows):
        speed, energy = (row.cells.get(name, Cell()).value for name in (figures.DECODE, figures.J_PER_TOKEN))
        if speed is None or energy is None:
            continue
        if row.result.energy_scope == scope:
            points[index] = (speed, energy)
        else:
            others += 1
    if not points:
        return [], "No result has both a decode speed and an energy per token."
    order = list(points)
    note = f"{others} with energy of another power scope left out." if others else ""
    return [order[index] for index in front([points[each] for each in order])], note
