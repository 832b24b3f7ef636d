"""A value with uncertainty components and interval; arithmetic on it.

A component is one standard uncertainty in the unit of the value. The combined one is u = √Σu², and what is shown is
the value ± 2u. Components that are the same for every window of one meter (gain, offset, disagreement between two
meters) are systematic: they cancel when windows of one meter are compared, and add up linearly when windows are
summed. The others are random and add up in quadrature; only the baseline, random between sessions, is shared by the
turns around it and is summed linearly too. So is what is not known of another machine's clock: it changes slowly, and
the clocks of several machines cut the work short alike.

Speeds and energies are products of positive factors, so their errors are relative: a band reaches from `value / f` to
`value * f`. It is meant to hold in 8 cases of 10; sigma is the standard deviation of the logarithm of the error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import exp, fsum, hypot, isfinite
from operator import ge, gt, le, lt
from typing import Final, Literal

from msgspec import Struct

from edgetop.core.format import NOT_AVAILABLE, format_significant

J_PER_WH = 3600.0
WH_PER_KWH = 1000.0


Operator = Literal["<", "<=", ">", ">="]
OPERATORS: Final[dict[Operator, Callable[[float, float], bool]]] = {"<": lt, "<=": le, ">": gt, ">=": ge}


class Interval(Struct, frozen=True, kw_only=True):
    """A value with its interval, value ± 2u, and the two parts of u that make it."""

    value: float
    low: float
    high: float
    u_systematic: float
    u_random: float


def exact(value: float) -> Interval:
    """A value without an error."""
    return Interval(value=value, low=value, high=value, u_systematic=0.0, u_random=0.0)


def with_interval(figure: Interval | None) -> str:
    """A figure and the interval it lies in."""
    if figure is None:
        return NOT_AVAILABLE
    value = format_significant(figure.value)
    return f"{value} ({format_significant(figure.low)} to {format_significant(figure.high)})"


def plus_minus(figure: Interval | None, sign: str = " ± ") -> str:
    """A figure and half its interval: 0.720 ± 0.050."""
    if figure is None:
        return NOT_AVAILABLE
    return f"{format_significant(figure.value)}{sign}{format_significant((figure.high - figure.low) / 2, 2)}"


def reciprocal(of: Interval, factor: float) -> Interval | None:
    """`factor` / value, with the interval's ends swapped; `None` when the interval reaches down to 0, or nearly."""
    if of.low <= 0 or not isfinite(of.high) or not isfinite(factor / of.low / of.low):
        return None
    share = factor / of.value / of.value
    return Interval(
        value=factor / of.value,
        low=factor / of.high,
        high=factor / of.low,
        u_systematic=of.u_systematic * share,
        u_random=of.u_random * share,
    )


def cost(energy_j: Interval, price_per_kwh: float) -> Interval:
    """What the energy costs, in the price's currency; the price is taken as exact."""
    return scaled(energy_j, price_per_kwh / (J_PER_WH * WH_PER_KWH))


def hours_left(battery_wh: float, mean_w: Interval) -> Interval | None:
    """How long a charge lasts at a mean power, in hours."""
    return reciprocal(mean_w, battery_wh)


COVERAGE_FACTOR = 2.0


class Components(Struct, frozen=True, kw_only=True):
    """Standard uncertainties of one value, in its unit."""

    gain: float = 0.0
    offset: float = 0.0
    disagreement: float = 0.0
    quantisation: float = 0.0
    edges: float = 0.0
    """From not knowing what part of the readings at the window's ends belongs to it."""
    sampling: float = 0.0
    """From what a point sensor does not see between its readings."""
    baseline: float = 0.0
    gaps: float = 0.0
    clock: float = 0.0
    """From not knowing when another machine's readings were taken, on the clock of ours."""

    @property
    def systematic(self) -> float:
        """The combined part that every window of this meter shares."""
        return hypot(self.gain, self.offset, self.disagreement)

    @property
    def random(self) -> float:
        """The combined part that differs from window to window."""
        return hypot(self.quantisation, self.edges, self.sampling, self.baseline, self.gaps, self.clock)

    @property
    def combined(self) -> float:
        """u, all parts together."""
        return hypot(self.systematic, self.random)

    def scaled(self, factor: float) -> Components:
        """The components of the value times `factor`."""
        size = abs(factor)
        return Components(**{name: getattr(self, name) * size for name in self.__struct_fields__})


class Quantity(Struct, frozen=True, kw_only=True):
    """A value and the components of its uncertainty."""

    value: float
    u: Components = Components()

    def scaled(self, factor: float) -> Quantity:
        """The quantity times an exactly known factor."""
        return Quantity(value=self.value * factor, u=self.u.scaled(factor))

    @property
    def relative(self) -> float:
        """2u as a share of the value; infinite for a value of 0."""
        if self.value == 0:
            return float("inf")
        return COVERAGE_FACTOR * self.u.combined / abs(self.value)


def summed(quantities: Iterable[Quantity]) -> Quantity:
    """The sum over windows or meters; what they share adds up linearly, the rest in quadrature."""
    terms = tuple(quantities)

    def linear(name: str) -> float:
        return fsum(getattr(term.u, name) for term in terms)

    def quadrature(name: str) -> float:
        return hypot(*(getattr(term.u, name) for term in terms))

    shared = ("gain", "offset", "disagreement", "baseline", "clock")
    parts = {name: linear(name) if name in shared else quadrature(name) for name in Components.__struct_fields__}
    return Quantity(value=sum(term.value for term in terms), u=Components(**parts))


def differs(first: Quantity, second: Quantity, same_meter: bool) -> bool:
    """Whether two values differ beyond doubt: |e1-e2| > 2·√(u1²+u2²).

    Of one and the same meter, u is the random part alone, since gain and offset cancel.
    """
    u1, u2 = (q.u.random if same_meter else q.u.combined for q in (first, second))
    return abs(first.value - second.value) > COVERAGE_FACTOR * hypot(u1, u2)


def figure(quantity: Quantity) -> Interval:
    """The interval of a quantity."""
    reach = COVERAGE_FACTOR * quantity.u.combined
    return Interval(
        value=quantity.value,
        low=quantity.value - reach,
        high=quantity.value + reach,
        u_systematic=quantity.u.systematic,
        u_random=quantity.u.random,
    )


def scaled(figure: Interval, factor: float) -> Interval:
    """A figure times an exact factor that is not negative."""
    return Interval(
        value=figure.value * factor,
        low=figure.low * factor,
        high=figure.high * factor,
        u_systematic=figure.u_systematic * factor,
        u_random=figure.u_random * factor,
    )


REACH = 1.2816
"""Quantile of the normal distribution at 0.90: a band holds the truth in 80 % of cases, with 10 % below and above."""


def banded(value: float, sigma: float) -> Interval:
    """`value` with a band that holds in 8 cases of 10 when the logarithm of its error has the deviation `sigma`."""
    factor = exp(REACH * sigma)
    return Interval(value=value, low=value / factor, high=value * factor, u_systematic=value * sigma, u_random=0.0)


def sigma_of(figure: Interval) -> float:
    """The relative deviation of a figure, such as `banded` was given."""
    return (figure.u_systematic**2 + figure.u_random**2) ** 0.5 / figure.value if figure.value else 0.0
