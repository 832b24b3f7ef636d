"""Memory, faults and CPU time of engine, own and watched processes.

They run on this machine whatever the sysroot is, so they are read from the real `/proc`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

from edgetop.core.clock import US_PER_S
from edgetop.core.sources import Channel, SourceInfo, Unavailable
from edgetop.telemetry.host import NO_ENGINE, Host, text_of
from edgetop.telemetry.source import Source, SourceLost, UnavailableSource, Values

PERIOD_S = 1.0
PROC = Path("/proc")
FIRST_READING = Unavailable("a rate needs two readings")
NO_FAULTS = Unavailable("this system does not count page faults of a process")
NO_SPLIT = Unavailable("this system does not report mapped and private memory")
OLD_KERNEL = Unavailable("this kernel does not report mapped and private memory", "Linux 4.5 or newer does")
NO_SWAP = Unavailable("this system does not report how much of a process is in swap")
_STAT_BYTES, _STATUS_BYTES = 1024, 16384

PARENT, MAJOR_FAULTS, USER_TIME, SYSTEM_TIME, THREADS, STARTED, RESIDENT_PAGES = 1, 9, 11, 12, 17, 19, 21
"""Fields of `/proc/<pid>/stat` behind the command's name (proc(5): 4, 12, 14, 15, 20, 22 and 24)."""

NO_PEAK = Unavailable("this system does not report the most memory a process has had")
EARLIER_PEAK = Unavailable("the most memory it has had dates from before this session")
YOUNG_S = 60.0
"""What a process had since it began belongs to the session when it is no older than this at the first reading."""


class ProcessUse(NamedTuple):
    """What a process has used since it began, and what it occupies."""

    cpu_s: float
    major_faults: int | Unavailable
    resident_bytes: int
    started_s: float | None = None
    """Seconds after the machine's start, where that is known."""


def process_use(pid: int, system: str, proc: Path = PROC) -> ProcessUse | None:
    """What a process uses; `None` if it is gone."""
    if system == "linux":
        use = _from_stat(text_of(proc / str(pid) / "stat", _STAT_BYTES))
        if use is None or use.resident_bytes:
            return use
        # An emulator shows a process a `stat` of its own in which there is little but zeros.
        _, _, sizes = text_of(proc / str(pid) / "statm", _STAT_BYTES).partition(" ")
        pages = int(sizes.partition(" ")[0] or 0)
        return use._replace(resident_bytes=pages * os.sysconf("SC_PAGE_SIZE"))
    try:
        process = psutil.Process(pid)
        times, memory = process.cpu_times(), process.memory_info()
    except psutil.Error:
        return None
    # On macOS `pageins` are the faults that went to the disk.
    return ProcessUse(times.user + times.system, getattr(memory, "pageins", NO_FAULTS), memory.rss)


INSTANT_US = 200_000
"""No rate is given over less than this: processor time is counted in ticks of 10 ms."""


def cpu_time_s(pid: int, system: str) -> float | None:
    """Processor time that a process has used, in seconds; `None` if it is gone."""
    use = process_use(pid, system)
    return None if use is None else use.cpu_s


class EngineProcessUse:
    """Memory, page faults and processor time of the process that holds the model, across its restarts.

    Those of the processes that work for it are added.
    """

    blocking = False
    reads_at_end = True

    def __init__(self, host: Host, proc: Path = PROC) -> None:
        self._host = host
        self._proc = proc
        self.info = SourceInfo(
            name="engine",
            driver="procfs" if host.system == "linux" else "psutil",
            period_s=PERIOD_S,
            channels=(
                Channel(name="engine.rss", unit="B"),
                Channel(name="engine.rss_peak", unit="B"),
                Channel(name="engine.mapped", unit="B"),
                Channel(name="engine.anonymous", unit="B"),
                Channel(name="engine.swap", unit="B"),
                Channel(name="engine.major_faults", unit="1/s", digits=1),
                Channel(name="engine.cpu", unit="%", digits=1),
            ),
        )
        self._before: tuple[int, int, dict[int, ProcessUse]] | None = None
        self._earlier_peaks: dict[int, float] = {}
        """Of processes that are older than the session: the most memory they had before it."""

    def read(self) -> Values:
        """Read all channels once."""
        pid, now_us = self._host.worker_pid(), self._host.clock()
        use = None if pid is None else process_use(pid, self._host.system, self._proc)
        before, self._before = self._before, None
        if pid is None or use is None:
            return (self._host.no_worker() if pid is None else NO_ENGINE,) * len(self.info.channels)
        if use.resident_bytes == 0:  # it has ended but is not yet buried
            return (NO_ENGINE,) * len(self.info.channels)
        uses = {pid: use}
        for helper in self._host.helper_pids():
            helping = process_use(helper, self._host.system, self._proc)
            if helping is not None:
                uses[helper] = helping
        self._before = (pid, now_us, uses)
        resident_bytes = float(sum(each.resident_bytes for each in uses.values()))
        sizes = [self._sizes(each, one) for each, one in uses.items()]
        occupied = (resident_bytes, *(_sum(parts) for parts in zip(*sizes, strict=True)))
        if before is None or before[0] != pid or now_us - before[1] < INSTANT_US:
            return (*occupied, FIRST_READING, FIRST_READING)
        span_s = (now_us - before[1]) / US_PER_S
        spans = [(before[2][each], now) for each, now in uses.items() if each in before[2]]
        cpu_s = sum(max(0.0, now.cpu_s - earlier.cpu_s) for earlier, now in spans)
        return (*occupied, _sum(_fault_rate(earlier, now, span_s) for earlier, now in spans), 100.0 * cpu_s / span_s)

    def close(self) -> None:
        """Nothing is held open."""

    def _sizes(self, pid: int, use: ProcessUse) -> tuple[float | Unavailable, ...]:
        """The most that was resident, what is so mapped from files and what not, and what is swapped out, in bytes."""
        if self._host.system != "linux":
            return (NO_PEAK, NO_SPLIT, NO_SPLIT, NO_SWAP)
        sizes = _sizes_bytes(text_of(self._proc / str(pid) / "status", _STATUS_BYTES))
        peak, swapped = self._peak(pid, use, sizes.get("VmHWM")), sizes.get("VmSwap", NO_SWAP)
        mapped, anonymous = sizes.get("RssFile"), sizes.get("RssAnon")
        if mapped is None or anonymous is None:
            return (peak, OLD_KERNEL, OLD_KERNEL, swapped)
        return (peak, mapped, anonymous + sizes.get("RssShmem", 0.0), swapped)

    def _peak(self, pid: int, use: ProcessUse, most_bytes: float | None) -> float | Unavailable:
        """The most that was resident in this session; what an older process had before it is not known to be."""
        if most_bytes is None:
            return NO_PEAK
        if pid not in self._earlier_peaks:
            uptime, _, _ = text_of(self._proc / "uptime").partition(" ")
            age_s = float(uptime) - use.started_s if uptime and use.started_s is not None else 0.0
            self._earlier_peaks[pid] = most_bytes if age_s > YOUNG_S else 0.0
        return most_bytes if most_bytes > self._earlier_peaks[pid] else EARLIER_PEAK


class OwnUse:
    """What this process takes, in per cent of one core and in bytes."""

    blocking = False

    def __init__(self, host: Host) -> None:
        self._host = host
        self.info = SourceInfo(
            name="edgetop",
            driver="procfs" if host.system == "linux" else "psutil",
            period_s=PERIOD_S,
            channels=(Channel(name="edgetop.cpu", unit="%", digits=2), Channel(name="edgetop.rss", unit="B")),
        )
        self._before: tuple[int, float] | None = None

    def read(self) -> Values:
        """Read both channels once. Raises SourceLost when this process is not shown to itself."""
        use = process_use(self._host.own_pid, self._host.system)
        if use is None:
            raise SourceLost("/proc does not show this process")
        # `stat` and `os.times` count in ticks of 10 ms, the whole of what this process may take in a second.
        now_us, spent_s = self._host.clock(), time.process_time()
        before, self._before = self._before, (now_us, spent_s)
        share: float | Unavailable = FIRST_READING
        if before is not None and now_us > before[0]:
            share = 100.0 * (spent_s - before[1]) / ((now_us - before[0]) / US_PER_S)
        return (share, float(use.resident_bytes))

    def close(self) -> None:
        """Nothing is held open."""


def probe(host: Host) -> Iterator[Source | UnavailableSource]:
    """Our own processes can always be read."""
    yield EngineProcessUse(host)
    yield OwnUse(host)


def _sum(parts: Iterable[float | Unavailable]) -> float | Unavailable:
    """The sum, or the first reason why it is not known."""
    known = 0.0
    for part in parts:
        if isinstance(part, Unavailable):
            return part
        known += part
    return known


def _fault_rate(before: ProcessUse, now: ProcessUse, span_s: float) -> float | Unavailable:
    if isinstance(now.major_faults, Unavailable) or isinstance(before.major_faults, Unavailable):
        return NO_FAULTS
    return max(0, now.major_faults - before.major_faults) / span_s


def stat_fields(text: str) -> list[str]:
    """Fields of `/proc/<pid>/stat` behind the command's name, which may itself hold blanks and parentheses."""
    return text.rpartition(")")[2].split()


def _from_stat(text: str) -> ProcessUse | None:
    """Read the text of `/proc/<pid>/stat`; `None` when it is not complete."""
    fields = stat_fields(text)
    if len(fields) <= RESIDENT_PAGES:
        return None
    return ProcessUse(
        (int(fields[USER_TIME]) + int(fields[SYSTEM_TIME])) / os.sysconf("SC_CLK_TCK"),
        int(fields[MAJOR_FAULTS]),
        int(fields[RESIDENT_PAGES]) * os.sysconf("SC_PAGE_SIZE"),
        int(fields[STARTED]) / os.sysconf("SC_CLK_TCK"),
    )


def _sizes_bytes(text: str) -> dict[str, float]:
    """The sizes in `/proc/<pid>/status`, by name."""
    sizes: dict[str, float] = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        number, _, unit = value.strip().partition(" ")
        if unit == "kB" and number.isdecimal():
            sizes[name] = 1024.0 * int(number)
    return sizes


_GPU_FILES = ("/dev/nvidia", "/dev/dri/render", "/dev/kfd")


def holds_gpu(host: Host, pid: int) -> bool | None:
    """Whether a process has a graphics device open; `None` where that is not shown."""
    try:
        files = host.path(f"/proc/{pid}/fd").iterdir()
        return any(str(file.readlink()).startswith(_GPU_FILES) for file in files)
    except OSError:
        return None


ENDED = Unavailable("it has ended")


def watched_probe(host: Host) -> Iterator[Source | UnavailableSource]:
    """The processes of `host.worker_pid` and `host.helper_pids` together, below the sysroot; and this process."""
    yield EngineProcessUse(host, host.path("/proc"))
    yield OwnUse(host)


class GroupUse:
    """Memory and processor time of one process and of those that work for it, from reading to reading."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._before: tuple[int, dict[int, ProcessUse]] | None = None

    def read(self, pids: Sequence[int]) -> tuple[float | Unavailable, float | Unavailable]:
        """Resident bytes, shared pages counted in each process that has them, and per cent of one core."""
        now_us, proc = self._host.clock(), self._host.path("/proc")
        found = {pid: process_use(pid, self._host.system, proc) for pid in pids}
        # One that has ended but is not yet buried occupies nothing.
        uses = {pid: use for pid, use in found.items() if use is not None and use.resident_bytes > 0}
        before, self._before = self._before, (now_us, uses)
        if not uses:
            return ENDED, ENDED
        resident_bytes = float(sum(use.resident_bytes for use in uses.values()))
        if before is None or before[0] >= now_us:
            return resident_bytes, FIRST_READING
        earlier = before[1]
        spent_s = sum(max(0.0, use.cpu_s - earlier[pid].cpu_s) for pid, use in uses.items() if pid in earlier)
        return resident_bytes, 100.0 * spent_s * US_PER_S / (now_us - before[0])
