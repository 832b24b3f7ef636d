"""Energy in one line for a person."""

from __future__ import annotations

from edgetop.core.energy.figure import with_interval
from edgetop.core.energy.figures import Energy
from edgetop.core.energy.supply import Price, battery_hours, cost_of
from edgetop.core.figures import Summary
from edgetop.core.format import NOT_AVAILABLE, format_duration, format_significant
from edgetop.core.text import one_line


def energy_text(summary: Summary) -> str:
    """Say what a session took and how sure that is, or why it is not known."""
    energy = summary.energy
    if energy is None:
        return f"{NOT_AVAILABLE}: {summary.energy_missing}"
    return (
        f"{with_interval(energy.j_per_token)} J/token gross, net {with_interval(energy.net_j_per_token)}, "
        f"in all {with_interval(energy.gross_j)} J ({energy.scope.replace('_', ' ')}, {energy.source}, "
        f"grade {energy.grade}: {energy.grade_reason}){hosts_text(energy)}"
    )


def hosts_text(energy: Energy) -> str:
    """Say what part each host had in the gross energy; empty where there is one machine."""
    parts = [f"{one_line(part.host)} {100 * part.share:.0f} %" for part in energy.hosts]
    return f", of which {', '.join(parts)}" if parts else ""


def cost_text(energy: Energy, price: Price) -> str:
    """Say what a session's energy cost, and what a million tokens cost at that rate."""
    cost = cost_of(energy, price)
    return (
        f"{with_interval(cost.total)} {cost.currency}, {with_interval(cost.per_million_tokens)} {cost.currency} per "
        f"million tokens, at {price.per_kwh:g} {price.currency}/kWh (gross, {energy.scope.replace('_', ' ')}, grade "
        f"{energy.grade})"
    )


def battery_text(energy: Energy | None, remaining_j: float | None) -> str:
    """Say how long the battery lasts at a session's mean power; empty where that is not known or not its energy."""
    hours = None if energy is None else battery_hours(energy, remaining_j)
    if energy is None or hours is None:
        return ""
    low, middle, high = (format_duration(each * 3600) for each in (hours.low, hours.value, hours.high))
    return f"{middle} left ({low} to {high}) at {format_significant(energy.mean_w.value)} W"
