"""Threads that read sources in time, with adaptive periods and stamps.

Sources of one period are read together, so that the processor is woken once for all of them. A source that may block
has a thread of its own. Readings wait here until `drain` fetches them; nobody is woken for them.

The threads keep the niceness of the one that starts them, which is that of the screen: a reading that comes late is
stamped when it was taken, while one taken in time would have cost a decoding thread its core.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import isfinite

from edgetop.core.clock import US_PER_S, Clock, monotonic_us
from edgetop.core.records import Event, Record, Sampled, SourceAdded, SourceMissing
from edgetop.core.sources import Unavailable
from edgetop.telemetry.registry import Inventory
from edgetop.telemetry.source import Source, SourceLost, StampedSource, Values

RETRY_S = (1.0, 2.0, 5.0, 10.0, 30.0)
"""How long a lost source is left alone before it is tried again; the last one from then on."""

SUSPEND_US = US_PER_S
"""The machine slept if its boot clock gained this much on the monotonic one."""

STOP_S = 1.0
"""How long `stop` waits for sources that block."""

TOO_SLOW = "the reading took too long to be of any moment"

NO_NUMBER = "the sensor gave no number"

Waiter = Callable[[float], bool]
"""Waits for so many seconds and tells whether to stop; tests replace it."""


def boot_clock_us() -> int:
    """The clock that goes on while the machine sleeps; the monotonic one where there is none."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000
    return monotonic_us()


class Sampler:
    """Reads sources from `start` to `stop`."""

    def __init__(self, inventory: Inventory, *, clock: Clock = monotonic_us, boot_clock: Clock = boot_clock_us) -> None:
        self._inventory = inventory
        self._clock = clock
        self._boot_clock = boot_clock
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._records: list[Record] = [
            *(SourceAdded(source=source.info) for source in inventory.sources),
            *(SourceMissing(name=absent.name, missing=absent.missing) for absent in inventory.absent),
        ]
        self._asleep_us = boot_clock() - clock()
        quick = tuple(ScheduledSource(source, clock) for source in inventory.sources if not source.blocking)
        slow = tuple((ScheduledSource(source, clock),) for source in inventory.sources if source.blocking)
        self.groups: tuple[tuple[ScheduledSource, ...], ...] = (quick, *slow) if quick else slow
        """The sources that share a thread."""
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to read, once."""
        for group in self.groups:
            thread = threading.Thread(target=self._run, args=(group,), name="edgetop-sampler", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """End the threads, which close their sources. One that blocks for a second is left to do so later."""
        self._stop.set()
        if not self._threads:
            self._inventory.close()
        end_s = time.monotonic() + STOP_S
        for thread in self._threads:
            thread.join(max(0.0, end_s - time.monotonic()))

    def drain(self) -> list[Record]:
        """What was read since the call before, in the order of reading."""
        with self._lock:
            records, self._records = self._records, []
        return records

    def sample(self, group: Sequence[ScheduledSource], wait: Waiter) -> None:
        """Read a group of sources, each when it is due, until `wait` says stop."""
        while True:
            now_us = self._clock()
            records = [record for followed in group if followed.due_us <= now_us for record in followed.read()]
            with self._lock:
                # Before the readings: to whoever reckons with them, what came before the sleep is another stretch.
                self._note_suspend(now_us)
                self._records += records
            due_us = min(followed.due_us for followed in group)
            if wait(max(0.0, (due_us - self._clock()) / US_PER_S)):
                return

    def _run(self, group: Sequence[ScheduledSource]) -> None:
        try:
            self.sample(group, self._stop.wait)
            self._read_last(group)
        finally:
            for followed in group:
                with suppress(Exception):
                    followed.source.close()

    def _read_last(self, group: Sequence[ScheduledSource]) -> None:
        """Read what was not read lately once more, so that the end of a session is in it."""
        now_us = self._clock()
        records = [
            record
            for followed in group
            if not followed.source.blocking and followed.is_half_due(now_us)
            for record in followed.read()
        ]
        with self._lock:
            self._records += records

    def _note_suspend(self, now_us: int) -> None:
        asleep_us = self._boot_clock() - self._clock()
        slept_us = asleep_us - self._asleep_us
        if slept_us > SUSPEND_US:
            self._asleep_us = asleep_us
            slept_s = slept_us / US_PER_S
            text = f"The machine was suspended for {slept_s:.0f} s."
            self._records.append(Event(t_us=now_us, kind="suspended", text=text, data={"slept_s": slept_s}))


class ScheduledSource:
    """A source, when it is due, and how often in a row it has failed."""

    def __init__(self, source: Source, clock: Clock) -> None:
        self.source = source
        self._stamping = source if isinstance(source, StampedSource) else None
        self.due_us = clock()
        self._clock = clock
        self._period_us = max(1, round(source.info.period_s * US_PER_S))
        self._failures = 0
        self._read_us = self.due_us
        self._stamped_us = 0

    def is_half_due(self, now_us: int) -> bool:
        """Whether half a period has passed since it was read; a lost source is left alone."""
        return not self._failures and now_us - self._read_us >= self._period_us // 2

    def read(self) -> list[Record]:
        """Read the source, whatever it does, and set when it is due again."""
        before_us = self._clock()
        try:
            if self._stamping is not None:
                stamped = self._stamping.read_stamped()
                after_us = self._clock()
                # One that is no later than what was noted before cannot be told apart from it any more.
                read = [self._at(each.t_us, each.values) for each in stamped if each.t_us > self._stamped_us]
            else:
                values = self.source.read()
                after_us = self._clock()
                read = [self._sampled(before_us, after_us, values)]
        except SourceLost as lost:
            return self._lost(lost.missing)
        except Exception as error:  # noqa: BLE001 - whatever a driver does, the other sources are read on
            words = " ".join(f"{type(error).__name__}: {error}".split())
            return self._lost(Unavailable(f"reading failed: {words}"))
        # The next multiple of the period that is at least half of one away: sources of like periods stay due together,
        # however long a reading took, and no rate is reckoned over an instant.
        self._read_us = after_us
        self.due_us = ((after_us + self._period_us // 2) // self._period_us + 1) * self._period_us
        if not self._failures or not read:
            return [*read]
        self._failures = 0
        name = self.source.info.name
        return [Event(t_us=after_us, kind="sensor_back", text=f"{name} answers again.", data={"source": name}), *read]

    def _sampled(self, before_us: int, after_us: int, values: Values) -> Sampled:
        if after_us - before_us > self._period_us // 2:
            values = (Unavailable(TOO_SLOW),) * len(values)
        return self._at((before_us + after_us) // 2, values)

    def _at(self, t_us: int, values: Values) -> Sampled:
        self._stamped_us = max(t_us, self._stamped_us)
        channels = self.source.info.channels
        read = [
            value if isinstance(value, Unavailable) or isfinite(value) else Unavailable(NO_NUMBER) for value in values
        ]
        reasons = [value.reason if isinstance(value, Unavailable) else "" for value in read]
        return Sampled(
            source=self.source.info.name,
            t_us=t_us,
            values=tuple(
                None if isinstance(value, Unavailable) else round(value, channel.digits)
                for value, channel in zip(read, channels, strict=True)
            ),
            reasons=tuple(reasons) if any(reasons) else (),
        )

    def _lost(self, missing: Unavailable) -> list[Record]:
        now_us = self._stamped_us = max(self._clock(), self._stamped_us)
        info = self.source.info
        wait_s = max(RETRY_S[min(self._failures, len(RETRY_S) - 1)], info.period_s)
        self.due_us = now_us + round(wait_s * US_PER_S)
        self._failures += 1
        count = len(info.channels)
        absent = Sampled(source=info.name, t_us=now_us, values=(None,) * count, reasons=(missing.reason,) * count)
        if self._failures > 1:
            return [absent]
        text = f"{info.name} does not answer: {missing.reason}."
        return [Event(t_us=now_us, kind="sensor_lost", text=text, data={"source": info.name}), absent]
