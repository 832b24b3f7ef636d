from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgetop.core.clock import monotonic_us
from edgetop.io.cpus import QuotaUse, cpu_quota, decode_threads, fast_mask, quota_use, start_load


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def topology(siblings: list[str], name: str = "core_cpus_list") -> dict[str, str]:
    return {f"sys/devices/system/cpu/cpu{cpu}/topology/{name}": text + "\n" for cpu, text in enumerate(siblings)}


HYPERTHREADS = topology(["0,4", "1,5", "2,6", "3,7", "0,4", "1,5", "2,6", "3,7"])


def test_two_threads_of_a_core_count_once(tmp_path: Path) -> None:
    assert decode_threads(write(tmp_path, HYPERTHREADS), frozenset(range(8))) == 4


def test_older_kernels_name_the_siblings_otherwise(tmp_path: Path) -> None:
    root = write(tmp_path, topology(["0-1", "0-1"], "thread_siblings_list"))
    assert decode_threads(root, frozenset({0, 1})) == 1


def test_affinity_leaves_only_its_cores(tmp_path: Path) -> None:
    assert decode_threads(write(tmp_path, HYPERTHREADS), frozenset({1, 2, 5})) == 2


def test_the_fast_cores_are_a_mask_where_there_are_slow_ones(tmp_path: Path) -> None:
    capacity = {f"sys/devices/system/cpu/cpu{cpu}/cpu_capacity": "414\n" if cpu < 4 else "1024\n" for cpu in range(8)}
    root = write(tmp_path, capacity)
    assert fast_mask(root, frozenset(range(8))) == "f0"
    assert fast_mask(root, frozenset({4, 5})) is None
    assert fast_mask(root, frozenset({0, 5})) == "20"


def test_without_a_topology_every_cpu_is_a_core(tmp_path: Path) -> None:
    assert decode_threads(tmp_path, frozenset(range(4))) == 4


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "250000 100000\n"}, 2.5),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "150000 100000\n"}, 1.5),
        ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "max 100000\n"}, None),
        # In a container the group's own path is not there, and the mount is the group.
        ({"proc/self/cgroup": "0::/../../x\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2.0),
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/job\n1:name=systemd:/\n",
                "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us": "300000\n",
                "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us": "100000\n",
            },
            3.0,
        ),
        (
            {
                "proc/self/cgroup": "1:cpu:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            None,
        ),
        ({}, None),
        ({"proc/self/cgroup": "nonsense\n0:\n"}, None),
    ],
)
def test_the_tightest_quota_of_the_groups_above_counts(
    tmp_path: Path, files: dict[str, str], quota: float | None
) -> None:
    assert cpu_quota(write(tmp_path, files)) == quota


def test_a_quota_below_the_cores_limits_the_threads_and_one_is_always_left(tmp_path: Path) -> None:
    group = {"proc/self/cgroup": "0::/a\n"}
    root = write(tmp_path, HYPERTHREADS | group | {"sys/fs/cgroup/a/cpu.max": "250000 100000"})
    assert decode_threads(root, frozenset(range(8))) == 2
    write(tmp_path, {"sys/fs/cgroup/a/cpu.max": "50000 100000"})
    assert decode_threads(root, frozenset(range(8))) == 1


def capacities(*values: int) -> dict[str, str]:
    return {f"sys/devices/system/cpu/cpu{cpu}/cpu_capacity": f"{value}\n" for cpu, value in enumerate(values)}


@pytest.mark.parametrize(
    ("files", "cpus", "threads"),
    [
        (capacities(*[530] * 4, *[1024] * 4), 8, 4),  # RK3588: 4 Cortex-A55, 4 Cortex-A76
        (capacities(*[250] * 4, *[870] * 3, 1024), 8, 4),  # a phone: 4 + 3 + 1
        (capacities(*[1024] * 4), 4, 4),
        ({**capacities(*[1024] * 8, *[640] * 8), **topology([f"{c & ~1}-{c | 1}" for c in range(8)])}, 16, 4),
        ({**topology(["0,1", "0,1", "2,3", "2,3", "4", "5"]), "sys/devices/cpu_atom/cpus": "4-5\n"}, 6, 2),
    ],
)  # fmt: skip
def test_the_fast_cluster_decodes(tmp_path: Path, files: dict[str, str], cpus: int, threads: int) -> None:
    assert decode_threads(write(tmp_path, files), frozenset(range(cpus))) == threads


def test_where_only_slow_cores_are_allowed_they_decode(tmp_path: Path) -> None:
    files = {**capacities(*[530] * 4, *[1024] * 4), "sys/devices/cpu_atom/cpus": "0-3\n"}
    assert decode_threads(write(tmp_path, files), frozenset(range(4))) == 4


def test_how_often_the_quota_stopped_us_is_that_of_the_tightest_group(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/a/b\n",
            "sys/fs/cgroup/a/cpu.max": "400000 100000\n",
            "sys/fs/cgroup/a/cpu.stat": "usage_usec 1\nnr_periods 900\nnr_throttled 1\n",
            "sys/fs/cgroup/a/b/cpu.max": "150000 100000\n",
            "sys/fs/cgroup/a/b/cpu.stat": "usage_usec 5\nnr_periods 100\nnr_throttled 40\nthrottled_usec 77\n",
        },
    )
    assert cpu_quota(root) == 1.5
    assert quota_use(root) == QuotaUse(periods=100, throttled=40)
    assert quota_use(tmp_path / "nowhere") is None


def test_a_load_is_on_every_core_that_we_may_use_until_its_last_span_has_ended() -> None:
    end_us = monotonic_us() + 300_000
    processes = start_load([(end_us - 100_000, end_us - 50_000), (end_us - 20_000, end_us)])
    assert len(processes) == len(os.sched_getaffinity(0))
    assert [process.wait() for process in processes] == [0] * len(processes)
    assert monotonic_us() >= end_us


def test_a_load_waits_for_no_import_of_a_session() -> None:
    """On a small board it takes longer than the second until the load is to begin."""
    code = "import sys, edgetop.io.cpus; print(*(name for name in sys.modules if name.startswith('edgetop.')))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not [name for name in loaded if not name.startswith(("edgetop.core", "edgetop.io"))]
