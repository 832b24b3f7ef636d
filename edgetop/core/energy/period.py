"""How often a sensor gives something new, found from its own readings.

The period U is the median gap between changes of the value, with three corrections. A coarse sensor on a quiet
machine flickers between two codes, now and then: such changes tell nothing and are passed over. A repeated value
makes a gap of several updates: the median is divided by the smallest whole number that leaves few gaps clearly
shorter than the quotient. And polling rounds every gap by up to a poll period: so U is the time of all gaps over the
updates that they span. The smallest single gap, which other tools take, is wrong: one reading just before and one
just after an update make it too short.

Gaps are judged in blocks of 20, and the quickest blocks stand, since an update can go unseen but cannot come early.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from statistics import median_low

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
