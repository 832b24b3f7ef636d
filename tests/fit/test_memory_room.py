"""What is said of the memory of different machines."""

from __future__ import annotations

import pytest

from edgetop.fit.memory import (
    CONTIGUOUS_MAX_BYTES,
    SHARED_NOTE,
    SWAP_NOTE,
    TRAP_NOTE,
    ZRAM_NOTE,
    gpu_memory,
    main_memory,
)

GIB = 2**30


def test_what_limits_is_named() -> None:
    plain = main_memory(available_bytes=6 * GIB, total_bytes=8 * GIB)
    assert (plain.available_bytes, plain.limit, plain.notes) == (6 * GIB, "MemAvailable", ())
    group = main_memory(available_bytes=1 * GIB, total_bytes=2 * GIB, limited_by_group=True)
    assert group.limit == "cgroup"
    gpu = gpu_memory(name="RTX", free_bytes=5 * GIB, total_bytes=8 * GIB)
    assert (gpu.limit, gpu.name) == ("gpu", "RTX")


def test_swap_is_no_room_and_zram_least_of_all() -> None:
    assert main_memory(available_bytes=GIB, total_bytes=GIB, swap_bytes=4 * GIB).notes == (SWAP_NOTE,)
    compressed = main_memory(available_bytes=GIB, total_bytes=GIB, swap_bytes=4 * GIB, swap_is_zram=True)
    assert compressed.notes == (ZRAM_NOTE,)
    assert compressed.available_bytes == GIB


@pytest.mark.parametrize(
    ("version", "trapped"),
    [("36.4.7", True), ("36.4.3", False), ("36.5", False), ("36.4.70", False), ("36.4", False), ("", False)],
)
def test_one_release_of_jetson_linux_gives_the_gpu_no_large_block(version: str, *, trapped: bool) -> None:
    room = main_memory(available_bytes=6 * GIB, total_bytes=8 * GIB, shared_with_gpu=True, l4t_version=version)
    assert room.limit == "shared with the GPU"
    assert SHARED_NOTE in room.notes
    assert (TRAP_NOTE in room.notes) is trapped
    assert room.largest_block_bytes == (CONTIGUOUS_MAX_BYTES if trapped else None)
