"""The figures of energy as they are shown and written: the `energy` object of the JSON output."""

from __future__ import annotations

from math import isfinite

from msgspec import Struct

from edgetop.core.energy.grade import Letter
from edgetop.core.energy.uncertainty import COVERAGE_FACTOR, Quantity
from edgetop.core.energy.window import Method
from edgetop.core.records import Missing, Scope

J_PER_WH = 3600.0
WH_PER_KWH = 1000.0


class Figure(Struct, frozen=True, kw_only=True):
    """A value with its interval, value ± 2u, and the two parts of u that make it."""

    value: float
    low: float
    high: float
    u_systematic: float
    u_random: float


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


def reciprocal(of: Figure, factor: float) -> Figure | None:
    """`factor` / value, with the interval's ends swapped; `None` when the interval reaches down to 0."""
    if of.low <= 0 or not isfinite(of.high):
        return None
    share = factor / of.value**2
    return Figure(
        value=factor / of.value,
        low=factor / of.high,
        high=factor / of.low,
        u_systematic=of.u_systematic * share,
        u_random=of.u_random * share,
    )


def cost(energy_j: Figure, price_per_kwh: float) -> Figure:
    """What the energy costs, in the price's currency; the price is taken as exact."""
    factor = price_per_kwh / (J_PER_WH * WH_PER_KWH)
    return Figure(
        value=energy_j.value * factor,
        low=energy_j.low * factor,
        high=energy_j.high * factor,
        u_systematic=energy_j.u_systematic * abs(factor),
        u_random=energy_j.u_random * abs(factor),
    )


def hours_left(battery_wh: float, mean_w: Figure) -> Figure | None:
    """How long a charge lasts at a mean power, in hours."""
    return reciprocal(mean_w, battery_wh)
