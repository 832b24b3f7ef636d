"""How the readers of servers' streams bear broken ones: recorded streams by mutation, or guided by atheris.

    python -m benchmarks.stream_fuzz [--inputs 50000] [--seed 1]
    python -m benchmarks.stream_fuzz --atheris [--inputs 200000]

The first finding ends the run with its traceback and leaves the input in build/finding.stream. Prints one JSON object;
times are of this machine, whatever else runs on it.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import time
from collections import Counter
from pathlib import Path

from benchmarks import run_benchmark
from tests.support.mutated_streams import STREAMS, examine, mutated
from tests.support.requirements import need_module

FINDING = Path("build/finding.stream")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--atheris", action="store_true", help="let coverage guide the inputs")
    wanted = parser.parse_args()
    if wanted.atheris:
        guided(wanted.inputs)
    else:
        print(json.dumps(mutation(wanted.inputs, wanted.seed)))


def mutation(inputs: int, seed: int) -> dict[str, object]:
    """Examine mutated streams with every reader; gives counts by outcome, the slowest input, the growth of memory."""
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    chance = random.Random(seed)  # noqa: S311 - to be repeated
    outcomes: Counter[str] = Counter()
    slowest_s = 0.0
    began = time.perf_counter()
    for _ in range(inputs):
        data = mutated(chance)
        started = time.perf_counter()
        try:
            outcomes.update(examine(data, chance))
        except BaseException:
            FINDING.parent.mkdir(exist_ok=True)
            FINDING.write_bytes(data)
            raise
        slowest_s = max(slowest_s, time.perf_counter() - started)
    return {
        "inputs": inputs,
        "seed": seed,
        "outcomes": dict(outcomes),
        "total_s": round(time.perf_counter() - began, 1),
        "slowest_ms": round(slowest_s * 1e3, 1),
        "grown_mib": round((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib) / 1024, 1),
    }


def guided(inputs: int) -> None:
    """Let atheris look for inputs that reach new lines of the readers; it reports and exits by itself."""
    need_module("atheris")
    import atheris  # noqa: PLC0415 - an extra of this benchmark alone

    corpus = Path("build/stream_corpus")
    corpus.mkdir(parents=True, exist_ok=True)
    for number, stream in enumerate(STREAMS):
        (corpus / f"{number}.stream").write_bytes(stream)

    def one(data: bytes) -> None:
        examine(data, random.Random(len(data)))  # noqa: S311 - to be repeated

    atheris.instrument_all()
    limits = [f"-runs={inputs}", "-max_len=20000", "-timeout=10", "-rss_limit_mb=1024", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *limits, str(corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    run_benchmark(main)
