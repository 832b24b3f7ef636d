"""Memory and swap, within control groups."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from edgetop.core.sources import Channel, SourceInfo, Unavailable
from edgetop.telemetry.host import Host, SysfsFile, text_of, why
from edgetop.telemetry.source import Source, SourceLost, UnavailableSource, Values

_CGROUP_BYTES, _STAT_BYTES = 16384, 8192
_NO_LIMIT_BYTES = 2**60
"""A group of version 1 without a limit reports a number near 2**63."""


class CgroupRoom(Struct, frozen=True):
    """What a group may use, and how much of it is left, in bytes."""

    limit_bytes: int
    available_bytes: int


class CgroupMemory:
    """One group that may have a limit, of version 2 or 1."""

    def __init__(self, folder: Path, *, unified: bool) -> None:
        """`unified` for version 2."""
        limits, usage = (
            (("memory.max", "memory.high"), "memory.current")
            if unified
            else (("memory.limit_in_bytes",), "memory.usage_in_bytes")
        )
        # The counts of version 1 are of one group only, unless they say `total`; its limits hold for those below, too.
        self._cache = ("active_file", "inactive_file") if unified else ("total_active_file", "total_inactive_file")
        self._limits = [SysfsFile(folder / name) for name in limits]
        self._usage = SysfsFile(folder / usage)
        self._stat = SysfsFile(folder / "memory.stat", _STAT_BYTES)

    def room(self) -> CgroupRoom | None:
        """What is left now; `None` without a limit, or when the group cannot be read any more."""
        try:
            # Above `memory.high` a group is not killed but stopped to give memory back, which is no better for a model.
            texts = [file.text() for file in self._limits if file.path.exists()]
            limits = [int(text) for text in texts if text != "max" and int(text) < _NO_LIMIT_BYTES]
            if not limits:
                return None
            used_bytes = self._usage.number()
            cached_bytes = self._cached_bytes()
        except (OSError, ValueError):
            return None
        limit_bytes = min(limits)
        return CgroupRoom(limit_bytes, min(limit_bytes, max(0, limit_bytes - used_bytes + cached_bytes)))

    def close(self) -> None:
        """Close all files."""
        for file in (*self._limits, self._usage, self._stat):
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


PERIOD_S = 1.0
NOT_REPORTED = Unavailable("this kernel does not report how much memory is available", "Linux 3.14 or newer does")
NO_SWAP = Unavailable("this system does not report its swap")
_MEMINFO_BYTES = 4096
_SIZE_DIGITS = 15


class MachineMemory:
    """Bytes, as far as this process may have them.

    A control group's limit that is below the machine's memory takes the place of it. `memory.available` is the least
    that the kernel and the groups leave, cached files counted as free, and `memory.used` the rest of `memory.total`.
    """

    blocking = False
    reads_at_end = True

    def __init__(self, host: Host) -> None:
        self._host = host
        self._meminfo = SysfsFile(host.path("/proc/meminfo"), _MEMINFO_BYTES)
        self._groups = find_groups(host) if host.system == "linux" else []
        self.info = SourceInfo(
            name="memory",
            driver="procfs" if host.system == "linux" else "psutil",
            path=str(self._meminfo.path) if host.system == "linux" else "",
            period_s=PERIOD_S,
            channels=tuple(
                Channel(name=name, unit="B")
                for name in ("memory.total", "memory.available", "memory.used", "swap.total", "swap.used")
            ),
        )

    def read(self) -> Values:
        """Read all channels once. Raises SourceLost when not even the size of the memory can be read."""
        total, available, *swap = _of_psutil() if self._host.system != "linux" else self._of_kernel()
        for group in self._groups:
            room = group.room()
            if room is not None:
                total = min(total, float(room.limit_bytes))
                available = (
                    available if isinstance(available, Unavailable) else min(available, float(room.available_bytes))
                )
        used = available if isinstance(available, Unavailable) else max(0.0, total - available)
        return (total, available, used, *swap)

    def close(self) -> None:
        """Close all files."""
        self._meminfo.close()
        for group in self._groups:
            group.close()

    def _of_kernel(self) -> tuple[float, float | Unavailable, float | Unavailable, float | Unavailable]:
        try:
            sizes = parse_meminfo(self._meminfo.text())
            total = sizes["MemTotal"]
        except (OSError, ValueError) as error:
            raise SourceLost(why(error, self._meminfo.path)) from error
        except KeyError as error:
            raise SourceLost(f"{self._meminfo.path} does not report the size of the memory") from error
        if "SwapTotal" not in sizes or "SwapFree" not in sizes:
            return (total, sizes.get("MemAvailable", NOT_REPORTED), NO_SWAP, NO_SWAP)
        swap_used = max(0.0, sizes["SwapTotal"] - sizes["SwapFree"])
        return (total, sizes.get("MemAvailable", NOT_REPORTED), sizes["SwapTotal"], swap_used)


def probe(host: Host) -> Iterator[Source | UnavailableSource]:
    """The memory of this machine."""
    source = MachineMemory(host)
    try:
        source.read()
    except SourceLost as lost:
        source.close()
        yield UnavailableSource(name="memory", missing=lost.missing)
        return
    yield source


def parse_meminfo(text: str) -> dict[str, float]:
    """The sizes in the text of `/proc/meminfo`, in bytes. Raises ValueError when one is no number."""
    sizes: dict[str, float] = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        size, _, unit = value.strip().partition(" ")
        if unit == "kB" and len(size) > _SIZE_DIGITS:
            raise ValueError(f"{size[:_SIZE_DIGITS]}... kB are no size of a memory")
        if unit == "kB":
            sizes[name] = 1024.0 * int(size)
    return sizes


def _of_psutil() -> tuple[float, float | Unavailable, float | Unavailable, float | Unavailable]:
    import psutil  # noqa: PLC0415 - Linux does without it, and it is slow to import

    try:
        memory = psutil.virtual_memory()
    except (OSError, RuntimeError) as error:
        raise SourceLost(f"the machine's memory cannot be read: {error}") from error
    try:
        swap = psutil.swap_memory()
    except (OSError, RuntimeError):
        return (float(memory.total), float(memory.available), NO_SWAP, NO_SWAP)
    return (float(memory.total), float(memory.available), float(swap.total), float(swap.used))
