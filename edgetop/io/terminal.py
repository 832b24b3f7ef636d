"""The process's terminal: standard streams, size, foreground, and what restores it after a kill.

Everything here is needed before, without or after the screen, so nothing of Textual is.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import termios
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import NamedTuple, TextIO

from edgetop.core.errors import EdgetopError

COLUMNS_MAX, LINES_MAX = 1000, 400
"""No screen has more cells; a terminal that says so is not believed, since drawing them would take minutes."""

FALLBACK = (80, 24)


class TerminalSize(NamedTuple):
    """In cells."""

    columns: int
    lines: int


def terminal_size(
    fd: int = 1, environment: Mapping[str, str] = os.environ, fallback: tuple[int, int] = FALLBACK
) -> TerminalSize:
    """The size that the terminal itself says, within bounds.

    COLUMNS and LINES, which many shells export once and nobody updates, count only where it says none, as on a serial
    line.
    """
    try:
        columns, lines = os.get_terminal_size(fd)
    except OSError:
        columns, lines = 0, 0
    columns = columns or _number(environment.get("COLUMNS", "")) or fallback[0]
    lines = lines or _number(environment.get("LINES", "")) or fallback[1]
    return TerminalSize(min(columns, COLUMNS_MAX), min(lines, LINES_MAX))


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else 0


def terminal_kind(environment: Mapping[str, str] = os.environ) -> str:
    """TERM; `dumb` where it is not set or empty."""
    return environment.get("TERM") or "dumb"


def secure_standard_streams() -> None:
    """Have standard streams to rely on: closed ones become /dev/null, failures of others are reported or ignored.

    First of all, so that nothing that is opened later gets their numbers.
    """
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(fd)
        except OSError:
            # The lowest free number, which is this one, since those below are open.
            os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(fd, True)
        if getattr(sys, name) is None:
            stream = open(fd, "w" if fd else "r", encoding="utf-8", closefd=False)  # noqa: SIM115 - for good
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
    for name, kind in (("stdout", Output), ("stderr", Diagnostics)):
        stream = getattr(sys, name)
        setattr(
            sys, name, kind(stream.buffer, stream.encoding, "backslashreplace", line_buffering=stream.line_buffering)
        )


def discard(stream: io.TextIOWrapper | TextIO) -> None:
    """Send what is still to be written to a stream that accepts nothing any more to /dev/null.

    Python would try once more when it ends, and print a trace.
    """
    nothing = os.open(os.devnull, os.O_WRONLY)
    with suppress(OSError, ValueError):
        os.dup2(nothing, stream.fileno())
        io.TextIOWrapper.flush(stream) if isinstance(stream, io.TextIOWrapper) else stream.flush()
    os.close(nothing)


class OutputError(EdgetopError):
    """What a command printed could not be delivered; a reader that has enough is no such error."""


PIECE_BYTES = 512
"""A terminal is given no more at once, so that one that stops reading keeps little."""

STALLED_S = 0.5
"""A screen that has not been taken for so long is followed by no other until it has."""


class Writer(threading.Thread):
    """Writes in a thread, so that a terminal or a pipe that nobody reads holds up nothing else.

    With `on_gap` whatever would wait behind something stalled is dropped, and `on_gap` is called, in this thread, when
    all else is written. A descriptor that fails takes nothing more.
    """

    def __init__(self, on_gap: Callable[[], None] | None = None) -> None:
        super().__init__(name="edgetop-output", daemon=True)
        self.failures: dict[int, OSError] = {}
        """By descriptor."""
        self._on_gap = on_gap
        self._gap = False
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._writing_since_s: float | None = None
        """`None` while nothing is being written."""
        self._is_cut = False
        """The rest of what is being written is to be dropped."""
        self._changed = threading.Condition()
        self.start()

    def put(self, fd: int, data: bytes) -> None:
        """Write later, after what was put before."""
        with self._changed:
            since_s = self._writing_since_s
            if self._on_gap is not None and since_s is not None and time.monotonic() - since_s > STALLED_S:
                self._gap = True
            else:
                self._waiting.append((fd, data))
                self._changed.notify_all()

    def discard(self) -> None:
        """Drop all that waits, and the rest of what is being written; what is put from now on is written."""
        with self._changed:
            self._waiting.clear()
            self._gap, self._is_cut = False, self._writing_since_s is not None
            if self._is_cut:
                self._writing_since_s = time.monotonic()

    def drain(self, limit_s: float | None = None) -> bool:
        """Wait until all is written, for at most `limit_s`; whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and self._writing_since_s is None, limit_s)

    def run(self) -> None:
        """Write, for ever."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                fd, data = self._waiting.popleft()
                self._writing_since_s, self._is_cut = time.monotonic(), False
            try:
                self._write(fd, data)
            except OSError as error:
                self.failures[fd] = error
            with self._changed:
                has_gap = self._gap and not self._waiting
                self._gap = self._gap and not has_gap
                self._writing_since_s = None
                self._changed.notify_all()
            if has_gap and self._on_gap is not None:
                self._on_gap()

    def _write(self, fd: int, data: bytes) -> None:
        size = PIECE_BYTES if os.isatty(fd) else len(data)
        view = memoryview(data)
        while view and not self._is_cut and fd not in self.failures:
            view = view[os.write(fd, view[:size]) :]


_late: Writer | None = None
"""What writes stdout and stderr, once they are not to be waited for."""


def write_late() -> None:
    """From now on nothing waits for whoever reads stdout and stderr; `drain` does, at the end and before a question."""
    global _late  # noqa: PLW0603 - of the process, as its streams are
    if _late is None and isinstance(sys.stdout, Output) and isinstance(sys.stderr, Diagnostics):
        sys.stdout.flush()
        sys.stderr.flush()
        _late = Writer()


def drain(limit_s: float | None = None) -> None:
    """Wait for whoever reads stdout and stderr. Raises what `Output` raises."""
    if _late is not None:
        _late.drain(limit_s)
    sys.stdout.flush()


class Output(io.TextIOWrapper):
    """Stdout whose failures say what failed. Raises OutputError, and BrokenPipeError as ever."""

    def write(self, text: str) -> int:
        """Write."""
        with self._said():
            if _late is None:
                return super().write(text)
            self._raise_failure(_late)
            _late.put(self.fileno(), text.encode(self.encoding, "backslashreplace"))
            return len(text)

    def flush(self) -> None:
        """Write what waits."""
        with self._said():
            if _late is not None:
                self._raise_failure(_late)
            super().flush()

    def _raise_failure(self, late: Writer) -> None:
        if self.fileno() in late.failures:
            raise late.failures.pop(self.fileno())

    @contextmanager
    def _said(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            discard(self)
            raise OutputError(f"the output cannot be written: {error.strerror}") from None


class Diagnostics(io.TextIOWrapper):
    """Stderr that is lost where it cannot be written: a full disk or a closed pipe ends nothing that goes well."""

    def write(self, text: str) -> int:
        """Write as much as can be."""
        if _late is not None:
            _late.put(self.fileno(), text.encode(self.encoding, "backslashreplace"))
            return len(text)
        try:
            return super().write(text)
        except OSError:
            discard(self)
            return len(text)

    def flush(self) -> None:
        """The same."""
        try:
            super().flush()
        except OSError:
            discard(self)


def in_foreground(fd: int = 0) -> bool:
    """Whether the terminal is ours to read from and to draw on."""
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:
        return True


def wait_for_foreground(fd: int = 0) -> bool:
    """Stop, as a job that reads from the terminal in the background does, until the shell says `fg`.

    False where nobody can say that: the kernel does not stop a process group that no shell looks after (setsid(2)).
    """
    tries = 0
    while not in_foreground(fd):
        if tries == 3:
            return False
        before = signal.signal(signal.SIGTTIN, signal.SIG_DFL)
        os.killpg(0, signal.SIGTTIN)
        signal.signal(signal.SIGTTIN, before)
        # Whoever `bg` has continued comes here, is not in the foreground, and stops again.
        tries = tries + 1 if _is_orphaned() else 0
    return True


def _is_orphaned() -> bool:
    return os.getsid(0) == os.getpid() or os.getppid() == 1


RESTORE = (
    "\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?1015l\x1b[?1016l\x1b[?1004l\x1b[?2004l\x1b[?2026l\x1b[<u"
    "\x1b[0m\x1b[?7h\x1b[?1049l\x1b[?25h"
)
"""Ends mouse, focus, paste and keyboard reports, synchronized output, colours, and the alternate screen."""

_GUARD = """read -r _ && exit
printf %s "$1"
stty "$2" <&1 || stty sane <&1"""


class TerminalGuard:
    """A small process that restores the terminal if this one is killed; it notices by a pipe that closes.

    It is a shell, not a Python: one megabyte, and nothing to do. Where none can be started the screen goes without.
    """

    def __init__(self, fd: int = 1) -> None:
        import subprocess  # noqa: PLC0415 - every start imports this module, and few open a screen

        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _GUARD, "edgetop-guard", RESTORE, _stty_text(fd)],
                stdin=subprocess.PIPE,
                stdout=fd,
                stderr=subprocess.DEVNULL,
                # What ends or stops the job leaves it alone, and to set the terminal is allowed from another session.
                start_new_session=True,
            )
        except (OSError, RuntimeError, termios.error):
            return

    def release(self) -> None:
        """End it: the terminal is as it was."""
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            with suppress(OSError):
                process.stdin.write(b"\n")
                process.stdin.close()
            process.wait()

    def restore(self) -> None:
        """Have it restore the terminal, as soon as that takes something again."""
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            with suppress(OSError):
                process.stdin.close()


def _stty_text(fd: int) -> str:
    """The terminal's attributes as `stty -g` of Linux has them: four flags, then the control characters."""
    attributes = termios.tcgetattr(fd)
    characters = [each if isinstance(each, int) else ord(each) for each in attributes[6]]
    return ":".join(f"{number:x}" for number in (*attributes[:4], *characters))
