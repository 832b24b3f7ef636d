"""How the GGUF reader bears broken headers: 100,000 of them and more, by mutation or guided by atheris.

    python -m benchmarks.reader_fuzz [--inputs 120000] [--seed 1] [--real MODEL.gguf]
    python -m benchmarks.reader_fuzz --atheris [--inputs 200000]

The first finding ends the run with its traceback and leaves the input in build/finding.gguf. Prints one JSON object;
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
from edgetop.core.gguf import read_header
from tests.support.mutated_gguf import DATA_BYTES, examine, good_headers, mutated
from tests.support.requirements import need_module

HEADER_BYTES_MAX = 16 * 2**20
FINDING = Path("build/finding.gguf")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=120_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--real", type=Path, help="also mutate the header of this model, in every 100th input")
    parser.add_argument("--atheris", action="store_true", help="let coverage guide the inputs")
    wanted = parser.parse_args()
    if wanted.atheris:
        guided(wanted.inputs)
    else:
        print(json.dumps(mutation(wanted.inputs, wanted.seed, wanted.real)))


def mutation(inputs: int, seed: int, real: Path | None) -> dict[str, object]:
    """Examine mutated headers; gives counts by outcome, the slowest input and the peak of memory."""
    headers = good_headers()
    real_header = b""
    if real is not None:
        with real.open("rb") as file:
            beginning = file.read(HEADER_BYTES_MAX)
        real_header = beginning[: read_header(beginning, size_bytes=real.stat().st_size).data_offset]
        del beginning
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    chance = random.Random(seed)  # noqa: S311 - to be repeated
    outcomes: Counter[str] = Counter()
    slowest_s = 0.0
    began = time.perf_counter()
    for number in range(inputs):
        data = mutated(chance, [real_header] if real_header and number % 100 == 0 else headers)
        size_bytes = chance.choice((None, DATA_BYTES, DATA_BYTES))
        started = time.perf_counter()
        try:
            outcomes[examine(data, size_bytes)] += 1
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
    """Let atheris look for inputs that reach new lines of the reader; it reports and exits by itself."""
    need_module("atheris")
    import atheris  # noqa: PLC0415 - an extra of this benchmark alone

    corpus = Path("build/reader_corpus")
    corpus.mkdir(parents=True, exist_ok=True)
    for number, header in enumerate(good_headers()):
        (corpus / f"{number}.gguf").write_bytes(header)

    def one(data: bytes) -> None:
        examine(data, None if len(data) % 3 else DATA_BYTES)

    atheris.instrument_all()
    limits = [f"-runs={inputs}", "-max_len=20000", "-timeout=10", "-rss_limit_mb=1024", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *limits, str(corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    run_benchmark(main)
