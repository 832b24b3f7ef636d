"""Lines from a program or socket, stamped, restarted."""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import signal
import socket
import subprocess
import weakref
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from edgetop.core.clock import US_PER_S, Clock
from edgetop.core.sources import Unavailable
from edgetop.telemetry.power_text import BARE_NUMBERS, Header, parse_header
from edgetop.telemetry.source import SourceLost

CONNECT_S = 2.0
_CHUNK_BYTES = 65536
_END_S = 0.5


class Feed(Protocol):
    """Bytes that come by and by."""

    @property
    def name(self) -> str:
        """The program or address, for people."""

    def start(self) -> None:
        """Start, or start again. Raises SourceLost when that is not possible."""

    def receive(self, timeout_s: float) -> bytes | None:
        """What has come, waiting for it up to `timeout_s`; empty when nothing did, `None` at the end."""

    def send(self, line: str) -> bool:
        """Say something to whoever prints, without waiting; false when nobody can be told now."""

    def why_ended(self) -> str:
        """After `receive` gave `None`: how it ended, in one line."""

    def close(self) -> None:
        """End it. It can be started again."""


class ProgramFeed:
    """The standard output of a program, run without a shell in a process group of its own."""

    def __init__(self, argv: Sequence[str], *, listens: bool = False) -> None:
        """`listens` gives it an input, for `send`; else it finds the end of its input at once."""
        self._argv = tuple(argv)
        self._listens = listens
        self.name = shlex.join(self._argv)
        self._process: subprocess.Popen[bytes] | None = None
        self._ending: weakref.finalize[[subprocess.Popen[bytes]], ProgramFeed] | None = None

    def start(self) -> None:
        """See `Feed.start`."""
        self.close()
        try:
            self._process = subprocess.Popen(
                self._argv,
                stdin=subprocess.PIPE if self._listens else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                start_new_session=True,
            )
        except OSError as error:
            raise SourceLost(f"{self._argv[0]}: {error.strerror}", "check the command") from error
        if self._process.stdin is not None:
            os.set_blocking(self._process.stdin.fileno(), False)
        # Also when nobody closes this, as after an error in the screen, the program must not go on for ever.
        self._ending = weakref.finalize(self, _end, self._process)

    def receive(self, timeout_s: float) -> bytes | None:
        """See `Feed.receive`."""
        if self._process is None or self._process.stdout is None:
            return None
        return _receive(self._process.stdout.fileno(), timeout_s)

    def send(self, line: str) -> bool:
        """See `Feed.send`."""
        if self._process is None or self._process.stdin is None:
            return False
        data = line.encode()
        try:
            # Shorter than what a pipe takes whole or not at all.
            return os.write(self._process.stdin.fileno(), data) == len(data)
        except OSError:
            return False

    def wait(self, timeout_s: float) -> int | None:
        """The exit status after the end of the output; `None` when the program goes on for longer than `timeout_s`."""
        if self._process is None:
            return None
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def why_ended(self) -> str:
        """See `Feed.why_ended`."""
        status = self.wait(_END_S)
        if status is None:
            return f"{self._argv[0]} closed its output"
        if status < 0:
            return f"{self._argv[0]} was ended by {signal.Signals(-status).name}"
        return f"{self._argv[0]} exited with status {status}"

    def close(self) -> None:
        """See `Feed.close`."""
        if self._ending is not None:
            self._ending()
        self._process = self._ending = None


class SocketFeed:
    """What comes over a connection to a TCP port or a Unix socket."""

    def __init__(self, address: tuple[str, int] | str) -> None:
        """`address` is host and port, or the path of a Unix socket."""
        self._address = address
        self.name = address if isinstance(address, str) else f"{address[0]}:{address[1]}"
        self._socket: socket.socket | None = None

    def start(self) -> None:
        """See `Feed.start`."""
        self.close()
        try:
            if isinstance(self._address, str):
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                self._socket.settimeout(CONNECT_S)
                self._socket.connect(self._address)
            else:
                self._socket = socket.create_connection(self._address, timeout=CONNECT_S)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise SourceLost(f"{self.name}: {reason}", "check that the meter's server runs there") from error

    def receive(self, timeout_s: float) -> bytes | None:
        """See `Feed.receive`."""
        return None if self._socket is None else _receive(self._socket.fileno(), timeout_s)

    def send(self, line: str) -> bool:
        """See `Feed.send`."""
        if self._socket is None:
            return False
        data = line.encode()
        try:
            return self._socket.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL) == len(data)
        except OSError:
            return False

    def why_ended(self) -> str:
        """See `Feed.why_ended`."""
        return f"{self.name} closed the connection"

    def close(self) -> None:
        """See `Feed.close`."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def parse_command(text: str, *, listens: bool = False) -> ProgramFeed:
    """The program that `text` names, with its arguments, split as a shell would and run without one.

    Raises ValueError, with a line for the user, when there is none.
    """
    try:
        argv = shlex.split(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not a command: {str(error).lower()}") from error
    if not argv:
        raise ValueError("the command is empty: name a program that prints power")
    return ProgramFeed(argv, listens=listens)


def parse_stream(text: str) -> Feed:
    """The feed that `text` means: `tcp:HOST:PORT`, `unix:PATH`, or a command.

    Raises ValueError, with a line for the user, when it is none of them.
    """
    kind, _, rest = text.strip().partition(":")
    if kind == "unix" and rest:
        return SocketFeed(rest)
    if kind == "tcp":
        host, _, port = rest.removeprefix("//").rpartition(":")
        if not host or not (port.isascii() and port.isdecimal()) or not 0 < int(port) < 65536:
            raise ValueError(f"{text!r} is not an address: write tcp:HOST:PORT")
        return SocketFeed((host.strip("[]"), int(port)))
    return parse_command(text, listens=True)


def _receive(fd: int, timeout_s: float) -> bytes | None:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    if not poll.poll(max(0.0, timeout_s) * 1000):
        return b""
    try:
        return os.read(fd, _CHUNK_BYTES) or None
    except OSError:
        return None


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program and what it started: politely, then not."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    if process.poll() is None:
        _signal_group(process, signal.SIGTERM)
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            _signal_group(process, signal.SIGKILL)
            process.wait()


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


TIMEOUT_S = 5.0
"""A program must answer, and a stream begin, within this time."""

LINE_BYTES = 4096
_CHUNKS = 16
"""A stream that says more than this many chunks at once is read on at the next reading."""

STREAM_BYTES_PER_S = 256 * 1024
"""A meter of 20,000 readings a second says less; to understand more would cost a fifth of a core."""

_BURST_S = 4.0
"""What has waited while edgetop was stopped comes at once: as much as in so long."""

_RESTART_S = (1.0, 60.0)
"""A stream that ended is started again after the one, then after twice as long each time up to the other."""

_STEADY_S = 60.0
"""One that ran for so long may be started again at once."""


class Line(NamedTuple):
    """A line without its end, and when it came, in microseconds."""

    text: str
    t_us: int


class Connection:
    """A feed from its header on. Not open until `open`, and after it ended."""

    def __init__(self, feed: Feed, clock: Clock, *, timeout_s: float = TIMEOUT_S) -> None:
        self.name = feed.name
        self.header: Header | None = None
        """What the stream measures, once it was open."""
        self.is_open = False
        self.rejected = ""
        """Why something was left out, since it was set to nothing."""
        self.ended = Unavailable("")
        """Why it is not open any more."""
        self._feed = feed
        self._clock = clock
        self._timeout_s = timeout_s
        self._unfinished = b""
        self._is_overlong = False
        """Whether what comes up to the next line end belongs to a line that was left out."""
        self._allowed_bytes = 0.0
        self._allowed_us = 0
        """How much the stream may say now, and when that was reckoned."""
        self._lines: list[Line] = []
        self._started_us = self._restart_us = 0
        self._restart_s = _RESTART_S[0]

    def open(self) -> Header:
        """Start the stream and read its header. Raises SourceLost."""
        self._started_us = self._allowed_us = self._clock()
        self._allowed_bytes = _BURST_S * STREAM_BYTES_PER_S
        self._unfinished, self._is_overlong = b"", False
        self._lines = []
        deadline_us = self._deadline_us(self._timeout_s)
        try:
            self._feed.start()
            while not self._lines:
                self._split_lines(self._next_chunk(deadline_us))
            header = self._same_as_before(parse_header(self._lines[0].text))
            if header is not BARE_NUMBERS:
                del self._lines[0]
        except SourceLost as lost:
            self.stop(lost.missing)
            raise
        self.header = header
        self.is_open = True
        return header

    def reopen(self) -> None:
        """Start it again when it is time to. Raises SourceLost before that, and when it does not start."""
        wait_us = self._restart_us - self._clock()
        if wait_us > 0:
            raise SourceLost(f"{self.ended.reason}; tried again in {wait_us / US_PER_S:.0f} s", self.ended.hint)
        self.open()

    def gather(self, is_enough: Callable[[list[Line]], bool], timeout_s: float | None = None) -> list[Line]:
        """The lines up to those with which there `is_enough`: it is asked of each line once, with what came with it.

        Waits for it as long as a stream may take to begin, and raises SourceLost when there is none by then; with
        `timeout_s` no longer than that, and gives what came.
        """
        deadline_us = self._deadline_us(self._timeout_s if timeout_s is None else timeout_s)
        lines: list[Line] = []
        try:
            while True:
                new, self._lines = self._lines, []
                lines += new
                if is_enough(new) or not self.is_open:
                    return lines
                if timeout_s is None:
                    self._split_lines(self._next_chunk(deadline_us))
                elif self._clock() >= deadline_us or not self._process_chunk(
                    self._feed.receive(self._remaining_s(deadline_us))
                ):
                    return lines
        except SourceLost as lost:
            self.stop(lost.missing)
            raise

    def receive(self) -> list[Line]:
        """What has come, without waiting. The stream may have ended with it."""
        try:
            for _ in range(_CHUNKS):
                if not self._process_chunk(self._feed.receive(0.0)):
                    break
        except SourceLost as lost:
            self.stop(lost.missing)
        lines, self._lines = self._lines, []
        return lines

    def send(self, line: str) -> bool:
        """See `Feed.send`."""
        return self._feed.send(line)

    def stop(self, why: Unavailable) -> None:
        """End it; it can be started again after a while."""
        self.is_open = False
        self._feed.close()
        self.ended = why
        now_us = self._clock()
        if now_us - self._started_us > _STEADY_S * US_PER_S:
            self._restart_s = _RESTART_S[0]
        self._restart_us = now_us + round(self._restart_s * US_PER_S)
        self._restart_s = min(2 * self._restart_s, _RESTART_S[1])

    def close(self) -> None:
        """End it for good."""
        self.is_open = False
        self._feed.close()

    def _same_as_before(self, header: Header) -> Header:
        if header != (self.header or header):
            raise SourceLost(f"{self.name} measures something else than before", "start edgetop again")
        return header

    def _deadline_us(self, timeout_s: float) -> int:
        return self._clock() + round(timeout_s * US_PER_S)

    def _remaining_s(self, deadline_us: int) -> float:
        return max(0.0, (deadline_us - self._clock()) / US_PER_S)

    def _next_chunk(self, deadline_us: int) -> bytes:
        chunk = self._feed.receive(self._remaining_s(deadline_us))
        if chunk is None:
            raise SourceLost("; ".join(filter(None, (self._feed.why_ended(), self.rejected))), "try it in a shell")
        if not chunk or self._clock() > deadline_us:
            missing = f", but {self.rejected}" if self.rejected else ""
            raise SourceLost(f"{self.name} gives no reading within {self._timeout_s:g} s{missing}")
        return chunk

    def _process_chunk(self, chunk: bytes | None) -> bool:
        if chunk is None:
            self.stop(Unavailable(self._feed.why_ended()))
        elif chunk:
            self._split_lines(chunk)
        return bool(chunk)

    def _split_lines(self, chunk: bytes) -> None:
        """Note the lines that `chunk` completes, blank ones left out. Raises SourceLost when too much comes."""
        now_us = self._clock()
        more_bytes = (now_us - self._allowed_us) / US_PER_S * STREAM_BYTES_PER_S
        self._allowed_bytes = min(self._allowed_bytes + more_bytes, _BURST_S * STREAM_BYTES_PER_S) - len(chunk)
        self._allowed_us = now_us
        if self._allowed_bytes < 0:
            raise SourceLost(f"{self.name} says more than {STREAM_BYTES_PER_S // 1024} KiB a second", "check the meter")
        *complete, self._unfinished = (self._unfinished + chunk).split(b"\n")
        if complete and self._is_overlong:
            complete, self._is_overlong = complete[1:], False
        if self._is_overlong or len(self._unfinished) > LINE_BYTES:
            self._unfinished, self._is_overlong = b"", True
        if self._is_overlong or any(len(line) > LINE_BYTES for line in complete):
            self.rejected = f"a line is longer than {LINE_BYTES} bytes"
        self._lines += [
            Line(line.decode("utf-8", "replace").rstrip(), now_us)
            for line in complete
            if line.strip() and len(line) <= LINE_BYTES
        ]
