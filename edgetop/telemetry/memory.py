"""Memory of the machine: what is there, what is left to us, swap."""

from __future__ import annotations

from collections.abc import Iterator

from edgetop.core.records import Channel, Missing, SourceInfo
from edgetop.telemetry.memory_cgroup import find_groups
from edgetop.telemetry.source import Absent, Host, Source, SourceLost, Values
from edgetop.telemetry.sysfs_file import SysfsFile, why

PERIOD_S = 1.0
NOT_TOLD = Missing("this kernel does not tell how much memory is available", "Linux 3.14 or newer does")
NO_SWAP = Missing("this system does not tell its swap")
_MEMINFO_BYTES = 4096


class MachineMemory:
    """Bytes, as far as this process may have them.

    A control group's limit that is below the machine's memory takes the place of it. `memory.available` is the least
    that the kernel and the groups leave, cached files counted as free, and `memory.used` the rest of `memory.total`.
    """

    blocking = False

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
                available = available if isinstance(available, Missing) else min(available, float(room.available_bytes))
        used = available if isinstance(available, Missing) else max(0.0, total - available)
        return (total, available, used, *swap)

    def close(self) -> None:
        """Close all files."""
        self._meminfo.close()
        for group in self._groups:
            group.close()

    def _of_kernel(self) -> tuple[float, float | Missing, float | Missing, float | Missing]:
        try:
            sizes = parse_meminfo(self._meminfo.text())
            total = sizes["MemTotal"]
        except (OSError, ValueError) as error:
            missing = why(error, self._meminfo.path)
            raise SourceLost(missing.reason, missing.mend) from error
        except KeyError as error:
            raise SourceLost(f"{self._meminfo.path} does not tell the size of the memory") from error
        if "SwapTotal" not in sizes or "SwapFree" not in sizes:
            return (total, sizes.get("MemAvailable", NOT_TOLD), NO_SWAP, NO_SWAP)
        swap_used = max(0.0, sizes["SwapTotal"] - sizes["SwapFree"])
        return (total, sizes.get("MemAvailable", NOT_TOLD), sizes["SwapTotal"], swap_used)


def probe(host: Host) -> Iterator[Source | Absent]:
    """The memory of this machine."""
    source = MachineMemory(host)
    try:
        source.read()
    except SourceLost as lost:
        source.close()
        yield Absent(name="memory", missing=lost.missing)
        return
    yield source


def parse_meminfo(text: str) -> dict[str, float]:
    """The sizes in the text of `/proc/meminfo`, in bytes. Raises ValueError when one is no number."""
    sizes: dict[str, float] = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        size, _, unit = value.strip().partition(" ")
        if unit == "kB":
            sizes[name] = 1024.0 * int(size)
    return sizes


def _of_psutil() -> tuple[float, float | Missing, float | Missing, float | Missing]:
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
