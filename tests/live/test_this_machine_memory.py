"""The room that a machine's files and its GPU driver tell."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from edgetop.core.sources import Unavailable
from edgetop.fit.memory import CONTIGUOUS_MAX_BYTES, MemoryRoom
from edgetop.live.this_machine import memory_rooms
from edgetop.telemetry.host import Host
from edgetop.telemetry.nvidia import NO_LIBRARY, Nvml
from tests.support.fake_nvml import DESKTOP, FakeLibrary
from tests.support.fake_sysfs import JETSON, PI_5, below, meminfo, plant

GIB = 2**30
RELEASE = "# R36 (release), REVISION: {}, GCID: 38968081, BOARD: generic, EABI: aarch64"


def no_driver() -> Unavailable:
    return NO_LIBRARY


def desktop_driver() -> Nvml:
    return Nvml(FakeLibrary(DESKTOP))


def rooms(host: Host) -> tuple[MemoryRoom, ...]:
    found = memory_rooms(host, connect=no_driver)
    assert not isinstance(found, Unavailable)
    return found


def test_a_pi_has_what_its_kernel_says_is_available(tmp_path: Path) -> None:
    (room,) = rooms(plant(tmp_path, PI_5))
    assert (room.available_bytes, room.total_bytes, room.limit) == (7_400_000 * 1024, 8_256_000 * 1024, "MemAvailable")


def test_a_jetson_shares_its_memory_and_one_release_is_a_trap(tmp_path: Path) -> None:
    trapped = plant(tmp_path / "trapped", {**JETSON, "/etc/nv_tegra_release": RELEASE.format("4.7")})
    (room,) = rooms(trapped)
    assert room.limit == "shared with the GPU"
    assert room.largest_block_bytes == CONTIGUOUS_MAX_BYTES
    assert any("R36.4.7" in note for note in room.notes)
    (fixed,) = rooms(plant(tmp_path / "fixed", {**JETSON, "/etc/nv_tegra_release": RELEASE.format("5.0")}))
    assert fixed.largest_block_bytes is None


def test_a_container_has_what_its_group_leaves(tmp_path: Path) -> None:
    group = {"memory.max": 2 * GIB, "memory.current": GIB, "memory.stat": "inactive_file 0\nactive_file 0"}
    tree = {
        "/proc/meminfo": meminfo(8 * 2**20, 6 * 2**20),
        "/proc/self/cgroup": "0::/a",
        **below("/sys/fs/cgroup/a", cast("dict[str, str | int]", group)),
    }
    (room,) = rooms(plant(tmp_path, tree))
    assert (room.available_bytes, room.total_bytes, room.limit) == (GIB, 2 * GIB, "cgroup")


def test_a_group_that_leaves_more_than_the_machine_has_limits_nothing(tmp_path: Path) -> None:
    group = {"memory.max": 7 * GIB, "memory.current": 0, "memory.stat": "inactive_file 0"}
    tree = {
        "/proc/meminfo": meminfo(8 * 2**20, 6 * 2**20),
        "/proc/self/cgroup": "0::/a",
        **below("/sys/fs/cgroup/a", cast("dict[str, str | int]", group)),
    }
    assert rooms(plant(tmp_path, tree))[0].limit == "MemAvailable"


def test_zram_is_noticed(tmp_path: Path) -> None:
    swaps = "Filename\tType\tSize\tUsed\tPriority\n/dev/zram0 partition 2097148 0 100"
    tree = {"/proc/meminfo": meminfo(8 * 2**20, 6 * 2**20, 2_097_148, 2_097_148), "/proc/swaps": swaps}
    assert "zram" in rooms(plant(tmp_path, tree))[0].notes[0]


def test_a_gpu_that_shares_the_machines_memory_is_no_room_of_its_own(tmp_path: Path) -> None:
    spark = {**DESKTOP, "nvmlDeviceGetName": "NVIDIA GB10"}
    found = memory_rooms(plant(tmp_path, PI_5), connect=lambda: Nvml(FakeLibrary(spark)))
    assert not isinstance(found, Unavailable)
    (room,) = found
    assert room.limit == "shared with the GPU"


def test_a_driver_that_does_not_answer_holds_no_check_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgetop.live.this_machine.PROBE_S", 0.05)
    answers = threading.Event()

    def slow_driver() -> Nvml:
        answers.wait()
        return desktop_driver()

    found = memory_rooms(plant(tmp_path, PI_5), connect=slow_driver)
    answers.set()
    assert not isinstance(found, Unavailable)
    (room,) = found
    assert any("NVML has not answered" in note for note in room.notes)


def test_a_gpu_with_its_own_memory_is_a_room_of_its_own(tmp_path: Path) -> None:
    found = memory_rooms(plant(tmp_path, PI_5), connect=desktop_driver)
    assert not isinstance(found, Unavailable)
    gpu = found[1]
    assert (gpu.name, gpu.limit) == ("NVIDIA GeForce RTX 4060", "gpu")
    assert (gpu.available_bytes, gpu.total_bytes) == (5 * GIB, 8 * GIB)


def test_a_gpu_that_does_not_tell_its_memory_is_left_out(tmp_path: Path) -> None:
    silent = {**DESKTOP, "nvmlDeviceGetMemoryInfo": SimpleNamespace()}
    silent["nvmlDeviceGetMemoryInfo"] = FakeLibrary.NVMLError("not supported")
    found = memory_rooms(plant(tmp_path, PI_5), connect=lambda: Nvml(FakeLibrary(silent)))
    assert not isinstance(found, Unavailable)
    assert len(found) == 1


def test_without_memory_files_the_reason_is_told(tmp_path: Path) -> None:
    found = memory_rooms(plant(tmp_path, {"/proc/version": "none"}), connect=no_driver)
    assert isinstance(found, Unavailable)
    assert "meminfo" in found.reason
