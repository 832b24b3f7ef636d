"""Price and battery hours; later energy per answer and day."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from edgetop.core.quantity import J_PER_WH, Interval, cost, hours_left

if TYPE_CHECKING:
    from edgetop.core.energy.tokens import Energy, ServedEnergy


TOKENS = 1_000_000
"""The number of tokens whose cost is told; a single one's has too many zeros."""


class Price(Struct, frozen=True, kw_only=True):
    """What a kilowatt-hour costs; taken as exact."""

    per_kwh: float
    currency: str


class Cost(Struct, frozen=True, kw_only=True):
    """What energy costs, gross: with the intervals of the energy, in the price's currency."""

    total: Interval
    per_million_tokens: Interval | None
    """`None` without an energy per token."""
    currency: str


def cost_of(energy: Energy | ServedEnergy, price: Price) -> Cost:
    """The cost of the energy of a turn, a session or watched servers."""
    per_token = energy.j_per_token
    return Cost(
        total=cost(energy.gross_j, price.per_kwh),
        per_million_tokens=None if per_token is None else cost(per_token, price.per_kwh * TOKENS),
        currency=price.currency,
    )


def battery_hours(energy: Energy, remaining_j: float | None) -> Interval | None:
    """How long what is left in the battery, in joules, lasts at the mean power of the turn or the session.

    `None` where the energy is not the battery's, or what is left is not known.
    """
    if energy.scope != "battery" or remaining_j is None or remaining_j <= 0:
        return None
    return hours_left(remaining_j / J_PER_WH, energy.mean_w)
