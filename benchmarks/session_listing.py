"""What a list of many sessions costs: only the first line of each file is read.

    python -m benchmarks.session_listing [--repeat 5]

The files are copies of a session of an hour with 200,000 tokens. Printed are medians for 1 to 1000 of them: reading the
list, finding one by part of a model's name, finding all by a range, and laying the list out for the screen; and what
`edgetop sessions` takes as a command, the start of Python included.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from benchmarks import run_benchmark
from edgetop.session.file_io import save
from edgetop.session.listing import SHOWN, entry_of
from edgetop.session.store import Store
from edgetop.tui.screens.list import cells_of, fit_columns
from tests.support.long_sessions import an_hour

COUNTS = (1, 20, 200, 1000)
COLUMNS, ROWS = 120, 36


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5)
    repeat = parser.parse_args().repeat
    with tempfile.TemporaryDirectory() as data:
        folder = Path(data) / "sessions"
        first = folder / "20260101-000000-tiny-0000.json"
        save(first, an_hour())
        print(f"each of {first.stat().st_size / 1e6:.1f} MB")
        print(f"{'sessions':>8} {'list':>10} {'find':>10} {'find_all':>10} {'screen':>10} {'command':>10}")
        for count in COUNTS:
            _fill(folder, first, count)
            _measure(data, count, repeat)


def _fill(folder: Path, first: Path, count: int) -> None:
    for index in range(1, count):
        path = folder / f"20260101-000000-tiny-{index:04d}.json"
        if not path.exists():
            path.hardlink_to(first)


def _measure(data: str, count: int, repeat: int) -> None:
    store = Store(Path(data) / "sessions")
    costs_s = [
        _timed(store.list, repeat),
        _timed(lambda: store.find("20260101-000000-tiny-0000"), repeat),
        _timed(lambda: store.find_all([f"1-{count}"]), repeat),
        _timed(lambda: _draw(store), repeat),
        _timed(lambda: _command(data), repeat),
    ]
    print(f"{count:8} " + " ".join(f"{span_s * 1000:7.1f} ms" for span_s in costs_s))


def _draw(store: Store) -> None:
    entries = [entry_of(each) for each in store.list()]
    slots = fit_columns(SHOWN, entries, COLUMNS, "braille")
    for entry in entries[:ROWS]:
        cells_of(entry, slots, "braille")


def _command(data: str) -> None:
    environment = {**os.environ, "EDGETOP_DATA_DIR": data}
    subprocess.run(
        [sys.executable, "-m", "edgetop", "sessions"], env=environment, stdout=subprocess.DEVNULL, check=True
    )


def _timed(work: Callable[[], object], repeat: int) -> float:
    spans_s: list[float] = []
    for _ in range(repeat):
        begin_s = time.perf_counter()
        work()
        spans_s.append(time.perf_counter() - begin_s)
    return median(spans_s)


if __name__ == "__main__":
    run_benchmark(main)
