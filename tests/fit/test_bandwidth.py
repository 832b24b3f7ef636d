from __future__ import annotations

import os
from itertools import count
from math import inf
from pathlib import Path
from threading import Thread

import pytest

from edgetop.fit import machine_profile
from edgetop.fit.machine_profile import MIB, buffer_bytes, cpus_for, measure_bandwidth, measure_core, thread_counts


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def machine(root: Path, *, cache: str) -> Path:
    folder = "sys/devices/system/cpu/cpu0/cache"
    return tree(root, {f"{folder}/index0/size": "32K\n", f"{folder}/index3/size": cache})


@pytest.mark.parametrize(
    ("cache", "free_mib", "expected_mib"),
    [
        ("65536K\n", 64 * 1024, 4 * 64),
        ("1152M\n", 1024 * 1024, 512),
        ("2048K\n", 800, 80),
        ("2048K\n", inf, 192),
    ],
    ids=["several times the largest cache", "bounded", "a tenth of what is free", "of memory nobody knows"],
)
def test_the_size_of_the_buffer(tmp_path: Path, cache: str, free_mib: float, expected_mib: int) -> None:
    assert buffer_bytes(free_mib * MIB, machine(tmp_path, cache=cache)) == expected_mib * MIB


def test_a_machine_without_memory_to_spare_is_not_measured(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="too little memory"):
        buffer_bytes(100 * MIB, machine(tmp_path, cache="2048K\n"))


@pytest.mark.parametrize("size", ["", "K", "many", "-4K", "9" * 40 + "K", "64X"])
def test_a_cache_size_that_makes_no_sense_is_left_aside(tmp_path: Path, size: str) -> None:
    assert buffer_bytes(inf, machine(tmp_path, cache=size)) == 192 * MIB


@pytest.mark.parametrize(
    ("threads", "expected"),
    [(0, (1,)), (1, (1,)), (2, (1, 2)), (4, (1, 2, 3, 4)), (6, (1, 2, 3, 4, 6)), (12, (1, 2, 3, 4, 8, 12))],
)
def test_thread_counts_reach_from_one_to_all(threads: int, expected: tuple[int, ...]) -> None:
    assert thread_counts(threads) == expected


def test_threads_go_to_the_fast_cores_first(tmp_path: Path) -> None:
    little_and_big = {f"sys/devices/system/cpu/cpu{cpu}/cpu_capacity": "414" if cpu < 4 else "1024" for cpu in range(8)}
    assert cpus_for(4, tree(tmp_path, little_and_big), range(8)) == [4, 5, 6, 7]


def test_threads_lie_far_apart_on_equal_cores(tmp_path: Path) -> None:
    assert cpus_for(2, tmp_path, [0, 1, 2, 3]) == [0, 2]


def test_threads_stay_on_the_cpus_that_are_allowed(tmp_path: Path) -> None:
    assert cpus_for(3, tmp_path, [5]) == [5, 5, 5]
    assert cpus_for(2, tmp_path, []) == [None, None]


def test_a_measurement_gives_a_rate_for_each_number_of_threads_and_more_threads_are_not_slower(tmp_path: Path) -> None:
    small = machine(tmp_path, cache="1024K\n")
    before = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    rates = measure_bandwidth(2, 320 * MIB, sysroot=small)
    assert list(rates) == [1, 2]
    assert 0 < rates[1] <= rates[2]
    assert not before or os.sched_getaffinity(0) == before


def test_a_slow_machine_reads_only_what_was_filled_in_time(tmp_path: Path) -> None:
    ticks = count(0, 1)  # every look at the clock takes a second
    small = machine(tmp_path, cache="1024K\n")
    rates = measure_bandwidth(1, 640 * MIB, sysroot=small, now=lambda: float(next(ticks)))
    assert rates[1] == pytest.approx(16 * MIB)


def test_a_thread_that_cannot_be_started_ends_the_measurement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Thread] = []
    start = Thread.start

    def start_one(thread: Thread) -> None:
        if started:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(Thread, "start", start_one)
    with pytest.raises(RuntimeError):
        machine_profile._rate(0, 0, [None, None], 1.0, lambda: 0.0)
    started[0].join(timeout=60)
    assert not started[0].is_alive()


def test_the_speed_of_a_core_is_that_of_its_best_round() -> None:
    spans = iter([5.0, 2.0, 4.0] + [9.0] * 200)
    clock, at_begin = [0.0], [True]

    def now() -> float:
        if not at_begin[0]:
            clock[0] += next(spans)
        at_begin[0] = not at_begin[0]
        return clock[0]

    assert measure_core(now) == pytest.approx(60 * 60**2 / 2.0)
