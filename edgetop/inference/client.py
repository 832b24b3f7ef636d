"""Starts a worker, sends it commands, receives its reports.

Nothing here blocks for long and nothing runs in a thread, so that it works in an asyncio loop
(`loop.add_reader(engine.fileno(), ...)`) as well as in a plain `select` loop.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path

import msgspec

from edgetop.core.records import ModelLoaded, Tokens, TurnFinished
from edgetop.inference.child_process import (
    Phase,
    WorkerExit,
    anonymous_file,
    explain_exit,
    last_lines,
    oom_kills,
    read_tail,
    start_module,
)
from edgetop.inference.engine import StopFlags
from edgetop.inference.llama.library import library_variable
from edgetop.inference.protocol import (
    ChoicesScored,
    Command,
    FrameReader,
    Hello,
    Load,
    LoadFailed,
    Quit,
    Report,
    ScoreFailed,
    StreamError,
    TextScored,
    encode,
)
from edgetop.inference.server.address import ENGINE_PREFIX

SEND_TIMEOUT_S = 5.0
"""A worker that waits for commands reads one at once; one that does not in this time is stuck."""

_RECEIVE_BYTES = 2**18

_TOKENS_THAT_PROVE_DECODING = 2


class EngineProcess:
    """A running worker."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        connection: socket.socket,
        *,
        flags: StopFlags,
        output_fd: int,
        sysroot: Path,
        names_files: bool = True,
    ) -> None:
        """Use `start` instead. With `names_files` models are files, whose relative path the worker does not know."""
        self._names_files = names_files
        self._process = process
        self._socket = connection
        self._flags = flags
        self._output_fd = output_fd
        self._sysroot = sysroot
        self._oom_kills = oom_kills(sysroot)
        self._reader = FrameReader[Report](Report)
        self._received: list[Report] = []
        self._sent = 0
        self._unanswered: deque[tuple[int, Command]] = deque()
        self._greeted = False
        self._tokens_since_load = 0
        self._rpc_servers: tuple[str, ...] = ()
        self._ended = False
        self._closed = False
        self._death: WorkerExit | None = None

    @classmethod
    def start(
        cls, *, engine: str = "llama", sysroot: Path = Path("/"), environment: Mapping[str, str] | None = None
    ) -> EngineProcess:
        """Spawn a worker and return at once; its first report is Hello.

        `engine` is `llama`, a server as in `ServerChoice.engine_name`, or `scripted:FILE` in tests. `environment`
        is added to ours. Call it from a thread that lives as long as the worker should: Linux kills the worker when the
        thread that started it ends. Raises OSError.
        """
        ours, theirs = socket.socketpair()
        stop_fd = StopFlags.create()
        output_fd = anonymous_file("edgetop-worker-output")
        try:
            process = start_module(
                "edgetop.inference.worker",
                *("--socket", str(theirs.fileno()), "--stop", str(stop_fd), "--engine", engine),
                stdout=output_fd,
                stderr=output_fd,
                pass_fds=(theirs.fileno(), stop_fd),
                environment={**library_variable(), **(environment or {})},
            )
            return cls(
                process,
                ours,
                flags=StopFlags(stop_fd),
                output_fd=output_fd,
                sysroot=sysroot,
                names_files=not engine.startswith(ENGINE_PREFIX),
            )
        except BaseException:
            ours.close()
            os.close(output_fd)
            raise
        finally:
            theirs.close()
            os.close(stop_fd)

    @property
    def pid(self) -> int:
        """The worker's process."""
        return self._process.pid

    @property
    def busy(self) -> bool:
        """A command is not answered yet."""
        return bool(self._unanswered)

    def fileno(self) -> int:
        """Readable when there are reports, and for good once the worker is gone: stop watching it then."""
        return self._socket.fileno()

    def send(self, command: Command) -> None:
        """Send a command; those that come while another one is carried out wait their turn.

        A worker that is gone reads nothing, as `death` reports. One that reads nothing for `SEND_TIMEOUT_S` is killed.
        """
        if isinstance(command, Load) and self._names_files and not command.raw:
            command = msgspec.structs.replace(command, path=str(Path(command.path).absolute()))
        if isinstance(command, Load):
            self._rpc_servers = command.settings.rpc_servers
        self._flags.clear(self._sent)
        if not isinstance(command, Quit):
            self._unanswered.append((self._sent, command))
        self._sent += 1
        self._deliver(encode(command), SEND_TIMEOUT_S)

    def receive(self) -> list[Report]:
        """The reports that have come, without waiting for more; of very many only the first."""
        self._fill(1)
        reports, self._received = self._received, []
        return reports

    def stop(self) -> None:
        """Stop loading, prefill or decoding: all that was sent and is not answered yet."""
        for number, _ in self._unanswered:
            self._flags.set(number)

    def kill(self) -> None:
        """End a stuck worker at once; `death` then reports it."""
        self._process.kill()

    def death(self) -> WorkerExit | None:
        """What happened to the worker; `None` while it lives and after `close`. Receive what is left before asking."""
        if self._closed or self._death is not None:
            return self._death
        if self._process.poll() is None and not self._ended:
            return None
        self._fill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)  # its end of the socket is closed, so it is about to end
        if self._process.poll() is None:
            self._process.kill()
        code = self._process.wait()
        before, now = self._oom_kills, oom_kills(self._sysroot)
        oom_killed = now > before if now is not None and before is not None else None
        self._death = explain_exit(
            code,
            self._phase(),
            last_lines(read_tail(self._output_fd)),
            oom_killed=oom_killed,
            rpc_servers=self._rpc_servers,
        )
        return self._death

    def close(self, timeout_s: float = 2.0) -> None:
        """Stop what runs, ask the worker to quit and, after a while, kill it. Its last reports are dropped."""
        if self._closed:
            return
        self._closed = True
        self.stop()
        deadline = time.monotonic() + timeout_s
        self._deliver(encode(Quit()), timeout_s)
        while not self._ended and (remaining_s := deadline - time.monotonic()) > 0:
            select.select([self._socket], [], [], remaining_s)
            self._fill()
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._socket.close()
        self._flags.close()
        os.close(self._output_fd)

    def __enter__(self) -> EngineProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _deliver(self, frame: bytes, timeout_s: float) -> None:
        remaining = memoryview(frame)
        deadline = time.monotonic() + timeout_s
        while remaining and not self._ended:
            wait_s = deadline - time.monotonic()
            # The worker may itself be waiting for us to read.
            readable, writable, _ = select.select([self._socket], [self._socket], [], max(0.0, wait_s))
            if readable:
                self._fill()
            if writable:
                try:
                    remaining = remaining[self._socket.send(remaining, socket.MSG_DONTWAIT) :]
                except BlockingIOError:
                    continue
                except ConnectionError:
                    self._ended = True
            elif wait_s <= 0:
                self._process.kill()
                self._ended = True

    def _fill(self, receives: int = sys.maxsize) -> None:
        for _ in range(receives):
            if self._ended:
                return
            try:
                data = self._socket.recv(_RECEIVE_BYTES, socket.MSG_DONTWAIT)
                reports = self._reader.feed(data)
            except BlockingIOError:
                return
            except ConnectionError:
                self._ended = True
                return
            except StreamError:
                self._process.kill()
                self._ended = True
                return
            self._ended = not data
            for report in reports:
                self._follow(report)
            self._received += reports

    def _follow(self, report: Report) -> None:
        """Keep track of what the worker is doing."""
        match report:
            case Hello():
                self._greeted = True
            case ModelLoaded():
                self._tokens_since_load = 0
                self._unanswered.popleft()
            case LoadFailed() | TurnFinished() | TextScored() | ChoicesScored() | ScoreFailed():
                self._unanswered.popleft()
            case Tokens():
                self._tokens_since_load += len(report.t_us)

    def _phase(self) -> Phase:
        if not self._greeted:
            return "starting"
        if not self._unanswered:
            return "idle"
        if isinstance(self._unanswered[0][1], Load):
            return "loading"
        return "generating" if self._tokens_since_load >= _TOKENS_THAT_PROVE_DECODING else "first_decode"
