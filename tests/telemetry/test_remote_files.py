"""What a shell tells of a machine, read by the usual readers from a copy."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from edgetop.core.sources import Unavailable
from edgetop.inference.server.backend import server_programs
from edgetop.telemetry import host as host_module
from edgetop.telemetry.host import GENCMD_ANSWERS, SHELL_SETUP, Host, RemoteFiles
from edgetop.telemetry.model_processes import ModelProcess, ModelProcesses
from edgetop.telemetry.registry import remote_probes, take_inventory
from tests.support.fake_processes import MODEL_PATH, FakeProcesses
from tests.support.fake_sysfs import JETSON, LAPTOP, ORIN_NANO, PI_5, Tree, below, flickering, plant
from tests.support.remote_shell import remote_shell
from tests.support.requirements import need_program

RAPL = below(
    "/sys/class/powercap/intel-rapl:0", {"name": "package-0", "energy_uj": 5_000_000, "max_energy_range_uj": 10**12}
)


def copied(root: Path, folder: Path, **more: object) -> tuple[RemoteFiles, Host]:
    files = RemoteFiles(folder)
    files.fetch_all(remote_shell(root, **more))  # type: ignore[arg-type]
    return files, Host(sysroot=folder, system="linux", own_pid=0, uses_gpu=lambda: False)


def values(host: Host) -> dict[str, float | Unavailable]:
    """A reading of everything that can be read."""
    inventory = take_inventory(host, remote_probes())
    found: dict[str, float | Unavailable] = {}
    for source in inventory.sources:
        found |= dict(zip((channel.name for channel in source.info.channels), source.read(), strict=True))
    inventory.close()
    return found


@pytest.mark.parametrize("tree", [PI_5, JETSON | ORIN_NANO, LAPTOP], ids=["pi 5", "jetson", "laptop"])
def test_the_readers_read_the_same_of_the_copy(tmp_path: Path, tree: Tree) -> None:
    (tmp_path / "copy").mkdir()
    host = plant(tmp_path / "remote", tree)
    _, copy = copied(tmp_path / "remote", tmp_path / "copy")
    with flickering(tmp_path / "remote"):
        there = values(host)
    # What flickers there stands still in the copy, and is no measurement: power is the test below.
    wanted = {name: value for name, value in there.items() if not name.startswith("power.")}
    here = values(copy)
    assert {name: here.get(name) for name in wanted} == wanted
    assert wanted["memory.total"] == here["memory.total"]


def test_power_is_that_of_the_latest_refresh(tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    plant(tmp_path / "remote", JETSON | ORIN_NANO)
    files, copy = copied(tmp_path / "remote", tmp_path / "copy")
    inventory = take_inventory(copy, [(name, probe) for name, probe in remote_probes() if name == "jetson"])
    (source,) = inventory.sources
    assert source.read()[0] == pytest.approx(4.968 * 1.520)
    plant(tmp_path / "remote", {"/sys/class/hwmon/hwmon1/curr1_input": 990})
    files.refresh(remote_shell(tmp_path / "remote"))
    assert source.read()[0] == pytest.approx(4.968 * 0.990)
    (tmp_path / "remote/sys/class/hwmon/hwmon1/curr1_input").unlink()
    files.refresh(remote_shell(tmp_path / "remote"))
    assert isinstance(source.read()[0], Unavailable)
    inventory.close()


def test_a_meter_of_acpi_that_lies_at_its_device_is_copied(tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    there = below("/sys/devices/LNXSYSTM:00/ACPI000D:00", {"name": "power_meter", "power1_average": 302_000_000,
                                                           "power1_oem_info": "Module Power Socket 0"})  # fmt: skip
    plant(tmp_path / "remote", {**LAPTOP, **there})
    folder = tmp_path / "remote/sys/class/hwmon/hwmon1"
    folder.mkdir(parents=True)
    (folder / "device").symlink_to("../../../devices/LNXSYSTM:00/ACPI000D:00")
    _, copy = copied(tmp_path / "remote", tmp_path / "copy")
    inventory = take_inventory(copy, [(name, probe) for name, probe in remote_probes() if name == "hwmon"])
    (source,) = inventory.sources
    assert source.info.channels[0].scope == "module"
    assert source.read()[0] == pytest.approx(302.0)
    inventory.close()


def test_a_pi_5_is_asked_by_vcgencmd(tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    plant(tmp_path / "remote", PI_5)
    programs = tmp_path / "programs"
    programs.mkdir()
    pmic = " VDD_CORE_A current(7)=3.00000000A\\n     VDD_CORE_V volt(15)=0.90000000V\\n"
    (programs / "vcgencmd").write_text(
        f"#!/bin/sh\ncase $1 in get_throttled) echo throttled=0x50005;; pmic_read_adc) printf '{pmic}';; esac\n"
    )
    (programs / "vcgencmd").chmod(0o755)
    _, copy = copied(tmp_path / "remote", tmp_path / "copy", programs=programs)
    found = values(copy)
    assert found["power.VDD_CORE"] == pytest.approx(2.7)
    assert (found["throttle.undervoltage"], found["throttle.slowed_down"]) == (1, 1)


def test_without_vcgencmd_that_of_this_machine_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "copy").mkdir()
    plant(tmp_path / "remote", PI_5)
    monkeypatch.setattr("shutil.which", lambda name: pytest.fail(f"{name} was looked for here"))
    _, copy = copied(tmp_path / "remote", tmp_path / "copy")
    assert copy.path(GENCMD_ANSWERS).is_dir()
    assert "power.board" not in values(copy)


def test_a_counter_of_the_processor_is_read(tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    plant(tmp_path / "remote", LAPTOP | RAPL)
    files, copy = copied(tmp_path / "remote", tmp_path / "copy")
    assert copy.path("/sys/class/powercap/intel-rapl:0/energy_uj").read_text() == "5000000"
    plant(tmp_path / "remote", {"/sys/class/powercap/intel-rapl:0/energy_uj": 6_000_001})
    files.refresh(remote_shell(tmp_path / "remote"))
    assert copy.path("/sys/class/powercap/intel-rapl:0/energy_uj").read_text() == "6000001"


def found_by(host: Host) -> dict[int, ModelProcess]:
    return {process.pid: process for process in ModelProcesses(host, server_programs()).scan()}


@pytest.mark.parametrize("shell", ["sh", "busybox sh", "bash --posix"])
def test_model_processes_are_found(tmp_path: Path, shell: str) -> None:
    need_program(shell.split(maxsplit=1)[0])
    (tmp_path / "copy").mkdir()
    (tmp_path / "applets").mkdir()
    if shell.startswith("busybox"):
        subprocess.run(["busybox", "--install", "-s", tmp_path / "applets"], check=True)
    far = FakeProcesses(tmp_path / "remote")
    far.process(40, "/usr/bin/llama-server", "-m", MODEL_PATH, "--port", "8080", mapped=MODEL_PATH, ports=(8080,))
    far.process(50, "/usr/bin/firefox", resident_bytes=2**29)
    far.process(60, "/usr/bin/llama-server", "-m", "/a.gguf", "--port", "9000", resident_bytes=2**20, ports=(9000,))
    ask = remote_shell(tmp_path / "remote", tmp_path / "applets", shell=shell)
    files = RemoteFiles(tmp_path / "copy")
    files.scan(ask, ())
    copy = Host(sysroot=tmp_path / "copy", system="linux", own_pid=0)
    found = found_by(copy)
    assert set(found) == {40}  # what is small has loaded nothing
    assert found[40].model == MODEL_PATH
    assert found[40].addresses == (("127.0.0.1", 8080),)
    far.gone(40)
    files.scan(ask, (40,))
    assert found_by(copy) == {}


def test_pages_of_another_size_are_counted_in_ours(tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    far = FakeProcesses(tmp_path / "remote")
    far.process(40, "/usr/bin/llama-server", "-m", MODEL_PATH, "--port", "8080", mapped=MODEL_PATH, ports=(8080,))
    told = remote_shell(tmp_path / "remote")
    page = 4 * os.sysconf("SC_PAGE_SIZE")

    def ask(command: str) -> list[str]:
        return [str(page)] if "getconf" in command else told(command)

    files = RemoteFiles(tmp_path / "copy")
    files.fetch_all(ask)
    files.scan(ask, ())
    there = (tmp_path / "remote/proc/40/stat").read_text().split()
    here = (tmp_path / "copy/proc/40/stat").read_text().split()
    assert int(here[-2]) == 4 * int(there[-2])


HOSTILE = (
    "/etc/../../../../tmp/escaped",
    "/sys/class/hwmon/hwmon0/$(touch x)_input",
    "/sys/class/hwmon/hwmon0/a'b_input",
    "/etc/passwd",
    "/sys/\x1b[2J",
)


def test_what_a_hostile_machine_says_stays_below_the_folder(tmp_path: Path) -> None:
    root = tmp_path / "copy"
    root.mkdir()
    asked: list[str] = []

    def ask(command: str) -> Iterable[str]:
        asked.append(command)
        if "edgetop_names" in command:
            return [*HOSTILE, "/sys/class/hwmon/hwmon0/temp1_input"]
        if "ls -ld" in command:
            return ["l 1 /sys/class/hwmon/hwmon0/device -> ../..", "l 1 /../../x/device -> ../evil"]
        if "edgetop_files" in command:
            return [*(f"{path}:1" for path in HOSTILE), "/sys/class/hwmon/hwmon0/temp1_input:" + "9" * 5000, "\0", ":"]
        if "edgetop_large" in command:
            return ["../../1 (x) " + "1 " * 40, "7 (x) S " + "1 " * 40, "8 (x"]
        if "edgetop_process" in command:
            return [
                "cmdline 9 x",
                "cmdline 7 llama-server\1../x",
                "fd 7",
                "3 /etc/passwd",
                "4 socket:[1]",
                "fd ../.. y",
            ]
        return ["/" * 300, "-1", "0", "vcgencmd"]

    files = RemoteFiles(root)
    files.fetch_all(ask)
    files.refresh(ask, (7,))
    files.scan(ask, (7,))
    assert not [path for path in tmp_path.iterdir() if path != root]
    for path in root.rglob("*"):
        # The one link that leads out by its name is a socket's, which is nowhere.
        assert path.is_symlink() or path.resolve().is_relative_to(root)
    assert not any("$(" in command or "'b" in command for command in asked)
    assert (root / "proc/7/fd/4").readlink() == Path("socket:[1]")


def test_what_a_machine_says_without_end_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_module, "COPIED_BYTES", 5000)
    monkeypatch.setattr(host_module, "SOCKETS_MOST", 3)
    monkeypatch.setattr("os.sysconf", lambda _name: 4096)
    zones = [f"/sys/class/thermal/thermal_zone{number}/type" for number in range(9)]

    def ask(command: str) -> Iterable[str]:
        if "edgetop_names" in command:
            return zones
        if "getconf" in command:
            return ["16384"]
        if "edgetop_files" in command:
            return [f"{path}:{'x' * 2000}" for path in zones]
        if "edgetop_large" in command:
            return [f"7 (x) S {'1 ' * 20}{'9' * 5000} 1"]
        if "edgetop_process" in command:
            return ["fd 7", *(f"{number} socket:[{number}]" for number in (3, 3, 4, 5, 6)), "9 socket:[x]"]
        return []

    files = RemoteFiles(tmp_path)
    files.fetch_all(ask)
    files.scan(ask, (7,))
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) <= 5000
    assert sorted(path.name for path in (tmp_path / "proc/7/fd").iterdir()) == ["3", "4", "5"]


def test_every_name_of_the_script_is_one_of_a_posix_shell() -> None:
    program = need_program("dash", "dash")
    checked = subprocess.run([program, "-n"], input=SHELL_SETUP, text=True, capture_output=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")
