"""Totals over sessions: tokens, answers, hours, joules and cost, with what was not measured told apart.

Meters that cover different things are not added up: the energy of a group that has several is missing, and why.
Errors that the windows of one meter share add up linearly, also over sessions of several meters, which is never too
narrow; the others add up in quadrature.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from math import fsum, hypot
from typing import Final

from msgspec import Struct

from edgetop.core.clock import US_PER_S
from edgetop.core.energy.tokens import Energy, ServedEnergy
from edgetop.core.figures import ENERGY_MISSING
from edgetop.core.quantity import COVERAGE_FACTOR, J_PER_WH, WH_PER_KWH, Interval
from edgetop.session.file import SessionHead
from edgetop.session.store import models_of

S_PER_H: Final = 3600.0

NOT_KNOWN: Final = ""
"""A group of sessions that do not say it."""


def _month(head: SessionHead) -> str:
    try:
        return datetime.fromisoformat(head.started_at).astimezone().strftime("%Y-%m")
    except (ValueError, OverflowError):
        return NOT_KNOWN


def _energy(head: SessionHead) -> Energy | ServedEnergy | None:
    return head.summary.energy if head.watch is None else head.watch.energy


def _scope(head: SessionHead) -> str:
    energy = _energy(head)
    return NOT_KNOWN if energy is None else energy.scope


GROUPS: Final[Mapping[str, Callable[[SessionHead], str]]] = {
    "model": models_of,
    "month": _month,
    "host": lambda head: head.device.hostname,
    "scope": _scope,
}
"""By what sessions can be put together; months are those of the local calendar."""


class Totals(Struct, frozen=True, kw_only=True):
    """Sessions of one group together."""

    group: dict[str, str]
    """What they have in common, by the names of `GROUPS`; an empty text where it is not known."""
    sessions: int
    answers: int
    """Turns; the answers of watched servers are not counted one by one."""
    hours: float
    generated_tokens: int
    at_least: bool
    """Some watched server's tokens were seen only in part: there were more."""
    scopes: tuple[str, ...]
    """What the meters covered."""
    energy_j: Interval | None
    """Gross, of the turns; of watched servers of all the time."""
    measured_tokens: int
    """Those that the energy was measured of."""
    unmeasured_sessions: int
    unmeasured_tokens: int
    unmeasured_hours: float
    energy_missing: str
    """Why there is no energy; empty where there is."""

    @property
    def kwh(self) -> float | None:
        """The energy in kilowatt-hours."""
        return None if self.energy_j is None else self.energy_j.value / J_PER_WH / WH_PER_KWH


def totals(heads: Iterable[SessionHead], by: Sequence[str] = ()) -> list[Totals]:
    """The totals of each group, in the order of the groups; a session that is there twice counts once."""
    groups: dict[tuple[str, ...], list[SessionHead]] = {}
    for head in {head.id: head for head in heads}.values():
        groups.setdefault(tuple(GROUPS[name](head) for name in by), []).append(head)
    return [_total(dict(zip(by, key, strict=True)), found) for key, found in sorted(groups.items())]


def _total(group: dict[str, str], heads: Sequence[SessionHead]) -> Totals:
    energies = [energy for head in heads if (energy := _energy(head)) is not None]
    scopes = tuple(sorted({energy.scope for energy in energies}))
    generated = [_generated(head) for head in heads]
    measured = [min(tokens, _measured(head)) for head, tokens in zip(heads, generated, strict=True)]
    without = [head for head in heads if _energy(head) is None]
    if not energies:
        missing = "; ".join(dict.fromkeys(filter(None, map(_missing, heads)))) or ENERGY_MISSING
    else:
        missing = f"the meters cover different things: {', '.join(scopes)}" if len(scopes) > 1 else ""
    return Totals(
        group=group,
        sessions=len(heads),
        answers=sum(head.summary.turns for head in heads if head.watch is None),
        hours=_hours(heads),
        generated_tokens=sum(generated),
        at_least=any(head.watch is not None and head.watch.at_least for head in heads),
        scopes=scopes,
        energy_j=_sum([energy.gross_j for energy in energies]) if len(scopes) == 1 else None,
        measured_tokens=sum(measured),
        unmeasured_sessions=len(without),
        unmeasured_tokens=sum(generated) - sum(measured),
        unmeasured_hours=_hours(without),
        energy_missing=missing,
    )


def _generated(head: SessionHead) -> int:
    return head.summary.generated_tokens if head.watch is None else head.watch.generated_tokens or 0


def _measured(head: SessionHead) -> int:
    """The tokens that a session's energy was spent on, which are fewer than all where a turn was not measured."""
    energy = _energy(head)
    if energy is None or energy.j_per_token is None or energy.j_per_token.value <= 0:
        return 0
    return round(energy.gross_j.value / energy.j_per_token.value)


def _missing(head: SessionHead) -> str:
    return head.summary.energy_missing if head.watch is None else head.watch.energy_missing


def _hours(heads: Iterable[SessionHead]) -> float:
    return fsum(head.duration_us for head in heads) / US_PER_S / S_PER_H


def _sum(parts: Sequence[Interval]) -> Interval:
    value = fsum(part.value for part in parts)
    systematic, random = fsum(part.u_systematic for part in parts), hypot(*(part.u_random for part in parts))
    reach = COVERAGE_FACTOR * hypot(systematic, random)
    return Interval(value=value, low=value - reach, high=value + reach, u_systematic=systematic, u_random=random)
