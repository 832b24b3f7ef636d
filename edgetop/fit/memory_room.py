"""How much memory a machine leaves for a model."""

from __future__ import annotations

import re
from typing import Literal

from msgspec import Struct

RoomLimit = Literal["MemAvailable", "cgroup", "gpu", "shared with the GPU"]

CONTIGUOUS_MAX_BYTES = 1_100_000_000
"""About the largest block that CUDA could allocate on L4T R36.4.7, whatever was free
(https://www.smolhub.com/posts/jetson-nano-super-benchmark-non-reasoning/)."""
_TRAPPED = re.compile(r"36\.4\.7(\.|$)")
TRAP_NOTE = (
    "Jetson Linux R36.4.7 fails to give the GPU more than about 1.1 GB in one piece (NvMapMemAllocInternalTagged: "
    "error 12), whatever is free: update to R36.5 (JetPack 6.2.2), or use --gpu-layers 0."
)
SWAP_NOTE = "Swap is not counted: a model that is paged in and out decodes a hundred times slower."
ZRAM_NOTE = "The swap here is zram: it lies in this memory itself, and quantized weights hardly compress."
SHARED_NOTE = "The GPU has no memory of its own: what it takes is missing for everything else."


class MemoryRoom(Struct, frozen=True, kw_only=True):
    """What is free for a model now. Swap is not room."""

    available_bytes: int
    limit: RoomLimit
    """What sets `available_bytes`."""
    total_bytes: int
    """All there is, free or not."""
    name: str = ""
    """Which GPU it is; empty for main memory."""
    largest_block_bytes: int | None = None
    """The largest single allocation on the GPU that works, whatever is free; `None` if nothing is known to limit it."""
    notes: tuple[str, ...] = ()
    """What a person should know beside the number, one sentence each."""


def main_memory(
    *,
    available_bytes: int,
    total_bytes: int,
    limited_by_group: bool = False,
    shared_with_gpu: bool = False,
    l4t_version: str = "",
    swap_bytes: int = 0,
    swap_is_zram: bool = False,
) -> MemoryRoom:
    """The room in main memory. `l4t_version` is a Jetson's, such as `36.4.7`."""
    notes = []
    trapped = shared_with_gpu and bool(_TRAPPED.match(l4t_version))
    if shared_with_gpu:
        notes.append(SHARED_NOTE)
    if trapped:
        notes.append(TRAP_NOTE)
    if swap_bytes > 0:
        notes.append(ZRAM_NOTE if swap_is_zram else SWAP_NOTE)
    limit: RoomLimit = "cgroup" if limited_by_group else "shared with the GPU" if shared_with_gpu else "MemAvailable"
    return MemoryRoom(
        available_bytes=available_bytes,
        limit=limit,
        total_bytes=total_bytes,
        largest_block_bytes=CONTIGUOUS_MAX_BYTES if trapped else None,
        notes=tuple(notes),
    )


def gpu_memory(*, name: str, free_bytes: int, total_bytes: int) -> MemoryRoom:
    """The room in a GPU's own memory."""
    return MemoryRoom(available_bytes=free_bytes, limit="gpu", total_bytes=total_bytes, name=name)
