"""A terminal that a benchmark holds the other end of, and what the program in it takes of the machine."""

from __future__ import annotations

import os
import pty
import select
import struct
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from fcntl import ioctl
from pathlib import Path
from typing import NamedTuple

from edgetop.core.clock import US_PER_S, monotonic_us

COLUMNS, ROWS = 120, 36
DEADLINE_S = 180.0


class Chunk(NamedTuple):
    """Bytes that came at once."""

    t_us: int
    size: int


class Terminal:
    """Takes what a program writes, and answers nothing but what is typed."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.output = bytearray()
        self.chunks: list[Chunk] = []
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.execvpe(command[0], list(command), dict(environment))  # noqa: S606 - a terminal needs a forked child
        ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))

    def fileno(self) -> int:
        """For select."""
        return self._fd

    def type(self, text: str) -> None:
        """Type."""
        os.write(self._fd, text.encode())

    def until(self, condition: Callable[[], object]) -> None:
        """Take what comes until a condition is true. Ends the benchmark if that takes too long."""
        deadline_s = time.monotonic() + DEADLINE_S
        while not condition():
            if time.monotonic() > deadline_s or not self.take(0.5):
                raise SystemExit(f"the screen did not come so far: {bytes(self.output[-400:])!r}")

    def until_seen(self, text: str) -> None:
        """Take what comes until `text` was written."""
        self.until(lambda: text.encode() in self.output)

    def drain(self, for_s: float) -> None:
        """Take what comes for so long."""
        end_s = time.monotonic() + for_s
        while (left_s := end_s - time.monotonic()) > 0:
            self.take(left_s)

    def close(self) -> None:
        """Wait until the program has ended."""
        while self.take(5.0):
            pass
        os.close(self._fd)
        os.waitpid(self.pid, 0)

    def take(self, wait_s: float) -> bool:
        """Take what comes within `wait_s`; False once the program has closed its end."""
        ready, _, _ = select.select([self._fd], [], [], wait_s)
        if not ready:
            return True
        try:
            data = os.read(self._fd, 65536)
        except OSError:
            return False
        self.chunks.append(Chunk(monotonic_us(), len(data)))
        self.output += data
        return bool(data)

    def bytes_between(self, t0_us: int, t1_us: int) -> int:
        """How much was written then."""
        return sum(chunk.size for chunk in self.chunks if t0_us <= chunk.t_us <= t1_us)


class Use(NamedTuple):
    """What a process took, since it began, as it was at a moment."""

    t_us: int
    cpu_s: float


def use_of(pid: int) -> Use:
    """Processor time of all threads that live, to the nanosecond as the scheduler counts it (proc_pid_schedstat(5))."""
    run_ns = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        run_ns += int((task / "schedstat").read_text().split()[0])
    return Use(monotonic_us(), run_ns / 1e9)


def cpu_percent(before: Use, after: Use) -> float:
    """Percent of one core between two moments."""
    return (after.cpu_s - before.cpu_s) / ((after.t_us - before.t_us) / US_PER_S) * 100


def resident_mib(pid: int) -> float:
    """Resident memory."""
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
