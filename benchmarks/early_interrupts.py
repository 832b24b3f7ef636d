"""Ctrl+C at random early moments: how edgetop ends, and that it never crashes.

    python -m benchmarks.early_interrupts -n 100 -- run -m nothere -p hi

From the first line of edgetop's own code on that is one line and exit code 130; before it, death by SIGINT, or what
Python says of its own start. Returns 1 when any of them ends otherwise.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence

from benchmarks import run_benchmark

GOOD = {"130 and one line", "killed by SIGINT", "in Python's own start", "done before"}


def interrupted(arguments: Sequence[str], after_s: float) -> str:
    """How edgetop ends when Ctrl+C comes after so many seconds."""
    process = subprocess.Popen(
        [sys.executable, "-m", "edgetop", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONFAULTHANDLER": "1"},
        restore_signals=True,
    )
    time.sleep(after_s)
    process.send_signal(signal.SIGINT)
    try:
        _, said = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return "hangs"
    if "Fatal Python error: init_" in said or "Could not import runpy" in said:
        return "in Python's own start"
    if process.returncode == -signal.SIGINT:
        return "killed by SIGINT"
    if process.returncode == 130 and said.count("\n") == 1:
        return "130 and one line"
    if process.returncode in {0, 1, 2, 3} and "Traceback" not in said:
        return "done before"
    return f"{process.returncode}: {said[-2000:]}"


def took_s(arguments: Sequence[str]) -> float:
    """How long it takes when nobody interrupts it."""
    begin_s = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "edgetop", *arguments],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    return time.monotonic() - begin_s


def main() -> int:
    """Interrupt so many times, and count the ends."""
    parser = argparse.ArgumentParser(prog="early_interrupts", description=__doc__)
    parser.add_argument("-n", "--count", type=int, default=100, help="how often (default: 100)")
    parser.add_argument("arguments", nargs="*", default=["run", "-m", "nothere", "-p", "hi"], help="of edgetop")
    given = parser.parse_args()
    # What a shell starts in the background ignores it, and so would edgetop.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    first_s, last_s = took_s(["--version"]) / 2, took_s(given.arguments)
    print(f"between {first_s:.2f} and {last_s:.2f} s after the start")
    chance = random.Random(0)  # noqa: S311 - moments, no secrets
    ends = Counter(interrupted(given.arguments, chance.uniform(first_s, last_s)) for _ in range(given.count))
    for end, times in ends.most_common():
        print(f"{times:4}  {end}")
    return 0 if set(ends) <= GOOD else 1


if __name__ == "__main__":
    run_benchmark(main)
