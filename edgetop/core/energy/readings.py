"""Update period, plausibility, gaps: what readings say of themselves.

The period U is the median gap between changes of the value, with three corrections. A coarse sensor on a quiet
machine flickers between two codes, now and then: such changes say nothing of the period and are passed over. A
repeated value makes a gap of several updates: the median is divided by the smallest whole number that leaves few gaps
clearly shorter than the quotient. And polling rounds every gap by up to a poll period: so U is the time of all gaps
over the updates that they span. The smallest single gap, which other tools take, is wrong: one reading just before and
one just after an update make it too short.

Gaps are judged in blocks of 20, and the quickest blocks count, since an update can go unseen but cannot come early. A
declared period is believed unless the readings come clearly slower. Gauges of batteries change their pace: of them
the slowest pace seen counts.

Negative readings are legal down to the sensor's own error of zero: an idle INA3221 really says -392 mW, one step below
zero, and clamping it would bias the mean. A plug's single zero or sudden multiple is a glitch until it lasts.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from copy import copy
from math import isfinite
from statistics import median_low
from typing import TYPE_CHECKING, ClassVar, Literal

from msgspec import Struct

from edgetop.core.sources import Meter

if TYPE_CHECKING:
    from typing_extensions import Self

GapKind = Literal["bridged", "spanned", "suspend"]
"""`bridged`: the energy itself was made up from the neighbours. `spanned`: a counter measured the energy, but not
when in the span it was used. `suspend`: the clock stood still while the machine slept."""


class Forkable:
    """Something whose copy goes on by itself."""

    FORKED: ClassVar[tuple[str, ...]]
    """The attributes that change in place; a copy shares all others."""

    def copy(self) -> Self:
        """Another one in the same state that shares nothing that changes."""
        other = copy(self)
        for name in self.FORKED:
            setattr(other, name, getattr(self, name).copy())
        return other


class Gap(Struct, frozen=True, kw_only=True):
    """A span without readings, its energy in the curve and the standard uncertainty of that energy."""

    start_us: int
    end_us: int
    kind: GapKind
    energy_j: float
    u_j: float
    fall_w: float = 0.0
    """Of a bridged one: the power before it less that after it."""


class GapShare(Struct, frozen=True, kw_only=True):
    """What the gaps mean for one window."""

    estimated_s: float = 0.0
    u_j: float = 0.0
    suspended: bool = False


class GapLog(Forkable):
    """All gaps of one curve, in order of time and without overlap."""

    FORKED = ("_gaps", "_ends")

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

    def unbridged_j(self, t_us: int, *, begins: bool) -> float:
        """By how much a bridged gap about an end of the work underrates it.

        That the load begins or ends just there is known, so its power lasted up to there, and not the mean of it and
        of idle.
        """
        gap = next(iter(self._gaps[bisect_right(self._ends, t_us) :]), None)
        if gap is None or gap.kind != "bridged" or gap.start_us >= t_us:
            return 0.0
        rise_w, loaded_us = (-gap.fall_w, gap.end_us - t_us) if begins else (gap.fall_w, t_us - gap.start_us)
        return max(0.0, rise_w) / 2 * loaded_us / 1e6

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
"""A change of less than this many steps of the sensor says nothing of its period."""

BOUNDED = 1.25
"""A gap of less than this many poll periods says only that the sensor is no slower than the polling."""

SLOWER = 1.5
"""A declared period is doubted when no change, or a full block of them, came sooner than this many of it."""

GAUGE_GAPS = 2
"""After so many gaps, which is three changes, the pace of a battery's gauge is known ..."""

GAUGE_GAPS_AT_MOST = 5
"""... and it is that of the last five."""


class UpdatePeriod(Forkable):
    """The update period U of one channel, in seconds; never below the poll period, nor below a declared period."""

    FORKED = ("_gaps",)  # `_changes` is replaced, not changed

    def __init__(
        self,
        poll_s: float,
        known_s: float | None = None,
        window_s: float = 0.0,
        step: float = 0.0,
        *,
        is_gauge: bool = False,
    ) -> None:
        """Begin with what is known.

        That is the declared period; else, until changes were seen, with the averaging window and no less than the
        poll period. `step` is the sensor's smallest change; a gauge's slowest pace counts.
        """
        self._poll_s = poll_s
        self._known_s = known_s
        self._is_gauge = is_gauge and known_s is None
        self._found_s: float | None = None
        self._block_s = 0.0
        self._gaps: list[float] = []
        self._step = step
        self._changes: list[float] = []
        self._last_change_us: int | None = None
        self.seconds = max(poll_s, window_s if known_s is None else known_s)

    @property
    def found(self) -> bool:
        """Whether U rests on a statement or on observed changes, and not on the poll period alone."""
        return self._known_s is not None or self._found_s is not None

    @property
    def at_most(self) -> bool:
        """Whether U is only known to be no longer than the poll period; then `seconds` is the poll period."""
        return self.seconds <= self._poll_s

    def interrupt(self) -> None:
        """Readings failed or stopped: the span to the next change says nothing of the period."""
        self._last_change_us = None

    def changed(self, t_us: int, change: float) -> bool:
        """Note a value first seen at `t_us`, and by how much it changed; true when `seconds` was revised."""
        self._changes = [*self._changes[1 - CHANGES_AT_MOST :], abs(change)]
        step = self._step
        if self._known_s is not None and is_stepped(self._changes):
            # Some meters step more coarsely than they declare, and then seldom change on a quiet machine.
            step = max(step, min(self._changes))
        if abs(change) < FLICKER * step:
            self.interrupt()
            return False
        last, self._last_change_us = self._last_change_us, t_us
        if last is None:
            return False
        self._gaps.append((t_us - last) / 1e6)
        before, self.seconds = self.seconds, self._revised()
        return self.seconds != before

    def _revised(self) -> float:
        if self._is_gauge:
            del self._gaps[:-GAUGE_GAPS_AT_MOST]
            if len(self._gaps) >= GAUGE_GAPS:
                self._found_s = max(self._found_s or self._poll_s, typical_s(self._gaps, self._poll_s))
            return self._found_s or self.seconds
        full = len(self._gaps) == GAPS_PER_BLOCK
        if not full and (self._found_s is not None or len(self._gaps) not in PROVISIONALLY_AT):
            return self.seconds
        typical = typical_s(self._gaps, self._poll_s)
        if self._known_s is not None:
            slower = typical > SLOWER * max(self._known_s, self._poll_s)
            if not full:
                never_sooner = len(self._gaps) == PROVISIONALLY_AT[-1] and min(self._gaps) > SLOWER * self._known_s
                return typical if slower and never_sooner else self.seconds
            if not slower:
                typical = self._known_s
        if full:
            self._gaps.clear()
            # Two blocks in a row must be quicker, since of many blocks one is off by chance.
            confirmed, self._block_s = max(typical, self._block_s), typical
            if self._found_s is not None and confirmed > self._found_s * (1 - REVISION):
                return self.seconds
            self._found_s = typical if self._found_s is None else confirmed
            typical = self._found_s
        return self._poll_s if typical < BOUNDED * self._poll_s and self._known_s is None else typical


CHANGES_AT_MOST = 8

STEP_ERROR = 0.1


def is_stepped(changes: Sequence[float]) -> bool:
    """Whether all changes, all above 0, are whole multiples of the smallest, to within a tenth of it."""
    least = min(changes)
    return all(abs(change / least - round(change / least)) <= STEP_ERROR for change in changes)


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
"""A plug's reading this many times the one before must be seen again (judgement: no load on this kind of machine rises
so far at a plug)."""

JUMP_W = 50.0
"""A rise of less than this needs no confirmation."""

Reading = tuple[int, float]


class Plausibility(Forkable):
    """The gate before a power curve: rejects the impossible and holds back what looks like a glitch."""

    FORKED = ("_held",)

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._floor_w = -(meter.offset_w + 2 * meter.lsb)
        self._last_w: float | None = None
        self._held: list[Reading] = []

    @property
    def holding(self) -> bool:
        """Whether readings are held back until the next ones confirm or refute them."""
        return bool(self._held)

    def reset(self) -> None:
        """Give up what is held back, as after a suspend."""
        self._held.clear()

    def admit(self, t_us: int, power_w: float, update_s: float) -> list[Reading]:
        """Which readings are believed now that this one came: none, it alone, or it and those held before it."""
        if not isfinite(power_w) or power_w < self._floor_w or power_w > self._meter.p_max_w:
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
