"""A pseudo-terminal that keeps every byte a program writes to it, and draws them."""

from __future__ import annotations

import os
import re
import select
from collections.abc import Mapping, Sequence
from pathlib import Path

import pexpect
import pyte

from tests.support.eventually import eventually

_READ_BYTES = 65536


class RecordedTerminal:
    """A program on a pseudo-terminal of 120 by 36 cells."""

    def __init__(self, command: Sequence[str], *, environment: Mapping[str, str], folder: Path) -> None:
        columns, rows = 120, 36
        self.written = b""
        """Everything so far."""
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self._child = pexpect.spawn(
            command[0], list(command[1:]), env=dict(environment), cwd=str(folder), dimensions=(rows, columns)
        )

    @property
    def text(self) -> str:
        """What is on the screen."""
        self._read()
        return "\n".join(line.rstrip() for line in self._screen.display)

    def sees(self, pattern: str) -> re.Match[str]:
        """Wait until the screen shows what a regular expression says, and give it."""

        def shown() -> re.Match[str] | None:
            ended = not self._child.isalive()
            match = re.search(pattern, self.text)
            assert match or not ended, f"the program ended without {pattern!r}\n{self.text}"
            return match

        return eventually(shown, f"the screen shows {pattern!r}", told=lambda: self.text)

    @property
    def fd(self) -> int:
        """Of the terminal, from our side."""
        fd: int = self._child.child_fd
        return fd

    def type(self, text: str) -> None:
        """Type a line and press Enter."""
        self._child.send(f"{text}\r")

    def press(self, keys: str) -> None:
        """Send the bytes of keys."""
        self._child.send(keys)

    def exit_code(self) -> int | None:
        """Wait for the program's end; its exit code, `None` if a signal ended it."""
        eventually(self._has_ended, "the program has ended", told=lambda: self.text)
        code: int | None = self._child.exitstatus
        return code

    def hang_up(self) -> None:
        """Take the terminal away; the system tells nobody but the program that it started."""
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, self._child.child_fd)
        os.close(nothing)

    def close(self) -> None:
        """Take the terminal away, and end the program."""
        self._child.close(force=True)

    def _has_ended(self) -> bool:
        self._read()
        return not self._child.isalive()

    def _read(self) -> None:
        fd = self._child.child_fd
        while select.select([fd], [], [], 0)[0]:
            try:
                data = os.read(fd, _READ_BYTES)
            except OSError:  # Linux says EIO when the program has closed its end
                return
            if not data:
                return
            self.written += data
            self._stream.feed(data)
