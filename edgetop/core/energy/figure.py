"""A value with its interval, and what is made of one."""

from __future__ import annotations

from math import isfinite

from msgspec import Struct

from edgetop.core.format import NOT_AVAILABLE, format_significant

J_PER_WH = 3600.0
WH_PER_KWH = 1000.0


class Figure(Struct, frozen=True, kw_only=True):
    """A value with its interval, value ± 2u, and the two parts of u that make it."""

    value: float
    low: float
    high: float
    u_systematic: float
    u_random: float


def with_interval(figure: Figure | None) -> str:
    """A figure and the interval it lies in."""
    if figure is None:
        return NOT_AVAILABLE
    value = format_significant(figure.value)
    return f"{value} ({format_significant(figure.low, 2)} to {format_significant(figure.high, 2)})"


def reciprocal(of: Figure, factor: float) -> Figure | None:
    """`factor` / value, with the interval's ends swapped; `None` when the interval reaches down to 0, or nearly."""
    if of.low <= 0 or not isfinite(of.high) or not isfinite(factor / of.low / of.low):
        return None
    share = factor / of.value / of.value
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
