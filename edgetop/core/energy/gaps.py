"""Spans in which a curve does not rest on readings, and what they cost a window."""

from __future__ import annotations

from bisect import bisect_right
from copy import copy
from typing import Literal

from msgspec import Struct

GapKind = Literal["bridged", "spanned", "suspend"]
"""`bridged`: the energy itself was made up from the neighbours. `spanned`: a counter measured the energy, but not
when in the span it was used. `suspend`: the clock stood still while the machine slept."""


class Gap(Struct, frozen=True, kw_only=True):
    """A span without readings, its energy in the curve and the standard uncertainty of that energy."""

    start_us: int
    end_us: int
    kind: GapKind
    energy_j: float
    u_j: float


class GapShare(Struct, frozen=True, kw_only=True):
    """What the gaps mean for one window."""

    estimated_s: float = 0.0
    u_j: float = 0.0
    suspended: bool = False


class GapLog:
    """All gaps of one curve, in order of time and without overlap."""

    def __init__(self) -> None:
        self._gaps: list[Gap] = []
        self._ends: list[int] = []

    def add(self, gap: Gap) -> None:
        """Append a gap that begins no earlier than the last one ended."""
        self._gaps.append(gap)
        self._ends.append(gap.end_us)

    def clear(self) -> None:
        """Forget all gaps, before the curve is computed again."""
        self._gaps.clear()
        self._ends.clear()

    def copy(self) -> GapLog:
        """Another log with the same gaps."""
        other = copy(self)
        other.separate()
        return other

    def separate(self) -> None:
        """Share nothing with what this is a copy of."""
        self._gaps, self._ends = self._gaps.copy(), self._ends.copy()

    def over(self, start_us: int, end_us: int) -> GapShare:
        """The part that gaps have in a window.

        A bridged gap counts by its overlap. A spanned one costs nothing when it lies wholly inside; cut by the window's
        edge, the share is uniform between nothing and twice the proportional part (GUM 4.3.7, rectangular prior).
        """
        estimated_us = 0
        variance = 0.0
        suspended = False
        for gap in self._gaps[bisect_right(self._ends, start_us - 1) :]:
            if gap.start_us > end_us:
                break
            if gap.kind == "suspend":
                suspended = suspended or gap.end_us > start_us
                continue
            overlap_us = min(end_us, gap.end_us) - max(start_us, gap.start_us)
            if overlap_us <= 0:
                continue
            share = overlap_us / (gap.end_us - gap.start_us)
            if gap.kind == "bridged":
                estimated_us += overlap_us
                variance += (gap.u_j * share) ** 2
            elif share < 1:
                estimated_us += overlap_us
                variance += (2 * gap.energy_j * min(share, 1 - share)) ** 2 / 12
        return GapShare(estimated_s=estimated_us / 1e6, u_j=variance**0.5, suspended=suspended)
