from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from edgetop.telemetry import raspberry_pi
from edgetop.telemetry.host import Host
from edgetop.telemetry.raspberry_pi import FirmwareError, Ioctl, Mailbox, open_gencmd


def firmware(answers: dict[str, str], *, code: int = 0x80000000, failure: int = 0) -> Ioctl:
    """The kernel's and the firmware's side of the mailbox."""

    def ioctl(_fd: int, request: int, message: bytearray) -> int:
        assert request == 0xC0006400 | struct.calcsize("P") << 16
        size, process, tag, room, _, _ = struct.unpack_from("=6I", message)
        assert (size, process, tag) == (len(message), 0, 0x00030080)
        assert size == 24 + room + 4
        assert message[-4:] == bytes(4)
        command = bytes(message[24:]).split(b"\0", 1)[0].decode()
        answer = answers.get(command, 'error=1 error_msg="Command not registered"')
        struct.pack_into("=6I", message, 0, size, code, tag, room, 0x80000000 | len(answer), failure)
        message[24:-4] = answer.encode().ljust(room, b"\0")
        return 0

    return ioctl


def refusing(number: int) -> Ioctl:
    def ioctl(_fd: int, _request: int, _message: bytearray) -> int:
        raise OSError(number, os.strerror(number))

    return ioctl


def devices(root: Path, *names: str) -> Host:
    (root / "dev").mkdir()
    for name in names:
        (root / "dev" / name).touch()
    return Host(sysroot=root)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a `vcgencmd` of our own, a shell script, at the only place on the path."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def write(script: str) -> None:
        path = folder / "vcgencmd"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    return write


def test_a_command_goes_through_the_mailbox_and_its_answer_comes_back(tmp_path: Path) -> None:
    host = devices(tmp_path, "vcio_gencmd")
    mailbox = Mailbox(host.path("/dev/vcio_gencmd"), ioctl=firmware({"get_throttled": "throttled=0x0\n"}))
    assert mailbox.ask("get_throttled") == "throttled=0x0"
    with pytest.raises(FirmwareError, match=r"pmic_read_adc: error=1 .*Command not registered"):
        mailbox.ask("pmic_read_adc")
    mailbox.close()


def test_control_characters_of_the_firmware_are_not_passed_on(tmp_path: Path) -> None:
    host = devices(tmp_path, "vcio")
    mailbox = Mailbox(host.path("/dev/vcio"), ioctl=firmware({"version": "a\x1b[2Jb\nc\x7f"}))
    assert mailbox.ask("version") == "a?[2Jb\nc?"
    mailbox.close()


@pytest.mark.parametrize(
    "ioctl",
    [
        refusing(errno.ETIMEDOUT),
        refusing(errno.EINVAL),
        firmware({"get_throttled": "throttled=0x0"}, code=0x80000001),
        firmware({"get_throttled": "throttled=0x0"}, failure=1),
        firmware({"get_throttled": ""}),
    ],
)
def test_a_dead_firmware_is_an_error_and_never_an_answer(tmp_path: Path, ioctl: Ioctl) -> None:
    mailbox = Mailbox(devices(tmp_path, "vcio").path("/dev/vcio"), ioctl=ioctl)
    with pytest.raises(FirmwareError):
        mailbox.ask("get_throttled")
    mailbox.close()


def test_the_device_for_commands_alone_is_preferred_to_the_one_for_everything(tmp_path: Path) -> None:
    gencmd = open_gencmd(devices(tmp_path, "vcio", "vcio_gencmd"), ioctl=firmware({"get_throttled": "throttled=0x0"}))
    assert (gencmd.path, gencmd.in_process) == (str(tmp_path / "dev/vcio_gencmd"), True)
    gencmd.close()


def test_the_device_for_everything_serves_where_there_is_no_other(tmp_path: Path) -> None:
    gencmd = open_gencmd(devices(tmp_path, "vcio"), ioctl=firmware({"get_throttled": "throttled=0x0"}))
    assert gencmd.path == str(tmp_path / "dev/vcio")
    gencmd.close()


def test_vcgencmd_serves_where_no_device_does(tmp_path: Path, program: Callable[[str], None]) -> None:
    program('test "$1" = get_throttled && echo throttled=0x50005')
    gencmd = open_gencmd(devices(tmp_path, "vcio"), ioctl=refusing(errno.ETIMEDOUT))
    assert not gencmd.in_process
    assert gencmd.ask("get_throttled") == "throttled=0x50005"


@pytest.mark.parametrize(
    "script",
    [
        'echo "Can\'t open device file: /dev/vcio_gencmd"',
        "echo 'ioctl_set_msg failed:-1'; echo 'vc_gencmd_read_response returned -1'",
        "echo 'error=1 error_msg=\"Command not registered\"'",
        "echo throttled=0x0; exit 255",
        "exit 0",
    ],
)
def test_the_failures_of_vcgencmd_arrive_on_stdout_and_are_known_for_what_they_are(
    tmp_path: Path, program: Callable[[str], None], script: str
) -> None:
    program(script)
    with pytest.raises(FirmwareError):
        open_gencmd(Host(sysroot=tmp_path))


def test_a_vcgencmd_that_hangs_is_given_up(
    tmp_path: Path, program: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raspberry_pi, "_VCGENCMD_TIMEOUT_S", 0.05)
    os.mkfifo(tmp_path / "nobody-writes")
    program(f"read forever < {tmp_path}/nobody-writes")
    with pytest.raises(FirmwareError, match="no answer in"):
        open_gencmd(Host(sysroot=tmp_path))


def test_where_nothing_answers_the_way_in_is_named(tmp_path: Path, program: Callable[[str], None]) -> None:
    with pytest.raises(FirmwareError, match="no vcgencmd") as missing:
        open_gencmd(devices(tmp_path))
    assert "raspi-utils" in missing.value.missing.hint


def test_where_the_device_is_forbidden_the_group_is_named(
    tmp_path: Path, program: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbid(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    host = devices(tmp_path, "vcio_gencmd")
    monkeypatch.setattr(os, "open", forbid)
    with pytest.raises(FirmwareError, match="Permission denied") as missing:
        open_gencmd(host)
    assert "video" in missing.value.missing.hint
