"""Load, steal, other load and frequency of the cores."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import psutil

from edgetop.core.sources import CPU_QUOTA, Channel, SourceInfo, Unavailable
from edgetop.io.cpus import QuotaUse, parse_cpu_list, quota_use
from edgetop.telemetry.host import FILE_BYTES, Host, SysfsFile, number_of, text_of, why
from edgetop.telemetry.processes import cpu_time_s
from edgetop.telemetry.source import Source, SourceLost, UnavailableSource, Values

PERIOD_S = 1.0
FIRST_READING = Unavailable("a load needs two readings")
OFFLINE = Unavailable("the core is offline")
UNMOVED = Unavailable("the kernel's counters did not move")
NO_STEAL = Unavailable("this system does not count time that a hypervisor withheld")
NO_CPUFREQ = Unavailable("this machine does not report its clock frequency")
WORKER_GONE = Unavailable("the engine ended since the reading before")
_STAT_BYTES = 65536
"""The lines of some 600 cores, which come first."""

_CLUSTERS_READ = 4
"""Each reading may wake a core, and between Linux 4.13 and 5.17 an x86 core sleeps 10 ms over one."""


class CoreTimes(NamedTuple):
    """What a core, or several together, did since boot, in seconds."""

    busy_s: float
    """Withheld time among it: to those who wait for the core it is taken."""
    steal_s: float
    all_s: float
    """Idle time among it."""


class ProcessorLoad:
    """Loads since the reading before.

    Those of a core are in per cent of the core. `cpu.total`, `cpu.steal` and `cpu.others` are in per cent of all cores
    that are online; `others` is `total` without this process and the engine, so that withheld time is part of it.
    """

    blocking = False

    def __init__(self, host: Host) -> None:
        """Raises SourceLost when the kernel's counters cannot be read."""
        self._host = host
        self._stat = SysfsFile(host.path("/proc/stat"), _STAT_BYTES)
        self._frequencies = _frequency_files(host)
        try:
            online = self._core_times()
        except SourceLost:
            self.close()
            raise
        self._cores = sorted({*online, *_offline_cores(host)})
        quota = quota_use(host.sysroot) if host.system == "linux" else None
        self._has_quota = quota is not None
        self.info = SourceInfo(
            name="cpu",
            driver="procfs" if host.system == "linux" else "psutil",
            path=str(self._stat.path) if host.system == "linux" else "",
            period_s=PERIOD_S,
            channels=(
                Channel(name="cpu.total", unit="%", digits=1),
                Channel(name="cpu.steal", unit="%", digits=1),
                Channel(name="cpu.others", unit="%", digits=1),
                Channel(name="cpu.frequency", unit="Hz"),
                *((Channel(name=CPU_QUOTA, unit="%", digits=1, label="periods cut short"),) if quota else ()),
                *(Channel(name=f"cpu.{core}", unit="%", digits=1) for core in self._cores),
            ),
        )
        self._before: dict[int, CoreTimes] = {}
        self._quota_before: QuotaUse | None = quota
        self._before_ours: dict[int, float] = {}

    def read(self) -> Values:
        """Read all channels once. Raises SourceLost when the kernel's counters cannot be read."""
        now, ours = self._core_times(), self._our_times_s()
        before, before_ours = self._before, self._before_ours
        self._before, self._before_ours = now, ours
        spans = {core: _since(before[core], now[core]) for core in now if core in before}
        return (
            *(self._together(spans, before_ours, ours) if before else (FIRST_READING,) * 3),
            self._frequency_hz(),
            *((self._cut_short(),) if self._has_quota else ()),
            *(_load_of(core, now, spans) for core in self._cores),
        )

    def close(self) -> None:
        """Close all files."""
        for file in (self._stat, *self._frequencies):
            file.close()

    def _together(self, spans: dict[int, CoreTimes], before_ours: dict[int, float], ours: dict[int, float]) -> Values:
        """Load, withheld time and the load of others, of all cores that were online at both readings."""
        moved = [span for span in spans.values() if span.all_s > 0]
        if not moved:
            return (UNMOVED,) * 3
        all_s = sum(span.all_s for span in moved)
        total = _percent(sum(span.busy_s for span in moved), all_s)
        steal: float | Unavailable = _percent(sum(span.steal_s for span in moved), all_s)
        if self._host.system != "linux":
            steal = NO_STEAL
        if before_ours.keys() - ours.keys():
            return (total, steal, WORKER_GONE)
        # An engine that was not there at the reading before has used all of its time since then.
        ours_s = sum(max(0.0, spent_s - before_ours.get(pid, 0.0)) for pid, spent_s in ours.items())
        return (total, steal, max(0.0, total - 100.0 * ours_s / all_s))

    def _cut_short(self) -> float | Unavailable:
        """The share of scheduling periods since the reading before in which the quota was used up."""
        before, now = self._quota_before, quota_use(self._host.sysroot)
        self._quota_before = now
        if before is None or now is None or now.periods <= before.periods:
            return 0.0 if now is not None and before == now else FIRST_READING
        return _percent(max(0, now.throttled - before.throttled), now.periods - before.periods)

    def _core_times(self) -> dict[int, CoreTimes]:
        if self._host.system != "linux":
            return {core: _of_psutil(times) for core, times in enumerate(psutil.cpu_times(percpu=True))}
        try:
            return parse_stat(self._stat.text())
        except (OSError, ValueError) as error:
            raise SourceLost(why(error, self._stat.path)) from error

    def _our_times_s(self) -> dict[int, float]:
        host = self._host
        pids = [pid for pid in (host.own_pid, host.worker_pid(), *host.helper_pids()) if pid is not None]
        times = {pid: cpu_time_s(pid, self._host.system) for pid in pids}
        return {pid: spent_s for pid, spent_s in times.items() if spent_s is not None}

    def _frequency_hz(self) -> float | Unavailable:
        """The clock of the fastest core among those asked."""
        highest_khz = 0
        for file in self._frequencies:
            try:
                highest_khz = max(highest_khz, file.number())
            except (OSError, ValueError):  # offline, or "<unknown>"
                continue
        return 1000.0 * highest_khz if highest_khz else NO_CPUFREQ


def probe(host: Host) -> Iterator[Source | UnavailableSource]:
    """The processor of this machine."""
    try:
        yield ProcessorLoad(host)
    except SourceLost as lost:
        yield UnavailableSource(name="cpu", missing=lost.missing)


def parse_stat(text: str) -> dict[int, CoreTimes]:
    """Times of the cores that are online, by their numbers, from the text of `/proc/stat`.

    Raises ValueError when it has no core, or a core with something else than numbers.
    """
    cores: dict[int, CoreTimes] = {}
    for line in text.splitlines():
        name, *fields = line.split() or [""]
        if not name.startswith("cpu"):
            break
        if name != "cpu":
            # user nice system idle iowait irq softirq steal; guest times follow, which user and nice contain (proc(5)).
            ticks = [int(spent) for spent in fields[:8]]
            idle, steal = sum(ticks[3:5]), sum(ticks[7:8])
            cores[int(name[3:])] = _core_times_of(sum(ticks), idle, steal)
    if not cores:
        raise ValueError("no core is listed")
    return cores


def _core_times_of(all_ticks: int, idle_ticks: int, steal_ticks: int) -> CoreTimes:
    ticks_per_s = os.sysconf("SC_CLK_TCK")
    return CoreTimes((all_ticks - idle_ticks) / ticks_per_s, steal_ticks / ticks_per_s, all_ticks / ticks_per_s)


def _of_psutil(times: Sequence[float]) -> CoreTimes:
    idle_s: float = getattr(times, "idle", 0.0)
    return CoreTimes(sum(times) - idle_s, 0.0, sum(times))


def _since(before: CoreTimes, now: CoreTimes) -> CoreTimes:
    # Idle time may run backwards by a tick (proc(5)), and all of a core's times when it was offline in between.
    busy_s, steal_s, all_s = (max(0.0, later - earlier) for earlier, later in zip(before, now, strict=True))
    return CoreTimes(min(busy_s, all_s), min(steal_s, all_s), all_s)


def _load_of(core: int, now: dict[int, CoreTimes], spans: dict[int, CoreTimes]) -> float | Unavailable:
    if core not in now:
        return OFFLINE
    if core not in spans:
        return FIRST_READING
    return _percent(spans[core].busy_s, spans[core].all_s) if spans[core].all_s > 0 else UNMOVED


def _percent(part: float, whole: float) -> float:
    return min(100.0, 100.0 * part / whole)


def _offline_cores(host: Host) -> frozenset[int]:
    """Cores that are there but switched off; sockets that a virtual machine might fill one day are only possible."""
    return _core_list(host, "present") & _core_list(host, "offline")


def _core_list(host: Host, name: str) -> frozenset[int]:
    """A list such as `online`; empty if it is not there."""
    return parse_cpu_list(text_of(host.path("/sys/devices/system/cpu") / name, FILE_BYTES))


def _frequency_files(host: Host) -> list[SysfsFile]:
    """Clocks of the fastest clusters, or where each core has a clock of its own, of the cores that boost highest."""
    policies = host.path("/sys/devices/system/cpu/cpufreq").glob("policy*")
    fastest = sorted(policies, key=lambda policy: (-(number_of(policy / "cpuinfo_max_freq") or 0), policy.name))
    return [SysfsFile(policy / "scaling_cur_freq") for policy in fastest[:_CLUSTERS_READ]]
