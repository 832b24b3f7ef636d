"""The cumulative energy of one channel over time, Ê(t): every energy that edgetop shows is a difference of it.

A curve is a fold of the readings in their order. It keeps every accepted reading (runs of equal ones as one entry) and
computes its energies anew when the update period is revised, so it depends on the readings alone and not on when it was
asked: folding the same readings from a file gives the same figures that the live screen ended with.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from array import array
from copy import copy
from typing import TYPE_CHECKING, ClassVar

from msgspec import Struct

from edgetop.core.energy.gaps import GapLog, GapShare
from edgetop.core.energy.meter import Meter
from edgetop.core.energy.period import UpdatePeriod

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
