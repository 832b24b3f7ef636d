"""How well the offset of a meter's log is found: its error against what is told of it, in seeded runs.

    python -m benchmarks.attach_power [--runs 30] [--seed 1]

Each run is a session on a virtual board (a load and one to five turns of any length, other loads beside them) whose
true power is written as CSV at 1, 10 and 1,000 Hz, as means or at moments, on a clock that is 0 to 5 s off. Printed for
each rate: how often the offset lies within its uncertainty, how often the log is refused, the median uncertainty and
error, the processor time of a log; then the same with a load pulse; and how many of as many sessions whose turns are
all alike, with a log that began and ended among them, are refused.

The board is a model. This does not validate any hardware.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks import run_benchmark
from edgetop.session.attached_power import Alignment, NotAlignedError, align
from edgetop.session.meter_log import read_log
from tests.support.attached_logs import BoardSession, record, write_log

RATES_HZ = (1, 10, 1000)
SHIFT_MOST_S = 5.0


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=30, help="of each row; 30")
    parser.add_argument("--seed", type=int, default=1, help="of the first run; the others follow")
    options = parser.parse_args()
    seeds = range(options.seed, options.seed + options.runs)
    print(f"{'':28} {'within':>9} {'refused':>8} {'± told':>9} {'error':>9} {'bias':>9} {'ms a log':>9}")
    for pulse in (False, True):
        boards = [record(seed, pulse=pulse) for seed in seeds]
        for hz in RATES_HZ:
            _print(f"{hz} Hz{', with a load pulse' if pulse else ''}", hz, boards, seeds)
    alike = [_cut(record(seed, turns=12, period_s=6.0)) for seed in seeds]
    _print("10 Hz, all turns alike", 10, alike, seeds)


def _cut(board: BoardSession) -> BoardSession:
    """With a log that began and ended among the turns."""
    return board._replace(begin_us=24_000_000, end_us=54_000_000)


def _print(label: str, hz: float, boards: list[BoardSession], seeds: range) -> None:
    within, refused, told, errors = 0, 0, [], []
    used_s = 0.0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.csv"
        for board, seed in zip(boards, seeds, strict=True):
            shift_s = random.Random(seed).uniform(0, SHIFT_MOST_S)  # noqa: S311 - the same every time
            write_log(path, board, hz, shift_s, seed)
            begin_s = time.process_time()
            found = _aligned(path, board)
            used_s += time.process_time() - begin_s
            if found is None:
                refused += 1
                continue
            errors.append(found.offset_s + shift_s)
            told.append(found.u_s)
            within += abs(errors[-1]) <= found.u_s
    figures = f"{median(told):9.3f} {median(map(abs, errors)):9.3f} {median(errors):+9.3f}" if errors else " " * 29
    print(f"{label:28} {within:4} of {len(boards):2} {refused:8} {figures} {1000 * used_s / len(boards):9.0f}")


def _aligned(path: Path, board: BoardSession) -> Alignment | None:
    try:
        return align(read_log(path), board.session)
    except NotAlignedError:
        return None


if __name__ == "__main__":
    run_benchmark(main)
