"""Monotonic microseconds; another machine's clock on ours, with its bounds.

Every stamp is CLOCK_MONOTONIC in whole microseconds. The kernel shares that clock between processes, so a stamp
taken by the worker beside its decode call and one taken by the sampler in the screen's process are comparable.

A line that the other machine sent at s and that came here at r cannot have come before it was sent, so its clock's
zero θ on ours is at most r - s. A ping that left here at a and was answered there at t cannot have been answered before
it was asked, so θ is at least a - t. These are bounds whatever the delays are, and however unlike in the two
directions; only drift loosens them, by 100 parts in a million at most (crystals of boards are within 50 each, and the
kernel's slewing towards a time server adds little to a monotonic clock). What remains between the bounds is the
uncertainty.

Lines alone give no lower bound: a constant delay looks like an offset. Then a line is taken to have come within a
quarter of a second at its best, or within what the delays were seen to vary by, whichever is more (judgement).
"""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Returns the present moment in microseconds; tests pass a fixed one."""

US_PER_S = 1_000_000

STOPPED_US = 2 * US_PER_S
"""Whoever comes to run later than this was stopped, frozen, or on a machine that was halted."""


def monotonic_us() -> int:
    """The present moment on CLOCK_MONOTONIC, in microseconds."""
    return time.monotonic_ns() // 1000


def seconds(us: int) -> float:
    """A span of microseconds in seconds."""
    return us / US_PER_S


DRIFT = 100e-6
UNASKED_DELAY_US = 250_000
SLEW = 0.05
"""What is taken for θ moves by no more than this share of the time, while the bounds allow it: a jump would press one
reading's energy into the time of a moment."""

SPREAD_KEPT = 0.99


class HostClock:
    """θ, in microseconds: what must be added to a moment of the other machine to have it on our clock."""

    def __init__(self) -> None:
        self._least_us: float | None = None
        self._most_us: float | None = None
        self._theta_us: float | None = None
        self._spread_us = 0.0
        self._may_move_us = 0.0
        self._now_us = 0

    @property
    def is_known(self) -> bool:
        """Whether anything has come from there."""
        return self._most_us is not None

    @property
    def half_width_s(self) -> float:
        """How far a moment on our clock may be off. 0 before anything is known."""
        if self._theta_us is None:
            return 0.0
        least_us, most_us = self._bounds()
        return max(most_us - self._theta_us, self._theta_us - least_us) / US_PER_S

    def arrived(self, sent_us: int, received_us: int) -> None:
        """A line that was sent at `sent_us` of the other clock came at `received_us` of ours."""
        self._pass_to(received_us)
        at_most_us = float(received_us - sent_us)
        if self._most_us is not None:
            self._spread_us = max(SPREAD_KEPT * self._spread_us, at_most_us - self._most_us)
        self._most_us = at_most_us if self._most_us is None else min(self._most_us, at_most_us)
        self._settle()

    def answered(self, asked_us: int, told_us: int, received_us: int) -> None:
        """A ping that left at `asked_us` was answered at `told_us` of the other clock; that came at `received_us`."""
        self._pass_to(received_us)
        # Since it was answered the clock may have drifted; of the upper bound the way back is more than that.
        least_us = asked_us - told_us - DRIFT * (received_us - asked_us)
        most_us = float(received_us - told_us)
        if self._most_us is not None and (
            least_us > self._most_us or (self._least_us is not None and most_us < self._least_us)
        ):
            # One of the machines slept, which a monotonic clock does not count.
            self._least_us = self._most_us = self._theta_us = None
        if self._least_us is None:
            self._theta_us = None
        self._least_us = least_us if self._least_us is None else max(self._least_us, least_us)
        self._most_us = most_us if self._most_us is None else min(self._most_us, most_us)
        self._settle()

    def local_us(self, remote_us: int) -> int:
        """A moment of the other clock on ours. To be asked once something has come."""
        return remote_us + round(self._theta_us or 0.0)

    def _bounds(self) -> tuple[float, float]:
        most_us = self._most_us or 0.0
        if self._least_us is None:
            return most_us - max(UNASKED_DELAY_US, self._spread_us), most_us
        return self._least_us, most_us

    def _pass_to(self, now_us: int) -> None:
        """Loosen the bounds by the drift since the last message."""
        passed_us = max(0, now_us - self._now_us) if self.is_known else 0
        self._now_us = max(now_us, self._now_us)
        if self._most_us is not None:
            self._most_us += DRIFT * passed_us
        if self._least_us is not None:
            self._least_us -= DRIFT * passed_us
        self._may_move_us = SLEW * passed_us

    def _settle(self) -> None:
        """Move θ towards the middle of what is possible."""
        least_us, most_us = self._bounds()
        middle_us = (least_us + most_us) / 2
        if self._theta_us is None:
            self._theta_us = middle_us
            return
        step_us = max(-self._may_move_us, min(self._may_move_us, middle_us - self._theta_us))
        self._may_move_us = 0.0
        self._theta_us = max(least_us, min(most_us, self._theta_us + step_us))
