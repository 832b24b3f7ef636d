"""How long `edgetop check MODEL` takes, against `python -c "import edgetop.cli"` and the steps in between.

    python benchmarks/check_time.py MODEL.gguf [--rounds 15]

The commands take turns, so that what else the machine does meets all of them. Printed are the least and the median wall
time and processor time of each, and how many times the first one's they are. The bandwidth is not measured; a first run
has done that.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks import run_benchmark


class Cost(NamedTuple):
    """Of one run, in seconds."""

    wall_s: float
    cpu_s: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    model = str(given.model)
    python = [sys.executable, "-c"]
    read = f"from pathlib import Path; from edgetop.fit.model_facts import read_facts; read_facts(Path({model!r}))"
    commands = {
        "import edgetop.cli": [*python, "import edgetop.cli"],
        "nothing at all": [*python, "pass"],
        "import argparse, msgspec": [*python, "import argparse, msgspec"],
        "read the header": [*python, read],
        "import edgetop.commands.check": [*python, "import edgetop.cli, edgetop.commands.check"],
        "edgetop check MODEL": [sys.executable, "-m", "edgetop", "check", model, "--no-probe"],
        "edgetop check MODEL --json": [sys.executable, "-m", "edgetop", "check", model, "--no-probe", "--json"],
        "edgetop check MODEL --exact": [sys.executable, "-m", "edgetop", "check", model, "--no-probe", "--exact"],
    }
    # An installed edgetop has its bytecode, so the one that is measured is to have it, too.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    subprocess.run([sys.executable, "-m", "edgetop", "check", model], check=True, stdout=subprocess.DEVNULL)
    costs: dict[str, list[Cost]] = {name: [] for name in commands}
    for _ in range(given.rounds):
        for name, command in commands.items():
            costs[name].append(_run(command))
    reference = costs["import edgetop.cli"]
    print(f"{'':30} {'wall, ms':>17} {'processor, ms':>17}   times the first (wall, processor; least)")
    print(f"{'':30} {'least':>8} {'median':>8} {'least':>8} {'median':>8}")
    for name, runs in costs.items():
        walls, cpus = [run.wall_s for run in runs], [run.cpu_s for run in runs]
        ratios = min(walls) / min(run.wall_s for run in reference), min(cpus) / min(run.cpu_s for run in reference)
        figures = " ".join(f"{1000 * each:8.1f}" for each in (min(walls), median(walls), min(cpus), median(cpus)))
        print(f"{name:30} {figures}   {ratios[0]:.2f}  {ratios[1]:.2f}")


def _run(command: list[str]) -> Cost:
    begin_s = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - begin_s
    process.returncode = os.waitstatus_to_exitcode(status)
    return Cost(wall_s, used.ru_utime + used.ru_stime)


if __name__ == "__main__":
    run_benchmark(main)
