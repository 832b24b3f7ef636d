"""Whether the device has come to rest before a run."""

from __future__ import annotations

from collections import deque
from math import sqrt
from statistics import fmean, stdev

from edgetop.bench.plan import CoolDown

LOOKED_BACK_S = 10.0
"""Rest is judged over this long."""
_S_PER_MIN = 60.0


class RestWatch:
    """Collects temperature and power while the device idles."""

    def __init__(self, cool_down: CoolDown, *, has_power: bool, now_s: float) -> None:
        self._cool_down = cool_down
        self._has_power = has_power
        self._begin_s = now_s
        self._temperatures: deque[tuple[float, float]] = deque()
        self._powers: deque[tuple[float, float]] = deque()
        self._idle_known = False

    def note(
        self, now_s: float, temperature_c: float | None, power_w: float | None, *, idle_known: bool = False
    ) -> None:
        """Take in what was read now, `None` being no reading, and whether it is enough for the idle power of a turn."""
        self._idle_known = idle_known
        for readings, value in ((self._temperatures, temperature_c), (self._powers, power_w)):
            if value is not None:
                readings.append((now_s, value))
            while readings and readings[0][0] < now_s - LOOKED_BACK_S:
                readings.popleft()

    def verdict(self, now_s: float) -> str | None:
        """`None` while it is not at rest; empty when it is; a note when the time is up."""
        waited_s = now_s - self._begin_s
        restless = self._restless(waited_s)
        if not restless:
            return ""
        if waited_s < self._cool_down.limit_s:
            return None
        return f"began after {waited_s:.0f} s though {restless}"

    def _restless(self, waited_s: float) -> str:
        """What has not come to rest; empty if all has."""
        idle_s = self._cool_down.idle_s
        # A sensor that does not answer any more need not be waited for.
        if self._has_power and (waited_s < idle_s or (idle_s > 0 and self._powers and not self._idle_known)):
            return "the idle power was not yet known"
        if len(self._temperatures) > 1:
            (begin_s, begin_c), (end_s, end_c) = self._temperatures[0], self._temperatures[-1]
            span_s = end_s - begin_s
            if waited_s < LOOKED_BACK_S:
                return "the temperature was not yet watched long enough"
            slope = (end_c - begin_c) / span_s * _S_PER_MIN if span_s > 0 else 0.0
            if abs(slope) > self._cool_down.temperature_slope_c_per_min:
                return f"the temperature still went {'up' if slope > 0 else 'down'} by {abs(slope):.1f} °C a minute"
        powers = [power for _, power in self._powers]
        if len(powers) > 3:
            # The halves are compared, since a single reading of an idle device may well be twice the next one.
            halves = powers[: len(powers) // 2], powers[len(powers) // 2 :]
            earlier, later = map(fmean, halves)
            noise_w = sqrt(sum(stdev(half) ** 2 / len(half) for half in halves))
            drift_w = abs(later - earlier)
            if drift_w > max(self._cool_down.power_spread * fmean(powers), 2 * noise_w):
                return f"the idle power still went from {earlier:.2f} to {later:.2f} W"
        return ""
