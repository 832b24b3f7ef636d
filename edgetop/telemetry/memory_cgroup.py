"""Memory that a control group leaves to the processes in it: what a container or a systemd slice is limited to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from edgetop.telemetry.source import Host
from edgetop.telemetry.sysfs_file import SysfsFile, text_of

_CGROUP_BYTES, _STAT_BYTES = 16384, 8192
_NO_LIMIT_BYTES = 2**60
"""A group of version 1 without a limit reports a number near 2**63."""


class Room(Struct, frozen=True):
    """What a group may use, and how much of it is left, in bytes."""

    limit_bytes: int
    available_bytes: int


class CgroupMemory:
    """One group that may have a limit, of version 2 or 1."""

    def __init__(self, folder: Path, *, unified: bool) -> None:
        """`unified` for version 2."""
        names = ("memory.max", "memory.current") if unified else ("memory.limit_in_bytes", "memory.usage_in_bytes")
        # The counts of version 1 are of one group only, unless they say `total`; its limits hold for those below, too.
        self._cache = ("active_file", "inactive_file") if unified else ("total_active_file", "total_inactive_file")
        self._limit, self._usage = (SysfsFile(folder / name) for name in names)
        self._stat = SysfsFile(folder / "memory.stat", _STAT_BYTES)

    def room(self) -> Room | None:
        """What is left now; `None` without a limit, or when the group cannot be read any more."""
        try:
            limit = self._limit.text()
            if limit == "max" or int(limit) >= _NO_LIMIT_BYTES:
                return None
            used_bytes = self._usage.number()
            cached_bytes = self._cached_bytes()
        except (OSError, ValueError):
            return None
        limit_bytes = int(limit)
        return Room(limit_bytes, min(limit_bytes, max(0, limit_bytes - used_bytes + cached_bytes)))

    def close(self) -> None:
        """Close all files."""
        for file in (self._limit, self._usage, self._stat):
            file.close()

    def _cached_bytes(self) -> int:
        """Cached files, which count as used though they give way; the kernel's MemAvailable takes them for free."""
        lines = (line.split() for line in self._stat.text().splitlines())
        return sum(int(fields[1]) for fields in lines if len(fields) == 2 and fields[0] in self._cache)


def find_groups(host: Host) -> list[CgroupMemory]:
    """The group of this process and all those above it, as far as they can have a limit."""
    groups: list[CgroupMemory] = []
    for line in text_of(host.path("/proc/self/cgroup"), _CGROUP_BYTES).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        unified = controllers == ""
        if not unified and "memory" not in controllers.split(","):
            continue
        root = host.path("/sys/fs/cgroup") if unified else host.path("/sys/fs/cgroup/memory")
        limit = "memory.max" if unified else "memory.limit_in_bytes"
        groups += [CgroupMemory(each, unified=unified) for each in _upwards(root, path) if (each / limit).is_file()]
    return groups


def _upwards(root: Path, path: str) -> Iterator[Path]:
    """The folders of a group and of those above it.

    Inside a container `path` may be the host's or lead out of what is mounted; its own limit then lies at the root.
    """
    names = [name for name in path.split("/") if name not in {"", ".", ".."}]
    for depth in range(len(names), -1, -1):
        yield root.joinpath(*names[:depth])
