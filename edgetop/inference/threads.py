"""Physical cores that affinity and cgroup allow.

A second thread on the same core shares its arithmetic units and gains nothing, and threads beyond the quota of a
cgroup are stopped in the middle of a barrier while the others spin.
"""

from __future__ import annotations

import math
import os
from pathlib import Path, PurePosixPath


def decode_threads(sysroot: Path = Path("/"), affinity: frozenset[int] | None = None) -> int:
    """Physical cores this process may use, at least 1. `affinity` is the set of logical CPUs we may run on."""
    cpus = affinity if affinity is not None else _own_affinity()
    cores = {_core_of(sysroot, cpu) for cpu in cpus}
    quota = cpu_quota(sysroot)
    return max(1, len(cores) if quota is None else min(len(cores), math.floor(quota)))


def cpu_quota(sysroot: Path = Path("/")) -> float | None:
    """CPUs that the cgroups above us grant, the tightest of them; `None` if they set no limit.

    Reads `cpu.max` (cgroup v2) and `cpu.cfs_quota_us` over `cpu.cfs_period_us` (v1), as in the kernel's
    Documentation/admin-guide/cgroup-v2.rst and scheduler/sched-bwc.rst.
    """
    quotas = []
    for line in _text(sysroot / "proc/self/cgroup").splitlines():
        _, controllers, group = (*line.split(":", 2), "", "", "")[:3]
        if controllers == "":
            quotas += [_quota_v2(folder) for folder in _upwards(sysroot / "sys/fs/cgroup", group)]
        elif "cpu" in controllers.split(","):
            for mount in ("cpu", "cpu,cpuacct"):
                quotas += [_quota_v1(folder) for folder in _upwards(sysroot / "sys/fs/cgroup" / mount, group)]
    return min((quota for quota in quotas if quota is not None), default=None)


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


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace")
    except OSError:
        return ""
