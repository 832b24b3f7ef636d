"""Values with the components of their standard uncertainty, after the GUM (JCGM 100:2008).

A component is one standard uncertainty in the unit of the value. The combined one is u = √Σu², and what is shown is
the value ± 2u. Components that are the same for every window of one meter (gain, offset, disagreement between two
meters) are systematic: they cancel when windows of one meter are compared, and add up linearly when windows are
summed. The others are random and add up in quadrature; only the baseline, random between sessions, is shared by the
turns around it and is summed linearly too. So is what is not known of another machine's clock: it changes slowly, and
the clocks of several machines cut the work short alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import fsum, hypot, sqrt

from msgspec import Struct

from edgetop.core.energy.meter import Meter

COVERAGE_FACTOR = 2.0
DISAGREEMENT = 0.15
"""A counter and integrated power that differ by more than this are both doubted."""


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


def gain_j(meter: Meter, energy_j: float) -> float:
    """a·|E|/√3: the scale is within ±a, all values alike."""
    return meter.gain * abs(energy_j) / sqrt(3)


def offset_j(meter: Meter, length_s: float) -> float:
    """o·T/√3: the zero is within ±o. A counter has none."""
    return 0.0 if meter.kind == "energy" else meter.offset_w * length_s / sqrt(3)


def quantisation_j(meter: Meter, length_s: float, distinct: int) -> float:
    """q·T/√(12·distinct) for power: a frozen code does not average out. A counter is read twice: q·√2/√12."""
    if meter.kind == "energy":
        return meter.lsb * sqrt(2 / 12)
    return meter.lsb * length_s / sqrt(12 * max(1, distinct))


def edges_j(contrast_w: float, smear_s: float, edges: int) -> float:
    """√n·|ΔP|·s/√12 for n ends at which the true power steps by ΔP somewhere within the smear s = U + W + τ."""
    return sqrt(edges) * abs(contrast_w) * smear_s / sqrt(12)


def sampling_j(length_s: float, deviation_w: float, effective: float) -> float:
    """T·s/√n·√((n-1)/(n-3)) for a point sensor with n independent readings (GUM supplement 1, 6.4.9).

    n falls with autocorrelation, since a load that repeats with every token beats with the polling, and the beat does
    not average out within a window.
    """
    n = max(4.0, effective)
    return length_s * deviation_w * sqrt((n - 1) / (n - 3) / max(1.0, effective))


def extended_edge_j(net_w: float, update_s: float, poll_s: float) -> float:
    """|P_net|·max(U,τ)/√12: what is left of the edges when lead and tail are taken in (factor c = 1: Monte-Carlo)."""
    return abs(net_w) * max(update_s, poll_s) / sqrt(12)


def clock_j(contrast_w: float, half_width_s: float) -> float:
    """|ΔP|·h/√3: the whole curve is too early or too late by up to h, so that what it shows of the work is cut short.

    A shift by δ loses |δ|·ΔP at one end of the window, whichever way it goes, ΔP being the step of the power at the
    ends. δ is taken as uniform within ±h.
    """
    return abs(contrast_w) * half_width_s / sqrt(3)


def disagreement_j(energy_j: float, other_j: float) -> float:
    """Half the difference between two meters of the same thing, /√3, when they differ by more than 15 %; else 0."""
    if abs(energy_j - other_j) <= DISAGREEMENT * max(abs(energy_j), abs(other_j)):
        return 0.0
    return abs(energy_j - other_j) / 2 / sqrt(3)


def differs(first: Quantity, second: Quantity, same_meter: bool) -> bool:
    """Whether two values differ beyond doubt: |e1-e2| > 2·√(u1²+u2²).

    Of one and the same meter, u is the random part alone, since gain and offset cancel.
    """
    u1, u2 = (q.u.random if same_meter else q.u.combined for q in (first, second))
    return abs(first.value - second.value) > COVERAGE_FACTOR * hypot(u1, u2)
