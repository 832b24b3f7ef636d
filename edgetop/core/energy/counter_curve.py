"""Energy from counters."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from math import isfinite, sqrt

from edgetop.core.energy.curve import Curve, Readings
from edgetop.core.energy.gaps import Gap, GapKind
from edgetop.core.energy.meter import Meter


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
