"""What a monitor costs the decoding beside it: the monitor is stopped and continued in turn while the model decodes.

Speeds of whole runs scatter by several percent on a machine that other people use too, and by more than what a good
monitor costs. Stretches of a second beside each other in one answer hardly do, so a cost of half a percent can be seen
after a few minutes. A stopped process takes nothing, as if it were not there; what it could not take in while it stood
still it takes in when it goes on, so that the cost is told rather too high than too low.
"""

from __future__ import annotations

import os
import random
import signal
import statistics
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

from edgetop.core.clock import US_PER_S, monotonic_us

STRETCH_S = (0.7, 1.1)
"""Drawn anew for each stretch, so that no rhythm of the monitor's own falls into step with them."""
TOKENS_MIN = 8
"""In a stretch; fewer say nothing of a speed."""


class Stretch(NamedTuple):
    """A stretch of time in which the monitor ran, or did not."""

    begin_us: int
    end_us: int
    runs: bool


def pulse(pid: int, drain: Callable[[float], None], going: Callable[[], bool], chance: random.Random) -> list[Stretch]:
    """Continue and stop a process in turn as long as `going` says; `drain` waits, and takes what the others write."""
    stretches = []
    try:
        while going():
            for runs in (True, False):
                os.kill(pid, signal.SIGCONT if runs else signal.SIGSTOP)
                begin_us = monotonic_us()
                drain(chance.uniform(*STRETCH_S))
                stretches.append(Stretch(begin_us, monotonic_us(), runs))
    finally:
        os.kill(pid, signal.SIGCONT)
    return stretches


def ratios(stretches: Sequence[Stretch], stamps_us: Sequence[int]) -> list[float]:
    """Speed while the monitor ran over the mean speed before and after, where it stood still.

    `stamps_us` are those of one answer. Stretches in which the answer began or ended are left out.
    """
    rates = [_rate(stretch, stamps_us) for stretch in stretches]
    found = []
    for index in range(1, len(rates) - 1):
        before, rate, after = rates[index - 1 : index + 2]
        if stretches[index].runs and before and rate and after:
            found.append(rate / ((before + after) / 2))
    return found


def _rate(stretch: Stretch, stamps_us: Sequence[int]) -> float | None:
    """Tokens per second of a stretch that lies within the answer."""
    if not stamps_us or stretch.begin_us < stamps_us[0] or stretch.end_us > stamps_us[-1]:
        return None
    gaps = [
        after - before
        for before, after in pairwise(stamps_us)
        if stretch.begin_us <= before and after <= stretch.end_us
    ]
    return len(gaps) / (sum(gaps) / US_PER_S) if len(gaps) >= TOKENS_MIN else None


class Interval(NamedTuple):
    """A median and its 95 % interval."""

    middle: float
    low: float
    high: float


def median_interval(values: Sequence[float], seed: int = 1) -> Interval:
    """The median with its 95 % bootstrap interval."""
    chance = random.Random(seed)  # noqa: S311 - not for secrets
    medians = sorted(statistics.median(chance.choices(values, k=len(values))) for _ in range(4000))
    return Interval(statistics.median(values), medians[100], medians[-101])
