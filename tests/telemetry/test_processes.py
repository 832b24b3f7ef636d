"""The engine's process and our own."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from edgetop.core.sources import Unavailable
from edgetop.telemetry.host import Host
from edgetop.telemetry.processes import EngineProcessUse, OwnUse, cpu_time_s, holds_gpu, probe
from edgetop.telemetry.source import SourceLost
from tests.support.fake_sysfs import readings, sources

MIB = 2**20
RATE = Unavailable("a rate needs two readings")
NOBODY = Unavailable("no model is running")


class Scene:
    """A `/proc` with engines in it, and a clock."""

    def __init__(self, proc: Path) -> None:
        self.proc = proc
        self.now_us = 0
        self.pid: int | None = 7
        host = Host(worker_pid=lambda: self.pid, clock=lambda: self.now_us, system="linux")
        self.source = EngineProcessUse(host, proc)

    def write(
        self, pid: int, *, ticks: int, faults: int, pages: int = 1024, status: str | None = None, started_s: float = 0
    ) -> None:
        folder = self.proc / str(pid)
        folder.mkdir(exist_ok=True)
        fields = ["0"] * 50
        fields[9], fields[11], fields[12], fields[21] = str(faults), str(ticks - 1), "1", str(pages)
        fields[19] = str(round(100 * started_s))
        (folder / "stat").write_text(f"{pid} (a) R (b c) {' '.join(fields)}\n")
        (folder / "status").write_text(STATUS if status is None else status)


STATUS = """Name:\tVmSwap:\t9 kB
Groups:\t0 27 1000
VmRSS:\t  4096 kB
RssAnon:\t  1024 kB
RssFile:\t  2048 kB
RssShmem:\t  1024 kB
VmSwap:\t  512 kB
"""


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setattr(os, "sysconf", {"SC_CLK_TCK": 100, "SC_PAGE_SIZE": 4096}.__getitem__)
    return Scene(tmp_path)


def test_memory_is_split_and_rates_come_with_the_second_reading(scene: Scene) -> None:
    scene.write(7, ticks=100, faults=10)
    first = readings(scene.source)
    assert first == {
        "engine.rss": 4 * MIB,
        "engine.rss_peak": Unavailable("this system does not report the most memory a process has had"),
        "engine.mapped": 2 * MIB,
        "engine.anonymous": 2 * MIB,
        "engine.swap": MIB / 2,
        "engine.major_faults": RATE,
        "engine.cpu": RATE,
    }
    scene.now_us = 2_000_000
    scene.write(7, ticks=400, faults=60)
    second = readings(scene.source)
    assert (second["engine.major_faults"], second["engine.cpu"]) == (25.0, 150.0)


def test_an_engine_that_was_restarted_begins_anew(scene: Scene) -> None:
    scene.write(7, ticks=900, faults=900)
    scene.source.read()
    scene.now_us, scene.pid = 1_000_000, 8
    scene.write(8, ticks=10, faults=1)
    assert readings(scene.source)["engine.cpu"] == RATE
    scene.now_us, scene.pid = 2_000_000, None
    assert set(readings(scene.source).values()) == {NOBODY}
    scene.now_us, scene.pid = 3_000_000, 8
    assert readings(scene.source)["engine.major_faults"] == RATE


def test_a_number_used_again_gives_no_negative_rate(scene: Scene) -> None:
    scene.write(7, ticks=900, faults=900)
    scene.source.read()
    scene.now_us = 1_000_000
    scene.write(7, ticks=10, faults=1)
    values = readings(scene.source)
    assert (values["engine.major_faults"], values["engine.cpu"]) == (0.0, 0.0)


def test_two_readings_at_one_moment_give_no_rate(scene: Scene) -> None:
    scene.write(7, ticks=10, faults=1)
    scene.source.read()
    assert readings(scene.source)["engine.cpu"] == RATE


def test_a_process_that_ended_is_no_engine_whether_buried_or_not(scene: Scene) -> None:
    scene.write(7, ticks=10, faults=1, pages=0, status="Name:\tx\nState:\tZ (zombie)\n")
    assert set(readings(scene.source).values()) == {NOBODY}
    (scene.proc / "7/stat").write_text("7 (x) R 1 2")
    assert set(readings(scene.source).values()) == {NOBODY}
    shutil.rmtree(scene.proc / "7")
    assert set(readings(scene.source).values()) == {NOBODY}


def test_an_old_kernel_tells_the_resident_set_but_not_its_parts(scene: Scene) -> None:
    scene.write(7, ticks=10, faults=1, status="VmRSS:\t 4096 kB\n")
    values = readings(scene.source)
    assert values["engine.rss"] == 4 * MIB
    old = Unavailable("this kernel does not report mapped and private memory", "Linux 4.5 or newer does")
    assert values["engine.mapped"] == values["engine.anonymous"] == old
    assert values["engine.swap"] == Unavailable("this system does not report how much of a process is in swap")


def test_elsewhere_than_on_linux_psutil_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    used = {"cpu": 1.0, "pageins": 5}

    class Process:
        def __init__(self, pid: int) -> None:
            if pid != 7:
                raise psutil.NoSuchProcess(pid)

        def cpu_times(self) -> object:
            return SimpleNamespace(user=used["cpu"], system=0.5)

        def memory_info(self) -> object:
            return SimpleNamespace(rss=3 * MIB, pageins=used["pageins"])

    monkeypatch.setattr(psutil, "Process", Process)
    now_us = [0]
    source = EngineProcessUse(Host(worker_pid=lambda: 7, clock=lambda: now_us[0], system="darwin"))
    source.read()
    now_us[0], used["cpu"], used["pageins"] = 1_000_000, 1.75, 9
    values = readings(source)
    assert values["engine.rss"] == 3 * MIB
    assert values["engine.mapped"] == Unavailable("this system does not report mapped and private memory")
    assert (values["engine.major_faults"], values["engine.cpu"]) == (4.0, 75.0)
    assert cpu_time_s(7, "darwin") == 2.25
    assert cpu_time_s(8, "darwin") is None


def test_our_own_use_is_finer_than_the_ticks_of_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    now_us, spent_s = [0], [0.0]
    monkeypatch.setattr("time.process_time", lambda: spent_s[0])
    source = OwnUse(Host(clock=lambda: now_us[0]))
    assert readings(source)["edgetop.cpu"] == RATE
    now_us[0], spent_s[0] = 1_000_000, 0.0042
    assert readings(source)["edgetop.cpu"] == pytest.approx(0.42)


def test_a_process_hidden_from_itself_is_lost_and_not_zero() -> None:
    with pytest.raises(SourceLost, match="does not show this process"):
        OwnUse(Host(own_pid=2**22 + 1)).read()


def test_the_real_process_is_read() -> None:
    found = sources(probe(Host(worker_pid=os.getpid)))
    assert list(found) == ["engine", "edgetop"]
    engine, own = readings(found["engine"]), readings(found["edgetop"])
    for resident in (engine["engine.rss"], own["edgetop.rss"]):
        assert isinstance(resident, float)
        assert 5 * MIB < resident < 100_000 * MIB


def test_memory_that_an_emulator_hides_in_stat_is_read_elsewhere(scene: Scene) -> None:
    scene.write(7, ticks=100, faults=0, pages=0)
    assert readings(scene.source)["engine.rss"] == NOBODY, "one that has ended occupies nothing"
    (scene.proc / "7/statm").write_text("60811 7705 2554 1151 0 39242 0\n")
    assert readings(scene.source)["engine.rss"] == 7705 * 4096.0


def test_processes_that_work_for_the_engine_are_added(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    helpers: list[int] = [8]
    host = Host(worker_pid=lambda: 7, helper_pids=lambda: tuple(helpers), clock=lambda: scene.now_us, system="linux")
    source = EngineProcessUse(host, tmp_path)
    scene.write(7, ticks=100, faults=0)
    scene.write(8, ticks=1000, faults=0, pages=4096)
    assert readings(source)["engine.rss"] == 5120 * os.sysconf("SC_PAGE_SIZE")
    scene.now_us += 1_000_000
    scene.write(7, ticks=110, faults=1)
    scene.write(8, ticks=1050, faults=2, pages=4096)
    helpers.append(9)  # gone before it could be read
    second = readings(source)
    assert second["engine.cpu"] == pytest.approx(60 * 100 / os.sysconf("SC_CLK_TCK"))
    assert second["engine.major_faults"] == 3
    assert second["engine.anonymous"] == 2 * 2 * MIB


def test_why_there_is_no_process_is_the_hosts_to_say(tmp_path: Path) -> None:
    host = Host(no_worker=lambda: Unavailable("the server is on pi2"), system="linux")
    assert set(readings(EngineProcessUse(host, tmp_path)).values()) == {Unavailable("the server is on pi2")}


def test_the_most_memory_of_a_process_that_is_as_young_as_the_session_is_the_sessions(scene: Scene) -> None:
    (scene.proc / "uptime").write_text("1000.00 3000.00\n")
    scene.write(7, ticks=1, faults=0, started_s=970.0, status=f"{STATUS}VmHWM:\t 153600 kB\n")
    assert readings(scene.source)["engine.rss_peak"] == 150 * MIB


def test_what_an_older_process_once_had_is_not_this_sessions(scene: Scene) -> None:
    (scene.proc / "uptime").write_text("1000.00 3000.00\n")
    scene.write(7, ticks=1, faults=0, started_s=100.0, status=f"{STATUS}VmHWM:\t 153600 kB\n")
    earlier = Unavailable("the most memory it has had dates from before this session")
    assert readings(scene.source)["engine.rss_peak"] == earlier
    scene.write(7, ticks=1, faults=0, started_s=100.0, status=f"{STATUS}VmHWM:\t 163840 kB\n")
    assert readings(scene.source)["engine.rss_peak"] == 160 * MIB


def test_a_kernel_that_tells_no_peak_leaves_it_open(scene: Scene) -> None:
    scene.write(7, ticks=1, faults=0)
    assert isinstance(readings(scene.source)["engine.rss_peak"], Unavailable)


def test_a_graphics_device_that_a_process_has_open_is_seen(tmp_path: Path) -> None:
    fds = tmp_path / "proc" / "7" / "fd"
    fds.mkdir(parents=True)
    host = Host(sysroot=tmp_path)
    (fds / "0").symlink_to("/dev/null")
    assert holds_gpu(host, 7) is False
    (fds / "5").symlink_to("/dev/nvidia0")
    assert holds_gpu(host, 7) is True
    assert holds_gpu(host, 8) is None
