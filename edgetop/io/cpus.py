"""Cores that affinity, cluster and control group allow, how often the group's quota stopped us, and a load on them.

A cluster of slow cores makes the fast ones wait at every barrier: on 4 Cortex-A76 and 4 Cortex-A55 eight threads are
half as fast as four (llama.cpp issue 7176). A second thread on the same core shares its arithmetic units and gains
nothing, and threads beyond the quota of a cgroup are stopped in the middle of a barrier while the others spin.
"""

from __future__ import annotations

import math
import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from msgspec import Struct

from edgetop.core.clock import US_PER_S, monotonic_us

if TYPE_CHECKING:
    from subprocess import Popen

FAST_SHARE = 0.7
"""Of the fastest core's capacity. Between a P and an E core, or a big and a LITTLE one, lies more; among the cores of
one cluster less (judgement; `edgetop tune` measures)."""


def decode_threads(sysroot: Path = Path("/"), affinity: frozenset[int] | None = None) -> int:
    """Physical cores of the fast cluster that this process may use, at least 1.

    `affinity` is the set of logical CPUs we may run on.
    """
    cpus = affinity if affinity is not None else _own_affinity()
    cores = {_core_of(sysroot, cpu) for cpu in _fast_cpus(sysroot, cpus)}
    quota = cpu_quota(sysroot)
    return max(1, len(cores) if quota is None else min(len(cores), math.floor(quota)))


def fast_mask(sysroot: Path = Path("/"), affinity: frozenset[int] | None = None) -> str | None:
    """The CPUs of the fast cluster as a hexadecimal mask; `None` where all are as fast."""
    cpus = affinity if affinity is not None else _own_affinity()
    fast = _fast_cpus(sysroot, cpus)
    return None if fast == cpus else f"{sum(1 << cpu for cpu in fast):x}"


def _fast_cpus(sysroot: Path, cpus: frozenset[int]) -> frozenset[int]:
    """The CPUs that are nearly as fast as the fastest, by the scheduler's measure, or by Intel's list of E cores."""
    system = sysroot / "sys/devices"
    capacities = {cpu: _number(system / f"system/cpu/cpu{cpu}/cpu_capacity") for cpu in cpus}
    known = [capacity for capacity in capacities.values() if capacity is not None]
    if known:
        least = FAST_SHARE * max(known)
        return frozenset(cpu for cpu, capacity in capacities.items() if capacity is None or capacity >= least)
    slow = parse_cpu_list(_text(system / "cpu_atom/cpus"))
    return cpus - slow or cpus


def parse_cpu_list(text: str) -> frozenset[int]:
    """The CPUs of a list such as `0-5` or `0,2-3` (Documentation/admin-guide/cputopology.rst); else none."""
    cpus: set[int] = set()
    for part in text.strip().split(","):
        ends = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", part)
        if ends is not None:
            cpus.update(range(int(ends[1]), int(ends[2] or ends[1]) + 1))
    return frozenset(cpus)


class QuotaUse(Struct, frozen=True):
    """How often the control group with the tightest quota could run, since it was made."""

    periods: int
    throttled: int
    """Periods in which its tasks were stopped until the next one, the quota being used up."""


def quota_use(sysroot: Path = Path("/")) -> QuotaUse | None:
    """From `cpu.stat` of the group that grants the fewest CPUs; `None` without a quota."""
    quotas = _quotas(sysroot)
    if not quotas:
        return None
    _, folder = min(quotas, key=lambda each: each[0])
    fields = dict(line.split(" ", 1) for line in _text(folder / "cpu.stat").splitlines() if " " in line)
    try:
        return QuotaUse(int(fields["nr_periods"]), int(fields["nr_throttled"]))
    except (KeyError, ValueError):
        return None


def cpu_quota(sysroot: Path = Path("/")) -> float | None:
    """CPUs that the cgroups above us grant, the tightest of them; `None` if they set no limit."""
    return min((quota for quota, _ in _quotas(sysroot)), default=None)


def _quotas(sysroot: Path) -> list[tuple[float, Path]]:
    """The limits of the cgroups above us, in CPUs, each with its folder.

    Reads `cpu.max` (cgroup v2) and `cpu.cfs_quota_us` over `cpu.cfs_period_us` (v1), as in the kernel's
    Documentation/admin-guide/cgroup-v2.rst and scheduler/sched-bwc.rst.
    """
    quotas: list[tuple[float | None, Path]] = []
    for line in _text(sysroot / "proc/self/cgroup").splitlines():
        _, controllers, group = (*line.split(":", 2), "", "", "")[:3]
        if controllers == "":
            quotas += [(_quota_v2(folder), folder) for folder in _upwards(sysroot / "sys/fs/cgroup", group)]
        elif "cpu" in controllers.split(","):
            for mount in ("cpu", "cpu,cpuacct"):
                quotas += [(_quota_v1(folder), folder) for folder in _upwards(sysroot / "sys/fs/cgroup" / mount, group)]
    return [(quota, folder) for quota, folder in quotas if quota is not None]


def _own_affinity() -> frozenset[int]:
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def _core_of(sysroot: Path, cpu: int) -> str:
    """What names the physical core of a logical CPU: the list of the CPUs on it, else the CPU itself."""
    topology = sysroot / f"sys/devices/system/cpu/cpu{cpu}/topology"
    siblings = _text(topology / "core_cpus_list") or _text(topology / "thread_siblings_list")
    return siblings.strip() or str(cpu)


def _upwards(mount: Path, group: str) -> list[Path]:
    """The folder of a group and those above it; inside a container the mount itself is often the group."""
    inside = PurePosixPath(group.lstrip("/"))
    return [mount / part for part in (inside, *inside.parents) if ".." not in part.parts]


def _quota_v2(folder: Path) -> float | None:
    words = _text(folder / "cpu.max").split()
    return _ratio(words[0], words[1]) if len(words) == 2 else None


def _quota_v1(folder: Path) -> float | None:
    return _ratio(_text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us"))


def _ratio(quota: str, period: str) -> float | None:
    try:
        quota_us, period_us = int(quota), int(period)
    except ValueError:  # `max`, or no file
        return None
    return quota_us / period_us if quota_us > 0 and period_us > 0 else None


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdecimal() else None


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def start_load(spans_us: Sequence[tuple[int, int]]) -> list[Popen[bytes]]:
    """A process for each core that we may use, which keeps it busy in these spans of the monotonic clock, and ends."""
    import subprocess  # noqa: PLC0415 - few sessions begin with a load

    command = [sys.executable, "-m", "edgetop.io.cpus", *(f"{on_us}-{off_us}" for on_us, off_us in spans_us)]
    nothing = subprocess.DEVNULL
    return [subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing) for _ in _own_affinity()]


def _keep_busy(spans: Sequence[str]) -> None:
    for span in spans:
        on_us, off_us = map(int, span.split("-"))
        time.sleep(max(0, on_us - monotonic_us()) / US_PER_S)
        while monotonic_us() < off_us:
            pass


if __name__ == "__main__":
    _keep_busy(sys.argv[1:])
