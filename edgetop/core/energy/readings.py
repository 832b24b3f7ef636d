"""Update period, plausibility, gaps: what readings say of themselves.

The period U is the median gap between changes of the value, with three corrections. A coarse sensor on a quiet
machine flickers between two codes, now and then: such changes tell nothing and are passed over. A repeated value
makes a gap of several updates: the median is divided by the smallest whole number that leaves few gaps clearly
shorter than the quotient. And polling rounds every gap by up to a poll period: so U is the time of all gaps over the
updates that they span. The smallest single gap, which other tools take, is wrong: one reading just before and one
just after an update make it too short.

Gaps are judged in blocks of 20, and the quickest blocks stand, since an update can go unseen but cannot come early.

Negative readings are legal down to the sensor's own error of zero: an idle INA3221 really says -392 mW, one step below
zero, and clamping it would bias the mean. A plug's single zero or sudden multiple is a glitch until it lasts.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from copy import copy
from math import isfinite
from statistics import median_low
from typing import Literal

from msgspec import Struct

from edgetop.core.sources import Meter

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


GAPS_PER_BLOCK = 20

PROVISIONALLY_AT = (5, 10)
"""Before the first block is full, so many gaps are better than none: a plug with nothing to report takes minutes for
20."""

REVISION = 0.1
"""A found period is revised only when it falls by more than this share: a revision recomputes the whole curve."""

MULTIPLES = (1, 2, 3, 4)

SHORT_AT_MOST = 0.2
"""Share of the gaps in a block that may be clearly shorter than the period."""

FLICKER = 1.5
"""A change of less than this many steps of the sensor tells nothing of its period."""

BOUNDED = 1.25
"""A gap of less than this many poll periods says only that the sensor is no slower than the polling."""


class UpdatePeriod:
    """The update period U of one channel, in seconds; never below the poll period."""

    def __init__(self, poll_s: float, known_s: float | None = None, window_s: float = 0.0, step: float = 0.0) -> None:
        """Begin with what is known.

        That is the known period; else, until changes were seen, with the averaging window and no less than the
        poll period. `step` is the sensor's smallest change.
        """
        self._poll_s = poll_s
        self._known = known_s is not None
        self._found_s: float | None = None
        self._block_s = 0.0
        self._gaps: list[float] = []
        self._step = step
        self._last_change_us: int | None = None
        self.seconds = max(poll_s, window_s if known_s is None else known_s)

    @property
    def found(self) -> bool:
        """Whether U rests on a statement or on at least 20 observed changes, and not on the poll period alone."""
        return self._known or self._found_s is not None

    @property
    def at_most(self) -> bool:
        """Whether U is only known to be no longer than the poll period; then `seconds` is the poll period."""
        return self.seconds <= self._poll_s

    def copy(self) -> UpdatePeriod:
        """Another one that goes on by itself."""
        other = copy(self)
        other.separate()
        return other

    def separate(self) -> None:
        """Share nothing with what this is a copy of."""
        self._gaps = self._gaps.copy()

    def interrupt(self) -> None:
        """Readings failed or stopped: the span to the next change tells nothing of the period."""
        self._last_change_us = None

    def changed(self, t_us: int, change: float) -> bool:
        """Take note of a value first seen at `t_us`, by how much it changed; true when `seconds` was revised."""
        if abs(change) < FLICKER * self._step:
            self.interrupt()
            return False
        last, self._last_change_us = self._last_change_us, t_us
        if self._known or last is None:
            return False
        self._gaps.append((t_us - last) / 1e6)
        full = len(self._gaps) == GAPS_PER_BLOCK
        if not full and (self._found_s is not None or len(self._gaps) not in PROVISIONALLY_AT):
            return False
        typical = typical_s(self._gaps, self._poll_s)
        if full:
            self._gaps.clear()
            # Two blocks in a row must be quicker, since of many blocks one is off by chance.
            confirmed, self._block_s = max(typical, self._block_s), typical
            if self._found_s is not None and confirmed > self._found_s * (1 - REVISION):
                return False
            self._found_s = typical if self._found_s is None else confirmed
            typical = self._found_s
        before, self.seconds = self.seconds, self._poll_s if typical < BOUNDED * self._poll_s else typical
        return self.seconds != before


def typical_s(gaps_s: Sequence[float], poll_s: float) -> float:
    """The period behind the gaps between changes, at least one; each gap is rounded by up to a poll period."""
    middle = median_low(gaps_s)
    for divisor in MULTIPLES:
        period_s = middle / divisor
        shortest_s = period_s - max(1.8 * poll_s, period_s / 4)
        if sum(gap < shortest_s for gap in gaps_s) <= SHORT_AT_MOST * len(gaps_s):
            return sum(gaps_s) / sum(max(1, round(gap / period_s)) for gap in gaps_s)
    return middle


JUMP = 10.0
"""A plug's reading this many times the one before must be seen again (judgement: no load of ours rises so far at a
plug)."""

JUMP_W = 50.0
"""A rise of less than this needs no confirmation."""

Reading = tuple[int, float]


class Plausibility:
    """The gate before a power curve: rejects the impossible and holds back what looks like a glitch."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._floor_w = -(meter.offset_w + 2 * meter.lsb)
        self._last_w: float | None = None
        self._held: list[Reading] = []
        self.rejected = 0

    @property
    def holding(self) -> bool:
        """Whether readings are held back until the next ones confirm or refute them."""
        return bool(self._held)

    def copy(self) -> Plausibility:
        """Another one that goes on by itself."""
        other = copy(self)
        other.separate()
        return other

    def separate(self) -> None:
        """Share nothing with what this is a copy of."""
        self._held = self._held.copy()

    def reset(self) -> None:
        """Give up what is held: the readings after a suspend are another story."""
        self.rejected += len(self._held)
        self._held.clear()

    def admit(self, t_us: int, power_w: float, update_s: float) -> list[Reading]:
        """Which readings are believed now that this one came: none, it alone, or it and those held before it."""
        if not isfinite(power_w) or power_w < self._floor_w or power_w > self._meter.p_max_w:
            self.rejected += 1
            return []
        if not self._meter.confirms_jumps or not self._is_jump(power_w):
            self.reset()
            self._last_w = power_w
            return [(t_us, power_w)]
        self._held.append((t_us, power_w))
        if t_us - self._held[0][0] < 2 * update_s * 1e6:
            return []
        confirmed, self._held = self._held, []
        self._last_w = power_w
        return confirmed

    def _is_jump(self, power_w: float) -> bool:
        if self._last_w is None:
            return False
        fell_to_zero = power_w <= 0 < self._last_w
        return fell_to_zero or power_w > max(JUMP * self._last_w, self._last_w + JUMP_W)
