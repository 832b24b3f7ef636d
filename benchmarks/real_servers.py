"""What edgetop says of real servers, held against what they say themselves.

    python -m benchmarks.real_servers MODEL.gguf [--answers 4] [--polls 3600] [--llama-cpp-python PYTHON]

- Answers of a llama-server (the `xllamacpp` wheel's) and, with a Python that has `llama-cpp-python[server]`, of a
  llama_cpp.server: tokens and decode rate of `edgetop run --server` by its stamps of arrival, against the servers' own
  counter, timings and log. The latter counts nothing for its clients, and the evaluations in its log are the library's
  alone, without the sampling and the text between two of them: all the time after the prompt is what a client sees.
- A llama-server that sleeps after a second without a task is polled by `edgetop watch`'s monitor, round after round
  without a pause; that it slept through all of it, `/props` says at each round and its memory at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

import psutil

from benchmarks import run_benchmark
from benchmarks.advice import resident_bytes
from edgetop.core.format import format_bytes
from edgetop.inference.server.address import Address
from edgetop.live.server_monitor import ServerMonitor
from edgetop.telemetry.host import Host
from tests.support.llama_cpp_servers import llama_server

_REPOSITORY = Path(__file__).resolve().parents[1]
GOAL = 0.01
QUESTIONS = ("the sea", "a mountain", "two brothers", "an old clock", "the winter", "a lighthouse")
START_S = 300.0
LOOK_EVERY = 10
"""Rounds from one look at whether it sleeps to the next."""


class Answer(NamedTuple):
    """Of one of them."""

    tokens: int
    decode_tokens_per_s: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--answers", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=192)
    parser.add_argument("--polls", type=int, default=3600)
    parser.add_argument("--threads", type=int, default=1, help="of the servers; more of them wait for each other")
    parser.add_argument("--llama-cpp-python", metavar="PYTHON")
    given = parser.parse_args()
    model = given.model.absolute()
    fine = True
    with tempfile.TemporaryDirectory() as home:
        if given.answers:
            with llama_server(model, threads=given.threads) as (url, _):
                fine &= agrees("llama-server", url, given, home, lambda: _counted(url))
        if given.answers and given.llama_cpp_python:
            with llama_cpp_server(given.llama_cpp_python, model, given.threads, Path(home)) as (url, log):
                fine &= agrees("llama_cpp.server", url, given, home, lambda: _logged(log))
    if given.polls:
        fine &= stays_asleep(model, given.polls)
    return 0 if fine else 1


def agrees(name: str, url: str, given: argparse.Namespace, home: str, own: Callable[[], Answer]) -> bool:
    """Ask and compare; `own` says what the server has generated in all, and the rate of its last answer."""
    errors, wrong = [], 0
    before = 0
    for number in range(given.answers + 1):
        theme = QUESTIONS[number % len(QUESTIONS)]
        ours = _by_edgetop(url, f"Write a long story about {theme}.", given.tokens, home)
        theirs = own()
        counted, before = theirs.tokens - before, theirs.tokens
        if not number:
            continue  # the first answer warms it up
        error = ours.decode_tokens_per_s / theirs.decode_tokens_per_s - 1
        errors.append(error)
        wrong += ours.tokens != counted
        print(
            f"{name}: {ours.tokens} tokens, the server counts {counted}; {ours.decode_tokens_per_s:.2f} tok/s, "
            f"the server says {theirs.decode_tokens_per_s:.2f} ({error:+.2%})",
            flush=True,
        )
    worst = max(errors, key=abs)
    within = sum(abs(error) <= GOAL for error in errors)
    print(
        f"{name}: {len(errors) - wrong} of {len(errors)} counts alike; rates: median {median(errors):+.2%}, "
        f"worst {worst:+.2%}, {within} of {len(errors)} within {GOAL:.0%}",
        flush=True,
    )
    return wrong == 0 and within == len(errors)


def _by_edgetop(url: str, question: str, tokens: int, home: str) -> Answer:
    command = [
        *(sys.executable, "-m", "edgetop", "run", "--json", "-q", "--server", url, "--temp", "0", "--power", "none"),
        *("-n", str(tokens), "-p", question),
    ]
    environment = {**os.environ, "HOME": home, "EDGETOP_DATA_DIR": home, "PYTHONPATH": str(_REPOSITORY)}
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600, env=environment)
    (turn,) = json.loads(Path(json.loads(run.stdout)["session"]).read_text("utf-8"))["turns"]
    rate = turn["figures"]["decode_tokens_per_s"]
    if rate is None:
        # Of a server that counts nothing edgetop tells no rate; its stamps are held against the server's all the same.
        gaps_us = turn["tokens"]["dt_us"][1:]
        rate = 1e6 * len(gaps_us) / sum(gaps_us)
    return Answer(turn["figures"]["generated_tokens"], rate)


_told = {"tokens": 0, "seconds": 0.0, "answers": 0}


def _counted(url: str) -> Answer:
    """By llama-server's counters; the rate is that of the tokens after the first one of the last answer."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=60) as answer:  # noqa: S310 - started here
        found = dict(re.findall(r"^llamacpp:(tokens_predicted\w*_total) (\S+)", answer.read().decode(), re.MULTILINE))
    tokens, seconds = int(found["tokens_predicted_total"]), float(found["tokens_predicted_seconds_total"])
    rate = (tokens - _told["tokens"] - 1) / (seconds - _told["seconds"])
    _told.update(tokens=tokens, seconds=seconds)
    return Answer(tokens, rate)


def _logged(log: Path) -> Answer:
    """By what llama_cpp.server prints of each answer: all its time after the prompt, and what was evaluated in it."""
    text = log.read_text("utf-8", "replace")
    prompts_ms, runs, took_ms = (
        re.findall(pattern, text)
        for pattern in (
            r"prompt eval time =\s*([\d.]+)",
            r"(?<!prompt )eval time =.*/\s*(\d+) runs",
            r"total time =\s*([\d.]+)",
        )
    )
    decode_ms = float(took_ms[-1]) - float(prompts_ms[-1])
    return Answer(sum(int(count) + 1 for count in runs), 1000 * int(runs[-1]) / decode_ms)


@contextmanager
def llama_cpp_server(python: str, model: Path, threads: int, folder: Path) -> Iterator[tuple[str, Path]]:
    """Its address and its log."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log, url = folder / "llama_cpp.log", f"http://127.0.0.1:{port}"
    command = [python, "-m", "llama_cpp.server", "--model", str(model), "--port", str(port), "--verbose", "true"]
    with log.open("wb") as output:
        process = subprocess.Popen([*command, "--n_threads", str(threads)], stdout=output, stderr=output)
    try:
        end_s = time.monotonic() + START_S
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > end_s:
                raise SystemExit(f"llama_cpp.server did not start:\n{log.read_text('utf-8', 'replace')[-2000:]}")
            time.sleep(0.2)
        yield url, log
    finally:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


def stays_asleep(model: Path, polls: int) -> bool:
    """Poll a server that sleeps, and count the rounds after which it did not."""
    # A machine without processes: no server but this one is found.
    with tempfile.TemporaryDirectory() as root, llama_server(model, sleep_idle_seconds=1) as (url, pid):
        awake_bytes = resident_bytes(pid)
        while not _sleeps(url):
            time.sleep(0.1)
        asleep_bytes = resident_bytes(pid)
        monitor = ServerMonitor(Host(sysroot=Path(root)), {Address.parse(url): ""})
        states: dict[str, int] = {}
        woken = 0
        begin_s, begin_cpu_s = time.monotonic(), _cpu_s(pid)
        for number in range(1, polls + 1):
            monitor.round()
            monitor.drain()
            row = next(row for row in monitor.rows if row.address == url)
            states[str(row.state)] = states.get(str(row.state), 0) + 1
            woken += number % LOOK_EVERY == 0 and not _sleeps(url)
        took_s, cpu_s = time.monotonic() - begin_s, _cpu_s(pid) - begin_cpu_s
        after_bytes = resident_bytes(pid)
    print(
        f"asleep: {polls} rounds in {took_s:.0f} s, awake at {woken} of {polls // LOOK_EVERY} looks; told as "
        f"{', '.join(f'{name} {count}' for name, count in states.items())}; its own memory {format_bytes(awake_bytes)} "
        f"awake, {format_bytes(asleep_bytes)} before and {format_bytes(after_bytes)} after them; "
        f"{1000 * cpu_s / polls:.2f} ms of its processor time a round",
        flush=True,
    )
    return woken == 0 and set(states) == {"asleep"}


def _sleeps(url: str) -> bool:
    with urllib.request.urlopen(f"{url}/props", timeout=60) as answer:  # noqa: S310 - started here
        return bool(json.load(answer)["is_sleeping"])


def _cpu_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    run_benchmark(main)
