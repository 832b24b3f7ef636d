"""Whether a llama-server that edgetop started is gone after every way in which edgetop can end.

    python -m benchmarks.endings                            a launcher around xllamacpp's server
    python -m benchmarks.endings --server llama-server      the one that is installed
    python -m benchmarks.endings --times 3                  of each kind; 20 by default

Every second ending comes while the model is being loaded, the others while it answers.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pexpect
import psutil

from benchmarks import run_benchmark
from tests.support.isolated_home import IsolatedHome
from tests.support.requirements import need_demo_model, need_module
from tests.support.server_launcher import launcher

PROMPT = "Write a very long story about a river."
LIMIT_S = 300.0
"""For a start; the machine may be crowded."""
GONE_S = 15.0
"""A server that is still there this long after edgetop's end has been left behind."""

QUIT_KEY = "\x1b[21~"  # F10

Ending = Callable[[Any], None]


def _close_terminal(screen: Any) -> None:  # noqa: ANN401 - pexpect has no types
    screen.ptyproc.fileobj.close()


ENDINGS: dict[str, tuple[bool, Ending]] = {
    "quit": (True, lambda screen: screen.send(QUIT_KEY)),
    "Ctrl+C": (False, lambda screen: screen.sendintr()),
    "SIGTERM": (True, lambda screen: os.kill(screen.pid, signal.SIGTERM)),
    "SIGKILL": (True, lambda screen: os.kill(screen.pid, signal.SIGKILL)),
    "closed terminal": (True, _close_terminal),
}
"""How it ends, and whether it is the live screen or `edgetop run`, which Ctrl+C ends at once."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Whether a llama-server is left behind.")
    parser.add_argument("--server", help="the program; a launcher around xllamacpp's server by default")
    parser.add_argument("--only", choices=ENDINGS, action="append", help="this kind; may be given several times")
    parser.add_argument("--times", type=int, default=20, help="endings of each kind")
    options = parser.parse_args()
    # A shell lets what it starts in the background ignore Ctrl+C, and so would all that is started from here.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    model = need_demo_model()
    if options.server is None:
        need_module("xllamacpp")
    print(f"{'ending':<16} {'times':>5} {'while answering':>15} {'left behind':>11} {'slowest s':>9}")
    failed = False
    for name in options.only or ENDINGS:
        is_screen, end = ENDINGS[name]
        left = answering = 0
        slowest_s = 0.0
        for number in range(options.times):
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
                server = options.server or str(launcher(Path(folder)))
                began, gone_s = one_ending(
                    Path(folder), server, model, is_screen=is_screen, end=end, late=number % 2 == 1
                )
                answering += began
                left += gone_s is None
                slowest_s = max(slowest_s, gone_s or GONE_S)
        failed |= bool(left)
        print(f"{name:<16} {options.times:>5} {answering:>15} {left:>11} {slowest_s:>9.1f}", flush=True)
    sys.exit(failed)


def one_ending(
    folder: Path, server: str, model: Path, *, is_screen: bool, end: Ending, late: bool
) -> tuple[bool, float | None]:
    """Whether it was answering when it ended, and how many seconds later no server was left; `None` if one is."""
    home = IsolatedHome(folder)
    verb = () if is_screen else ("run", "-p", PROMPT)
    given = ("-m", str(model), "--engine", f"llama-server={server}", "--power", "none", "--ctx", "1024")
    command = home.command(*verb, *given)
    screen: Any = pexpect.spawn(command[0], command[1:], env=home.environment, dimensions=(30, 100), timeout=LIMIT_S)
    with contextlib.suppress(pexpect.EOF, OSError):
        _until(lambda: bool(_servers(screen.pid)), screen)
    servers = _servers(screen.pid)
    assert servers, "no server was started"  # noqa: S101 - nothing would be shown by this run
    if late and is_screen:
        screen.expect("threads")  # the model's name stands beside it once it is loaded
        screen.send(PROMPT + "\r")
    if late:
        _until(lambda: any(process.cpu_times().user > 2.0 for process in servers), screen)
    end(screen)
    begun_s = time.monotonic()
    while any(_runs(process) for process in servers) and time.monotonic() - begun_s < GONE_S:
        _read(screen)
    left = [process for process in servers if _runs(process)]
    gone_s = time.monotonic() - begun_s
    for process in left:
        process.kill()
    _until(lambda: not _runs_pid(screen.pid), screen)
    return late, None if left else gone_s


def _servers(pid: int) -> list[psutil.Process]:
    """The processes below edgetop's that have a port on their command line."""
    found = []
    with contextlib.suppress(psutil.Error):
        for process in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if "--port" in process.cmdline():
                    found.append(process)
    return found


def _runs(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _runs_pid(pid: int) -> bool:
    with contextlib.suppress(psutil.Error):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


def _until(happened: Callable[[], bool], screen: Any) -> None:  # noqa: ANN401 - as above
    limit_s = time.monotonic() + LIMIT_S
    while not happened():
        if time.monotonic() > limit_s:
            raise TimeoutError("it did not happen in time")
        _read(screen)


def _read(screen: Any) -> None:  # noqa: ANN401 - as above
    """Take what it prints, so that it is not stopped by a full terminal."""
    try:
        screen.read_nonblocking(65536, timeout=0.05)
    except pexpect.TIMEOUT:
        pass
    except (pexpect.EOF, OSError, ValueError):
        time.sleep(0.05)


if __name__ == "__main__":
    run_benchmark(main)
