"""Readings of one source over a session, in columns that stay small."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from math import nan
from typing import Final

from msgspec import Struct

from edgetop.core.records import Channel, Missing, SourceInfo

LARGEST: Final = 2**53
"""Whole numbers up to here are exact in every JSON reader; as microseconds they are 285 years."""
NO_REASON = "the sensor gave no value"
MOST_DIGITS: Final = 15
"""A double holds no more."""
EXTENT_EVERY: Final = 1024
"""Running statistics are noted after every so many readings, so that earlier moments can be asked for at once."""


class MissingRun(Struct, frozen=True, array_like=True):
    """Readings in a row that are missing for one reason."""

    start: int
    """Index of the first one."""
    count: int
    reason: str


class Extent(Struct, frozen=True):
    """Running statistics of the first `count` readings of a column; missing ones do not count."""

    count: int = 0
    present: int = 0
    total: float = 0.0
    least: float | None = None
    most: float | None = None

    @property
    def mean(self) -> float | None:
        """Mean of the readings that are there."""
        return self.total / self.present if self.present else None


class Column:
    """The readings of one channel: a double each, NaN inside where one is missing."""

    __slots__ = ("_digits", "_extent", "_extents", "channel", "runs", "values")

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self._digits = max(-MOST_DIGITS, min(MOST_DIGITS, channel.digits))
        self.values = array("d")
        self.runs: list[MissingRun] = []
        self._extent = Extent()
        self._extents = [Extent()]
        """Of the first 0, EXTENT_EVERY, 2 EXTENT_EVERY ... readings."""

    def append(self, value: float | None, reason: str) -> None:
        """Add a reading, rounded to the channel's digits. One beyond LARGEST is no reading, and missing."""
        if value is not None and abs(value) <= LARGEST:
            self.values.append(round(value, self._digits))
            return
        reason = reason or NO_REASON
        index = len(self.values)
        last = self.runs[-1] if self.runs else None
        if last is not None and last.start + last.count == index and last.reason == reason:
            self.runs[-1] = MissingRun(last.start, last.count + 1, reason)
        else:
            self.runs.append(MissingRun(index, 1, reason))
        self.values.append(nan)

    def at(self, index: int) -> float | Missing:
        """The reading at `index`."""
        value = self.values[index]
        if value == value:  # noqa: PLR0124 (only NaN differs from itself)
            return value
        position = bisect_right(self.runs, index, key=lambda run: run.start) - 1
        return Missing(self.runs[position].reason)

    def extent(self, count: int) -> Extent:
        """Statistics of the first `count` readings. Asking costs what lies between `count` and one asked for before."""
        extent = self._extent if self._extent.count <= count else Extent()
        noted = self._extents[min(count // EXTENT_EVERY, len(self._extents) - 1)]
        extent = max(extent, noted, key=lambda each: each.count)
        while extent.count < count:
            extent = self._more(extent, min(count, (extent.count // EXTENT_EVERY + 1) * EXTENT_EVERY))
            if extent.count == len(self._extents) * EXTENT_EVERY:
                self._extents.append(extent)
        self._extent = extent
        return extent

    def _more(self, extent: Extent, count: int) -> Extent:
        total, present, least, most = extent.total, extent.present, extent.least, extent.most
        for value in self.values[extent.count : count]:
            if value == value:  # noqa: PLR0124
                total += value
                present += 1
                if least is None or value < least:
                    least = value
                if most is None or value > most:
                    most = value
        return Extent(count=count, present=present, total=total, least=least, most=most)


class Series:
    """Everything one source read: stamps and one column per channel."""

    __slots__ = ("columns", "info", "t_us")

    def __init__(self, info: SourceInfo) -> None:
        self.info = info
        self.t_us = array("q")
        """Microseconds since the session began, ascending."""
        self.columns = tuple(Column(channel) for channel in info.channels)

    def append(self, t_us: int, values: Sequence[float | None], reasons: Sequence[str]) -> None:
        """Add one reading of all channels. `reasons` is empty or as long as `values`, which fit the channels."""
        self.t_us.append(t_us)
        for index, (column, value) in enumerate(zip(self.columns, values, strict=True)):
            column.append(value, reasons[index] if index < len(reasons) else "")

    def count_until(self, t_us: int) -> int:
        """How many readings were taken up to and including `t_us`."""
        return bisect_right(self.t_us, t_us)

    def between(self, t0_us: int, t1_us: int) -> tuple[int, int]:
        """The range of indices whose stamps lie in t0_us <= t <= t1_us."""
        return bisect_left(self.t_us, t0_us), bisect_right(self.t_us, t1_us)
