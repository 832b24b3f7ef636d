"""Whether the live screen grows dearer with the length of a session: ten simulated hours.

    python -m benchmarks.ten_hours [--hours 0.1 1 3 10]

The real screen runs without a terminal over a session that is made up: 50 readings of power a second, five other
sources once a second, and 55 tokens a second in answers of 500. At each length a minute of it is drawn as it would be
while it happens, four times a second for the text and once a second for the panes, and the processor time of that is
printed per simulated second; beside it what the process holds in memory, and what the session's stamps and the chat's
text have of it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import run_benchmark
from edgetop.core.records import Prefill, Record, Sampled, Tokens, TurnFinished, TurnStarted
from tests.support.demo_session import LOADED, DemoApp, S, demo_records
from tests.support.long_sessions import WORDS
from tests.support.timed_terminal import resident_mib

TOKENS_PER_S, TOKENS_PER_TURN = 55, 500
PAUSE_S = 2
TICKS_PER_S = 4
DRAWN_S = 60
PROMPT = "Explain what a PMIC does, and why it matters to somebody who measures energy."
HEAD_US = 12 * S
"""Until then the loaded model has nothing to do, and its idle power becomes known."""


class Simulation:
    """The records of a session that goes on for ever, second by second."""

    def __init__(self) -> None:
        self.second = 0
        self._chance = random.Random(1)  # noqa: S311 - the same every time
        self._turn, self._generated, self._rest_s = 0, 0, 0

    def next_second(self) -> Iterator[Record]:
        """What happens in the next second, in order."""
        begin_us = LOADED.t_us + self.second * S
        self.second += 1
        yield from self._samples(begin_us)
        if begin_us < HEAD_US:
            return
        if self._rest_s:
            self._rest_s -= 1
            return
        if self._generated == 0:
            self._turn += 1
            yield TurnStarted(turn=self._turn, t_us=begin_us, prompt=PROMPT)
            yield Prefill(turn=self._turn, t_us=begin_us + 1_000, done=0, total=30, cached=0)
            yield Prefill(turn=self._turn, t_us=begin_us + 90_000, done=30, total=30, cached=0)
        for tick in range(TICKS_PER_S):
            count = min(TOKENS_PER_S // TICKS_PER_S, TOKENS_PER_TURN - self._generated)
            if not count:
                break
            base_us = begin_us + 100_000 + tick * S // TICKS_PER_S
            stamps = tuple(base_us + index * 15_000 + self._chance.randrange(3_000) for index in range(count))
            self._generated += count
            yield Tokens(turn=self._turn, t_us=stamps, pieces=tuple(self._chance.choice(WORDS) for _ in stamps))
        if self._generated >= TOKENS_PER_TURN:
            yield TurnFinished(
                turn=self._turn, t_us=begin_us + S, stop_reason="max_tokens", prompt_tokens=30, cached_tokens=0,
                generated_tokens=TOKENS_PER_TURN, context_used=530,
            )  # fmt: skip
            self._generated, self._rest_s = 0, PAUSE_S

    def _samples(self, begin_us: int) -> Iterator[Record]:
        gauss = self._chance.gauss
        busy = not self._rest_s and begin_us >= HEAD_US
        for index in range(50):
            board = gauss(8.7 if busy else 3.1, 0.2)
            values = (board, 0.68 * board, 0.14 * board, 0.4)
            yield Sampled(source="PMIC", t_us=begin_us + index * 20_000, values=values)
        cores = tuple(gauss(82.0 if busy else 4.0, 1.0) for _ in range(4))
        yield Sampled(source="cpu", t_us=begin_us, values=(sum(cores) / 4, 1.0, *cores))
        yield Sampled(source="memory", t_us=begin_us, values=(2e9 + gauss(0, 1e6), 8e9, 6e9, 0.0, 1e8))
        yield Sampled(source="engine", t_us=begin_us, values=(1.3e9, 1e9, 3e8, 0.0))
        yield Sampled(source="heat", t_us=begin_us, values=(gauss(62, 1),))
        yield Sampled(source="own", t_us=begin_us, values=(1.2,))


async def measure(lengths_h: list[float]) -> None:
    """Print a line for each length."""
    app = DemoApp(demo_records(until_us=LOADED.t_us))
    async with app.run_test(size=(120, 36)) as pilot:
        while not app.played:
            await pilot.pause()
        simulation = Simulation()
        for length_h in sorted(lengths_h):
            while simulation.second < length_h * 3600 - DRAWN_S:
                second(app, simulation, drawn=False)
                if simulation.second % 600 == 0:
                    await pilot.pause()
            used_s = []
            for _ in range(DRAWN_S):
                begin_s = time.process_time()
                second(app, simulation, drawn=True)
                used_s.append(time.process_time() - begin_s)
                await pilot.pause()
            used_s.sort()
            gc.collect()
            print(
                f"{length_h:5g} h: {1000 * sum(used_s) / len(used_s):6.1f} ms of processor time a second, "
                f"median {1000 * used_s[len(used_s) // 2]:.1f}, worst {1000 * used_s[-1]:.1f}; "
                f"{resident_mib_of_this():.0f} MiB",
                flush=True,
            )


def second(app: DemoApp, simulation: Simulation, *, drawn: bool) -> None:
    """Let a second happen, drawn or not."""
    for record in simulation.next_second():
        app.happen(record, shown=isinstance(record, Tokens) and drawn)
    if drawn:
        app.draw()


def resident_mib_of_this() -> float:
    """Of this process."""
    return resident_mib(int(Path("/proc/self").readlink().name))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, nargs="+", default=[0.1, 1.0, 3.0, 10.0])
    asyncio.run(measure(parser.parse_args().hours))


if __name__ == "__main__":
    run_benchmark(main)
