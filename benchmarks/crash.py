"""Whether edgetop loses, hangs, or leaves a terminal raw, however it ends: kills, signals, failing calls, clock jumps.

    python -m benchmarks.crash                          500 kills, 200 signals, each call failing in four ways or being
                                                        the last one, the clock jumping, 8 at once
    python -m benchmarks.crash --kills 20 --signals 10  fewer
    python -m benchmarks.crash --jobs 4                 four side by side

Needs `cc` for the library that makes system calls fail. A word counts as lost when it was shown more than a second
before the end and is in no session afterwards.
"""

from __future__ import annotations

import argparse
import errno
import fcntl
import os
import pty
import random
import re
import select
import shutil
import signal
import struct
import subprocess
import tempfile
import termios
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from benchmarks import run_benchmark
from edgetop.inference.scripted import Reply
from edgetop.session.file_io import validate
from tests.support.isolated_home import IsolatedHome, words

TOKENS_PER_S = 100.0
LIMIT_S = 60.0
"""A start, or an end; what takes longer hangs."""

FAULTS = ("ENOSPC", "EIO", "EDQUOT", "EROFS", "SIGKILL")
"""The last one ends the process in place of the call: between a rename and an unlink, say."""

CALLS = ("open", "write", "fsync", "rename", "unlink")
PLACES = (".journal", ".json")

_LIBRARY = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>
static int done;
static int fails(const char *call, const char *path) {
    const char *wanted = getenv("FAIL_CALL"), *place = getenv("FAIL_PLACE"), *number = getenv("FAIL_ERRNO");
    if (done || !wanted || strcmp(call, wanted) || !path || !strstr(path, place)) return 0;
    done = 1;
    if (!strcmp(number, "SIGKILL")) kill(getpid(), SIGKILL);
    return errno = atoi(number);
}
static const char *name(int fd, char *path) {
    char link[40];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, 4095);
    path[size < 0 ? 0 : size] = 0;
    return path;
}
#define REAL(type, call, ...) type (*real)(__VA_ARGS__) = dlsym(RTLD_NEXT, call)
ssize_t write(int fd, const void *data, size_t size) {
    char path[4096]; REAL(ssize_t, "write", int, const void *, size_t);
    return fails("write", name(fd, path)) ? -1 : real(fd, data, size);
}
int fsync(int fd) { char path[4096]; REAL(int, "fsync", int); return fails("fsync", name(fd, path)) ? -1 : real(fd); }
int fdatasync(int fd) {
    char path[4096]; REAL(int, "fdatasync", int); return fails("fsync", name(fd, path)) ? -1 : real(fd);
}
int rename(const char *from, const char *to) {
    REAL(int, "rename", const char *, const char *); return fails("rename", to) ? -1 : real(from, to);
}
int unlink(const char *path) { REAL(int, "unlink", const char *); return fails("unlink", path) ? -1 : real(path); }
#define OPEN(call) int call(const char *path, int flags, ...) { \
    va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest); \
    REAL(int, #call, const char *, int, ...); \
    return (flags & (O_WRONLY | O_RDWR)) && fails("open", path) ? -1 : real(path, flags, mode); }
OPEN(open) OPEN(open64)
/* The clock of the wall jumps some seconds after this process has begun to ask for it. */
static int (*real_clock)(clockid_t, struct timespec *);
static long jumped(void) {
    static time_t begun;
    struct timespec now;
    const char *by = getenv("JUMP_BY_S"), *after = getenv("JUMP_AFTER_S");
    if (!real_clock) real_clock = dlsym(RTLD_NEXT, "clock_gettime");
    if (!by || !after || real_clock(CLOCK_MONOTONIC, &now)) return 0;
    if (!begun) begun = now.tv_sec;
    return now.tv_sec - begun >= atol(after) ? atol(by) : 0;
}
int clock_gettime(clockid_t clock, struct timespec *now) {
    long by_s = clock == CLOCK_REALTIME ? jumped() : 0;
    if (!real_clock) real_clock = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real_clock(clock, now);
    now->tv_sec += by_s;
    return failed;
}
time_t time(time_t *kept) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return kept ? *kept = now.tv_sec : now.tv_sec;
}
int gettimeofday(struct timeval *kept, void *zone) {
    struct timespec now;
    int failed = clock_gettime(CLOCK_REALTIME, &now);
    kept->tv_sec = now.tv_sec, kept->tv_usec = now.tv_nsec / 1000;
    return failed;
}
"""

JUMPS_S = (-10 * 366 * 86_400, -86_400, -3, 86_400, 10 * 366 * 86_400)
JUMP_AFTER_S = 2


class Case:
    """One edgetop in an empty home, on a terminal or without one, and what it has shown."""

    def __init__(self, folder: Path, *, screen: bool, environment: dict[str, str] | None = None) -> None:
        self.home = IsolatedHome(Path(tempfile.mkdtemp(dir=folder)))
        command = self.home.scripted(Reply(text=words(9000)), tokens_per_s=TOKENS_PER_S)
        command += [] if screen else ["run", "-p", "Count.", "-n", "8000"]
        self.master, self._terminal = pty.openpty()
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 36, 120, 0, 0))
        self._before = termios.tcgetattr(self._terminal)
        self.shown: list[tuple[float, int]] = []
        """When, on the monotonic clock, and the newest word."""
        self._text = ""
        self.process = subprocess.Popen(
            command,
            env={**self.home.environment, **(environment or {})},
            cwd=self.home.folder,
            stdin=self._terminal,
            stdout=self._terminal,
            stderr=self._terminal,
            start_new_session=True,
        )

    def look(self, seconds: float) -> str:
        """Read what it shows for so long; all that was shown so far."""
        until_s = time.monotonic() + seconds
        while (left_s := until_s - time.monotonic()) > 0:
            if select.select([self.master], [], [], min(left_s, 0.05))[0]:
                self._text += os.read(self.master, 65536).decode("utf-8", "replace")
                newest = max((int(number) for number in re.findall(r"word(\d+)\s", self._text[-2000:])), default=0)
                self.shown.append((time.monotonic(), newest))
        return self._text

    def sees(self, text: str) -> bool:
        """Whether it comes to show `text`."""
        until_s = time.monotonic() + LIMIT_S
        while text not in self.look(0.1) and time.monotonic() < until_s and self.process.poll() is None:
            pass
        return text in self._text

    def end(self, number: int) -> str:
        """Send a signal; what went wrong, in a word."""
        ended_s = time.monotonic()
        self.process.send_signal(number)
        until_s = ended_s + LIMIT_S
        while self.process.poll() is None:
            self.look(0.1)
            if time.monotonic() > until_s:
                self.process.kill()
                return "hung"
        return self.outcome(ended_s)

    def outcome(self, ended_s: float) -> str:
        """What went wrong after it has ended: lost, invalid, raw; nothing where all is well."""
        until_s = time.monotonic() + 5
        while (raw := self._is_raw()) and time.monotonic() < until_s:
            self.look(0.1)  # the guard restores it
        self.home.environment.pop("EDGETOP_ENGINE")
        self.home.run("sessions", "recover")
        wanted = max((word for shown_s, word in self.shown if shown_s < ended_s - 1), default=0)
        kept = 0
        for path in self.home.session_paths:
            if validate(path):
                return "invalid"
            kept = max([kept, *(int(each) for each in re.findall(r"word(\d+)", path.read_text()))])
        return "raw" if raw else "lost" if kept < wanted else ""

    def _is_raw(self) -> bool:
        modes = dict(re.findall(r"\x1b\[\?(1049|1000|1002|1003|2004|25)([hl])", self._text))
        left = [mode for mode, state in modes.items() if (state == "h") != (mode == "25")]
        return bool(left) or termios.tcgetattr(self._terminal) != self._before

    def close(self) -> None:
        """End what is left, and remove the folder."""
        self.home.end()
        os.close(self.master)
        os.close(self._terminal)
        shutil.rmtree(self.home.folder, ignore_errors=True)


def _ended(
    folder: Path, chance: random.Random, number: int, *, screen: bool, environment: dict[str, str] | None = None
) -> str:
    """One edgetop that a signal ends at any moment."""
    case = Case(folder, screen=screen, environment=environment)
    try:
        if screen and chance.random() < 0.8:
            if not case.sees("loaded in"):
                return "hung"
            os.write(case.master, b"Count.\r")
        case.look(chance.uniform(0.0, 4.0) + (JUMP_AFTER_S if environment else 0))
        return case.end(number)
    finally:
        case.close()


def _failing(folder: Path, library: Path, call: str, place: str, fault: str) -> str:
    """One run in which a system call fails once."""
    environment = {
        "LD_PRELOAD": str(library),
        "FAIL_CALL": call,
        "FAIL_PLACE": place,
        "FAIL_ERRNO": str(getattr(errno, fault, fault)),
    }
    case = Case(folder, screen=False, environment=environment)
    try:
        case.sees("word50 ")
        return case.end(signal.SIGINT)
    finally:
        case.close()


def _at_once(folder: Path) -> str:
    """Eight in one folder, each killed."""
    home = IsolatedHome(Path(tempfile.mkdtemp(dir=folder)))
    command = [*home.scripted(Reply(text=words(300)), tokens_per_s=1000.0), "run", "-p", "Count."]
    started = [
        subprocess.Popen(
            command,
            env=home.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(8)
    ]
    codes = [each.wait(LIMIT_S) for each in started]
    whole = [path for path in home.session_paths if not validate(path) and "word300" in path.read_text()]
    return "" if codes == [0] * 8 and len(whole) == 8 else "lost"


ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)

Trial = tuple[str, Callable[[], str]]
"""How it ends, and what tells what went wrong then."""


def _trials(options: argparse.Namespace, folder: Path, library: Path) -> Iterator[Trial]:
    chances = random.Random(options.seed)  # noqa: S311 - moments, not secrets

    def ended(number: signal.Signals, *, screen: bool, jumping: dict[str, str] | None = None) -> Callable[[], str]:
        chance = random.Random(chances.random())  # noqa: S311 - the same
        return partial(_ended, folder, chance, number, screen=screen, environment=jumping)

    for number in range(options.kills):
        yield "SIGKILL", ended(signal.SIGKILL, screen=bool(number % 2))
    for number in range(options.signals):
        which = ENDING[number // 2 % len(ENDING)]
        yield which.name, ended(which, screen=bool(number % 2))
    for call in CALLS:
        for place in PLACES:
            for fault in FAULTS if options.faults else ():
                yield f"{call} fails", partial(_failing, folder, library, call, place, fault)
    for jump_s in JUMPS_S if options.jumps else ():
        jumping = {"LD_PRELOAD": str(library), "JUMP_BY_S": str(jump_s), "JUMP_AFTER_S": str(JUMP_AFTER_S)}
        for which in (signal.SIGKILL, signal.SIGINT):
            for screen in (False, True):
                yield "clock jumps", ended(which, screen=screen, jumping=jumping)
    yield "8 at once", partial(_at_once, folder)


def _tried(trial: Trial) -> tuple[str, str]:
    end, trouble = trial[0], trial[1]()
    if trouble:
        print(f"{end}: {trouble}", flush=True)
    return end, trouble


def _table(tried: Counter[str], wrong: Counter[tuple[str, str]]) -> Sequence[str]:
    kinds = ("lost", "hung", "raw", "invalid")
    head = f"| {'end':14} | tried | {' | '.join(kinds)} |"
    return [
        head,
        "|" + "---|" * 6,
        *(
            f"| {end:14} | {count} | {' | '.join(str(wrong[end, kind]) for kind in kinds)} |"
            for end, count in tried.items()
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Whether edgetop loses, hangs or leaves a terminal raw.")
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--signals", type=int, default=200)
    parser.add_argument("--faults", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--jumps", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    for number in ENDING:
        # In the background of a script they are ignored, and what is ignored stays so.
        signal.signal(number, signal.SIG_DFL)
    tried: Counter[str] = Counter()
    wrong: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory(prefix="edgetop-crash-") as name:
        folder = Path(name)
        library = folder / "failing.so"
        (folder / "failing.c").write_text(_LIBRARY)
        subprocess.run(
            ["cc", "-shared", "-fPIC", "-w", "-o", str(library), str(folder / "failing.c"), "-ldl"], check=True
        )
        with ThreadPoolExecutor(options.jobs) as pool:
            for end, trouble in pool.map(_tried, _trials(options, folder, library)):
                tried[end] += 1
                wrong[end, trouble] += bool(trouble)
    print("\n".join(_table(tried, wrong)))
    if +wrong:
        raise SystemExit(1)


if __name__ == "__main__":
    run_benchmark(main)
