"""What watching many hosts costs the machine that watches: processor time and memory, and how they grow.

    python -m benchmarks.fleet [--hosts 1,10,30,100] [--seconds 40] [--by edgetop|shell]

The hosts are simulated by a program in the place of `ssh`: by `edgetop` it prints a reading a second, by `shell` it is
a shell of this machine. Its own processor time is that of the hosts and does not count.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks import run_benchmark
from edgetop.live.fleet import FleetSession
from edgetop.live.live_session import WatchOptions
from edgetop.session.store import Store

INTERVAL = {"value": 1.2, "low": 1.1, "high": 1.3, "u_systematic": 0.05, "u_random": 0.0}
READING = {
    "type": "reading", "t_s": 1.0, "tokens_per_s": 11.5, "generated_tokens": 4000, "at_least": False,
    "requests_running": 1, "requests_waiting": 0, "power_w": 6.5, "power_scope": "module", "j_per_token": INTERVAL,
    "energy_j": {**INTERVAL, "value": 4800.0, "low": 4400.0, "high": 5200.0}, "energy_missing": "",
    "temperature_cpu_c": 61.3, "throttling": [], "memory_used_bytes": 3e9, "memory_total_bytes": 8e9,
    "models": ["SmolLM2-135M-Instruct.Q4_1.gguf"],
}  # fmt: skip
SSH = """#!/bin/sh
[ "$1" = -O ] && exit 255
{how}
"""
HOW = {
    "edgetop": 'read -r hello; eval "$hello"; echo edgetop; while cat {folder}/reading; do sleep 1; done',
    "shell": "PATH=/usr/bin:/bin HOME=/nowhere exec sh",
}


def simulated_hosts(folder: Path, by: str) -> str:
    """A PATH in which `ssh` leads to hosts that have `edgetop` or a `shell` alone; they are files of `folder`."""
    programs = folder / "simulated"
    programs.mkdir()
    (programs / "reading").write_text(json.dumps(READING) + "\n")
    (programs / "ssh").write_text(SSH.format(how=HOW[by].format(folder=programs)))
    (programs / "ssh").chmod(0o755)
    return f"{programs}:{os.environ['PATH']}"


def measured(hosts: int, seconds: float, folder: Path) -> None:
    """Watch so many for so long, and print what it took once all answered."""
    own = psutil.Process()
    before_bytes = own.memory_info().rss
    fleet = FleetSession([f"host{number}" for number in range(hosts)], WatchOptions(record=False), Store(folder), print)
    begin_s = time.monotonic()
    while not all(row.reading is not None for row in fleet.hosts):
        fleet.pump()
        time.sleep(0.1)
    joined_s = time.monotonic() - begin_s
    spent_s, from_s, from_bytes = time.process_time(), time.monotonic(), own.memory_info().rss
    while time.monotonic() < from_s + seconds:
        fleet.pump()
        time.sleep(0.1)
    lasted_s = time.monotonic() - from_s
    share = (time.process_time() - spent_s) / lasted_s
    now_bytes = own.memory_info().rss
    fleet.close()
    print(
        f"{hosts:4d} hosts: all answer after {joined_s:.1f} s; {1000 * share:.1f} ms of a core a second, "
        f"{1000 * share / hosts:.2f} a host; {(now_bytes - before_bytes) / 2**20:.1f} MiB more than before, "
        f"growing by {(now_bytes - from_bytes) / 2**20 / lasted_s * 3600 / hosts:.2f} MiB an hour a host"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", default="1,10,30,100")
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--by", choices=list(HOW), default="edgetop")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["PATH"] = simulated_hosts(folder, arguments.by)
        for hosts in map(int, arguments.hosts.split(",")):
            measured(hosts, arguments.seconds, folder)


if __name__ == "__main__":
    run_benchmark(main)
