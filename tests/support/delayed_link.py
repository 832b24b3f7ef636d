"""A line to a host far away, for a command that runs here.

    python -m tests.support.delayed_link --offset-s 7200 --drift-ppm 50 --delay-ms 40 --jitter-ms 20 -- COMMAND ...

What the command prints comes later, and pings reach it later, by a delay of each direction's own with jitter on top.
The times that it tells of its monotonic clock are changed to those of a clock that is off and drifts.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import subprocess
import sys
import threading
import time
from queue import SimpleQueue

_TIME = re.compile(rb'(?P<before>"m": |^pong \d+ )(?P<s>\d+(\.\d+)?)')


class Delay:
    """Lets lines pass after a while, in their order."""

    def __init__(self, fd: int, chance: random.Random, delay_s: float, jitter_s: float) -> None:
        self._fd = fd
        self._chance = chance
        self._delay_s, self._jitter_s = delay_s, jitter_s
        self._queue: SimpleQueue[tuple[float, bytes] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._pass_on, daemon=True)
        self._thread.start()

    def put(self, line: bytes) -> None:
        jitter_s = self._chance.expovariate(1 / self._jitter_s) if self._jitter_s else 0.0
        self._queue.put((time.monotonic() + self._delay_s + jitter_s, line))

    def end(self) -> None:
        self._queue.put(None)
        self._thread.join()

    def _pass_on(self) -> None:
        while (item := self._queue.get()) is not None:
            due_s, line = item
            time.sleep(max(0.0, due_s - time.monotonic()))
            try:
                os.write(self._fd, line)
            except OSError:
                return


def main() -> None:
    """Run the command until one of the two ends closes."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.delayed_link")
    parser.add_argument("--offset-s", type=float, default=0.0)
    parser.add_argument("--drift-ppm", type=float, default=0.0)
    parser.add_argument("--delay-ms", type=float, default=0.0)
    parser.add_argument("--jitter-ms", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    chance = random.Random(options.seed)  # noqa: S311 - the same every time
    began_s = time.monotonic()
    there_s, back_s = (chance.uniform(0.2, 1.0) * options.delay_ms / 1000 for _ in range(2))
    command = [word for word in options.command if word != "--"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    there = Delay(process.stdin.fileno(), chance, there_s, options.jitter_ms / 1000)
    back = Delay(sys.stdout.fileno(), chance, back_s, options.jitter_ms / 1000)

    def told(match: re.Match[bytes]) -> bytes:
        here_s = float(match["s"])
        shown_s = here_s + options.offset_s + options.drift_ppm * 1e-6 * (here_s - began_s)
        return match["before"] + f"{shown_s:.6f}".encode()

    def ask() -> None:
        for line in sys.stdin.buffer:
            there.put(line)

    threading.Thread(target=ask, daemon=True).start()
    for line in process.stdout:
        back.put(_TIME.sub(told, line))
    back.end()
    raise SystemExit(process.wait())


if __name__ == "__main__":
    main()
