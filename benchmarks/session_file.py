"""What a long session costs: an hour, 10 samples a second in ten channels, 200,000 tokens.

    python -m benchmarks.session_file [--repeat 5]

Printed are medians: building the file, writing it, its size, loading it (reading, decoding and building the session),
reading its first line only; then what a snapshot costs in a turn of 2,000 tokens that grows by one token each time, and
at random moments of the whole hour, as replay asks for them.
"""

from __future__ import annotations

import argparse
import random
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from benchmarks import run_benchmark
from edgetop.core.records import Tokens
from edgetop.session.file import to_file
from edgetop.session.file_io import load, load_head, save
from edgetop.session.session import Session
from edgetop.session.snapshot import snapshot
from tests.support.long_sessions import an_hour
from tests.support.recorded_sessions import HEAD, MEMORY, MS, OWN, START_US, S, fold, sample, turn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5)
    repeat = parser.parse_args().repeat
    session = an_hour()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "hour.json"
        _tell("to_file", _timed(lambda: to_file(session), repeat))
        _tell("save (with to_file)", _timed(lambda: save(path, session), repeat))
        print(f"{'size':24} {path.stat().st_size / 1e6:8.2f} MB")
        _tell("load", _timed(lambda: load(path), repeat))
        _tell("load_head", _timed(lambda: load_head(path), repeat))
        loaded = load(path)
        snapshot(loaded, loaded.end_us)
        chance = random.Random(1)  # noqa: S311
        moments = [chance.randrange(loaded.end_us) for _ in range(20)]
        costs = [_timed(lambda at=at: snapshot(loaded, at), 1) for at in moments]  # type: ignore[misc]
        _tell("seek, median", median(costs))
        _tell("seek, worst of 20", max(costs))
    _tell("snapshot, growing turn", _growing(2000))
    print(f"{'peak memory':24} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:8.0f} MiB")


def _timed(work: Callable[[], object], repeat: int) -> float:
    spans: list[float] = []
    for _ in range(repeat):
        begin_s = time.perf_counter()
        work()
        spans.append(time.perf_counter() - begin_s)
    return median(spans)


def _growing(tokens: int) -> float:
    """Median cost of a snapshot over the last tenth of a turn of `tokens` tokens, with readings at 10 Hz beside it."""
    session: Session = fold([*HEAD, *turn(gaps_us=(), finished=False)])
    costs: list[float] = []
    for index in range(tokens):
        t_us = START_US + 2 * S + index * 20 * MS
        if index % 5 == 0:
            session.apply(sample(MEMORY, t_us - START_US, 4e9, 0.0))
            session.apply(sample(OWN, t_us - START_US, 1.0, 4e7))
        session.apply(Tokens(turn=1, t_us=(t_us,), pieces=(" word",)))
        begin_s = time.perf_counter()
        snapshot(session, t_us - START_US)
        costs.append(time.perf_counter() - begin_s)
    return median(costs[-tokens // 10 :])


def _tell(what: str, span_s: float) -> None:
    print(f"{what:24} {span_s * 1000:8.3f} ms")


if __name__ == "__main__":
    run_benchmark(main)
