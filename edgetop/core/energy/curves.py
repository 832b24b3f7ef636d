"""Cumulative energy Ê(t) from power readings or a counter.

A curve is a fold of the readings in their order. It keeps every accepted reading (runs of equal ones as one entry) and
computes its energies anew when the update period is revised, so it depends on the readings alone and not on when it was
asked: folding the same readings from a file gives the same figures that the live screen ended with.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from array import array
from bisect import bisect_right
from math import hypot, inf, isfinite, sqrt
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.energy.readings import Forkable, Gap, GapKind, GapLog, GapShare, Plausibility, UpdatePeriod
from edgetop.core.numbers import Numbers
from edgetop.core.sources import Meter

if TYPE_CHECKING:
    from typing_extensions import Self


GAP_PERIODS = 5
GAP_AT_LEAST_S = 2.0
"""Without a good reading for more than 5 update periods and more than 2 s, a sensor counts as lost."""

SILENCE_AT_LEAST_S = 0.25
"""Power that nobody has read for longer than this, and than an update period and a poll that comes a little late, is
estimated, not measured: an update may have been missed."""

LATE_POLL = 1.25

POINT_SILENCE_AT_LEAST_S = 1.0
"""A point sensor misses most of the time anyway, and polls on a busy machine may come so late (judgement)."""


class Readings(Struct, frozen=True, kw_only=True):
    """What the readings inside a window say of themselves."""

    count: float
    """Fresh readings, repeats within an update period not among them."""
    scatter_w: float
    """Standard deviation of a reading about the line between its neighbours: √(Σ(r[i-1]-2r[i]+r[i+1])²/6n)."""
    distinct: int
    """Different values among them, counted up to 64."""
    peak_w: float
    unseen_s: float = 0.0
    """Between means that came later than an update: no mean covers it."""


class Curve(Forkable, ABC):
    """What power curves and counter curves have in common. Times are microseconds on edgetop's clock."""

    FORKED: ClassVar[tuple[str, ...]] = ("period", "gaps", "_peaks")

    COLUMNS: ClassVar[tuple[str, ...]]
    """Numbers of equal length that only grow: a mark shares them with its curve."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        # A counter's reading rises by more than a step with each update, or not at all.
        step = meter.lsb if meter.kind == "power" else 0.0
        self.is_gauge = meter.scope == "battery"
        """Gauges of batteries update every 1 to 60 s, as means over about as long, and say neither."""
        self.period = UpdatePeriod(meter.poll_s, meter.update_s, meter.window_s or 0.0, step, is_gauge=self.is_gauge)
        self.gaps = GapLog()
        self.first_us: int | None = None
        """The first good reading."""
        self.last_us: int | None = None
        """The last good reading."""
        self.asked_us: int | None = None
        """The last reading, good or not."""
        self.step = meter.lsb
        """The smallest change of a reading, in W or J: as declared, or as seen where readings step more coarsely."""
        self.revision = 0
        """Grows when energies computed before are no longer valid."""
        self._interrupted = False
        """Whether readings have failed since the last good one."""
        self.averaging = False
        """Whether readings are means over (most of) an update, so that none of the energy goes unseen."""
        self.gap_limit_us = 0
        """Without a good reading for longer than this, the sensor counts as lost."""
        self.silence_us = 0
        """What nobody has read for longer than this is estimated."""
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
        meter = self.meter
        if meter.kind == "energy":
            return 0.0
        if meter.window_s is None:
            return self.update_s
        if self.is_gauge:
            return max(meter.window_s, self.update_s)
        slower = meter.update_s is not None and self.update_s > max(meter.update_s, meter.poll_s)
        if slower and meter.update_s is not None and meter.window_s >= 0.5 * meter.update_s:
            # It averages over its updates, and is slower than it declares.
            return meter.window_s * self.update_s / meter.update_s
        return meter.window_s

    @property
    def lag_s(self) -> float:
        """How far the curve runs behind: a mean over W, held for U, is centred (W-U)/2 too late, and seen τ/2 later."""
        if not self.averaging:
            return 0.0
        return (max(0.0, self.window_s - self.update_s) + min(self.meter.poll_s, self.update_s)) / 2

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

    def read(self, t_us: int, value: float | None) -> None:
        """Take in a reading in W or J, or `None` for one that failed; one no later than the last is ignored."""
        if self.asked_us is not None and t_us <= self.asked_us:
            return
        self.asked_us = t_us
        if value is None:
            self._interrupted = True
        elif self._add_reading(t_us, value):
            self._interrupted = False
            self.last_us = t_us
            self.first_us = t_us if self.first_us is None else self.first_us

    def mark(self) -> Self:
        """The curve as it is now, only good for `resumed`. It shares the columns, so that it costs little."""
        return self.copy()

    def resumed(self) -> Self:
        """From a mark, a curve that goes on from there."""
        curve = self.copy()
        curve.own_columns()
        return curve

    def own_columns(self) -> None:
        """Share no columns with the mark any more."""
        for name in self.COLUMNS:
            setattr(self, name, getattr(self, name).first(self._rows))

    def gap_share(self, start_us: int, end_us: int) -> GapShare:
        """What gaps mean for a window, also those before the first reading and after the last one."""
        share = self.gaps.over(start_us, end_us)
        if self.first_us is None or self.last_us is None:
            return share
        known_from_us = self.first_us - self.silence_us
        known_to_us = self._known_to_us() + self.silence_us
        head_us = max(0, min(end_us, known_from_us) - start_us)
        tail_us = max(0, end_us - max(start_us, known_to_us))
        if not head_us and not tail_us:
            return share
        first_w, last_w = self._end_powers()
        # Held at its last value, the power may have been nothing or twice that (GUM 4.3.7, rectangular prior).
        u_j = hypot(share.u_j, first_w * head_us / 1e6 / sqrt(3), last_w * tail_us / 1e6 / sqrt(3))
        return replace(share, estimated_s=share.estimated_s + (head_us + tail_us) / 1e6, u_j=u_j)

    def starts_before(self, t_us: int) -> bool:
        """Whether the readings reach back to `t_us`, a reading late by less than a gap being good enough."""
        return self.first_us is not None and self.first_us - self.gap_limit_us <= t_us

    @abstractmethod
    def reaches(self, t_us: int) -> bool:
        """Whether the readings go on until `t_us`, the sensor neither lost nor frozen before."""

    @abstractmethod
    def is_final(self, t_us: int) -> bool:
        """Whether no later reading can change the energy up to `t_us`: the sensor has updated since."""

    def is_complete(self, t_us: int) -> bool:
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
    def still_s(self, start_us: int, end_us: int) -> float:
        """For how much of a window in which a load began and ended the readings stood still, as if nothing had."""

    @abstractmethod
    def suspended(self) -> None:
        """The machine slept between the last reading and the next; to be called before the next."""

    def _follow_period(self) -> None:
        """Set what follows from the update period: it is used with every reading, and hardly ever changes."""
        poll_s, is_power = self.meter.poll_s, self.meter.kind == "power"
        self.averaging = is_power and self.window_s >= 0.5 * max(self.update_s, poll_s)
        self.gap_limit_us = round(max(GAP_PERIODS * self.update_s, GAP_AT_LEAST_S) * 1e6)
        least_s = SILENCE_AT_LEAST_S if self.averaging else POINT_SILENCE_AT_LEAST_S
        silence_s = max(least_s, self.update_s + LATE_POLL * poll_s)
        self.silence_us = self.gap_limit_us
        if is_power or self.period.found:
            self.silence_us = min(self.gap_limit_us, round(silence_s * 1e6))

    @abstractmethod
    def _known_to_us(self) -> int:
        """Up to when the energy was measured."""

    @abstractmethod
    def _end_powers(self) -> tuple[float, float]:
        """The power at the first and at the last reading."""

    @abstractmethod
    def _add_reading(self, t_us: int, value: float) -> bool:
        """Take in a value; false when it is not believed."""

    def mean_w(self, start_us: float, end_us: float) -> float:
        """Mean power over a span that is not empty."""
        return (self.energy_j(end_us) - self.energy_j(start_us)) / ((end_us - start_us) / 1e6)


class Peaks(Forkable):
    """The greatest of a stretch of an ever growing list, without going through each."""

    FORKED = ("_blocks",)

    _BLOCK = 256

    def __init__(self) -> None:
        self._blocks: list[float] = []
        self._count = 0

    def append(self, value: float) -> None:
        """Take in the list's next value."""
        if self._count % self._BLOCK == 0:
            self._blocks.append(value)
        else:
            self._blocks[-1] = max(self._blocks[-1], value)
        self._count += 1

    def greatest(self, values: Numbers[float], start: int, end: int) -> float:
        """The greatest of `values[start:end]`, a stretch that is not empty."""
        first = -(-start // self._BLOCK)
        last = end // self._BLOCK
        if first >= last:
            return max(values[start:end])
        edges = (*values[start : first * self._BLOCK], *values[last * self._BLOCK : end])
        return max((*self._blocks[first:last], *edges))


WRAP_POWER = 2.0

WRAP_POWER_W = 5.0
"""A fall that would mean more than twice the greatest power so far and 5 W is no wrap (judgement: a zone of 2 W that
came back from zero, 126 J before its wrap, looked like 30 W)."""


class CounterCurve(Curve):
    """Knots where the counter was seen to change, straight lines between.

    A fall is a wrap only when the power that it would mean is below P_max and not far above any seen before, and no
    reading failed meanwhile; any other fall, and a rise above P_max, is a reset (a driver loaded anew, a zone that went
    and came back, a failed read that returned zero). Then the counter starts anew, and the span since the last knot is
    bridged with the mean of the powers before and after. Longer spans without a change are energy that was measured,
    but not when.
    """

    COLUMNS = ("_time", "_energy", "_power")

    def __init__(self, meter: Meter) -> None:
        super().__init__(meter)
        self._time: Numbers[int] = Numbers("q")
        self._energy: Numbers[float] = Numbers("d")
        self._power: Numbers[float] = Numbers("d")
        """Mean power of the segment that ends at each knot."""
        self._value = 0.0
        self._change_us = 0
        """When the present value was first seen."""
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
        k = min(max(1, self._time.bisect_right(t_us)), len(self._time) - 1)
        until = min(t_us, self._time[-1] + self.gap_limit_us)
        return self._energy[k] + self._power[k] * (until - self._time[k]) / 1e6

    def readings(self, start_us: int, end_us: int) -> Readings:
        """See Curve. A counter misses nothing between its readings, so their scatter says nothing of its error."""
        i = min(max(1, self._time.bisect_right(start_us)), len(self._time))
        j = min(self._time.bisect_left(end_us) + 1, len(self._time))
        if j <= i:
            return Readings(count=0.0, scatter_w=0.0, distinct=0, peak_w=0.0)
        peak_w = self._peaks.greatest(self._power, i, j)
        return Readings(count=float(j - i), scatter_w=0.0, distinct=j - i, peak_w=peak_w)

    def still_s(self, start_us: int, end_us: int) -> float:  # noqa: ARG002
        """See Curve. A counter that stands still and goes on has measured the energy; else it does not reach."""
        return 0.0

    def _known_to_us(self) -> int:
        return self._time[-1]

    def _end_powers(self) -> tuple[float, float]:
        return self._power[min(1, self.changes)], self._power[-1]

    def _add_reading(self, t_us: int, value: float) -> bool:
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

    def _change(self, t_us: int, value: float) -> bool:
        risen_j = value - self._value
        since_read_us = t_us - (self.last_us or t_us)
        span_s = min(t_us - self._change_us, since_read_us + self.gap_limit_us) / 1e6
        at_most_j = self.meter.p_max_w * span_s
        if risen_j < 0 and self.meter.wrap_j is not None and not self._interrupted:
            risen_j += self.meter.wrap_j
            if self.changes:
                unread_s = min(t_us - self._change_us, since_read_us) / 1e6
                usual_w = WRAP_POWER * self._peaks.greatest(self._power, 0, len(self._power)) + WRAP_POWER_W
                at_most_j = min(at_most_j, usual_w * unread_s)
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
        self._reset_kind = "suspend" if "suspend" in (kind, self._reset_kind) else kind
        self.period.interrupt()

    def _knot(self, t_us: int, risen_j: float) -> None:
        power_w = risen_j / ((t_us - self._change_us) / 1e6)
        if self._reset_kind is not None:
            self._bridge(self._reset_kind, power_w)
            self._reset_kind = None
        elif t_us - self._time[-1] > self.silence_us:
            if t_us - self._time[-1] > self.gap_limit_us:
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
        fall_w = before_w - after_w
        u_j = span_s * abs(fall_w) / sqrt(12)
        self.gaps.add(Gap(start_us=start_us, end_us=end_us, kind=kind, energy_j=energy_j, u_j=u_j, fall_w=fall_w))
        self._append(end_us, energy_j, (before_w + after_w) / 2)

    def _append(self, t_us: int, risen_j: float, power_w: float) -> None:
        self._rows += 1
        self._time.append(t_us)
        self._energy.append(self._energy[-1] + risen_j)
        self._power.append(power_w)
        self._peaks.append(power_w)


DISTINCT_AT_MOST = 64

STEPS_AT_LEAST = 10
"""The smallest of the first so many changes is taken for the step of a meter that declares a finer one, or none."""

STILL_UPDATES = 8

STILL_AT_LEAST_S = 0.6
"""Equal readings over fewer updates or less time than these are no sign of a sensor that stands still."""

STILL_STEPS = 20.0
"""Nor are they at a power of fewer steps than this: there a small load is too little to be seen."""

LIVELY_RUNS = 10

LIVELY_UPDATES = 1.5
"""A sensor whose readings last for no more than this many updates, over the 10 runs before, does not repeat one 8
times."""


class Stretch(NamedTuple):
    """Equal readings in a row: when first and last seen, and the first of their runs."""

    begin_us: int
    seen_us: int
    k: int


SUMS_APART = 128
"""Sums before every so many runs are kept for good ..."""

SUMS_KEPT, SUMS_OPENED = 2048, 64
"""... and those of the last so many, and of so many stretches between that were asked for."""


class Sums:
    """Sums over the runs before each of some runs in a row."""

    __slots__ = ("bends", "count", "energy_j", "unseen_s")

    def __init__(self) -> None:
        self.energy_j = array("d")
        self.count = array("d")
        """Readings."""
        self.bends = array("d")
        """The squares of the readings' second differences."""
        self.unseen_s = array("d")

    def __len__(self) -> int:
        return len(self.energy_j)

    def add_first(self) -> None:
        """Begin with nothing before the first run."""
        for column in (self.energy_j, self.count, self.bends, self.unseen_s):
            column.append(0.0)

    def add_more(self, energy_j: float, count: float, bends: float, unseen_s: float) -> None:
        """Add the last ones with one more run."""
        self.energy_j.append(self.energy_j[-1] + energy_j)
        self.count.append(self.count[-1] + count)
        self.bends.append(self.bends[-1] + bends)
        self.unseen_s.append(self.unseen_s[-1] + unseen_s)

    def add(self, other: Sums, at: int) -> None:
        """Add those of a place among others."""
        for name in self.__slots__:
            getattr(self, name).append(getattr(other, name)[at])

    def part(self, begin: int, end: int | None = None) -> Sums:
        """Those from one place to before another."""
        other = Sums()
        for name in self.__slots__:
            setattr(other, name, getattr(self, name)[begin:end])
        return other


_Step = tuple[bool, int, int, float, int, float]
"""From a run to the next: whether the machine slept in between; when the run was first and last seen, and its power;
when the next one was first seen, and its power."""


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
    * gap, when nobody has read for long enough to miss an update: the old value up to its last sight, the new one for
      the update that its first sight is the mean of, and between them the mean of both, u = g·|r1-r0|/√12 (rectangular
      prior).
    """

    FORKED = (*Curve.FORKED, "_gate", "_breaks", "_stretches", "_opened")

    COLUMNS = ("_first", "_held", "_power")

    def __init__(self, meter: Meter) -> None:
        super().__init__(meter)
        self._gate = Plausibility(meter)
        self._first: Numbers[int] = Numbers("q")
        self._held: Numbers[int] = Numbers("q")
        """From the first sight of each run to the last one."""
        self._seen_us = 0
        """The last sight of the last run."""
        self._power: Numbers[float] = Numbers("d")
        self._breaks: set[int] = set()
        """Runs that begin after a suspend."""
        self._slept = False
        self._least_change_w = inf
        self._stretches: list[Stretch] = []
        """Those that lasted, but the present one."""
        self._same_since_us = self._same_k = 0
        self._noted = Sums()
        """Before every SUMS_APART-th run, from which those between are added up again when they are asked for."""
        self._latest, self._latest_from = Sums(), 0
        """Before each run from one on."""
        self._opened: dict[int, Sums] = {}
        """Those added up again last, by the place of the one in `_noted` that they begin with."""
        self._run_break_us = round(max(SILENCE_AT_LEAST_S, 3 * meter.poll_s) * 1e6)
        """A run of equal readings ends where none came for this long, the shortest gap there is."""

    def mark(self) -> Self:
        """See Curve."""
        curve = super().mark()
        curve._latest, curve._opened = Sums(), {}  # noqa: SLF001 - another of this class
        return curve

    def own_columns(self) -> None:
        """See Curve."""
        super().own_columns()
        place = max(0, self._rows - 1) // SUMS_APART
        self._noted = self._noted.part(0, -(-self._rows // SUMS_APART))
        self._latest, self._latest_from = Sums(), place * SUMS_APART
        if self._rows:
            # The last run may have gone on since the mark.
            self._held[-1] = self._seen_us - self._first[-1]
            self._latest = self._added_up(place, self._rows)

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
        k = max(0, self._first.bisect_right(t_us) - 1)
        sums, at = self._sums(k)
        if k + 1 < len(self._first):
            return sums.energy_j[at] + self._within(self._step(k), t_us)
        until = min(t_us, self.last_us + self.gap_limit_us)
        return sums.energy_j[at] + self._power[k] * (until - self._first[k]) / 1e6

    def readings(self, start_us: int, end_us: int) -> Readings:
        """See Curve."""
        i, j = self._first.bisect_left(start_us), self._first.bisect_left(end_us)
        active = max(0, i - 1)
        if j <= active:
            return Readings(count=0.0, scatter_w=0.0, distinct=0, peak_w=0.0)
        n = bends = 0.0
        if i < j:
            (n, bends), (sums, at) = self._up_to(j, end_us), self._sums(i)
            n, bends = n - sums.count[at], bends - sums.bends[at]
        period_s = max(self.update_s, self.meter.poll_s)
        if i > 0:
            # The run that began before the window goes on in it: a load that does not change is well known.
            seen_us = self._first[active] + self._held[active]
            n += int(max(0, min(seen_us, end_us) - start_us) / 1e6 / period_s)
        return Readings(
            count=min(n, (end_us - start_us) / 1e6 / period_s + 1),
            scatter_w=sqrt(max(0.0, bends) / (6 * n)) if n >= 1 else 0.0,
            distinct=self._distinct(active, j),
            peak_w=self._peaks.greatest(self._power, i if i < j else active, j),
            unseen_s=self._unseen_before(j - 1) - self._unseen_before(min(i, j - 1)),
        )

    def still_s(self, start_us: int, end_us: int) -> float:
        """See Curve.

        Counted are runs of equal readings that lead over the beginning or the end of the work, or that a sensor gives
        whose readings otherwise differ from each other.
        """
        if not self._first:
            return 0.0
        period_us = max(self.update_s, self.meter.poll_s) * 1e6
        shortest_us = max(STILL_UPDATES * period_us, STILL_AT_LEAST_S * 1e6)
        at = bisect_right(self._stretches, start_us, key=lambda stretch: stretch.seen_us)
        still_us = 0
        for begin_us, seen_us, k in (*self._stretches[at:], Stretch(self._same_since_us, self._seen_us, self._same_k)):
            if begin_us >= end_us:
                break
            if seen_us - begin_us < shortest_us or abs(self._power[k]) < STILL_STEPS * self.step:
                continue
            over_start = begin_us < start_us - period_us and seen_us > start_us + shortest_us
            over_end = begin_us < end_us - period_us and seen_us > end_us + shortest_us
            if over_start or over_end or begin_us <= start_us <= end_us <= seen_us or self._is_lively(k):
                until_us = seen_us if over_end else min(end_us, seen_us)
                still_us += max(0, until_us - max(start_us, begin_us + round(period_us)))
        return still_us / 1e6

    def _is_lively(self, k: int) -> bool:
        """Whether the readings before run k hardly ever repeated each other."""
        if k < LIVELY_RUNS:
            return False
        (now, at), (before, before_at) = self._sums(k), self._sums(k - LIVELY_RUNS)
        return now.count[at] - before.count[before_at] <= LIVELY_UPDATES * LIVELY_RUNS

    def _known_to_us(self) -> int:
        return self._seen_us

    def _end_powers(self) -> tuple[float, float]:
        return abs(self._power[0]), abs(self._power[-1])

    def _add_reading(self, t_us: int, value: float) -> bool:
        believed = self._gate.admit(t_us, value, self.update_s)
        for reading in believed:
            self._accept(*reading)
        return bool(believed)

    def _accept(self, t_us: int, power_w: float) -> None:
        if (
            self._first
            and not self._slept
            and t_us - self._seen_us <= self._run_break_us
            and power_w == self._power[-1]
        ):
            self._held[-1], self._seen_us = t_us - self._first[-1], t_us
            return
        change_w = power_w - self._power[-1] if self._first else 0.0
        if change_w or not self._first:
            if self._first and self._seen_us - self._same_since_us >= STILL_AT_LEAST_S * 1e6:
                self._stretches.append(Stretch(self._same_since_us, self._seen_us, self._same_k))
            self._same_since_us, self._same_k = t_us, len(self._first)
        if len(self._first) <= STEPS_AT_LEAST and change_w:
            self._least_change_w = min(self._least_change_w, abs(change_w))
            if len(self._first) == STEPS_AT_LEAST and self._least_change_w > self.step:
                self.step = self._least_change_w
                self.revision += 1
        if self._first and t_us - self._seen_us > self._run_break_us:
            self.period.interrupt()
        if self._slept:
            self._breaks.add(len(self._first))
            self._slept = False
        self._rows += 1
        self._first.append(t_us)
        self._held.append(0)
        self._seen_us = t_us
        self._power.append(power_w)
        self._peaks.append(power_w)
        if change_w and self.period.changed(t_us, change_w):
            self._recompute()
        else:
            self._extend(len(self._first) - 1)

    def _recompute(self) -> None:
        # Others, since marks share those there were.
        self._noted, self._latest, self._latest_from, self._opened = Sums(), Sums(), 0, {}
        self.gaps.clear()
        self.revision += 1
        self._follow_period()
        for k in range(len(self._first)):
            self._extend(k)

    def _extend(self, k: int) -> None:
        """Sum up to run k, all before it being summed."""
        if k == 0:
            self._latest.add_first()
        else:
            step = self._step(k - 1)
            self._add_up(self._latest, self._power[max(0, k - 2)], step)
            self._note_gap(step)
        if k % SUMS_APART == 0:
            self._noted.add(self._latest, len(self._latest) - 1)
        if len(self._latest) >= 2 * SUMS_KEPT:
            self._latest, self._latest_from = self._latest.part(SUMS_KEPT), self._latest_from + SUMS_KEPT

    def _step(self, k: int) -> _Step:
        first, power = self._first, self._power
        return k + 1 in self._breaks, first[k], first[k] + self._held[k], power[k], first[k + 1], power[k + 1]

    def _note_gap(self, step: _Step) -> None:
        is_break, _, seen, before, end, after = step
        if is_break or self._is_gap(seen, end):
            end_us = self._gap_end_us(is_break, seen, end)
            length_s = (end_us - seen) / 1e6
            self.gaps.add(
                Gap(
                    start_us=seen,
                    end_us=end_us,
                    kind="suspend" if is_break else "bridged",
                    energy_j=length_s * (before + after) / 2,
                    u_j=length_s * abs(after - before) / sqrt(12),
                    fall_w=before - after,
                )
            )

    def _sums(self, k: int) -> tuple[Sums, int]:
        """The sums before run k, and their place among others."""
        if k >= self._latest_from:
            return self._latest, k - self._latest_from
        place, at = divmod(k, SUMS_APART)
        if place not in self._opened:
            while len(self._opened) >= SUMS_OPENED:
                del self._opened[next(iter(self._opened))]
            self._opened[place] = self._added_up(place, (place + 1) * SUMS_APART)
        return self._opened[place], at

    def _added_up(self, place: int, end: int) -> Sums:
        """The sums before each run from one in `_noted` to the one before `end`, added up as they were at first."""
        begin = place * SUMS_APART
        low = max(0, begin - 1)
        first, held, power = self._first[low:end], self._held[low:end], self._power[low:end]
        sums = self._noted.part(place, place + 1)
        for at in range(begin - low, end - low - 1):
            seen_us = first[at] + held[at]
            step = at + low + 1 in self._breaks, first[at], seen_us, power[at], first[at + 1], power[at + 1]
            self._add_up(sums, power[max(0, at - 1)], step)
        return sums

    def _add_up(self, sums: Sums, earlier: float, step: _Step) -> None:
        """Add the sums with one more run; `earlier` is the power of the run before it, or of itself if it is first."""
        is_break, start, seen, before, end, after = step
        count, bends = self._contribution(seen - start, before - earlier, before - after)
        unseen_s = 0.0
        if self.averaging and not is_break and not self._is_gap(seen, end):
            # No mean covers what is longer than the updates in it.
            length_s, update_s = (end - start) / 1e6, self.update_s
            unseen_s = max(0.0, length_s - update_s * max(1, round(length_s / update_s)))
        sums.add_more(self._within(step, end), count, bends, unseen_s)

    def _is_gap(self, seen: int, end: int) -> bool:
        return end - seen > self.silence_us

    def _gap_end_us(self, is_break: bool, seen: int, end: int) -> int:
        """From when on the next run is known: the update that its first reading is the mean of."""
        covered_us = round(self.update_s * 1e6) if self.averaging and not is_break else 0
        return max(seen, end - covered_us)

    def _within(self, step: _Step, t_us: float) -> float:
        """Energy in joules from the first sight of a run to `t_us`, no later than the first sight of the next."""
        is_break, start, seen, before, end, after = step
        if is_break or self._is_gap(seen, end):
            known_us = self._gap_end_us(is_break, seen, end)
            between = (before + after) / 2 * max(0, min(t_us, known_us) - seen)
            return (before * (min(t_us, seen) - start) + between + after * max(0, t_us - known_us)) / 1e6
        if self.averaging:
            switch = end - (end - start) / max(1, round((end - start) / (self.update_s * 1e6)))
            return (before * (min(t_us, switch) - start) + after * max(0, t_us - switch)) / 1e6
        if not self.period.at_most and seen - start < self.update_s * 1e6:
            seen = start
        if t_us <= seen:
            return before * (t_us - start) / 1e6
        ramp = t_us - seen
        return (before * (t_us - start) + (after - before) * ramp * ramp / (2 * (end - seen))) / 1e6

    def _contribution(self, span_us: int, rise: float, fall: float) -> tuple[float, float]:
        """A run's readings, and the squares of their second differences, about the neighbours that it has."""
        n = 1 + int(span_us / 1e6 / max(self.update_s, self.meter.poll_s) + 0.1)
        return n, (rise + fall) ** 2 if n == 1 else rise * rise + fall * fall

    def _up_to(self, end: int, end_us: int) -> tuple[float, float]:
        """The readings of the runs before one, until a moment, and the squares of their second differences."""
        sums, at = self._sums(end - 1)
        first_us, power_w = self._first[end - 1], self._power[end - 1]
        rise = power_w - self._power[end - 2] if end > 1 else 0.0
        # What comes later than this may not have been read yet when a window is measured.
        follows = end < len(self._first) and self._first[end] <= end_us + self.silence_us
        fall = power_w - self._power[end] if follows else 0.0
        count, bends = self._contribution(min(self._held[end - 1], end_us - first_us), rise, fall)
        return sums.count[at] + count, sums.bends[at] + bends

    def _unseen_before(self, k: int) -> float:
        sums, at = self._sums(k)
        return sums.unseen_s[at]

    def _distinct(self, start: int, end: int) -> int:
        return len(set(self._power[start : min(end, start + 4 * DISTINCT_AT_MOST)]))
