"""The one clock of edgetop.

Every stamp is CLOCK_MONOTONIC in whole microseconds. The kernel shares that clock between processes, so a stamp
taken by the worker beside its decode call and one taken by the sampler in the screen's process are comparable.
"""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Returns the present moment in microseconds; tests pass a fixed one."""

US_PER_S = 1_000_000


def monotonic_us() -> int:
    """The present moment on CLOCK_MONOTONIC, in microseconds."""
    return time.monotonic_ns() // 1000


def seconds(us: int) -> float:
    """A span of microseconds in seconds."""
    return us / US_PER_S
