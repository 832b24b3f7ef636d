"""Cumulative energy Ê(t) from power readings or a counter.

A curve is a fold of the readings in their order. It keeps every accepted reading (runs of equal ones as one entry) and
computes its energies anew when the update period is revised, so it depends on the readings alone and not on when it was
asked: folding the same readings from a file gives the same figures that the live screen ended with.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from array import array
from bisect import bisect_left, bisect_right
from copy import copy
from math import isfinite, sqrt
from typing import TYPE_CHECKING, ClassVar

from msgspec import Struct

from edgetop.core.energy.readings import Gap, GapKind, GapLog, GapShare, Plausibility, UpdatePeriod
from edgetop.core.sources import Meter

if TYPE_CHECKING:
    from typing_extensions import Self


GAP_PERIODS = 5

GAP_AT_LEAST_S = 2.0
"""No good reading for more than 5 update periods and more than 2 s is a gap."""


class Readings(Struct, frozen=True, kw_only=True):
    """What the readings inside a window say of themselves."""

    count: float
    """Fresh readings, repeats within an update period not among them."""
    deviation_w: float
    """Their standard deviation."""
    effective: float
    """Independent readings among them: n(1-ρ)/(1+ρ) with the lag-1 autocorrelation ρ."""
    distinct: int
    """Different values among them, counted up to 64."""
    peak_w: float


class Health(Struct, frozen=True, kw_only=True):
    """How well a channel was read so far."""

    update_s: float
    update_at_most: bool
    """The sensor is at least as quick as the polling; `update_s` is then the poll period."""
    window_s: float
    poll_s: float
    reads_ok: int
    reads_failed: int
    """Failed and rejected ones."""
    worst_gap_s: float


class Curve(ABC):
    """What power curves and counter curves have in common. Times are microseconds on edgetop's clock."""

    COLUMNS: ClassVar[tuple[str, ...]]
    """Arrays of equal length that only grow, or are replaced by others: a mark shares them with its curve."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        # A counter's reading rises by more than a step with each update, or not at all.
        step = meter.lsb if meter.kind == "power" else 0.0
        self.period = UpdatePeriod(meter.poll_s, meter.update_s, meter.window_s or 0.0, step)
        self.gaps = GapLog()
        self.first_us: int | None = None
        """The first good reading."""
        self.last_us: int | None = None
        """The last good reading."""
        self.asked_us: int | None = None
        """The last reading, good or not."""
        self.revision = 0
        """Grows when energies computed before are no longer valid."""
        self._ok = 0
        self._failed = 0
        self._worst_us = 0
        self.averaging = False
        """Whether readings are means over (most of) an update, so that none of the energy goes unseen."""
        self.gap_limit_us = 0
        """Without a good reading for longer than this, the readings have a gap."""
        self._follow_period()
        self._peaks = Peaks()
        self._rows = 0
        """How much of the columns is filled; of a mark they may hold more."""

    @property
    def update_s(self) -> float:
        """The update period U."""
        return self.period.seconds

    @property
    def window_s(self) -> float:
        """The averaging window W; that of a counter is nothing."""
        if self.meter.kind == "energy":
            return 0.0
        return self.update_s if self.meter.window_s is None else self.meter.window_s

    @property
    def lag_s(self) -> float:
        """How far the curve runs behind: a mean over W, held for U, is centred (W-U)/2 too late."""
        return max(0.0, self.window_s - self.update_s) / 2 if self.averaging else 0.0

    @property
    def smear_s(self) -> float:
        """Over how long a step of the true power is spread: s = U + W + τ."""
        return self.update_s + self.window_s + self.meter.poll_s

    @property
    def lead_s(self) -> float:
        """How long before an event its energy can appear: a reading is held backwards over U and half a poll period."""
        return self.update_s + self.meter.poll_s

    @property
    def tail_s(self) -> float:
        """How long after an event its energy can still come in: L = W + 2U + τ."""
        return self.window_s + 2 * self.update_s + self.meter.poll_s

    @property
    def health(self) -> Health:
        """How the channel was read so far."""
        return Health(
            update_s=self.update_s,
            update_at_most=self.period.at_most,
            window_s=self.window_s,
            poll_s=self.meter.poll_s,
            reads_ok=self._ok,
            reads_failed=self._failed + self._rejected(),
            worst_gap_s=self._worst_us / 1e6,
        )

    def read(self, t_us: int, value: float | None) -> None:
        """Take in a reading in W or J, or `None` for one that failed; one no later than the last is ignored."""
        if self.asked_us is not None and t_us <= self.asked_us:
            return
        self.asked_us = t_us
        if value is None:
            self._failed += 1
        elif self._take(t_us, value):
            self._ok += 1
            if self.last_us is not None:
                self._worst_us = max(self._worst_us, t_us - self.last_us)
            self.last_us = t_us
            self.first_us = t_us if self.first_us is None else self.first_us

    def mark(self) -> Self:
        """The curve as it is now, only good for `resumed`. It shares what only grows, so that it costs little."""
        mark = copy(self)
        mark.separate()
        return mark

    def resumed(self) -> Self:
        """From a mark, a curve that goes on from there."""
        curve = copy(self)
        curve.separate()
        curve.own_columns()
        return curve

    def separate(self) -> None:
        """Share with the curve that this is a copy of nothing but the columns."""
        self.period, self.gaps, self._peaks = self.period.copy(), self.gaps.copy(), self._peaks.copy()

    def own_columns(self) -> None:
        """Share no columns either."""
        for name in self.COLUMNS:
            setattr(self, name, getattr(self, name)[: self._rows])

    def gap_share(self, start_us: int, end_us: int) -> GapShare:
        """What gaps mean for a window."""
        return self.gaps.over(start_us, end_us)

    def starts_before(self, t_us: int) -> bool:
        """Whether the readings reach back to `t_us`, a reading late by less than a gap being good enough."""
        return self.first_us is not None and self.first_us - self.gap_limit_us <= t_us

    @abstractmethod
    def reaches(self, t_us: int) -> bool:
        """Whether the readings go on until `t_us`, the sensor neither lost nor frozen before."""

    @abstractmethod
    def is_final(self, t_us: int) -> bool:
        """Whether no later reading can change the energy up to `t_us`: the sensor has updated since."""

    def is_settled(self, t_us: int) -> bool:
        """Whether the energy up to `t_us` stays as it is while `revision` does.

        More than `is_final` asks: a sensor that is given up for lost may come back, and its gap is then bridged.
        """
        return self.last_us is not None and self.last_us >= t_us + self.gap_limit_us and self.reaches(self.last_us)

    @abstractmethod
    def energy_j(self, t_us: float) -> float:
        """Ê(t) in joules since the first reading, in O(log n). Held beyond the ends for up to a gap's length.

        Raises ValueError before the first reading.
        """

    @abstractmethod
    def readings(self, start_us: int, end_us: int) -> Readings:
        """Statistics of the readings in a window, in O(log n)."""

    @abstractmethod
    def suspended(self) -> None:
        """The machine slept between the last reading and the next; to be told before the next."""

    def _follow_period(self) -> None:
        """Note what rests on the update period: it is asked for with every reading, and hardly ever another one."""
        self.averaging = self.meter.kind == "power" and self.window_s >= 0.5 * max(self.update_s, self.meter.poll_s)
        self.gap_limit_us = round(max(GAP_PERIODS * self.update_s, GAP_AT_LEAST_S) * 1e6)

    @abstractmethod
    def _take(self, t_us: int, value: float) -> bool:
        """Take in a value; false when it is not believed."""

    @abstractmethod
    def _rejected(self) -> int:
        """Readings that were not believed after all."""

    def mean_w(self, start_us: float, end_us: float) -> float:
        """Mean power over a span that is not empty."""
        return (self.energy_j(end_us) - self.energy_j(start_us)) / ((end_us - start_us) / 1e6)


class Peaks:
    """The greatest of a stretch of an ever growing list, without looking at each."""

    _BLOCK = 256

    def __init__(self) -> None:
        self._blocks: list[float] = []
        self._count = 0

    def copy(self) -> Peaks:
        """Another one that goes on by itself."""
        other = copy(self)
        other.separate()
        return other

    def separate(self) -> None:
        """Share nothing with what this is a copy of."""
        self._blocks = self._blocks.copy()

    def append(self, value: float) -> None:
        """Take in the list's next value."""
        if self._count % self._BLOCK == 0:
            self._blocks.append(value)
        else:
            self._blocks[-1] = max(self._blocks[-1], value)
        self._count += 1

    def greatest(self, values: array[float], start: int, end: int) -> float:
        """The greatest of `values[start:end]`, a stretch that is not empty."""
        first = -(-start // self._BLOCK)
        last = end // self._BLOCK
        if first >= last:
            return max(values[start:end])
        edges = (*values[start : first * self._BLOCK], *values[last * self._BLOCK : end])
        return max((*self._blocks[first:last], *edges))


class CounterCurve(Curve):
    """Knots where the counter was seen to change, straight lines between.

    A fall is a wrap only when the power that it would mean is below P_max; any other fall, and a rise above P_max, is
    a reset (a driver loaded anew, a failed read that returned zero). Then the counter is taken up anew, and the span
    since the last knot is bridged with the mean of the powers before and after. Longer spans without a change are
    energy that was measured, but not when.
    """

    COLUMNS = ("_time", "_energy", "_power")

    def __init__(self, meter: Meter) -> None:
        super().__init__(meter)
        self._time = array("q")
        self._energy = array("d")
        self._power = array("d")
        """Mean power of the segment that ends at each knot."""
        self._value = 0.0
        self._change_us = 0
        """When the present value was first seen."""
        self._resets = 0
        self._reset_kind: GapKind | None = None
        self._slept = False

    @property
    def changes(self) -> int:
        """Believed changes so far; a counter that never changes is no counter."""
        return max(0, len(self._time) - 1)

    def suspended(self) -> None:
        """See Curve."""
        self._slept = bool(self._time)

    def reaches(self, t_us: int) -> bool:
        """See Curve."""
        return self.changes > 0 and self._time[-1] + self.gap_limit_us >= t_us

    def is_final(self, t_us: int) -> bool:
        """See Curve. A frozen counter is waited for no longer than a gap."""
        if not self._time or self.asked_us is None:
            return False
        return self._time[-1] >= t_us or self.asked_us > max(t_us, self._time[-1]) + self.gap_limit_us

    def energy_j(self, t_us: float) -> float:
        """See Curve."""
        if not self._time:
            raise ValueError("no reading yet")
        if self.changes == 0:
            return 0.0
        k = min(max(1, bisect_right(self._time, t_us)), len(self._time) - 1)
        until = min(t_us, self._time[-1] + self.gap_limit_us)
        return self._energy[k] + self._power[k] * (until - self._time[k]) / 1e6

    def readings(self, start_us: int, end_us: int) -> Readings:
        """See Curve. A counter misses nothing between its readings, so their scatter says nothing of its error."""
        i = min(max(1, bisect_right(self._time, start_us)), len(self._time))
        j = min(bisect_left(self._time, end_us) + 1, len(self._time))
        if j <= i:
            return Readings(count=0.0, deviation_w=0.0, effective=1.0, distinct=0, peak_w=0.0)
        count = float(j - i)
        peak_w = self._peaks.greatest(self._power, i, j)
        return Readings(count=count, deviation_w=0.0, effective=count, distinct=j - i, peak_w=peak_w)

    def _take(self, t_us: int, value: float) -> bool:
        if not isfinite(value) or value < 0:
            return False
        if not self._time:
            self._rows += 1
            self._time.append(t_us)
            self._energy.append(0.0)
            self._power.append(0.0)
            self._peaks.append(0.0)
        elif self._slept:
            self._reset("suspend")
            self._slept = False
        elif value == self._value:
            return True
        else:
            return self._change(t_us, value)
        self._value, self._change_us = value, t_us
        return True

    def _rejected(self) -> int:
        return self._resets

    def _change(self, t_us: int, value: float) -> bool:
        risen_j = value - self._value
        since_read_us = t_us - (self.last_us or t_us)
        span_s = min(t_us - self._change_us, since_read_us + self.gap_limit_us) / 1e6
        at_most_j = self.meter.p_max_w * span_s
        if risen_j < 0 and self.meter.wrap_j is not None:
            risen_j += self.meter.wrap_j
        if not 0 <= risen_j <= at_most_j or self._may_have_wrapped_again(since_read_us / 1e6):
            self._reset("bridged")
            self._value, self._change_us = value, t_us
            return True
        self._knot(t_us, risen_j)
        self._value, self._change_us = value, t_us
        if self.period.changed(t_us, risen_j):
            self.revision += 1
            self._follow_period()
        return True

    def _may_have_wrapped_again(self, unread_s: float) -> bool:
        """Whether the counter was unread for so long that, at its last power, it may have wrapped unseen."""
        wrap_j = self.meter.wrap_j
        return wrap_j is not None and unread_s * 1e6 > self.gap_limit_us and self._power[-1] * unread_s > wrap_j / 2

    def _reset(self, kind: GapKind) -> None:
        self._resets += kind == "bridged"
        self._reset_kind = "suspend" if "suspend" in (kind, self._reset_kind) else kind
        self.period.interrupt()

    def _knot(self, t_us: int, risen_j: float) -> None:
        power_w = risen_j / ((t_us - self._change_us) / 1e6)
        if self._reset_kind is not None:
            self._bridge(self._reset_kind, power_w)
            self._reset_kind = None
        elif t_us - self._time[-1] > self.gap_limit_us:
            self.period.interrupt()
            start_us = self._time[-1]
            self.gaps.add(Gap(start_us=start_us, end_us=t_us, kind="spanned", energy_j=risen_j, u_j=0.0))
        self._append(t_us, risen_j, power_w)

    def _bridge(self, kind: GapKind, after_w: float) -> None:
        """Join the last knot to where the counter was taken up anew."""
        start_us, end_us = self._time[-1], self._change_us
        before_w = self._power[-1] if self.changes else after_w
        span_s = (end_us - start_us) / 1e6
        energy_j = span_s * (before_w + after_w) / 2
        u_j = span_s * abs(after_w - before_w) / sqrt(12)
        self.gaps.add(Gap(start_us=start_us, end_us=end_us, kind=kind, energy_j=energy_j, u_j=u_j))
        self._append(end_us, energy_j, (before_w + after_w) / 2)

    def _append(self, t_us: int, risen_j: float, power_w: float) -> None:
        self._rows += 1
        self._time.append(t_us)
        self._energy.append(self._energy[-1] + risen_j)
        self._power.append(power_w)
        self._peaks.append(power_w)


RUN_BREAK_US = 2_000_000
"""A run of equal readings ends where none came for this long, the shortest gap there is."""

DISTINCT_AT_MOST = 64

RHO_AT_MOST = 0.99


class PowerCurve(Curve):
    """The curve of a sensor of power.

    Readings of an averaging sensor are held backwards over the update they are the mean of; those of a point sensor
    are joined by straight lines.

    Run k is a value, when it was first seen and when last. Between the first sight of run k and that of run k+1, g
    later:

    * averaging: g holds n = round(g/U) updates, at least one, of which all but the last repeated the old value. So
      the new value holds for the last g/n and the old one before. Held over all of g, the first reading under load
      would reach back over a long constant idle and invent its energy; held for a fixed time of more or less than U,
      every step of the power would be misjudged by the difference;
    * point: the old value up to its last sight, then a straight line. Repeats within U say nothing new and are passed
      over;
    * gap: the old value up to its last sight, then the mean of both, u = g·|r1-r0|/√12 (rectangular prior).
    """

    COLUMNS = ("_first", "_last", "_power", "_energy", "_count", "_sum", "_squares", "_products")

    def __init__(self, meter: Meter) -> None:
        super().__init__(meter)
        self._gate = Plausibility(meter)
        self._first = array("q")
        self._last = array("q")
        self._power = array("d")
        self._breaks: set[int] = set()
        """Runs that begin after a suspend."""
        self._slept = False
        # Sums over the runs before run k: energy, readings, their sum, sum of squares and of products of neighbours.
        self._energy = array("d")
        self._count = array("d")
        self._sum = array("d")
        self._squares = array("d")
        self._products = array("d")

    def separate(self) -> None:
        """See Curve."""
        super().separate()
        self._gate, self._breaks = self._gate.copy(), self._breaks.copy()

    def own_columns(self) -> None:
        """See Curve."""
        super().own_columns()
        if self.last_us is not None:
            # The last run may have gone on since the mark.
            self._last[-1] = self.last_us

    def suspended(self) -> None:
        """See Curve."""
        self._slept = bool(self._first)
        self._gate.reset()
        self.period.interrupt()

    def reaches(self, t_us: int) -> bool:
        """See Curve."""
        return self.last_us is not None and self.last_us + self.gap_limit_us >= t_us

    def is_final(self, t_us: int) -> bool:
        """See Curve. A sensor that stopped answering is waited for no longer than a gap."""
        if self.last_us is None or self.asked_us is None:
            return False
        updated = self.last_us >= t_us + (self.update_s + self.meter.poll_s) * 1e6 and not self._gate.holding
        return updated or self.asked_us > max(t_us, self.last_us) + self.gap_limit_us

    def energy_j(self, t_us: float) -> float:
        """See Curve."""
        if not self._first or self.last_us is None:
            raise ValueError("no reading yet")
        k = max(0, bisect_right(self._first, t_us) - 1)
        if k + 1 < len(self._first):
            return self._energy[k] + self._within(k, t_us)
        until = min(t_us, self.last_us + self.gap_limit_us)
        return self._energy[k] + self._power[k] * (until - self._first[k]) / 1e6

    def readings(self, start_us: int, end_us: int) -> Readings:
        """See Curve."""
        i, j = bisect_left(self._first, start_us), bisect_left(self._first, end_us)
        active = max(0, i - 1)
        if j <= active:
            return Readings(count=0.0, deviation_w=0.0, effective=1.0, distinct=0, peak_w=0.0)
        n, total, squares, products = (
            self._up_to(j, sums, part) - sums[i] if i < len(self._first) else 0.0
            for part, sums in enumerate((self._count, self._sum, self._squares, self._products))
        )
        period_s = max(self.update_s, self.meter.poll_s)
        if i > 0:
            # The run that began before the window goes on in it: a load that does not change is well known.
            repeats = int(max(0, min(self._last[active], end_us) - start_us) / 1e6 / period_s)
            value = self._power[active] - self._power[0]
            n, total = n + repeats, total + repeats * value
            squares, products = squares + repeats * value * value, products + repeats * value * value
        most = (end_us - start_us) / 1e6 / period_s + 1
        variance = max(0.0, squares / n - (total / n) ** 2) if n >= 2 else 0.0
        rho = (products / n - (total / n) ** 2) / variance if variance > 1e-12 else 0.0
        rho = min(max(rho, 0.0), RHO_AT_MOST)
        count = min(n, most)
        return Readings(
            count=count,
            deviation_w=sqrt(variance),
            effective=max(1.0, count * (1 - rho) / (1 + rho)),
            distinct=self._distinct(active, j),
            peak_w=self._peaks.greatest(self._power, i if i < j else active, j),
        )

    def _take(self, t_us: int, value: float) -> bool:
        believed = self._gate.admit(t_us, value, self.update_s)
        for reading in believed:
            self._accept(*reading)
        return bool(believed)

    def _rejected(self) -> int:
        return self._gate.rejected

    def _accept(self, t_us: int, power_w: float) -> None:
        if self._first and not self._slept and t_us - self._last[-1] <= RUN_BREAK_US and power_w == self._power[-1]:
            self._last[-1] = t_us
            return
        change_w = power_w - self._power[-1] if self._first else 0.0
        if self._first and t_us - self._last[-1] > RUN_BREAK_US:
            self.period.interrupt()
        if self._slept:
            self._breaks.add(len(self._first))
            self._slept = False
        self._rows += 1
        self._first.append(t_us)
        self._last.append(t_us)
        self._power.append(power_w)
        self._peaks.append(power_w)
        if change_w and self.period.changed(t_us, change_w):
            self._recompute()
        else:
            self._extend(len(self._first) - 1)

    def _recompute(self) -> None:
        # Others, since marks share those there were.
        self._energy, self._count, self._sum, self._squares, self._products = (array("d") for _ in range(5))
        self.gaps.clear()
        self.revision += 1
        self._follow_period()
        for k in range(len(self._first)):
            self._extend(k)

    def _extend(self, k: int) -> None:
        """Sum up to run k, all before it being summed."""
        if k == 0:
            for sums in (self._energy, self._count, self._sum, self._squares, self._products):
                sums.append(0.0)
            return
        self._energy.append(self._energy[k - 1] + self._within(k - 1, self._first[k]))
        count, total, squares, products = self._contribution(k - 1)
        self._count.append(self._count[k - 1] + count)
        self._sum.append(self._sum[k - 1] + total)
        self._squares.append(self._squares[k - 1] + squares)
        self._products.append(self._products[k - 1] + products)
        if k in self._breaks or self._is_gap(k - 1):
            length_s = (self._first[k] - self._last[k - 1]) / 1e6
            before, after = self._power[k - 1], self._power[k]
            self.gaps.add(
                Gap(
                    start_us=self._last[k - 1],
                    end_us=self._first[k],
                    kind="suspend" if k in self._breaks else "bridged",
                    energy_j=length_s * (before + after) / 2,
                    u_j=length_s * abs(after - before) / sqrt(12),
                )
            )

    def _is_gap(self, k: int) -> bool:
        return self._first[k + 1] - self._last[k] > self.gap_limit_us

    def _within(self, k: int, t_us: float) -> float:
        """Energy in joules from the first sight of run k to `t_us`, no later than the first sight of run k+1."""
        start, seen, end = self._first[k], self._last[k], self._first[k + 1]
        before, after = self._power[k], self._power[k + 1]
        if k + 1 in self._breaks or self._is_gap(k):
            return (before * (min(t_us, seen) - start) + (before + after) / 2 * max(0, t_us - seen)) / 1e6
        if self.averaging:
            switch = end - (end - start) / max(1, round((end - start) / (self.update_s * 1e6)))
            return (before * (min(t_us, switch) - start) + after * max(0, t_us - switch)) / 1e6
        if not self.period.at_most and seen - start < self.update_s * 1e6:
            seen = start
        if t_us <= seen:
            return before * (t_us - start) / 1e6
        ramp = t_us - seen
        return (before * (t_us - start) + (after - before) * ramp * ramp / (2 * (end - seen))) / 1e6

    def _contribution(self, k: int) -> tuple[float, float, float, float]:
        """Run k's readings, their sum, squares and products with the reading before, about the first value of all."""
        span_s = (self._last[k] - self._first[k]) / 1e6
        n = 1 + int(span_s / max(self.update_s, self.meter.poll_s) + 0.1)
        value = self._power[k] - self._power[0]
        previous = self._power[k - 1] - self._power[0] if k else value
        return n, n * value, n * value * value, (n - 1) * value * value + value * previous

    def _up_to(self, end: int, sums: array[float], part: int) -> float:
        if end < len(self._first):
            return sums[end]
        return sums[end - 1] + self._contribution(end - 1)[part]

    def _distinct(self, start: int, end: int) -> int:
        return len(set(self._power[start : min(end, start + 4 * DISTINCT_AT_MOST)]))
