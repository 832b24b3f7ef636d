"""Threads that read sources in time, with adaptive periods and stamps.

Sources of one period are read together, so that the processor is woken once for all of them. A source that may block,
or turns out to be slow, has a thread of its own. Readings wait here until `drain` fetches them; nobody is woken for
them. However long a reading takes, its values are kept: they are stamped with the middle of the call, and half the
call's length is how far off that may be (`stamp_s` of the source's properties). A source whose reading costs much
processor time is read less often.

The threads keep the niceness of the one that starts them, which is that of the screen: a reading that comes late is
stamped when it was taken, while one taken in time would have cost a decoding thread its core.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import chain, repeat

from msgspec.structs import replace

from edgetop.core.clock import STOPPED_US, US_PER_S, Clock, monotonic_us
from edgetop.core.records import LARGEST, STOOD_STILL, Event, Record, Sampled, SourceAdded, SourceMissing
from edgetop.core.sources import Unavailable, of_channel, with_stamp
from edgetop.io.extensions import FAILURES
from edgetop.telemetry.registry import PROBE_AGAIN_S, Inventory
from edgetop.telemetry.source import (
    FamilyProbe,
    PacedSource,
    ReadAtTheEnd,
    Source,
    SourceLost,
    StampedSource,
    UnavailableSource,
    Values,
)

RETRY_S = (1.0, 2.0, 5.0, 10.0, 30.0)
"""How long a lost source is left alone before it is tried again; the last one from then on."""

SUSPEND_US = US_PER_S
"""The machine slept if its boot clock gained this much on the monotonic one."""

STOP_S = 1.0
"""How long `stop` waits for sources that block."""

CPU_SHARE = 0.01
"""Of a core, at most, for the reading of one source."""

SLOW_US = 10_000
"""A source that takes so long several times in a row has a thread of its own from then on; at once when it takes ten
times as long."""

SLOW_TIMES = 3

CALLS_KEPT = 20
"""The length of a call is judged by the slowest but two of so many."""

RESTATED = 1.5
"""Period and stamp are stated anew when they change by more than this factor: a statement costs the account a pass
through all readings."""

STAMP_LEAST_S = 0.002

NO_NUMBER = "the sensor gave no number"

Waiter = Callable[[float], bool]
"""Waits for so many seconds and tells whether to stop; tests replace it."""


def thread_us() -> int:
    """Processor time of the calling thread."""
    return time.thread_time_ns() // 1000


def boot_clock_us() -> int:
    """The clock that goes on while the machine sleeps; the monotonic one where there is none."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000
    return monotonic_us()


class Sampler:
    """Reads sources from `start` to `stop`."""

    def __init__(
        self,
        inventory: Inventory,
        *,
        clock: Clock = monotonic_us,
        boot_clock: Clock = boot_clock_us,
        cpu_clock: Clock = thread_us,
    ) -> None:
        self._inventory = inventory
        self._clock, self._boot_clock, self._cpu_clock = clock, boot_clock, cpu_clock
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._records: list[Record] = [
            *(SourceAdded(source=source.info) for source in inventory.sources),
            *(SourceMissing(name=absent.name, missing=absent.missing) for absent in inventory.absent),
        ]
        self._asleep_us = boot_clock() - clock()
        self._late_until_us = clock()
        quick = [self._scheduled(source) for source in inventory.sources if not source.blocking]
        slow = [[self._scheduled(source)] for source in inventory.sources if source.blocking]
        self.groups: list[list[ScheduledSource]] = [quick, *slow] if quick else slow
        """The sources that share a thread."""
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to read, once."""
        for group in self.groups:
            self._read_in_thread(group)
        for late in self._inventory.late:
            # It may never answer, so nobody waits for it.
            threading.Thread(target=self._await, args=(late,), name="edgetop-late", daemon=True).start()

    def stop(self) -> None:
        """End the threads, which close their sources. One that blocks for a second is left to do so later."""
        self._stop.set()
        with self._lock:
            threads = list(self._threads)
        if not threads:
            self._inventory.close()
        end_s = time.monotonic() + STOP_S
        for thread in threads:
            thread.join(max(0.0, end_s - time.monotonic()))

    def drain(self) -> list[Record]:
        """What was read since the call before, in the order of reading."""
        with self._lock:
            records, self._records = self._records, []
        return records

    def sample(self, group: list[ScheduledSource], wait: Waiter) -> None:
        """Read a group of sources, each when it is due, until `wait` says stop. Slow ones leave the group."""
        cpu_us = self._cpu_clock()
        while True:
            now_us = self._clock()
            due = [scheduled for scheduled in group if scheduled.due_us <= now_us]
            records = [record for scheduled in due for record in scheduled.read()]
            # To wake up and to stamp is a part of what a reading costs.
            before_us, cpu_us = cpu_us, self._cpu_clock()
            around_us = cpu_us - before_us - sum(scheduled.spent_us for scheduled in due)
            for scheduled in due:
                scheduled.around_us = max(0.0, around_us / len(due))
            with self._lock:
                # Before the readings: to whoever reckons with them, what came before the sleep is another stretch.
                self._note_suspend(now_us)
                self._records += records
            for scheduled in [each for each in group if each.is_slow] if len(group) > 1 else ():
                group.remove(scheduled)
                self._read_in_thread([scheduled])
            asked_us = self._clock()
            due_us = max(asked_us, min(scheduled.due_us for scheduled in group))
            if wait((due_us - asked_us) / US_PER_S):
                return
            self._note_late(due_us, self._clock())

    def _scheduled(self, source: Source) -> ScheduledSource:
        return ScheduledSource(source, self._clock, self._cpu_clock)

    def _read_in_thread(self, group: list[ScheduledSource]) -> None:
        thread = threading.Thread(target=self._run, args=(group,), name="edgetop-sampler", daemon=True)
        with self._lock:
            self._threads.append(thread)
        thread.start()

    def _await(self, late: FamilyProbe) -> None:
        """Take in what a probe finds later, and probe again for what cannot be read yet."""
        for pause_s in chain(PROBE_AGAIN_S, repeat(PROBE_AGAIN_S[-1])):
            if late.taken:
                if self._stop.wait(pause_s):
                    return
                late = late.again()
            if not self._add_family(late):
                return

    def _add_family(self, late: FamilyProbe) -> bool:
        """Read what a probe found from now on; whether it is to be run again."""
        again = False
        for each in late.found() or []:
            if self._stop.is_set() or self._inventory.reads(each):
                if not isinstance(each, UnavailableSource):
                    with suppress(*FAILURES):
                        each.close()
                continue
            adopted = self._inventory.adopt(each)
            if isinstance(adopted, UnavailableSource):
                again |= adopted.retry
                self._note(SourceMissing(name=adopted.name, missing=adopted.missing))
            else:
                self._note(SourceAdded(source=adopted.info))
                self._read_in_thread([self._scheduled(adopted)])
        late.taken = True
        return again

    def _note(self, record: Record) -> None:
        with self._lock:
            self._records.append(record)

    def _run(self, group: list[ScheduledSource]) -> None:
        try:
            self.sample(group, self._stop.wait)
            self._read_last(group)
        finally:
            for scheduled in group:
                with suppress(*FAILURES):
                    scheduled.source.close()

    def _read_last(self, group: Sequence[ScheduledSource]) -> None:
        """Read what was not read lately once more, so that the end of a session is in it."""
        now_us = self._clock()
        records = [record for scheduled in group if scheduled.is_due_at_end(now_us) for record in scheduled.read()]
        with self._lock:
            self._records += records

    def _note_late(self, due_us: int, now_us: int) -> None:
        """Say so, once for all threads, when this process came to run far later than it was to."""
        with self._lock:
            if now_us - due_us > STOPPED_US and due_us >= self._late_until_us:
                self._late_until_us = now_us
                late_s = (now_us - due_us) / US_PER_S
                text = f"edgetop did not run for {late_s:.1f} s, nor were its sensors read: it was {STOOD_STILL}."
                event = Event(t_us=now_us, kind="edgetop_paused", text=text, data={"late_s": late_s})
                self._records.append(event)

    def _note_suspend(self, now_us: int) -> None:
        asleep_us = self._boot_clock() - self._clock()
        slept_us = asleep_us - self._asleep_us
        if slept_us > SUSPEND_US:
            self._asleep_us = asleep_us
            slept_s = slept_us / US_PER_S
            text = f"The machine was suspended for {slept_s:.0f} s."
            self._records.append(Event(t_us=now_us, kind="suspended", text=text, data={"slept_s": slept_s}))


class ScheduledSource:
    """A source, when it is due, what its reading costs, and how often in a row it has failed."""

    def __init__(self, source: Source, clock: Clock, cpu_clock: Clock = thread_us) -> None:
        self.source = source
        self.due_us = clock()
        self.is_slow = False
        """Whether others should not wait for it."""
        self._stamping = source if isinstance(source, StampedSource) else None
        self._pacing = source if isinstance(source, PacedSource) else None
        self._clock, self._cpu_clock = clock, cpu_clock
        self._stated = source.info
        self._nominal_us = self._period_us = max(1, round(source.info.period_s * US_PER_S))
        self.spent_us = 0
        """Processor time of the last reading ..."""
        self.around_us = 0.0
        """... and of what is done for it besides."""
        self._cost_us = 0.0
        """Both, a running mean."""
        self._calls_us: deque[int] = deque(maxlen=CALLS_KEPT)
        self._slow = self._reads = self._failures = 0
        self._read_us = self.due_us
        self._stamped_us = 0

    def is_due_at_end(self, now_us: int) -> bool:
        """Whether half a period has passed since it was read, or its end counts.

        A lost source is left alone, and one that blocks is read only where its end counts.
        """
        is_late = now_us - self._read_us >= self._period_us // 2 and not self.source.blocking
        return not self._failures and (is_late or isinstance(self.source, ReadAtTheEnd))

    def read(self) -> list[Record]:
        """Read the source, whatever it does, and set when it is due again."""
        before_us, cpu_us = self._clock(), self._cpu_clock()
        try:
            if self._stamping is not None:
                stamped = self._stamping.read_stamped()
                after_us = self._clock()
                # One that is no later than what was noted before cannot be separated from it any more.
                read = [self._at(each.t_us, each.values) for each in stamped if each.t_us > self._stamped_us]
            else:
                values = self.source.read()
                after_us = self._clock()
                read = [self._at((before_us + after_us) // 2, values)]
        except SourceLost as lost:
            return self._lost(lost.missing)
        except FAILURES as error:  # whatever a driver does, the other sources are read on
            words = " ".join(f"{type(error).__name__}: {error}".split())
            return self._lost(Unavailable(f"reading failed: {words}"))
        self._note_cost(after_us - before_us, self._cpu_clock() - cpu_us)
        # The next multiple of the period that is at least half of one away: sources of like periods stay due together,
        # however long a reading took, and no rate is reckoned over an instant.
        self._read_us = after_us
        self.due_us = ((after_us + self._period_us // 2) // self._period_us + 1) * self._period_us
        stated = self._restated()
        if not self._failures or not read:
            return [*stated, *read]
        self._failures = 0
        name = self.source.info.name
        back = Event(t_us=after_us, kind="sensor_back", text=f"{name} answers again.", data={"source": name})
        return [back, *stated, *read]

    def _note_cost(self, call_us: int, cpu_us: int) -> None:
        self._calls_us.append(call_us)
        self._slow = self._slow + 1 if call_us > SLOW_US else 0
        self.is_slow = self._slow >= SLOW_TIMES or call_us > 10 * SLOW_US
        self.spent_us = cpu_us
        self._cost_us += (cpu_us + self.around_us - self._cost_us) / min(len(self._calls_us), CALLS_KEPT)
        least_us = max(self._nominal_us, self._cost_us / CPU_SHARE)
        if self._pacing is not None:
            least_us = max(least_us, self._pacing.pause_s * US_PER_S)
        self._period_us = round(least_us)
        if not self.source.blocking:
            # Whole multiples, so that sources which are read together stay together.
            self._period_us = self._nominal_us * max(1, round(least_us / self._nominal_us + 0.49))

    def _restated(self) -> list[Record]:
        """The source's properties anew, once its period or the length of its calls has changed."""
        self._reads += 1
        if self._reads % CALLS_KEPT and self._reads != SLOW_TIMES:
            return []
        info, period_s = self._stated, self._period_us / US_PER_S
        slowest_us = sorted(self._calls_us)[-SLOW_TIMES if len(self._calls_us) == CALLS_KEPT else -1]
        stamp_s = slowest_us / 2 / US_PER_S
        is_stamped = self._stamping is not None or info.kind == "gauge"
        if is_stamped or stamp_s < max(STAMP_LEAST_S, RESTATED * of_channel(info, info.channels[0].name).stamp_s):
            stamp_s = 0.0
        if info.period_s / RESTATED < period_s < info.period_s * RESTATED and not stamp_s:
            return []
        self._stated = replace(with_stamp(info, stamp_s) if stamp_s else info, period_s=period_s)
        return [SourceAdded(source=self._stated)]

    def _at(self, t_us: int, values: Values) -> Sampled:
        self._stamped_us = max(t_us, self._stamped_us)
        channels = self.source.info.channels
        read = [
            value if isinstance(value, Unavailable) or abs(value) <= LARGEST else Unavailable(NO_NUMBER)
            for value in values
        ]
        reasons = [value.reason if isinstance(value, Unavailable) else "" for value in read]
        return Sampled(
            source=self.source.info.name,
            t_us=t_us,
            values=tuple(
                None if isinstance(value, Unavailable) else round(float(value), channel.digits)
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
