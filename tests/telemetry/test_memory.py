"""Memory of the machine and of the control group we are in."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from edgetop.core.sources import Unavailable
from edgetop.telemetry.host import Host
from edgetop.telemetry.memory import MachineMemory, probe
from edgetop.telemetry.source import SourceLost
from tests.support.fake_sysfs import JETSON, PI_5, Tree, absences, below, deny, meminfo, plant, readings, sources

GIB = 2**30
MACHINE: Tree = {"/proc/meminfo": meminfo(8 * 2**20, 6 * 2**20)}
UNIFIED, VERSION_1 = "/sys/fs/cgroup", "/sys/fs/cgroup/memory"


def group_2(folder: str, limit: int | str, used: int = 0, active: int = 0, inactive: int = 0) -> Tree:
    stat = f"anon 5\nfile {active + inactive}\ninactive_file {inactive}\nactive_file {active}"
    return below(folder, {"memory.max": limit, "memory.current": used, "memory.stat": stat})


def group_1(folder: str, limit: int, used: int, cached: int) -> Tree:
    stat = f"cache 7\ninactive_file 1\ntotal_inactive_file {cached}\ntotal_active_file 0"
    return below(folder, {"memory.limit_in_bytes": limit, "memory.usage_in_bytes": used, "memory.stat": stat})


def amounts(host: Host) -> tuple[object, object, object]:
    values = readings(MachineMemory(host))
    return values["memory.total"], values["memory.available"], values["memory.used"]


def test_a_jetson_tells_its_memory_and_swap_in_bytes(tmp_path: Path) -> None:
    assert readings(MachineMemory(plant(tmp_path, JETSON))) == {
        "memory.total": 7_800_000 * 1024.0,
        "memory.available": 5_000_000 * 1024.0,
        "memory.used": 2_800_000 * 1024.0,
        "swap.total": 3_900_000 * 1024.0,
        "swap.used": 100_000 * 1024.0,
    }


def test_the_tightest_of_the_groups_above_us_counts_and_cached_files_are_free(tmp_path: Path) -> None:
    tree = {
        **MACHINE,
        "/proc/self/cgroup": "0::/user.slice/user-1000.slice/session-2.scope",
        **group_2(f"{UNIFIED}/user.slice/user-1000.slice/session-2.scope", "max"),
        **group_2(f"{UNIFIED}/user.slice/user-1000.slice", 3 * GIB, used=2 * GIB, active=GIB // 4, inactive=GIB // 2),
        **group_2(f"{UNIFIED}/user.slice", 5 * GIB, used=2 * GIB),
    }
    assert amounts(plant(tmp_path, tree)) == (3 * GIB, 1.75 * GIB, 1.25 * GIB)


def test_inside_a_container_the_limit_lies_at_the_root(tmp_path: Path) -> None:
    for path in ("/", "/../../outside", "/docker/0123456789ab"):
        tree = {**MACHINE, "/proc/self/cgroup": f"0::{path}", **group_2(UNIFIED, 2 * GIB, used=GIB)}
        assert amounts(plant(tmp_path / path.replace("/", "_"), tree)) == (2 * GIB, GIB, GIB)


def test_a_group_of_version_1_is_found_beside_an_empty_one_of_version_2(tmp_path: Path) -> None:
    tree = {
        **MACHINE,
        "/proc/self/cgroup": "9:name=systemd:/\n4:cpu,memory:/jobs/7\n0::/",
        **group_1(f"{VERSION_1}/jobs/7", 4 * GIB, 3 * GIB, cached=GIB),
        **group_1(VERSION_1, 2**63 - 4096, 6 * GIB, cached=0),
    }
    assert amounts(plant(tmp_path, tree)) == (4 * GIB, 2 * GIB, 2 * GIB)


def test_a_group_leaves_no_more_than_the_machine_has(tmp_path: Path) -> None:
    tree = {**MACHINE, "/proc/self/cgroup": "0::/a", **group_2(f"{UNIFIED}/a", 7 * GIB, used=0)}
    assert amounts(plant(tmp_path, tree)) == (7 * GIB, 6 * GIB, GIB)
    full = {**MACHINE, "/proc/self/cgroup": "0::/a", **group_2(f"{UNIFIED}/a", GIB, used=2 * GIB)}
    assert amounts(plant(tmp_path / "full", full)) == (GIB, 0.0, GIB)


@pytest.mark.parametrize("limit", ["max", "", "-", "9" * 40])
def test_a_group_without_a_limit_that_can_be_read_changes_nothing(tmp_path: Path, limit: str) -> None:
    tree = {**MACHINE, "/proc/self/cgroup": "nonsense\n0::/a", **group_2(f"{UNIFIED}/a", limit)}
    assert amounts(plant(tmp_path, tree)) == (8 * GIB, 6 * GIB, 2 * GIB)


def test_a_limit_that_is_changed_or_goes_away_is_noticed(tmp_path: Path) -> None:
    group = f"{UNIFIED}/a"
    host = plant(tmp_path, {**MACHINE, "/proc/self/cgroup": "0::/a", **group_2(group, "max")})
    source = MachineMemory(host)
    assert readings(source)["memory.total"] == 8 * GIB
    host.path(f"{group}/memory.max").write_text(str(GIB))
    assert readings(source)["memory.total"] == GIB
    host.path(f"{group}/memory.current").unlink()
    assert readings(source)["memory.total"] == 8 * GIB


def test_a_kernel_that_does_not_tell_the_available_memory_leaves_it_missing(tmp_path: Path) -> None:
    values = readings(MachineMemory(plant(tmp_path, {"/proc/meminfo": "MemTotal: 1024 kB\nMemFree: 512 kB"})))
    old = Unavailable("this kernel does not report how much memory is available", "Linux 3.14 or newer does")
    assert values["memory.total"] == 2**20
    assert values["memory.available"] == values["memory.used"] == old
    assert values["swap.used"] == Unavailable("this system does not report its swap")


@pytest.mark.parametrize(
    "text", ["", "MemAvailable: 5 kB", "MemTotal: lots kB", f"MemTotal: {10**22} kB", f"MemTotal: {10**4000} kB"]
)
def test_without_the_size_of_the_memory_there_is_no_source(tmp_path: Path, text: str) -> None:
    assert str(tmp_path) in absences(probe(plant(tmp_path, {"/proc/meminfo": text})))["memory"].reason


def test_a_file_that_vanishes_or_may_not_be_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = plant(tmp_path, PI_5)
    source = sources(probe(host))["memory"]
    host.path("/proc/meminfo").unlink()
    with pytest.raises(SourceLost, match="no such file"):
        source.read()
    source.close()
    deny(monkeypatch, "meminfo")
    assert "may not be read" in absences(probe(host))["memory"].reason


def test_elsewhere_than_on_linux_psutil_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(sysroot=tmp_path, system="darwin")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=16, available=6))
    monkeypatch.setattr(psutil, "swap_memory", lambda: SimpleNamespace(total=4, used=1))
    assert MachineMemory(host).read() == (16.0, 6.0, 10.0, 4.0, 1.0)

    def refuse() -> None:
        raise RuntimeError("sysctl failed")

    monkeypatch.setattr(psutil, "swap_memory", refuse)
    assert MachineMemory(host).read()[3:] == (Unavailable("this system does not report its swap"),) * 2
    monkeypatch.setattr(psutil, "virtual_memory", refuse)
    assert "sysctl failed" in absences(probe(host))["memory"].reason


def test_what_a_group_may_have_before_it_is_stopped_counts_as_its_limit(tmp_path: Path) -> None:
    group = {**group_2(f"{UNIFIED}/a.slice", "max", used=GIB // 2), f"{UNIFIED}/a.slice/memory.high": GIB}
    assert amounts(plant(tmp_path, {**MACHINE, "/proc/self/cgroup": "0::/a.slice", **group})) == (GIB, GIB / 2, GIB / 2)
