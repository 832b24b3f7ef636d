"""How a Raspberry Pi's firmware is asked: by text commands through the VideoCore mailbox.

The kernel offers the mailbox as a character device with one ioctl. `/dev/vcio_gencmd` passes text commands only and
belongs to the group `video`; `/dev/vcio` passes everything and is root's alone on new kernels. Asking in-process spares
a fork for every reading; `vcgencmd` is the way that remains when neither device opens.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from edgetop.telemetry.source import Host

DEVICES = ("/dev/vcio_gencmd", "/dev/vcio")
JOIN_VIDEO_GROUP = "sudo usermod -aG video $USER, then log in again"

_TAG_GENCMD = 0x00030080
_TEXT_BYTES = 4096
_HEADER = struct.Struct("=6I")
"""Message size, request or response code, tag, size of the text, length of the request, error of the command."""
_MESSAGE_BYTES = _HEADER.size + _TEXT_BYTES + 4
_RESPONSE_OK = 0x80000000
_IOCTL_PROPERTY = 0xC0000000 | struct.calcsize("P") << 16 | 100 << 8
"""_IOWR(100, 0, char *): the size of a pointer is part of the number, so it differs on a 32-bit system."""
_VCGENCMD_TIMEOUT_S = 2.0

_FAILURE = re.compile(
    r"error=\d+"
    r"|ioctl_set_msg failed"
    r"|vc_gencmd_read_response returned"
    r"|Can't open device file"
    r"|VCHI initialization failed"
)
"""What a failed command says. It says so on stdout, where the answer would be, and may exit with 0."""

Ioctl = Callable[[int, int, bytearray], int]


class MailboxError(Exception):
    """The firmware did not answer, or answered that it cannot."""

    def __init__(self, reason: str, mend: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.mend = mend


class Gencmd(Protocol):
    """One way of asking the firmware."""

    @property
    def path(self) -> str:
        """The device or the program that is asked."""

    @property
    def in_process(self) -> bool:
        """Whether a question costs no process of its own."""

    def ask(self, command: str) -> str:
        """The answer to `command`. Raises MailboxError, also for an answer that tells of a failure."""

    def close(self) -> None:
        """Give back what is held open."""


class Mailbox:
    """Asks through one of the mailbox devices."""

    in_process = True

    def __init__(self, device: Path, *, ioctl: Ioctl = fcntl.ioctl) -> None:
        """Open `device`. Raises OSError when that is not possible."""
        self.path = str(device)
        self._ioctl = ioctl
        self._fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)

    def ask(self, command: str) -> str:
        """See `Gencmd.ask`."""
        text = command.encode("ascii").ljust(_TEXT_BYTES, b"\0")
        message = bytearray(_HEADER.pack(_MESSAGE_BYTES, 0, _TAG_GENCMD, _TEXT_BYTES, 0, 0) + text + bytes(4))
        try:
            self._ioctl(self._fd, _IOCTL_PROPERTY, message)
        except OSError as error:
            raise MailboxError(
                f"{self.path}: {error.strerror}", "update the firmware: sudo apt full-upgrade"
            ) from error
        _, code, _, _, _, failure = _HEADER.unpack_from(message)
        answer = _printable(bytes(message[_HEADER.size : -4]).split(b"\0", 1)[0])
        if code != _RESPONSE_OK:
            raise MailboxError(f"{self.path}: the firmware did not process `{command}` (code {code:#x})")
        return checked(command, answer, failed=failure != 0)

    def close(self) -> None:
        """See `Gencmd.close`."""
        os.close(self._fd)


class Vcgencmd:
    """Asks by running `vcgencmd`, at a fork for every question."""

    in_process = False

    def __init__(self, program: str) -> None:
        self.path = program

    def ask(self, command: str) -> str:
        """See `Gencmd.ask`."""
        try:
            done = subprocess.run(
                [self.path, *command.split()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=_VCGENCMD_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise MailboxError(f"vcgencmd {command}: no answer in {_VCGENCMD_TIMEOUT_S:g} s") from error
        except OSError as error:
            raise MailboxError(f"{self.path}: {error.strerror}") from error
        return checked(command, _printable(done.stdout[:_TEXT_BYTES]), failed=done.returncode != 0)

    def close(self) -> None:
        """See `Gencmd.close`."""


def open_gencmd(host: Host, *, ioctl: Ioctl = fcntl.ioctl) -> Gencmd:
    """The cheapest way of asking the firmware that answers on this host.

    Raises MailboxError when there is none.
    """
    refused: list[str] = []
    permitted = True
    for device in DEVICES:
        try:
            mailbox = Mailbox(host.path(device), ioctl=ioctl)
        except OSError as error:
            permitted = permitted and not isinstance(error, PermissionError)
            refused.append(f"{device}: {error.strerror}")
            continue
        with contextlib.suppress(MailboxError):
            mailbox.ask("get_throttled")
            return mailbox
        refused.append(f"{device} does not answer")
        mailbox.close()
    program = shutil.which("vcgencmd")
    if program is None:
        mend = "sudo apt install raspi-utils" if permitted else JOIN_VIDEO_GROUP
        raise MailboxError("; ".join([*refused, "no vcgencmd"]), mend)
    vcgencmd = Vcgencmd(program)
    vcgencmd.ask("get_throttled")
    return vcgencmd


def checked(command: str, answer: str, *, failed: bool = False) -> str:
    """`answer`, unless it tells of a failure.

    Raises MailboxError when it does.
    """
    answer = answer.strip()
    if failed or not answer or _FAILURE.search(answer):
        first_line = answer.splitlines()[0][:120] if answer else "no answer"
        mend = JOIN_VIDEO_GROUP if "Can't open device" in answer else ""
        raise MailboxError(f"{command}: {first_line}", mend)
    return answer


def _printable(answer: bytes) -> str:
    text = answer.decode("ascii", "replace")
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)
