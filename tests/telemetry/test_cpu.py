"""Loads from the kernel's counters, across cores that come and go."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from edgetop.core.sources import CPU_QUOTA, Unavailable
from edgetop.telemetry import cpu
from edgetop.telemetry.cpu import CoreTimes, ProcessorLoad, parse_stat, probe
from edgetop.telemetry.host import Host
from edgetop.telemetry.source import SourceLost
from tests.support.fake_sysfs import (
    BARE_VM,
    IDLE,
    JETSON,
    LAPTOP,
    PI_5,
    absences,
    deny,
    plant,
    proc_stat,
    readings,
    sources,
)

OWN, WORKER = 10, 20
Ticks = tuple[int, ...]


@pytest.fixture
def used_s(monkeypatch: pytest.MonkeyPatch) -> dict[int, float]:
    """Processor time of processes, which the test sets."""
    used = {OWN: 0.0}
    monkeypatch.setattr(cpu, "cpu_time_s", lambda pid, _system: used.get(pid))
    monkeypatch.setattr(os, "sysconf", {"SC_CLK_TCK": 100}.__getitem__)
    return used


def advance(host: Host, cores: Mapping[int, Ticks]) -> None:
    (host.path("/proc/stat")).write_text(proc_stat(cores))


def ticks(user: int = 0, system: int = 0, idle: int = 0, iowait: int = 0, steal: int = 0) -> Ticks:
    return (user, 0, system, idle, iowait, 0, 0, steal)


def test_loads_are_shares_of_a_core_and_of_all_cores(tmp_path: Path, used_s: dict[int, float]) -> None:
    host = plant(tmp_path, {"/proc/stat": proc_stat({0: IDLE, 1: IDLE})})
    source = ProcessorLoad(replace(host, own_pid=OWN, worker_pid=lambda: WORKER))
    used_s[WORKER] = 5.0
    first = readings(source)
    assert first["cpu.total"] == first["cpu.0"] == Unavailable("a load needs two readings")
    used_s[WORKER], used_s[OWN] = 5.8, 0.1
    advance(host, {0: ticks(user=90, system=10, idle=1000), 1: ticks(user=20, idle=1040, iowait=20, steal=20)})
    assert readings(source) == {
        "cpu.total": pytest.approx(70.0),
        "cpu.steal": pytest.approx(10.0),
        "cpu.others": pytest.approx(25.0),  # 1.4 of 2 core seconds, of them 0.9 ours
        "cpu.frequency": Unavailable("this machine does not report its clock frequency"),
        "cpu.0": pytest.approx(100.0),
        "cpu.1": pytest.approx(40.0),
    }


def test_a_core_that_is_switched_off_takes_no_other_ones_place(tmp_path: Path, used_s: dict[int, float]) -> None:
    host = plant(tmp_path, {"/proc/stat": proc_stat(dict.fromkeys(range(4), IDLE))})
    source = ProcessorLoad(replace(host, own_pid=OWN))
    source.read()
    # Core 1 goes off and, in the same second, nothing else changes but the load of core 3.
    advance(host, {0: ticks(idle=1100), 2: ticks(idle=1100), 3: ticks(user=60, idle=1040)})
    gone = readings(source)
    assert [gone[f"cpu.{core}"] for core in range(4)] == [
        0.0,
        Unavailable("the core is offline"),
        0.0,
        pytest.approx(60.0),
    ]
    assert gone["cpu.total"] == pytest.approx(20.0)
    # Back again, its counters may have been reset.
    advance(host, {0: ticks(idle=1200), 1: ticks(idle=5), 2: ticks(idle=1200), 3: ticks(user=60, idle=1140)})
    assert readings(source)["cpu.1"] == Unavailable("a load needs two readings")
    advance(host, {0: ticks(idle=1300), 1: ticks(idle=5), 2: ticks(idle=1300), 3: ticks(user=60, idle=1240)})
    assert readings(source)["cpu.1"] == Unavailable("the kernel's counters did not move")


def test_cores_off_from_the_beginning_have_a_channel_and_those_a_machine_might_get_have_none(tmp_path: Path) -> None:
    jetson = ProcessorLoad(plant(tmp_path / "jetson", JETSON))
    assert readings(jetson)["cpu.5"] == Unavailable("the core is offline")
    machine = ProcessorLoad(plant(tmp_path / "vm", BARE_VM))
    assert [channel.name for channel in machine.info.channels][-2:] == ["cpu.0", "cpu.1"]


def test_counters_that_run_backwards_give_no_load_above_or_below_what_can_be(
    tmp_path: Path, used_s: dict[int, float]
) -> None:
    host = plant(tmp_path, {"/proc/stat": proc_stat({0: IDLE, 1: IDLE})})
    source = ProcessorLoad(replace(host, own_pid=OWN))
    source.read()
    advance(host, {0: ticks(user=100, idle=999), 1: ticks(idle=900)})
    values = readings(source)
    assert values["cpu.0"] == 100.0
    assert values["cpu.1"] == Unavailable("the kernel's counters did not move")
    assert values["cpu.total"] == 100.0
    advance(host, {0: ticks(), 1: ticks()})
    assert readings(source)["cpu.others"] == Unavailable("the kernel's counters did not move")


def test_an_engine_that_ends_does_not_count_as_somebody_else(tmp_path: Path, used_s: dict[int, float]) -> None:
    host = plant(tmp_path, {"/proc/stat": proc_stat({0: IDLE})})
    source = ProcessorLoad(replace(host, own_pid=OWN, worker_pid=lambda: WORKER))
    source.read()
    used_s[WORKER] = 0.9  # started since
    advance(host, {0: ticks(user=90, idle=1010)})
    assert readings(source)["cpu.others"] == pytest.approx(0.0)
    del used_s[WORKER]
    advance(host, {0: ticks(user=150, idle=1050)})
    ended = readings(source)
    assert ended["cpu.others"] == Unavailable("the engine ended since the reading before")
    assert ended["cpu.total"] == pytest.approx(60.0)
    advance(host, {0: ticks(user=180, idle=1120)})
    assert readings(source)["cpu.others"] == pytest.approx(30.0)


@pytest.mark.parametrize(
    ("tree", "hertz"),
    [
        (PI_5, 2_400_000_000.0),
        (JETSON, 1_344_000_000.0),  # the other cluster is switched off
        (LAPTOP, 4_390_000_000.0),  # the core that boosts highest
        (BARE_VM, Unavailable("this machine does not report its clock frequency")),
    ],
)
def test_the_clock_is_that_of_the_fastest_core(tmp_path: Path, tree: dict[str, str | int], hertz: object) -> None:
    assert readings(ProcessorLoad(plant(tmp_path, tree)))["cpu.frequency"] == hertz


def test_no_more_than_four_cores_are_woken_for_their_clocks(tmp_path: Path) -> None:
    source = ProcessorLoad(plant(tmp_path, LAPTOP))
    assert len(source._frequencies) == 4


@pytest.mark.parametrize("text", ["", "intr 5\ncpu0 1 2 3", "cpu 1 2 3 4", "cpu0 a b c d", "cpuX 1 2 3 4"])
def test_what_is_no_list_of_cores_makes_the_source_absent(tmp_path: Path, text: str) -> None:
    found = list(probe(plant(tmp_path, {"/proc/stat": text})))
    assert absences(found)["cpu"] == Unavailable(f"{tmp_path}/proc/stat holds no number")


def test_a_file_that_may_not_be_read_makes_the_source_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = plant(tmp_path, BARE_VM)
    deny(monkeypatch, "/proc/stat")
    assert "may not be read" in absences(probe(host))["cpu"].reason


def test_a_file_that_vanishes_loses_the_source_and_leaks_nothing(tmp_path: Path) -> None:
    before = len(list(Path("/dev/fd").iterdir()))
    host = plant(tmp_path, PI_5)
    source = sources(probe(host))["cpu"]
    source.read()
    host.path("/proc/stat").unlink()
    with pytest.raises(SourceLost, match="no such file"):
        source.read()
    source.close()
    assert len(list(Path("/dev/fd").iterdir())) == before


def test_an_old_kernel_without_steal_is_read(used_s: dict[int, float]) -> None:
    assert parse_stat("cpu  10 0 10 80\ncpu0 10 0 10 80\n") == {0: CoreTimes(0.2, 0.0, 1.0)}


def test_elsewhere_than_on_linux_psutil_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, used_s: dict[int, float]
) -> None:
    times = [[10.0, 0.0, 5.0, 85.0], [0.0, 0.0, 0.0, 100.0]]

    class MacTimes(tuple[float, ...]):
        idle = property(lambda self: self[3])

    monkeypatch.setattr(psutil, "cpu_times", lambda percpu: [MacTimes(each) for each in times])
    source = ProcessorLoad(Host(sysroot=tmp_path, system="darwin", own_pid=OWN))
    source.read()
    times[:] = [[10.5, 0.0, 5.0, 85.5], [0.25, 0.0, 0.0, 100.75]]
    values = readings(source)
    assert values["cpu.0"] == pytest.approx(50.0)
    assert values["cpu.total"] == values["cpu.others"] == pytest.approx(37.5)
    assert values["cpu.steal"] == Unavailable("this system does not count time that a hypervisor withheld")


_any_ticks = st.tuples(*[st.integers(0, 10**9)] * 8)


@settings(deadline=None)
@given(
    st.dictionaries(st.integers(0, 5), _any_ticks, min_size=1),
    st.dictionaries(st.integers(0, 5), _any_ticks, min_size=1),
)
def test_whatever_the_counters_do_a_load_is_a_share(before: dict[int, Ticks], now: dict[int, Ticks]) -> None:
    with TemporaryDirectory() as folder:
        host = plant(Path(folder), {"/proc/stat": proc_stat(before)})
        source = ProcessorLoad(host)
        source.read()
        advance(host, now)
        *loads, frequency = (
            value for name, value in sorted(readings(source).items(), key=lambda each: "freq" in each[0])
        )
        source.close()
    assert isinstance(frequency, Unavailable)
    assert all(isinstance(load, Unavailable) or 0 <= load <= 100 for load in loads)


def test_how_often_the_quota_was_used_up_is_a_share_of_the_periods_since_the_reading_before(
    tmp_path: Path, used_s: dict[int, float]
) -> None:
    del used_s
    group = "/sys/fs/cgroup/pod"
    tree = {**PI_5, "/proc/self/cgroup": "0::/pod", f"{group}/cpu.max": "150000 100000"}
    stat = f"{group}/cpu.stat"
    host = plant(tmp_path, {**tree, stat: "nr_periods 100\nnr_throttled 40"})
    source = ProcessorLoad(host)
    host.path(stat).write_text("nr_periods 120\nnr_throttled 55\n")
    assert readings(source)[CPU_QUOTA] == 75.0
    assert readings(source)[CPU_QUOTA] == 0.0
    assert CPU_QUOTA not in readings(ProcessorLoad(plant(tmp_path / "free", PI_5)))
