"""A load that looks like no other, by which a meter's log is aligned with the session (`sessions attach-power`).

All cores compute and rest by a maximal-length sequence, whose autocorrelation has a single peak: 31 stretches of a
quarter of a second (x⁵ + x³ + 1; Golomb, "Shift Register Sequences"). It begins a moment after it was asked for, so
that every process is there in time.

    python -m edgetop.live.sync_pulse BEGIN_US

is one of these processes: it computes from that moment of the clock on.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

from edgetop.core.clock import US_PER_S, monotonic_us
from edgetop.core.records import Event
from edgetop.session.meters import PULSE

STRETCH_US = 250_000
AHEAD_US = 1_000_000


def sequence() -> list[bool]:
    """When the load is on, stretch by stretch."""
    state, found = [True] * 5, []
    for _ in range(31):
        found.append(state[-1])
        state = [state[-1] ^ state[2], *state[:-1]]
    return found


def spans_us() -> list[tuple[int, int]]:
    """The same from when to when, since the beginning."""
    spans: list[tuple[int, int]] = []
    for index, is_on in enumerate(sequence()):
        begin_us = index * STRETCH_US
        if is_on and spans and spans[-1][1] == begin_us:
            spans[-1] = (spans[-1][0], begin_us + STRETCH_US)
        elif is_on:
            spans.append((begin_us, begin_us + STRETCH_US))
    return spans


class SyncPulse:
    """A pulse that was begun."""

    def __init__(self) -> None:
        self._begin_us = monotonic_us() + AHEAD_US
        command = [sys.executable, "-m", "edgetop.live.sync_pulse", str(self._begin_us)]
        self._processes = [
            subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            for _ in range(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
        ]

    @property
    def event(self) -> Event:
        """What the session records of it."""
        spans = " ".join(f"{begin_us}-{end_us}" for begin_us, end_us in spans_us())
        return Event(
            t_us=self._begin_us,
            kind=PULSE,
            text=f"A load pulse of {len(sequence()) * STRETCH_US / US_PER_S:.0f} s, to align a meter's log by.",
            data={"spans_us": spans},
        )

    @property
    def is_over(self) -> bool:
        """Whether all processes have ended."""
        return all(process.poll() is not None for process in self._processes)

    def stop(self) -> None:
        """End it early."""
        for process in self._processes:
            process.kill()
            process.wait()


def main(begin_us: int) -> None:
    """Compute when the load is to be on."""
    for on_us, off_us in spans_us():
        time.sleep(max(0, begin_us + on_us - monotonic_us()) / US_PER_S)
        while monotonic_us() < begin_us + off_us:
            pass


if __name__ == "__main__":
    main(int(sys.argv[1]))
