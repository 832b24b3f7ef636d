"""The process that decodes.

One thread waits for a command, carries it out and sends reports; another one only watches that the process runs. What
libraries print on its standard output and error goes to a file of the parent, which reads the last words of a worker
that dies.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import signal
import socket
import threading
from collections.abc import Iterator

from edgetop.core.clock import STOPPED_US, US_PER_S, monotonic_us
from edgetop.inference.child_process import die_with_parent
from edgetop.inference.engine import Engine, Stop, StopFlags
from edgetop.inference.protocol import (
    Choose,
    Command,
    FrameReader,
    Generate,
    Hello,
    Load,
    Measure,
    ParentGoneError,
    Perplexity,
    Quit,
    ReportSender,
    StoodStill,
)
from edgetop.io.log import inherit_log

_RECEIVE_BYTES = 65536


def make_engine(name: str) -> Engine:
    """The engine of a name.

    `llama` is the llama.cpp that EDGETOP_ENGINE chooses; a server is named as `ServerChoice.engine_name` says it;
    `llama-server` or `llama-server=PATH` is one that
    edgetop starts; `scripted:FILE` is for tests.
    """
    if name.startswith("llama-server"):
        from edgetop.inference.server.owned import OwnedServerEngine  # noqa: PLC0415 - brings HTTP

        return OwnedServerEngine(name.partition("=")[2])
    kind, _, argument = name.partition(":")
    if kind == "scripted":
        from edgetop.inference.scripted import ScriptedEngine  # noqa: PLC0415 - only in tests

        return ScriptedEngine.from_file(argument)
    if kind in {"llama", "auto", "installed", "portable"}:
        from edgetop.inference.llama.engine import LlamaEngine  # noqa: PLC0415 - llama.cpp is slow to import
        from edgetop.inference.llama.library import chosen_engine  # noqa: PLC0415 - the same

        return LlamaEngine(None if kind == "llama" else chosen_engine({"EDGETOP_ENGINE": kind}))
    if kind == "server":
        from edgetop.inference.server.address import ServerChoice  # noqa: PLC0415 - only for a server
        from edgetop.inference.server.engine import ServerEngine  # noqa: PLC0415 - the same

        return ServerEngine(ServerChoice.parse_json(argument))
    raise ValueError(f"no engine is called {name!r}")


def commands(connection: socket.socket) -> Iterator[Command]:
    """Commands as they come; ends when the parent is gone."""
    reader = FrameReader[Command](Command)
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    while True:
        poll.poll()
        try:
            data = connection.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            continue
        except ConnectionError:
            return
        if not data:
            return
        yield from reader.feed(data)


BEAT_S = 0.25
"""A thread that wakes so often tells when the process did not run; it costs some microseconds."""


@contextlib.contextmanager
def telling_standstills(outbox: ReportSender) -> Iterator[None]:
    """Report it when this process was stopped or frozen, which no engine notices in the middle of a prompt."""
    done = threading.Event()

    def watch() -> None:
        due_us = monotonic_us() + round(BEAT_S * US_PER_S)
        while not done.wait(BEAT_S):
            now_us = monotonic_us()
            if now_us - due_us > STOPPED_US:
                outbox.send(StoodStill(t_us=now_us, for_us=now_us - due_us))
            due_us = now_us + round(BEAT_S * US_PER_S)

    def until_parent_goes() -> None:
        with contextlib.suppress(ParentGoneError):
            watch()

    thread = threading.Thread(target=until_parent_goes, name="edgetop-standstill", daemon=True)
    with contextlib.suppress(RuntimeError):  # no more threads are to be had
        thread.start()
    try:
        yield
    finally:
        done.set()


def serve(connection: socket.socket, flags: StopFlags, engine: Engine, outbox: ReportSender) -> None:
    """Carry out commands until there are no more."""
    for number, command in enumerate(commands(connection)):
        stop = Stop(flags, number)
        match command:
            case Load():
                engine.load(command, stop, outbox.send)
            case Generate():
                # A server goes on while we stand still.
                is_ours = engine.info.stamps != "arrival"
                with telling_standstills(outbox) if is_ours else contextlib.nullcontext():
                    engine.generate(command, stop, outbox.send)
            case Measure():
                engine.measure(command, stop, outbox.send)
            case Perplexity() | Choose():
                engine.score(command, stop, outbox.send)
            case Quit():
                break
        outbox.wait()
    engine.close()


def _leave_foreground() -> None:
    """Leave the terminal's Ctrl+C, Ctrl+Z and hangup to the screen's process, which saves first.

    The session stays the same: Linux weighs the processes of a session against each other by their niceness, but whole
    sessions as equals (sched(7), autogroup), and the screen is to give way to the model.
    """
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTSTP):
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)


def main(arguments: list[str] | None = None) -> None:
    """Run until the parent says Quit or is gone."""
    parser = argparse.ArgumentParser(prog="edgetop.inference.worker")
    parser.add_argument("--socket", type=int, required=True)
    parser.add_argument("--stop", type=int, required=True)
    parser.add_argument("--engine", default="llama")
    options = parser.parse_args(arguments)
    inherit_log()
    _leave_foreground()
    die_with_parent()
    connection = socket.socket(fileno=options.socket)
    flags = StopFlags(options.stop)
    os.close(options.stop)
    try:
        outbox = ReportSender(connection)
        engine = make_engine(options.engine)
        if engine.info.stamps == "arrival":
            outbox.limit()
        outbox.send(Hello(pid=os.getpid(), engine=engine.info))
        serve(connection, flags, engine, outbox)
    except ParentGoneError:
        return


if __name__ == "__main__":
    main()
