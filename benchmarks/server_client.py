"""What the client costs: the server's decode rate while edgetop reads its stream, against curl reading the same one.

    python benchmarks/server_client.py MODEL.gguf [--rounds N] [--tokens N]

A llama-server (the `xllamacpp` wheel's) answers the same question in turn to `edgetop run --server` and to curl, or to
a bare reader where there is no curl. Both rates are the server's own, (tokens - 1) / its milliseconds, since a client
can only slow a server down; beside them stands the rate that edgetop's stamps of arrival give. Leave the machine alone
meanwhile.
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

_REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(_REPOSITORY))

from tests.llama_server import llama_server  # noqa: E402 - from the folder above

GOAL = 0.99
QUESTION = "Write a long story about the sea and all who live in it."
_READER = (
    "import sys, urllib.request as r; print(r.urlopen(r.Request(sys.argv[1], sys.argv[2].encode())).read().decode())"
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=128)
    options = parser.parse_args()
    ratios, errors = [], []
    with llama_server(options.model.absolute()) as (url, _), tempfile.TemporaryDirectory() as home:
        by_curl(url, options.tokens)  # warm
        for number in range(options.rounds):
            order = (by_curl, by_edgetop) if number % 2 else (by_edgetop, by_curl)
            rates = {ask: ask(url, options.tokens, home) for ask in order}
            curl, (edgetop, arrived) = rates[by_curl][0], rates[by_edgetop]
            ratios.append(edgetop / curl)
            errors.append(arrived / edgetop - 1)
            print(
                f"round {number + 1}: curl {curl:.2f} tok/s, edgetop {edgetop:.2f} tok/s, by its stamps {arrived:.2f}"
            )
    middle = statistics.median(ratios)
    print(f"\nedgetop over curl: median {middle:.4f}, from {min(ratios):.4f} to {max(ratios):.4f}; goal {GOAL}")
    worst = max(errors, key=abs)
    print(f"its stamps against the server's own rate: median {statistics.median(errors):+.2%}, at worst {worst:+.2%}")
    return 0 if middle >= GOAL else 1


def by_curl(url: str, tokens: int, _home: str = "") -> tuple[float, float]:
    """The server's rate while curl reads."""
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
    return rate, rate


def by_edgetop(url: str, tokens: int, home: str) -> tuple[float, float]:
    """The server's rate while edgetop reads, and the one by edgetop's stamps."""
    command = [
        *(sys.executable, "-m", "edgetop", "run", "--json", "-q", "--server", url, "--temp", "0", "--power", "none"),
        *("-n", str(tokens), "-p", QUESTION),
    ]
    environment = {**os.environ, "HOME": home, "EDGETOP_DATA_DIR": home, "PYTHONPATH": str(_REPOSITORY)}
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300, env=environment)
    path = json.loads(run.stdout)["session"]
    (turn,) = json.loads(Path(path).read_text("utf-8"))["turns"]
    perf = turn["end"]["perf"]
    return perf["decode_tokens"] / perf["decode_ms"] * 1000, turn["figures"]["decode_tokens_per_s"]


if __name__ == "__main__":
    sys.exit(main())
