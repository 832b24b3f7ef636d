"""A day of recording: memory, bytes written, the file, what verbs take of it; then the real screen for an hour.

    python -m benchmarks.soak [--hours 24] [--minutes 60] [--kinds idle decoding sensor]

The day is made up by `benchmarks.ten_hours`, folded and written to a real journal second by second, with nothing that
waits: an idle model, one that decodes 55 tokens a second, and that one with a power sensor of four channels at 50 Hz.
The screen runs on a terminal of this program, asked again and again, and answers at 60 tokens a second.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from benchmarks import run_benchmark
from benchmarks.ten_hours import Simulation, resident_mib_of_this
from edgetop.core.records import Record, Sampled, SourceAdded
from edgetop.inference.scripted import Reply
from edgetop.io.files import FILE_SUFFIX
from edgetop.session.file_io import copy_of
from edgetop.session.journal import open_journal
from edgetop.session.session import REFUSED, Session
from edgetop.session.snapshot import snapshot
from edgetop.session.store import Store
from tests.support.demo_session import LOADED, PMIC, demo_records
from tests.support.isolated_home import IsolatedHome, words
from tests.support.timed_terminal import Terminal

KINDS = ("idle", "decoding", "sensor")
FLUSHES_PER_S = 2
ASK_EVERY_S = 15

VERBS = (
    ("list", ["sessions", "list"]),
    ("show", ["sessions", "show", "1"]),
    ("export", ["sessions", "export", "1", "--to", "csv", "-o", "{out}.csv"]),
    ("replay", ["replay", "1", "--at", "600"]),
    ("report", ["report", "1", "-o", "{out}.html"]),
    ("compare", ["compare", "1", "1"]),
    ("validate", ["sessions", "validate", "1"]),
)


def records_of(kind: str) -> Iterator[list[Record]]:
    """The records of a session, second by second."""
    head = [each for each in demo_records(until_us=LOADED.t_us) if kind == "sensor" or not _is_of_pmic(each)]
    digits = {
        each.source.name: [channel.digits for channel in each.source.channels]
        for each in head
        if isinstance(each, SourceAdded)
    }
    yield head
    simulation = Simulation()
    while True:
        second: list[Record] = []
        for each in simulation.next_second():
            if isinstance(each, Sampled):
                if kind == "sensor" or not _is_of_pmic(each):
                    values = tuple(
                        None if value is None else round(value, to)
                        for value, to in zip(each.values, digits[each.source], strict=True)
                    )
                    second.append(Sampled(source=each.source, t_us=each.t_us, values=values))
            elif kind != "idle":
                second.append(each)
        yield second


def _is_of_pmic(record: Record) -> bool:
    name = record.source if isinstance(record, Sampled) else None
    return PMIC.name in {name, record.source.name if isinstance(record, SourceAdded) else None}


def record(kind: str, hours: float, folder: Path) -> None:
    """Record a made-up session, and tell what it takes."""
    store, session = Store(folder), Session()
    journal = store.new_journal("0123456789ab", "2026-10-12T14:03:22+00:00", kind)
    seconds = round(hours * 3600)
    quarter = max(1, seconds // 4)
    first_mib = last_mib = 0.0
    for second, records in enumerate(records_of(kind)):
        if second > seconds:
            break
        for part in range(FLUSHES_PER_S):
            begin, end = (len(records) * at // FLUSHES_PER_S for at in (part, part + 1))
            for each in records[begin:end]:
                session.apply(each)
                journal.append(each)
            journal.flush(60.0)
        if second % 10 == 0:
            snapshot(session, session.end_us)
        if second and second % quarter == 0:
            last_mib = resident_mib_of_this()
            first_mib = first_mib or last_mib
    refused = [event.text for event in session.events if event.kind == REFUSED]
    if refused:
        raise SystemExit(f"not what a session would be: {refused}")
    written = journal.path.stat().st_size
    with journal.path.open("rb") as file, open_journal(file.fileno()) as lines:
        unpacked = sum(map(len, iter(lambda: lines.read(2**20), b"")))
    slope = (last_mib - first_mib) / max(seconds - quarter, 1) * 3600
    print(
        f"{kind}, {hours:g} h: {last_mib:.0f} MiB, {slope:.1f} MiB an hour; journal {written / 1e6:.1f} MB, "
        f"{written / hours * 24 / 1e6:.0f} MB a day ({unpacked / hours * 24 / 1e6:.0f} unpacked)",
        flush=True,
    )
    shutil.copyfile(journal.path, folder.parent / "left.journal")
    begin_s, peak_mib = time.process_time(), _peak_mib()
    path = store.finish(session, journal).path
    copy = copy_of(path)
    copied = f", and {copy.stat().st_size / 1e6:.1f} MB of a copy" if copy.exists() else ""
    print(
        f"  save     {time.process_time() - begin_s:7.2f} s of processor time, {_peak_mib():5.0f} MiB, "
        f"{peak_mib:.0f} before; {path.stat().st_size / 1e6:.1f} MB{copied}",
        flush=True,
    )


def _peak_mib() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def verbs(data: Path) -> None:
    """What each verb takes, in processes of their own."""
    for name, arguments in VERBS:
        _tell(name, [each.format(out=data / name) for each in arguments], data)
    for path in (data / "sessions").glob("*" + FILE_SUFFIX):
        path.unlink()
    left = data / "sessions" / "20261012-140322-left-0123456789ab.journal"
    (data / "left.journal").rename(left)
    _tell("recover", ["sessions", "recover"], data)


_SMALL_PARENT = """
import os, sys
_, status, usage = os.wait4(os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ), 0)
used = os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024
print(*used, file=sys.stderr)
"""
"""The largest memory of a process counts that of its parent, until it is another program."""


def _tell(name: str, arguments: Sequence[str], data: Path) -> None:
    begin_s = time.perf_counter()
    ran = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _SMALL_PARENT, sys.executable, "-m", "edgetop", *arguments],
        env={**os.environ, "EDGETOP_DATA_DIR": str(data)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=True,
    )
    code, used_s, mib = ran.stderr.splitlines()[-1].split()
    print(
        f"  {name:8} {time.perf_counter() - begin_s:7.2f} s, of the processor {float(used_s):.2f} s, "
        f"{float(mib):5.0f} MiB{'' if code == '0' else f', exit {code}'}",
        flush=True,
    )


def screen(minutes: float) -> None:
    """The real screen, asked again and again."""
    with tempfile.TemporaryDirectory() as folder:
        home = IsolatedHome(Path(folder))
        # A conversation that does not fit is refused, and takes nothing.
        command = home.scripted(Reply(text=words(600)), tokens_per_s=60.0, n_ctx=10_000_000)
        terminal = Terminal(command, home.environment)
        terminal.until_seen("loaded in")
        process = psutil.Process(terminal.pid)
        until_s = time.monotonic() + minutes * 60
        told_s = time.monotonic() + ASK_EVERY_S
        first: tuple[float, float] | None = None
        while time.monotonic() < until_s:
            terminal.type("Go on.\r")
            terminal.drain(ASK_EVERY_S)
            terminal.output.clear()
            terminal.chunks.clear()
            if time.monotonic() < told_s and time.monotonic() < until_s:
                continue
            told_s = time.monotonic() + minutes * 60 / 10
            now_s, mib = time.monotonic(), process.memory_info().rss / 2**20
            if first is None:
                first = now_s, mib
            slope = (mib - first[1]) / (now_s - first[0]) * 3600 if now_s > first[0] else 0.0
            print(
                f"screen, {minutes - (until_s - now_s) / 60:5.1f} min: {mib:.0f} MiB, {slope:+.1f} MiB an hour, "
                f"{process.num_fds()} descriptors, {process.num_threads()} threads, "
                f"{process.io_counters().write_bytes / 1e6:.1f} MB written",
                flush=True,
            )
        terminal.type("\x1b[21~")
        terminal.close()
        home.everyone_gone()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=KINDS)
    parser.add_argument("--record", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.record is not None:
        record(options.kinds[0], options.hours, options.record)
        return
    for kind in options.kinds:
        with tempfile.TemporaryDirectory() as name:
            data = Path(name)
            # In a process of its own: memory that this one once had would count.
            command = [sys.executable, "-m", "benchmarks.soak", "--hours", str(options.hours), "--kinds", kind]
            subprocess.run([*command, "--record", str(data / "sessions")], check=True)
            verbs(data)
    if options.minutes:
        screen(options.minutes)


if __name__ == "__main__":
    run_benchmark(main)
