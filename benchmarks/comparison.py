"""Whether the verdicts of `edgetop compare` can be trusted, and how long it takes.

    python -m benchmarks.comparison [--pairs 2000] [--sessions 1 10 50 100 200]

First seeded simulations: sessions whose turns vary by 3 % (standard deviation). Of pairs that are equal in truth it
tells how many rows have any verdict of better or worse (the goal: at most 5 %), and how many have one for decode speed
alone. Of pairs that differ by 5 % it tells how many are found out. Then the percentile bootstrap beside it, which is
not used, for why. Last the time of `compare` over session files on disk, reading included.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks import run_benchmark
from edgetop.core.figures import DECODE
from edgetop.io.files import write_atomically
from edgetop.session.compare.compare import compare
from edgetop.session.compare.reading import read_results
from edgetop.session.compare.result import Result
from edgetop.session.file_io import encode_file
from tests.support.simulated_results import result, session_file

DIFFERENT = ("better", "worse")


class Case(NamedTuple):
    """A kind of pair."""

    name: str
    turns: tuple[int, int]
    paired: bool = False
    own_noise: bool = True
    noise: float = 0.03
    energy: bool = True
    hard_prompts: float = 0.0


CASES = (
    Case("10 turns, every figure its own noise", (10, 10)),
    Case("10 turns, all follow the speed", (10, 10), own_noise=False),
    Case("10 turns, no energy", (10, 10), energy=False),
    Case("10 turns, same prompts", (10, 10), paired=True),
    Case("10 turns, same prompts, some 30 % harder", (10, 10), paired=True, hard_prompts=0.3),
    Case("6 turns, same prompts", (6, 6), paired=True),
    Case("3 turns", (3, 3)),
    Case("5 turns", (5, 5)),
    Case("5 turns against 20", (5, 20)),
    Case("30 turns", (30, 30)),
    Case("150 turns", (150, 150)),
    Case("1 turn, 5 % noise", (1, 1), noise=0.05),
    Case("2 turns, 3 % noise", (2, 2)),
)


def pairs(case: Case, count: int, slower: float) -> Iterator[tuple[Result, Result]]:
    """Pairs of results; the second one is slower by a share."""
    for index in range(count):
        first, second = (
            result(
                10_000 * (1 + side) + index,
                turns=case.turns[side],
                noise=case.noise,
                own_noise=case.own_noise,
                energy=case.energy,
                hard_prompts=case.hard_prompts,
                slower=slower * side,
                question="How much is" if case.paired else f"What is {side}, and",
            )
            for side in range(2)
        )
        yield first, second


def rates(case: Case, count: int, slower: float) -> tuple[float, float]:
    """Shares of pairs with any verdict of better or worse, and with one for decode speed."""
    any_figure = decode = 0
    for first, second in pairs(case, count, slower):
        cells = compare([first, second]).rows[1].cells
        any_figure += any(cell.verdict in DIFFERENT for cell in cells.values())
        decode += cells[DECODE].verdict in DIFFERENT
    return any_figure / count, decode / count


def percentile_alarms(turns: int, count: int) -> float:
    """How many equal pairs the percentile bootstrap of the mean calls different, at 5 %."""
    chance = np.random.default_rng(turns)
    alarms = 0
    for _ in range(count):
        one, other = 1 + 0.03 * chance.standard_normal((2, turns))
        means = [side[chance.integers(0, turns, (1000, turns))].mean(axis=1) for side in (one, other)]
        low, high = np.percentile(np.log(means[0] / means[1]), (2.5, 97.5))
        alarms += not low < 0 < high
    return alarms / count


def timed(sessions: int, folder: Path) -> tuple[float, float]:
    """Seconds to read so many sessions of ten turns, and to hold them against the first."""
    paths = []
    for index in range(sessions):
        path = folder / f"{index}.json"
        if not path.exists():
            write_atomically(
                path, encode_file(session_file(index, quantization=f"Q{2 + index % 7}", threads=1 + index % 4))
            )
        paths.append(path)
    begin_s = time.perf_counter()
    results = [each for path in paths for each in read_results(path)]
    read_s = time.perf_counter() - begin_s
    begin_s = time.perf_counter()
    compare(results)
    return read_s, time.perf_counter() - begin_s


def tell_rates(count: int) -> None:
    print(f"{count} pairs each; at most 5 % may be called different of the equal ones, in any figure of a row")
    print(f"{'':42} {'equal: any':>10} {'decode':>8}   {'5 % slower: any':>15} {'decode':>8}")
    for case in CASES:
        alarms, decode_alarms = rates(case, count, 0.0)
        found, decode_found = rates(case, max(100, count // 4), 0.05)
        print(f"{case.name:42} {alarms:10.1%} {decode_alarms:8.1%}   {found:15.1%} {decode_found:8.1%}", flush=True)
    for turns in (3, 5, 10, 30):
        print(f"percentile bootstrap, {turns} turns: {percentile_alarms(turns, count):.1%} of equal pairs")


def tell_times(sizes: Sequence[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for sessions in sizes:
            read_s, compare_s = min(timed(sessions, Path(folder)) for _ in range(3))
            print(f"{sessions:4} sessions: {read_s:6.3f} s to read, {compare_s:6.3f} s to compare")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--sessions", type=int, nargs="*", default=[1, 10, 50, 100, 200])
    arguments = parser.parse_args()
    if arguments.pairs:
        tell_rates(arguments.pairs)
    tell_times(arguments.sessions)


if __name__ == "__main__":
    run_benchmark(main)
