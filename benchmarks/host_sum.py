"""How often the interval of a sum over several hosts holds the truth, in seeded runs of simulated boards and lines.

    python -m benchmarks.host_sum [--runs 200] [--seed 1]

Each run draws two or four boards (idle power, share of the work, kind and errors of the sensor), the clock of each (off
by up to 28 hours, up to 50 parts in a million fast or slow) and its line (a constant delay of up to 60 ms in each
direction, other ones there and back, with exponential jitter of up to 20 ms on top). The readings pass through what a
real stream passes through: its text, the estimate of the clock by pings, the sampler, the session, the account of
energy. Printed: the share of runs whose interval holds the true energy of all boards together, of each board alone,
the bias, the median half-width of the interval and that of the clocks; then the same for perfect sensors behind lines
that are slow in one direction only, by the random part of the interval alone, with the uncertainty of the clocks taken
in and left out.

Boards and lines are models. This does not validate any hardware.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from statistics import fmean, median

from msgspec.structs import replace

from benchmarks import run_benchmark
from edgetop.core.energy.tokens import Energy
from edgetop.core.quantity import Interval
from edgetop.core.records import Record, Sampled
from edgetop.session.session import Session
from edgetop.session.summary import turn_result
from tests.support.recorded_sessions import fold
from tests.support.simulated_hosts import HostFeed, Path, Ran, run

ONE_WAY = Path(there_us=200, back_us=800_000, jitter_us=100)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=200, help="of each row; 200")
    parser.add_argument("--seed", type=int, default=1, help="of the first run; the others follow")
    options = parser.parse_args()
    seeds = range(options.seed, options.seed + options.runs)
    print(f"{options.runs} runs a row")
    print(f"{'':34} {'sum holds':>10} {'each holds':>10} {'bias':>8} {'± of sum':>9} {'± of clock':>11}")
    for count in (2, 4):
        for turn_s in (2.0, 5.0, 12.0):
            _print(f"{count} hosts, turn of {turn_s:g} s", [run(seed, count, turn_s=turn_s) for seed in seeds])
    slow = [run(seed, 2, path=ONE_WAY, prepare=_without_error) for seed in seeds]
    _print("0.8 s back, perfect sensors", slow, random_alone=True)
    _print("... clocks taken as sure", [_with(each, _sure(each.records)) for each in slow], random_alone=True)


def _print(label: str, runs: Iterable[Ran], *, random_alone: bool = False) -> None:
    held, held_each, bias, widths, clocks = [], [], [], [], []

    def reach_j(figure: Interval) -> float:
        return 2 * figure.u_random if random_alone else figure.high - figure.value

    for ran in runs:
        energy = _energy(ran.session)
        true_j = sum(ran.truth_j.values())
        held.append(abs(energy.gross_j.value - true_j) <= reach_j(energy.gross_j))
        held_each += [
            abs(part.gross_j.value - ran.truth_j[part.host]) <= reach_j(part.gross_j) for part in energy.hosts
        ]
        bias.append(energy.gross_j.value / true_j - 1)
        widths.append(reach_j(energy.gross_j) / true_j)
        clocks += [ran.session.window(f"clock.{host}", 0, ran.end_us)[1][-1] for host in ran.truth_j]
    print(
        f"{label:34} {fmean(held):10.1%} {fmean(held_each):10.1%} {fmean(bias):+8.2%} {median(widths):9.1%} "
        f"{median(clocks) * 1000:8.1f} ms"
    )


def _energy(session: Session) -> Energy:
    energy = turn_result(session, 0, session.end_us).figures.energy
    if energy is None:
        raise SystemExit("a run has no energy: the model of the hosts is broken")
    return energy


def _without_error(feeds: list[HostFeed]) -> None:
    for feed in feeds:
        feed.board.kind, feed.board.gain, feed.board.offset_w = "counter", 0.0, 0.0


def _sure(records: Iterable[Record]) -> list[Record]:
    return [replace(each, values=(each.values[0], 0.0)) if isinstance(each, Sampled) else each for each in records]


def _with(ran: Ran, records: list[Record]) -> Ran:
    return Ran(
        session=fold(records),
        records=records,
        truth_j=ran.truth_j,
        tokens=ran.tokens,
        end_us=ran.end_us,
        sources=ran.sources,
    )


if __name__ == "__main__":
    run_benchmark(main)
