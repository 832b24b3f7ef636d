"""Where the text of a power meter comes from: a program's output, or a TCP or Unix socket."""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import signal
import socket
import subprocess
import weakref
from collections.abc import Sequence
from typing import Protocol

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
