from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from edgetop.telemetry.host import SysfsFile, board_model, container, is_transient, text_of, why
from tests.support.fake_sysfs import plant


def test_a_held_file_is_opened_once_however_often_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "power1_input"
    path.write_text("5\n")
    opened: list[str] = []
    really_open = os.open

    def count(name: str | Path, flags: int) -> int:
        opened.append(str(name))
        return really_open(name, flags)

    file = SysfsFile(path)
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", count)
        for value in (5, 7, -20):
            path.write_text(f"{value}\n")
            assert file.number() == value
    file.close()
    assert opened == [str(path)]


def test_a_device_that_answers_no_more_is_opened_anew_before_giving_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "power1_input"
    path.write_text("5\n")
    file = SysfsFile(path)
    assert file.number() == 5
    really_read = os.pread
    failures = [OSError(errno.ENODEV, "No such device")]

    def gone_once(fd: int, size: int, offset: int) -> bytes:
        if failures:
            raise failures.pop()
        return really_read(fd, size, offset)

    with monkeypatch.context() as patched:
        patched.setattr(os, "pread", gone_once)
        assert file.number() == 5
        failures += [OSError(errno.ENODEV, "No such device")] * 2
        with pytest.raises(OSError, match="No such device"):
            file.number()
        assert file.number() == 5
    file.close()


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    path = tmp_path / "power1_input"
    path.write_text("5\n")
    before = len(list(Path("/dev/fd").iterdir()))
    file = SysfsFile(path)
    file.number()
    path.unlink()
    with pytest.raises(FileNotFoundError):
        file.number()
    file.close()
    assert len(list(Path("/dev/fd").iterdir())) == before


def test_hostile_content_does_not_reach_the_message(tmp_path: Path) -> None:
    path = tmp_path / "energy_uj"
    path.write_text("\x1b[2J" + "9" * 500)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (int's own words do not matter)
        SysfsFile(path).number()
    assert why(caught.value, path).reason == f"{path} holds no number"


def test_a_pipe_that_nobody_writes_to_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "power1_input")
    with pytest.raises(OSError, match="seek"):
        SysfsFile(tmp_path / "power1_input").number()
    assert not text_of(tmp_path / "power1_input")


def test_a_driver_that_refuses_is_no_matter_of_permission_bits() -> None:
    path = Path("/sys/class/hwmon/hwmon3/power1_average")
    assert why(PermissionError(errno.EACCES, ""), path).hint == f"sudo chmod a+r {path}"
    assert not why(PermissionError(errno.EPERM, ""), path).hint
    assert is_transient(PermissionError(errno.EPERM, ""))
    assert not is_transient(PermissionError(errno.EACCES, ""))
    assert not is_transient(FileNotFoundError(errno.ENOENT, ""))


@pytest.mark.parametrize(
    ("tree", "kind"),
    [
        ({"/.dockerenv": ""}, "Docker"),
        ({"/proc/1/cgroup": "0::/init.scope", "/run/systemd/container": "lxc"}, "LXC"),
        ({"/proc/1/cgroup": "0::/", "/run/secrets/kubernetes.io/serviceaccount/namespace": "default"}, "Kubernetes"),
        ({"/proc/1/cgroup": "0::/", "/run/systemd/container": "systemd-nspawn"}, "systemd-nspawn"),
        ({"/proc/1/cgroup": "0::/docker/0af3"}, "Docker"),
        ({"/proc/1/cgroup": "0::/init.scope"}, ""),
        ({}, ""),
    ],
)
def test_a_container_is_known_by_what_started_it(tmp_path: Path, tree: dict[str, str | int], kind: str) -> None:
    assert container(plant(tmp_path, tree)) == kind


def test_a_board_whose_device_tree_is_masked_is_known_by_cpuinfo(tmp_path: Path) -> None:
    cpuinfo = "processor\t: 0\nCPU part\t: 0xd0b\n\nRevision\t: d04170\nModel\t\t: Raspberry Pi 5 Model B Rev 1.0\n"
    assert board_model(plant(tmp_path, {"/proc/cpuinfo": cpuinfo})) == "Raspberry Pi 5 Model B Rev 1.0"
    many = "".join(f"processor\t: {n}\nFeatures\t: {'asimd ' * 40}\n\n" for n in range(200)) + cpuinfo
    assert board_model(plant(tmp_path, {"/proc/cpuinfo": many})) == "Raspberry Pi 5 Model B Rev 1.0"
