"""A shell on another machine over the user's own OpenSSH, and that machine's ports through the same connection.

Everything is OpenSSH's: its configuration, keys, agents and known hosts. Where there is nobody to ask, BatchMode says
so; a host key is never accepted for the user. A connection that the user's configuration shares already is used,
otherwise one is made with a control socket of our own.
"""

from __future__ import annotations

import os
import re
import secrets
import select
import shlex
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from glob import glob
from itertools import pairwise
from pathlib import Path
from typing import IO

from edgetop.core.text import one_line

HOST = re.compile(r"[A-Za-z0-9_\[][\w.@:%\[\]-]{0,254}", re.ASCII)
"""What may stand for a host: never an option of ssh."""

HELLO_S = 60.0
"""A login over a slow line takes its time; nobody is waited for longer who is not at the keyboard."""

CONTROL_S = 5.0
_SSH = ("ssh",)
LINE_BYTES = 2**20
ANSWER_BYTES = 16 * 2**20
"""Of all that a command prints: the files of a machine of many cores take some hundred kilobytes."""

LINE_COST = 64
"""A line counts as so many bytes more: it takes its time, however short it is."""

TOO_MUCH = "it sends more than anybody asked for"
_STDERR_BYTES = 4096

_FAILURES = (
    ("REMOTE HOST IDENTIFICATION HAS CHANGED", "its key is another one than known", "find out why: ssh {host}"),
    ("Host key verification failed", "its key is not among the known hosts", "type once: ssh {host}"),
    ("Permission denied", "it refuses the login", "a key that works without a question: ssh-copy-id {host}"),
    ("Could not resolve hostname", "its name is not known", "see ~/.ssh/config"),
    ("Connection refused", "nobody listens there for SSH", ""),
    ("timed out", "it does not answer", ""),
    ("No route to host", "there is no way to it", ""),
)
"""What ssh says, what that means, and what to do; of several the first."""

_ASKED = ("Host key verification failed", "Permission denied")


class SshError(Exception):
    """A connection that cannot be made, or has ended."""

    def __init__(self, reason: str, hint: str = "", *, wants_user: bool = False) -> None:
        """`wants_user` says that somebody at a terminal might help."""
        super().__init__(reason)
        self.reason, self.hint, self.wants_user = reason, hint, wants_user


class Shell:
    """`sh` on another machine: lines in, lines out. Used by one thread."""

    def __init__(self, host: str, folder: Path) -> None:
        """`folder` is for sockets, and one's own alone. Raises ValueError for what is no host."""
        if not HOST.fullmatch(host):
            raise ValueError(f"{one_line(host)!r} is no host")
        self.host = host
        self.mark = f"edgetop-{secrets.token_hex(6)}"
        """Begins a line that no file of the other machine holds."""
        self._folder = folder
        self.asks = False
        """Whether ssh may ask on the terminal when it connects."""
        self._process: subprocess.Popen[bytes] | None = None
        self._control: list[str] = []
        self._received = bytearray()
        self._said = b""
        self._ports: dict[tuple[str, int], tuple[Path, str]] = {}
        """The sockets that lead to ports, and what ssh was asked to forward."""

    def open(self, script: str) -> None:
        """Connect, and have the shell run `script`, whose first words must be `hello`. Raises SshError."""
        self.close()
        shared = self._run_control("check", quiet=True)
        self._control = [] if shared else ["-o", f"ControlPath={self._folder / 'control'}"]
        own = [] if shared else ["-o", "ControlMaster=yes", "-o", "ControlPersist=no"]
        options = ["-T", "-a", "-x", "-o", "RemoteCommand=none", "-o", "ClearAllForwardings=yes"]
        try:
            self._process = subprocess.Popen(
                [*_SSH, *options, *self._batch, *self._control, *own, "--", self.host, "exec sh"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                # Its keys are not ours; but one that asks must be in the foreground.
                start_new_session=not self.asks,
            )
        except OSError as error:
            raise SshError(f"ssh cannot be run: {error.strerror}", "sudo apt install openssh-client") from None
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert stream is not None  # noqa: S101 - they are pipes
            os.set_blocking(stream.fileno(), False)
        self.send(f"printf '%s\\n' {self.mark}\n{script}")
        deadline_s = time.monotonic() + (86_400 if self.asks else HELLO_S)
        # What a login script of the other machine prints comes before.
        for _ in self._lines(deadline_s):
            pass

    @property
    def _batch(self) -> list[str]:
        return [] if self.asks else ["-o", "BatchMode=yes"]

    def send(self, text: str) -> None:
        """Raises SshError where the shell does not take it."""
        process = self._process
        if process is None or process.stdin is None:
            raise SshError("it is not connected")
        data = memoryview(text.encode())
        deadline_s = time.monotonic() + HELLO_S
        while data:
            if not _ready([process.stdin], select.POLLOUT, deadline_s):
                raise SshError("it takes nothing")
            try:
                data = data[os.write(process.stdin.fileno(), data[:65_536]) :]
            except BlockingIOError:
                continue
            except OSError:
                raise self._ended() from None

    def line(self, deadline_s: float) -> str:
        """The next line. Raises SshError, also where none comes until the moment of the monotonic clock."""
        if time.monotonic() > deadline_s:
            raise SshError("it does not come to an end")
        while (end := self._received.find(b"\n")) < 0:
            if len(self._received) > LINE_BYTES:
                raise SshError("it sends a line without an end")
            self._receive(deadline_s)
        line = bytes(self._received[:end])
        del self._received[: end + 1]
        return line.decode("utf-8", "replace")

    def answer(self, command: str, timeout_s: float) -> Iterator[str]:
        """The lines that a command prints. Raises SshError."""
        self.send(f"{command}\nprintf '\\n%s\\n' {self.mark}\n")
        yield from self._lines(time.monotonic() + timeout_s)

    def _lines(self, deadline_s: float) -> Iterator[str]:
        """The lines before the mark."""
        size = 0
        while (line := self.line(deadline_s)) != self.mark:
            size += len(line) + LINE_COST
            if size > ANSWER_BYTES:
                raise SshError(TOO_MUCH)
            yield line

    def _receive(self, deadline_s: float) -> None:
        process = self._process
        if process is None or process.stdout is None:
            raise SshError("it is not connected")
        streams = [stream for stream in (process.stdout, process.stderr) if stream is not None and not stream.closed]
        readable = _ready(streams, select.POLLIN, deadline_s)
        if not readable:
            raise SshError("it does not answer any more" if self._received else "it does not answer")
        if process.stderr is not None and process.stderr in readable:
            with suppress(BlockingIOError):
                said = os.read(process.stderr.fileno(), _STDERR_BYTES)
                self._said = (self._said + said)[-_STDERR_BYTES:]
                if not said:
                    process.stderr.close()
        if process.stdout in readable:
            try:
                data = os.read(process.stdout.fileno(), 65_536)
            except BlockingIOError:
                return
            if not data:
                raise self._ended()
            self._received += data
        elif process.poll() is not None:
            raise self._ended()

    def _ended(self) -> SshError:
        """Why it has ended, in ssh's own words or plainer ones."""
        process = self._process
        code = None
        if process is not None and process.stderr is not None:
            with suppress(subprocess.TimeoutExpired):
                code = process.wait(1.0)
            with suppress(OSError, ValueError):
                self._said += os.read(process.stderr.fileno(), _STDERR_BYTES)
        said = self._said.decode("utf-8", "replace")
        for words, reason, hint in _FAILURES:
            if words in said:
                return SshError(reason, hint.format(host=self.host), wants_user=words in _ASKED)
        lines = [one_line(line) for line in said.splitlines() if line.strip()]
        return SshError(lines[-1][:200] if lines else f"ssh ended{'' if code is None else f' with status {code}'}")

    def reach(self, host: str, port: int) -> Path:
        """A socket here that leads to a port of the other machine, through this connection. Raises SshError."""
        if (host, port) not in self._ports:
            path = self._folder / f"port-{len(self._ports)}"
            path.unlink(missing_ok=True)
            target = f"{path}:{f'[{host}]' if ':' in host else host}:{port}"
            if not self._run_control("forward", "-L", target):
                raise SshError("its ports cannot be reached through SSH", "AllowTcpForwarding there?")
            self._ports[host, port] = path, target
        return self._ports[host, port][0]

    def _run_control(self, command: str, *more: str, quiet: bool = False) -> bool:
        control = [] if quiet else self._control
        try:
            done = subprocess.run(
                [*_SSH, "-O", command, *self._batch, *control, *more, "--", self.host],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=CONTROL_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
        return done.returncode == 0

    def interrupt(self) -> None:
        """Have whoever waits for a line see the end; from another thread."""
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()

    def close(self) -> None:
        """End the connection, unless it is one that the user shares; our ports close in any case."""
        process, self._process = self._process, None
        ports, self._ports = self._ports, {}
        if process is not None and process.poll() is None:
            if not self._control:
                for _, target in ports.values():
                    self._run_control("cancel", "-L", target)
            process.terminate()
        for path, _ in ports.values():
            path.unlink(missing_ok=True)
        if process is not None:
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    with suppress(OSError):
                        stream.close()
            try:
                process.wait(CONTROL_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._received.clear()
        self._said = b""


def _ready(streams: Sequence[IO[bytes]], event: int, deadline_s: float) -> list[IO[bytes]]:
    """Those that have something, or take something; none once the moment of the monotonic clock has come."""
    poll = select.poll()
    for stream in streams:
        poll.register(stream, event)
    found = {descriptor for descriptor, _ in poll.poll(max(0.0, 1000 * (deadline_s - time.monotonic())))}
    return [stream for stream in streams if stream.fileno() in found]


CONFIGURATIONS = ("~/.ssh/config", "/etc/ssh/ssh_config")
"""In the order in which ssh reads them; what they include is searched for beside them."""

FILES_MAX = 200
_LINE = re.compile(r"\s*(\w+)(?:\s*=\s*|\s+)(.*)")


def configured_hosts() -> list[str]:
    """The hosts that ssh's configuration names, and the files that it includes; patterns are none."""
    found: dict[str, None] = {}
    read: set[Path] = set()
    for name in CONFIGURATIONS:
        with suppress(OSError, RuntimeError):
            file = Path(name).expanduser()
            _add_hosts(file, file.parent, found, read)
    return list(found)


def _add_hosts(file: Path, folder: Path, found: dict[str, None], read: set[Path]) -> None:
    """Those of a file, each file once."""
    file = file.resolve()
    if file in read or len(read) >= FILES_MAX or not file.is_file():
        return
    read.add(file)
    with file.open(encoding="utf-8", errors="replace") as lines:
        text = lines.read(LINE_BYTES)
    for line in text.splitlines():
        keyword, words = _words(line)
        if keyword == "match":
            criteria = [part for word in words for part in word.split("=", 1)]
            named = (names for each, names in pairwise(criteria) if each.lower() in _NAMING)
            words = [name for names in named for name in names.split(",")]
        if keyword in {"host", "match"}:
            found |= dict.fromkeys(word for word in words if HOST.fullmatch(word))
        elif keyword == "include":
            for pattern in words:
                with suppress(OSError, RuntimeError):
                    for included in sorted(glob(str(folder / Path(pattern).expanduser()))):  # noqa: PTH207 - a whole path
                        _add_hosts(Path(included), folder, found, read)


_NAMING = ("host", "originalhost")


def _words(line: str) -> tuple[str, list[str]]:
    """The keyword of a line in small letters, and its arguments."""
    parts = _LINE.fullmatch(line)
    if parts is None:
        return "", []
    try:
        words = shlex.split(parts[2], comments=True)
    except ValueError:
        words = []
    return parts[1].lower(), words
