"""From a key to its letter on the screen, while a model decodes on all cores and while nothing happens.

    python -m benchmarks.echo [--keys 400] [--threads 2]

Letters that no answer has in it are typed at random moments into the prompt of the live screen; the time is taken when
their bytes come out of the other end of the terminal. Goal: 50 ms for 99 of 100.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import time
from pathlib import Path

from benchmarks import run_benchmark
from edgetop.core.statistics import percentile
from tests.support.isolated_home import IsolatedHome
from tests.support.requirements import need_demo_model
from tests.support.timed_terminal import Terminal

LETTERS = "абвгдежзийклмнопрстуфхцчшщъыьэюя"
PAUSE_S = (0.03, 0.25)
"""Between two keys, as a fast and a slow hand leave them."""
ECHO_DEADLINE_S = 10.0
PROMPT = "Write a very long story about a lighthouse keeper and the sea, in many chapters."
CTRL_U, F9, F10 = "\x15", "\x1b[20~", "\x1b[21~"


def echo_s(terminal: Terminal, letter: str) -> float:
    """How long one letter takes."""
    begin, asked_s = len(terminal.output), time.perf_counter()
    terminal.type(letter)
    shown = letter.encode()
    while terminal.output.find(shown, begin) < 0:
        terminal.take(0.5)
        if time.perf_counter() - asked_s > ECHO_DEADLINE_S:
            raise SystemExit(f"{letter} was not shown within {ECHO_DEADLINE_S:g} s")
    return time.perf_counter() - asked_s


def typed(terminal: Terminal, keys: int, chance: random.Random) -> list[float]:
    """The times of so many letters; each line of them is thrown away when the alphabet is through."""
    times: list[float] = []
    while len(times) < keys:
        for letter in LETTERS:
            terminal.drain(chance.uniform(*PAUSE_S))
            times.append(echo_s(terminal, letter))
        terminal.type(CTRL_U)
        terminal.drain(0.5)
    return times


def tell(name: str, times_s: list[float]) -> None:
    """Percentiles in milliseconds."""
    ordered = sorted(time_s * 1000 for time_s in times_s)
    p50, p95, p99 = (percentile(ordered, share) for share in (50, 95, 99))
    print(
        f"{name:10} p50 {p50:.1f}  p95 {p95:.1f}  p99 {p99:.1f}  worst {ordered[-1]:.1f} ms, {len(ordered)} keys",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=400)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--model", type=Path, help="(default: the demo model)")
    chosen = parser.parse_args()
    model = chosen.model or need_demo_model()
    chance = random.Random(1)  # noqa: S311 - not for secrets
    with tempfile.TemporaryDirectory() as name:
        home = IsolatedHome(Path(name))
        home.environment["COLORTERM"] = "truecolor"
        command = home.command(
            *("-m", str(model), "--threads", str(chosen.threads), "--ctx", "8k", "--temp", "0.8"),
            *("--max-tokens", "7000"),
        )
        terminal = Terminal(command, home.environment)
        terminal.until_seen("loaded in")
        terminal.drain(3.0)
        tell("idle", typed(terminal, chosen.keys, chance))
        busy: list[float] = []
        while len(busy) < chosen.keys:
            terminal.type(f"{PROMPT}\r")
            terminal.drain(1.0)
            busy += typed(terminal, len(LETTERS), chance)
            terminal.type(F9)
            terminal.drain(1.0)
        tell("decoding", busy)
        terminal.type(F10)
        terminal.close()


if __name__ == "__main__":
    run_benchmark(main)
