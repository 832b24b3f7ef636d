"""What the client costs: the server's decode rate while edgetop reads its stream, against curl reading the same one.

    python -m benchmarks.server_client MODEL.gguf [--rounds N] [--tokens N]

A llama-server (the `xllamacpp` wheel's) answers the same question in turn to `edgetop run --server` and to curl, or to
a bare reader where there is no curl. Both rates are the server's own, (tokens - 1) / its milliseconds, since a client
can only slow a server down; beside them stands the rate that edgetop's stamps of arrival give. Speeds of answers
scatter by more than what a client costs, so the kernel is asked too how long the server's threads were ready to run and
had no core: while they decode they wait for each other, so the speed falls by at most what they all waited. Leave the
machine alone meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from benchmarks import run_benchmark
from tests.support.llama_cpp_servers import llama_server
from tests.support.monitor_pulses import Interval, median_interval, waited_s

_REPOSITORY = Path(__file__).resolve().parents[1]
GOAL = 0.99
QUESTION = "Write a long story about the sea and all who live in it."
_READER = (
    "import sys, urllib.request as r; print(r.urlopen(r.Request(sys.argv[1], sys.argv[2].encode())).read().decode())"
)


class Answered(NamedTuple):
    """How an answer went."""

    rate: float
    """Tokens per second as the server counts them."""
    arrived: float
    """The same by the client's own stamps."""
    decode_s: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=128)
    options = parser.parse_args()
    ratios, errors, waits = [], [], []
    with llama_server(options.model.absolute()) as (url, server), tempfile.TemporaryDirectory() as home:
        by_curl(url, options.tokens)  # warm
        for number in range(options.rounds):
            answers, shares = {}, {}
            for ask in (by_curl, by_edgetop) if number % 2 else (by_edgetop, by_curl):
                before_s = waited_s(server)
                answers[ask] = ask(url, options.tokens, home)
                shares[ask] = (waited_s(server) - before_s) / answers[ask].decode_s
            curl, edgetop = answers[by_curl], answers[by_edgetop]
            ratios.append(edgetop.rate / curl.rate)
            errors.append(edgetop.arrived / edgetop.rate - 1)
            waits.append((shares[by_edgetop] - shares[by_curl]) * 1000)
            print(
                f"round {number + 1}: curl {curl.rate:.2f} tok/s, edgetop {edgetop.rate:.2f} tok/s, by its stamps "
                f"{edgetop.arrived:.2f}; the server waited {shares[by_curl] * 1000:.1f} and "
                f"{shares[by_edgetop] * 1000:.1f} ms/s",
                flush=True,
            )
    ratio = median_interval(ratios)
    print(f"\nedgetop over curl: median {_told(ratio, 4)}; goal {GOAL}")
    print(f"the server waited longer for a core than with curl: median {_told(median_interval(waits), 1)} ms/s")
    worst = max(errors, key=abs)
    print(f"its stamps against the server's own rate: median {statistics.median(errors):+.2%}, at worst {worst:+.2%}")
    return 0 if ratio.middle >= GOAL else 1


def _told(interval: Interval, digits: int) -> str:
    middle, low, high = (f"{value:.{digits}f}" for value in interval)
    return f"{middle} ({low} to {high})"


def by_curl(url: str, tokens: int, _home: str = "") -> Answered:
    """While curl reads."""
    body = json.dumps(
        {
            "messages": [{"role": "user", "content": QUESTION}],
            "stream": True,
            "temperature": 0,
            "max_tokens": tokens,
            "timings_per_token": True,
            "return_progress": True,
            "stream_options": {"include_usage": True},
        }
    )
    address = f"{url}/v1/chat/completions"
    curl = shutil.which("curl")
    command = [curl, "-sN", address, "-d", body] if curl else [sys.executable, "-c", _READER, address, body]
    lines = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout.splitlines()
    timed = [line for line in lines if '"timings"' in line]
    timings = json.loads(timed[-1].removeprefix("data: "))["timings"]
    rate = (timings["predicted_n"] - 1) / timings["predicted_ms"] * 1000
    return Answered(rate, rate, timings["predicted_ms"] / 1000)


def by_edgetop(url: str, tokens: int, home: str) -> Answered:
    """While edgetop reads."""
    command = [
        *(sys.executable, "-m", "edgetop", "run", "--json", "-q", "--server", url, "--temp", "0", "--power", "none"),
        *("-n", str(tokens), "-p", QUESTION),
    ]
    environment = {**os.environ, "HOME": home, "EDGETOP_DATA_DIR": home, "PYTHONPATH": str(_REPOSITORY)}
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300, env=environment)
    path = json.loads(run.stdout)["session"]
    (turn,) = json.loads(Path(path).read_text("utf-8"))["turns"]
    perf = turn["end"]["perf"]
    decode_s = perf["decode_ms"] / 1000
    return Answered(perf["decode_tokens"] / decode_s, turn["figures"]["decode_tokens_per_s"], decode_s)


if __name__ == "__main__":
    run_benchmark(main)
