"""`edgetop bench` against llama.cpp's own llama-bench and llama-perplexity: same library, same settings, interleaved.

The two programs are no part of llama-cpp-python's wheel. To build them from its source distribution, without changing
what is installed:

    pip download --no-deps --no-binary :all: llama-cpp-python==0.3.36 && tar xf llama_cpp_python-*.tar.gz
    cd llama_cpp_python-*/vendor/llama.cpp
    cmake -B build -DBUILD_SHARED_LIBS=ON -DLLAMA_CURL=OFF && cmake --build build --target llama-bench llama-perplexity
    python -m benchmarks.against_llama_bench --programs build/bin --model MODEL.gguf

They run on the libraries of the installed llama-cpp-python, so that both sides compute with the same code. With
`--pairs 200` it is the processor time of a decoded token at one thread that is compared, which hardly depends on what
else runs: of our worker, and of llama-bench with many tokens less that with one.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from math import exp, log, sqrt
from pathlib import Path
from statistics import fmean, median, stdev

from benchmarks import run_benchmark
from edgetop.bench.plan import reading_text
from edgetop.core.engine_settings import EngineSettings
from edgetop.core.records import TurnFinished
from edgetop.core.statistics import quantile
from edgetop.inference.client import EngineProcess
from edgetop.inference.protocol import Measure
from tests.support.engine_worker import EngineWorker
from tests.support.requirements import need_program

TESTS = ("pp512", "tg128")
TOKENS = 32
"""Decoded by each side of a pair."""


def main() -> None:
    options = _options()
    for program in ("llama-bench", "llama-perplexity")[: 1 if options.pairs else 2]:
        need_program(program, "it as the first lines of this module say", path=str(options.programs))
    environment = _environment(options.programs)
    with tempfile.TemporaryDirectory() as folder:
        data = {**environment, "EDGETOP_DATA_DIR": folder}
        if options.pairs:
            _compare_processor_time(options, environment)
            return
        for threads in options.threads:
            _compare_speed(options, threads, environment, data)
        _compare_perplexity(options, environment, data, Path(folder))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--programs", type=Path, required=True, help="the folder of llama-bench and llama-perplexity")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--threads", type=lambda text: [int(each) for each in text.split(",")], default=[1, 2])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--pairs", type=int, default=0, help="compare the processor time of a token so many times")
    return parser.parse_args()


def _environment(programs: Path) -> dict[str, str]:
    """With the libraries of the installed llama-cpp-python before those the programs were built with."""
    spec = find_spec("llama_cpp")
    if spec is None or spec.origin is None:
        sys.exit("llama-cpp-python is not installed")
    installed = Path(spec.origin).parent / "lib"
    return {**os.environ, "LD_LIBRARY_PATH": f"{installed}:{programs.absolute()}"}


def _compare_speed(
    options: argparse.Namespace, threads: int, environment: Mapping[str, str], data: Mapping[str, str]
) -> None:
    ratios: dict[str, list[float]] = {test: [] for test in TESTS}
    rates: dict[str, dict[str, list[float]]] = {test: {"llama-bench": [], "edgetop": []} for test in TESTS}
    for number in range(options.rounds):
        # Who goes first changes from round to round, since a machine drifts.
        sides = [("llama-bench", _llama_bench), ("edgetop", _edgetop_bench)]
        for name, measure in sides if number % 2 else sides[::-1]:
            found = measure(options, threads, environment if name == "llama-bench" else data)
            for test in TESTS:
                rates[test][name].append(found[test])
        for test in TESTS:
            ratios[test].append(rates[test]["edgetop"][-1] / rates[test]["llama-bench"][-1])
    for test in TESTS:
        ours, theirs = (median(rates[test][name]) for name in ("edgetop", "llama-bench"))
        ratio = _ratio_text(ratios[test])
        print(f"{threads} threads {test:6}  llama-bench {theirs:8.2f}  edgetop {ours:8.2f} tok/s  ratio {ratio}")


def _ratio_text(ratios: list[float]) -> str:
    """Geometric mean with its 95 % interval, and the median."""
    logs = [log(ratio) for ratio in ratios]
    reach = quantile(0.95, len(logs) - 1) * stdev(logs) / sqrt(len(logs)) if len(logs) > 1 else 0.0
    mean = fmean(logs)
    return f"{exp(mean):.4f} ({exp(mean - reach):.4f} to {exp(mean + reach):.4f}), median {median(ratios):.4f}"


def _compare_processor_time(options: argparse.Namespace, environment: Mapping[str, str]) -> None:
    ours: list[float] = []
    theirs: list[float] = []
    with EngineProcess.start() as engine:
        worker = EngineWorker(engine)
        worker.load(options.model, EngineSettings(n_ctx=512, n_threads=1, n_threads_batch=1))

        def of_edgetop(tokens: int) -> float:
            begin_s = _worker_s(engine.pid)
            worker.reports.clear()
            engine.send(Measure(turn=0, n_gen=tokens))
            worker.until(TurnFinished)
            return _worker_s(engine.pid) - begin_s

        def of_llama_bench(tokens: int) -> float:
            command = [str(options.programs / "llama-bench"), "-m", str(options.model), "-t", "1"]
            command += ["-p", "0", "-n", str(tokens), "-r", "1", "-o", "json"]
            with subprocess.Popen(
                command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            ) as ran:
                _, status, used = os.wait4(ran.pid, 0)
                ran.returncode = os.waitstatus_to_exitcode(status)
            if ran.returncode != 0:
                sys.exit(f"{' '.join(command)} failed")
            return used.ru_utime + used.ru_stime

        of_edgetop(TOKENS)
        for number in range(options.pairs):
            sides = [(ours, of_edgetop), (theirs, of_llama_bench)]
            for found, measure in sides if number % 2 else sides[::-1]:
                found.append((measure(TOKENS + 1) - measure(1)) / TOKENS)
            if number % 20 == 19 or number + 1 == options.pairs:
                ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
                ms = [1e3 * median(each) for each in (theirs, ours)]
                times = f"llama-bench {ms[0]:.3f}  edgetop {ms[1]:.3f} ms of processor time a token"
                print(f"{number + 1} pairs  {times}  ratio {_ratio_text(ratios)}", flush=True)


def _worker_s(pid: int) -> float:
    """Processor time of all threads of a process, to the nanosecond."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def _llama_bench(options: argparse.Namespace, threads: int, environment: Mapping[str, str]) -> dict[str, float]:
    command = [
        *(str(options.programs / "llama-bench"), "-m", str(options.model), "-t", str(threads)),
        *("-p", "512", "-n", "128", "-r", "1", "-o", "json"),
    ]
    rows = json.loads(_output(command, environment))
    return {f"pp{row['n_prompt']}" if row["n_prompt"] else f"tg{row['n_gen']}": row["avg_ts"] for row in rows}


def _edgetop_bench(options: argparse.Namespace, threads: int, environment: Mapping[str, str]) -> dict[str, float]:
    command = [
        *(sys.executable, "-m", "edgetop", "bench", "-m", str(options.model), "-t", str(threads)),
        *("-p", "512", "-n", "128", "-r", "1", "-o", "json", "-q", "--power", "none", "--again"),
    ]
    return {row["test"]: row["avg_ts"] for row in json.loads(_output(command, environment))}


def _compare_perplexity(
    options: argparse.Namespace, environment: Mapping[str, str], data: Mapping[str, str], folder: Path
) -> None:
    text = folder / "text.txt"
    text.write_text(reading_text(), "utf-8")
    threads = str(options.threads[-1])
    theirs = _perplexity(
        _output(
            [
                *(str(options.programs / "llama-perplexity"), "-m", str(options.model), "-f", str(text)),
                *("-c", "512", "-t", threads),
            ],
            environment,
            with_errors=True,
        )
    )
    command = [
        *(sys.executable, "-m", "edgetop", "bench", "-m", str(options.model), "-t", threads),
        *("-p", "0", "-n", "32", "-r", "1", "--quality", str(text), "-o", "json", "-q", "--power", "none"),
    ]
    ours = json.loads(_output(command, data))[0]["perplexity"]
    print(f"perplexity  llama-perplexity {theirs:.4f}  edgetop {ours:.4f}  off by {abs(ours / theirs - 1):.3%}")


def _perplexity(output: str) -> float:
    found = re.search(r"Final estimate: PPL = ([\d.]+)", output)
    if found is None:
        sys.exit(f"llama-perplexity gave no estimate:\n{output[-2000:]}")
    return float(found[1])


def _output(command: list[str], environment: Mapping[str, str], *, with_errors: bool = False) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        sys.exit(f"{command[0]} failed:\n{done.stderr[-2000:]}")
    return done.stdout + (done.stderr if with_errors else "")


if __name__ == "__main__":
    run_benchmark(main)
