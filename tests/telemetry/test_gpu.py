"""Cards of other makers than NVIDIA: what the kernel shows, and what it does not."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from edgetop.core.sources import Unavailable
from edgetop.telemetry.gpu import FIRST_READING, NOT_USED, probe
from edgetop.telemetry.source import ASLEEP
from tests.support.fake_sources import FakeClock
from tests.support.fake_sysfs import below, plant, readings, sources

CARD = "/sys/class/drm/card1"
GIB = 2**30


def driver(root: Path, card: str, name: str) -> None:
    """Make a card one of that driver."""
    target = root / "sys/bus/pci/drivers" / name
    target.mkdir(parents=True, exist_ok=True)
    (root / "sys/class/drm" / card / "device/driver").symlink_to(target)


def test_load_and_memory_of_an_amd_card_are_read_unless_it_sleeps(tmp_path: Path) -> None:
    files = {"gpu_busy_percent": 37, "mem_info_vram_used": 3 * GIB, "mem_info_vram_total": 16 * GIB}
    host = plant(tmp_path, {**below(f"{CARD}/device", files), "/sys/class/drm/card1-HDMI-A-1/status": "connected"})
    (source,) = sources(probe(host)).values()
    assert readings(source) == {
        "gpu.card1.use": 37.0, "gpu.card1.memory_used": 3.0 * GIB, "gpu.card1.memory_total": 16.0 * GIB,
    }  # fmt: skip
    plant(tmp_path, below(f"{CARD}/device/power", {"runtime_status": "suspended"}))
    assert set(readings(source).values()) == {ASLEEP}


def test_what_an_amd_driver_does_not_show_is_not_there(tmp_path: Path) -> None:
    (source,) = sources(probe(plant(tmp_path, below(f"{CARD}/device", {"gpu_busy_percent": 5})))).values()
    assert list(readings(source)) == ["gpu.card1.use"]


def client(number: int, ns: int, name: str = "v3d") -> str:
    return f"pos:\t0\nflags:\t02\ndrm-driver:\t{name}\ndrm-client-id:\t{number}\ndrm-engine-render:\t{ns} ns\n\
drm-engine-csd:\t{2 * ns} ns\ndrm-resident-memory:\t2048 KiB\n"


def test_of_a_pi_the_share_of_the_engine_is_read_and_each_client_counts_once(tmp_path: Path) -> None:
    clock = FakeClock(1_000_000)
    tree = {f"{CARD}/device/uevent": "", "/proc/70/fdinfo/3": client(4, 1_000), "/proc/70/fdinfo/9": client(4, 1_000)}
    tree["/proc/70/fdinfo/5"] = "pos:\t0\nflags:\t02"
    tree["/proc/70/fdinfo/6"] = client(8, 77, "vc4")
    host = replace(plant(tmp_path, tree), worker_pid=lambda: 70, clock=clock)
    driver(tmp_path, "card1", "v3d")
    (source,) = sources(probe(host)).values()
    assert readings(source) == {"gpu.card1.engine_use": FIRST_READING, "gpu.card1.memory_used": 2048.0 * 1024}
    clock.now_us += 1_000_000
    plant(tmp_path, {f"/proc/70/fdinfo/{fd}": client(4, 200_001_000) for fd in (3, 9)})
    assert readings(source)["gpu.card1.engine_use"] == pytest.approx(40.0)


def test_an_engine_that_does_not_use_the_card_has_no_share_of_it(tmp_path: Path) -> None:
    host = plant(tmp_path, {f"{CARD}/device/uevent": "", "/proc/70/fdinfo/3": "pos:\t0"})
    driver(tmp_path, "card1", "xe")
    (source,) = sources(probe(replace(host, worker_pid=lambda: 70))).values()
    assert set(readings(source).values()) == {NOT_USED}
    (idle,) = sources(probe(host)).values()
    assert all(isinstance(value, Unavailable) for value in readings(idle).values())
