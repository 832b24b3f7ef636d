"""The figures of energy as they are shown and written: the `energy` object of the JSON output."""

from __future__ import annotations

from msgspec import Struct

from edgetop.core.energy.figure import J_PER_WH, WH_PER_KWH, Figure, cost, hours_left, reciprocal
from edgetop.core.energy.grade import Letter
from edgetop.core.energy.uncertainty import COVERAGE_FACTOR, Quantity
from edgetop.core.energy.window import Method
from edgetop.core.records import Missing, Scope

__all__ = ["J_PER_WH", "WH_PER_KWH", "Energy", "Figure", "cost", "figure", "hours_left", "reciprocal"]


class HostEnergy(Struct, frozen=True, kw_only=True):
    """The part of one of several machines in the gross energy."""

    host: str
    """Its name, `local` for the machine that edgetop runs on."""
    source: str
    gross_j: Figure
    mean_w: Figure
    share: float
    """Of the gross energy of all machines, from 0 to 1."""


class Energy(Struct, frozen=True, kw_only=True):
    """The energy of a turn, a session or a test.

    A figure that cannot be had is `None`, and `missing` says why, by its name.
    """

    scope: Scope
    source: str
    method: Method
    grade: Letter
    grade_reason: str
    grade_mend: str
    flags: tuple[str, ...]
    final: bool
    estimated_share: float
    """Share of the window that rests on no reading."""
    gross_j: Figure
    net_j: Figure | None
    idle_w: Figure | None
    mean_w: Figure
    peak_w: Figure
    j_per_token: Figure | None
    """All-in gross: the whole turn over the tokens generated."""
    net_j_per_token: Figure | None
    decode_j_per_token: Figure | None
    """From the first to the last token, over the tokens generated but the first, which comes from the prefill."""
    prefill_j_per_token: Figure | None
    """From submission to the first token, over the prompt tokens evaluated."""
    tokens_per_wh: Figure | None
    missing: dict[str, Missing] = {}
    hosts: tuple[HostEnergy, ...] = ()
    """The parts of several machines whose energies were added up; empty where there is one."""


def figure(quantity: Quantity) -> Figure:
    """The interval of a quantity."""
    reach = COVERAGE_FACTOR * quantity.u.combined
    return Figure(
        value=quantity.value,
        low=quantity.value - reach,
        high=quantity.value + reach,
        u_systematic=quantity.u.systematic,
        u_random=quantity.u.random,
    )
