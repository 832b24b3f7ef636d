"""What replay costs, from a minute to ten hours of recording.

    python -m benchmarks.replay [--hours 0.0167 0.1667 1 10] [--seeks 200]

Each session has 10 samples a second in ten channels, 50 a second of power, and 200,000 tokens an hour. Printed are: the
file's size; opening (importing the screen, reading the file, and the first frame of the real screen without a
terminal); how long the preparation goes on behind the screen; drawing a frame after a seek to anywhere, and of a
quarter of a second at 64x, as median, 99th percentile and worst; and the largest resident memory of the process, with
the screen library in it.

Times are processor time, all of it of one thread: nothing here waits, and on a machine with other work the clock on the
wall would tell of that.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import run_benchmark
from edgetop.session.file_io import load, save
from tests.support.long_sessions import long_session


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, nargs="+", default=[1 / 60, 1 / 6, 1.0, 10.0])
    parser.add_argument("--seeks", type=int, default=200)
    parser.add_argument("--file", type=Path, help="measure this session, in this process")
    arguments = parser.parse_args()
    if arguments.file is not None:
        asyncio.run(measure(arguments.file, arguments.seeks))
        return
    with tempfile.TemporaryDirectory() as folder:
        for hours in arguments.hours:
            path = Path(folder) / "session.json"
            session = long_session(hours * 3600)
            save(path, session)
            print(f"{hours:g} h, {path.stat().st_size / 1e6:.1f} MB", flush=True)
            del session
            # In a process of its own: memory that this one once had would count.
            command = [sys.executable, "-m", "benchmarks.replay", "--file", str(path), "--seeks", str(arguments.seeks)]
            subprocess.run(command, check=True)


async def measure(path: Path, seeks: int) -> None:
    import_s = time.process_time()
    from edgetop.tui.app import Display, SingleScreenApp  # noqa: PLC0415 - to be measured
    from edgetop.tui.screens.replay import ReplayScreen  # noqa: PLC0415 - the same

    begin_s = time.process_time()
    session = load(path)
    loaded_s = time.process_time()
    screen = ReplayScreen([session], level="braille")
    app = SingleScreenApp(lambda _: screen, Display(level="braille"))
    async with app.run_test(size=(120, 36)) as pilot:
        while not screen.query("TopMeters").first().plain:  # type: ignore[attr-defined]
            await pilot.pause()
        opened_s = time.process_time()
        while not screen.prepared:
            await asyncio.sleep(0.01)
        prepared_s = time.process_time()
        chance = random.Random(1)  # noqa: S311
        anywhere = [chance.random() for _ in range(seeks)]
        length_s = session.end_us / 1e6
        forwards = [min(1.0, (0.1 * length_s + 16.0 * frame) / length_s) for frame in range(seeks)]
        _tell("importing the screen", [begin_s - import_s])
        _tell("reading the file", [loaded_s - begin_s])
        _tell("first frame", [opened_s - loaded_s])
        _tell("preparing, behind", [prepared_s - opened_s])
        _tell("frame after a seek", [_frame_s(screen, share) for share in anywhere])
        _tell("frame at 64x", [_frame_s(screen, share) for share in forwards])
    print(f"  {'peak memory':20} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:8.0f} MiB", flush=True)


def _frame_s(screen: object, share: float) -> float:
    begin_s = time.process_time()
    screen.player.seek_share(share)  # type: ignore[attr-defined]
    screen._draw()  # type: ignore[attr-defined] # noqa: SLF001 - as the next tick would
    return time.process_time() - begin_s


def _tell(what: str, spans_s: Sequence[float]) -> None:
    ordered = sorted(spans_s)
    median, high, worst = (ordered[round(share * (len(ordered) - 1))] * 1000 for share in (0.5, 0.99, 1.0))
    more = f"   p99 {high:8.1f}   worst {worst:8.1f}" if len(ordered) > 1 else ""
    print(f"  {what:20} {median:8.1f} ms{more}")


if __name__ == "__main__":
    run_benchmark(main)
