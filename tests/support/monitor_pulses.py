"""What a monitor costs the decoding beside it: the monitor is stopped and continued in turn while the model decodes.

Speeds of whole runs scatter by several percent on a machine that other people use too, and by more than what a good
monitor costs. Stretches of a second beside each other in one answer hardly do, so a cost of half a percent can be seen
after a few minutes. A stopped process takes nothing, as if it were not there; what it could not take in while it stood
still it takes in when it goes on, so that the cost is told rather too high than too low.

Where the speed scatters by more than the cost, the kernel tells the cost itself: how long decoding threads were ready
to run and had no core. They wait for each other, so the speed falls by at most the sum of what each of them waited.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import statistics
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
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
    waited_s: float
    """All decoding threads together, for a core."""

    @property
    def waited_share(self) -> float:
        """Seconds waited in a second."""
        return self.waited_s / ((self.end_us - self.begin_us) / US_PER_S)


def pulse(
    pid: int, engine: int, drain: Callable[[float], None], going: Callable[[], bool], chance: random.Random
) -> list[Stretch]:
    """Continue and stop process `pid` in turn as long as `going` says, while process `engine` decodes.

    `drain` waits, and takes what the others write.
    """
    stretches = []
    try:
        while going():
            for runs in (True, False):
                os.kill(pid, signal.SIGCONT if runs else signal.SIGSTOP)
                begin_us, before_s = monotonic_us(), waited_s(engine)
                drain(chance.uniform(*STRETCH_S))
                stretches.append(Stretch(begin_us, monotonic_us(), runs, waited_s(engine) - before_s))
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


def waits(stretches: Sequence[Stretch]) -> list[float]:
    """Of each stretch in which the monitor ran, the share that was waited, less that before and after."""
    return [
        stretch.waited_share - (before.waited_share + after.waited_share) / 2
        for before, stretch, after in zip(stretches, stretches[1:], stretches[2:], strict=False)
        if stretch.runs
    ]


def waited_s(pid: int) -> float:
    """How long the threads of a process that live were ready and had no core so far (proc_pid_schedstat(5))."""
    waited_ns = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # a thread that has just ended
            waited_ns += int((task / "schedstat").read_text().split()[1])
    return waited_ns / 1e9


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
    """A median or a mean, and its 95 % interval."""

    middle: float
    low: float
    high: float


def median_interval(values: Sequence[float], seed: int = 1) -> Interval:
    """The median with its 95 % bootstrap interval."""
    return _interval(values, statistics.median, seed)


def mean_interval(values: Sequence[float], seed: int = 1) -> Interval:
    """The mean with its 95 % bootstrap interval."""
    return _interval(values, statistics.fmean, seed)


def _interval(values: Sequence[float], middle: Callable[[Sequence[float]], float], seed: int) -> Interval:
    chance = random.Random(seed)  # noqa: S311 - not for secrets
    drawn = sorted(middle(chance.choices(values, k=len(values))) for _ in range(4000))
    return Interval(middle(values), drawn[100], drawn[-101])
