"""From a fresh clone with empty caches to the first frame and the first answer: seconds, processor seconds, megabytes.

    python -m benchmarks.first_answer            the portable route: make run
    python -m benchmarks.first_answer --native   make native, then the same

The clone, its environment and all caches lie in a temporary folder. Seconds depend on the network and on what else
runs; processor seconds are of all programs that were started. Megabytes are what pip and npm have in their caches.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pexpect

REPOSITORY = Path(__file__).resolve().parents[1]

FRAME = b"\x1b[?1049h"
"""Switches to the screen; what follows it is the first frame."""


class Stage:
    """Prints a row for each stage."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._begun_s = self._last_s = time.monotonic()
        self._last_cpu_s = cpu_s()
        print(f"{'stage':<34} {'s':>7} {'sum s':>7} {'cpu s':>7} {'MB':>7}")

    def done(self, name: str) -> None:
        """Print what has passed since the stage before."""
        now_s, now_cpu_s = time.monotonic(), cpu_s()
        print(
            f"{name:<34} {now_s - self._last_s:7.1f} {now_s - self._begun_s:7.1f} {now_cpu_s - self._last_cpu_s:7.1f} "
            f"{cached_mb(self._home):7.0f}",
            flush=True,
        )
        self._last_s, self._last_cpu_s = now_s, now_cpu_s


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def cached_mb(home: Path) -> float:
    folders = (home / ".cache/pip", home / ".npm/_cacache/content-v2")
    return sum(file.stat().st_size for folder in folders for file in folder.rglob("*") if file.is_file()) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description="From a fresh clone to the first answer.")
    parser.add_argument("--native", action="store_true", help="compile llama.cpp as well")
    parser.add_argument("--without-npm", action="store_true", help="as on a machine that has no npm")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        home, clone = folder / "home", folder / "edgetop"
        home.mkdir()
        programs = folder / "bin"
        programs.mkdir()
        if options.without_npm:
            (programs / "npm").write_text("#!/bin/sh\necho npm ERR not here >&2\nexit 1\n")
            (programs / "npm").chmod(0o755)
        environment = {
            "PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(home), "TERM": "xterm-256color", "LANG": "C.UTF-8",
        }  # fmt: skip
        git = shutil.which("git") or "git"
        subprocess.run([git, "clone", "--quiet", str(REPOSITORY), str(clone)], check=True)
        stages = Stage(home)

        def make(*targets: str) -> None:
            subprocess.run(["make", *targets], cwd=clone, env=environment, check=True, stdin=subprocess.DEVNULL)

        make(".venv/.run")
        stages.done("edgetop and its packages")
        make(".venv/.model")
        stages.done("model")
        make(".venv/.engine")
        stages.done("portable engine")
        if options.native:
            make("native")
            stages.done("llama.cpp compiled")
        screen = pexpect.spawn("make", ["run"], cwd=str(clone), env=environment, timeout=120, dimensions=(30, 100))
        screen.expect_exact(FRAME)
        screen.expect("edgetop|SmolLM2")
        stages.done("first frame")
        screen.close(force=True)
        make("run", "ARGS=run -p 'What is a river?' -n 16 --no-record")
        stages.done("first answer (another process)")


if __name__ == "__main__":
    main()
