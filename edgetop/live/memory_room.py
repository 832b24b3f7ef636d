"""What this machine leaves for a model now."""

from __future__ import annotations

import math
from collections.abc import Callable

from edgetop.core.records import Missing
from edgetop.fit.memory_room import MemoryRoom, gpu_memory, main_memory
from edgetop.telemetry import nvml
from edgetop.telemetry.jetson_platform import l4t_version
from edgetop.telemetry.memory import MachineMemory
from edgetop.telemetry.memory_cgroup import find_groups
from edgetop.telemetry.nvml import Nvml
from edgetop.telemetry.source import Absent, Host, SourceLost
from edgetop.telemetry.surroundings import device_tree_compatible
from edgetop.telemetry.sysfs_file import text_of

_FILE_BYTES = 4096


def memory_rooms(host: Host, *, connect: Callable[[], Nvml | Missing] = Nvml.open) -> tuple[MemoryRoom, ...] | Missing:
    """The room in main memory, then in each NVIDIA GPU with memory of its own; why there is none known."""
    source = MachineMemory(host)
    try:
        total, available, _, swap, _ = source.read()
    except SourceLost as lost:
        return lost.missing
    finally:
        source.close()
    if isinstance(available, Missing):
        return available
    if isinstance(total, Missing):
        return total
    l4t = l4t_version(host)
    shared = bool(l4t) or any("nvidia,tegra" in name for name in device_tree_compatible(host))
    main = main_memory(
        available_bytes=int(available),
        total_bytes=int(total),
        limited_by_group=_tightest_group_bytes(host) <= available,
        shared_with_gpu=shared,
        l4t_version=l4t,
        swap_bytes=0 if isinstance(swap, Missing) else int(swap),
        swap_is_zram="/dev/zram" in text_of(host.path("/proc/swaps"), _FILE_BYTES),
    )
    return (main,) if shared else (main, *_gpus(host, connect))


def _gpus(host: Host, connect: Callable[[], Nvml | Missing]) -> list[MemoryRoom]:
    rooms = []
    for index, source in enumerate(nvml.probe(host, connect=connect)):
        if isinstance(source, Absent):
            continue
        names = [channel.name for channel in source.info.channels]
        try:
            values = dict(zip(names, source.read(), strict=True))
        except SourceLost:
            continue
        used, total = values.get(f"gpu.{index}.memory_used"), values.get(f"gpu.{index}.memory_total")
        if isinstance(used, float) and isinstance(total, float):
            free = int(max(0.0, total - used))
            rooms.append(gpu_memory(name=source.info.path, free_bytes=free, total_bytes=int(total)))
    return rooms


def _tightest_group_bytes(host: Host) -> float:
    """What the control groups above us leave; infinite without a limit."""
    tightest = math.inf
    for group in find_groups(host) if host.system == "linux" else []:
        room = group.room()
        group.close()
        tightest = min(tightest, math.inf if room is None else room.available_bytes)
    return tightest
