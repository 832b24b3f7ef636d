"""Energy from readings of power."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from math import sqrt

from edgetop.core.energy.curve import Curve, Readings
from edgetop.core.energy.gaps import Gap
from edgetop.core.energy.meter import Meter
from edgetop.core.energy.plausibility import Plausibility

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
