"""Which readings of power are believed.

Negative readings are legal down to the sensor's own error of zero: an idle INA3221 really says -392 mW, one step below
zero, and clamping it would bias the mean. A plug's single zero or sudden multiple is a glitch until it lasts.
"""

from __future__ import annotations

from copy import copy
from math import isfinite

from edgetop.core.energy.meter import Meter

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
