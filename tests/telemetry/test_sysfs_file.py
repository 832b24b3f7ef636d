from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from edgetop.telemetry.host import SysfsFile, why


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
