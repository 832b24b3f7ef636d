"""What edgetop itself costs: decode speed under `edgetop run` and under the full screen, against the bare engine.

    python benchmarks/overhead.py [--rounds 8] [--tokens 256] [--threads 2]

Each round runs the three once, in an order drawn anew, with the same model, prompt and greedy sampling; ratios are
taken within a round, so that what the machine does to all of them cancels. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import pty
import random
import select
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Sequence
from fcntl import ioctl
from pathlib import Path
from typing import NamedTuple

from edgetop.core.engine import EngineSettings, SamplingSettings
from edgetop.core.records import ModelLoaded, Tokens, TurnFinished
from edgetop.inference.catalog import demo_model
from edgetop.inference.client import EngineProcess
from edgetop.inference.protocol import ChatMessage, Generate, Load, LoadFailed
from edgetop.session.disk import load as load_session
from edgetop.session.snapshot import snapshot

PROMPT = "Write a long story about a lighthouse keeper and the sea."
COLUMNS, ROWS = 120, 36
DEADLINE_S = 180.0


class ScreenRun(NamedTuple):
    """What one run under the screen showed."""

    decode_tokens_per_s: float
    cpu_percent: float
    rss_mib: float
    streaming_bytes_per_s: float
    first_frame_s: float
    whole_screen_s: float


def bare(model: Path, tokens: int, threads: int) -> float:
    """Decode speed of the worker with nobody but this script listening."""
    sampling = SamplingSettings(temperature=0.0, max_tokens=tokens, seed=1)
    generate = Generate(turn=1, messages=(ChatMessage("user", PROMPT),), sampling=sampling)
    stamps: list[int] = []
    with EngineProcess.start() as engine:
        engine.send(Load(path=str(model), settings=EngineSettings(n_threads=threads)))
        while True:
            select.select([engine], [], [], DEADLINE_S)
            for report in engine.receive():
                match report:
                    case ModelLoaded():
                        engine.send(generate)
                    case Tokens():
                        stamps += report.t_us
                    case TurnFinished():
                        return (len(stamps) - 1) / (stamps[-1] - stamps[0]) * 1e6
                    case LoadFailed():
                        raise SystemExit(report.message)
            if engine.death() is not None:
                raise SystemExit(engine.death())


def headless(model: Path, tokens: int, threads: int, folder: Path) -> float:
    """Decode speed under `edgetop run`."""
    arguments = [*_edgetop(model, tokens, threads), "--json", "-p", PROMPT]
    arguments.insert(3, "run")
    done = subprocess.run(arguments, env=_environment(folder), capture_output=True, check=True, timeout=DEADLINE_S)
    return float(json.loads(done.stdout)["summary"]["decode_tokens_per_s"])


def under_screen(model: Path, tokens: int, threads: int, folder: Path) -> ScreenRun:
    """Decode speed under the live screen in a terminal of its own, and what the screen took."""
    before = set(folder.rglob("*.json"))
    started_s = time.monotonic()
    pid, fd = pty.fork()
    if pid == 0:
        arguments = _edgetop(model, tokens, threads)
        os.execvpe(arguments[0], arguments, _environment(folder))  # noqa: S606 - a terminal needs a forked child
    ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    terminal = _Terminal(fd)
    terminal.until(lambda: b"starting" in terminal.output)
    first_frame_s = time.monotonic() - started_s
    terminal.until(lambda: b"Help" in terminal.output)
    whole_screen_s = time.monotonic() - started_s
    terminal.until(lambda: b"loaded in" in terminal.output)
    terminal.quiet(1.5)
    os.write(fd, PROMPT.encode() + b"\r")
    # The line of figures below the answer ends the turn.
    terminal.until(lambda: b"first token" in terminal.since_mark(b"tok ") and _turn_ended(folder))
    terminal.quiet(1.5)
    os.write(fd, b"\x1b[21~")  # F10
    terminal.drain_to_end()
    os.waitpid(pid, 0)
    (path,) = set(folder.rglob("*.json")) - before
    session = load_session(path)
    figures = snapshot(session, session.end_us)
    stamps = session.turns[0].token_t_us
    _, cpu = session.window("edgetop.cpu", stamps[0] + 1_000_000, stamps[-1])
    _, rss = session.window("edgetop.rss", stamps[0], stamps[-1])
    absolute = [session.start_us + stamp for stamp in (stamps[0], stamps[-1])]
    streamed = sum(count for t_us, count in terminal.chunks if absolute[0] <= t_us <= absolute[1])
    assert figures.summary.decode_tokens_per_s is not None  # noqa: S101 - the run has tokens
    return ScreenRun(
        decode_tokens_per_s=figures.summary.decode_tokens_per_s,
        cpu_percent=statistics.fmean(cpu) if cpu else float("nan"),
        rss_mib=max(rss, default=float("nan")) / 2**20,
        streaming_bytes_per_s=streamed / (stamps[-1] - stamps[0]) * 1e6,
        first_frame_s=first_frame_s,
        whole_screen_s=whole_screen_s,
    )


def import_textual_s() -> float:
    """How long the bare import of the screen library takes."""
    started_s = time.monotonic()
    subprocess.run([sys.executable, "-c", "import textual.app"], check=True)
    return time.monotonic() - started_s


class _Terminal:
    """The other end of the screen's terminal: takes what comes, and answers nothing."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.output = bytearray()
        self.chunks: list[tuple[int, int]] = []

    def since_mark(self, mark: bytes) -> bytes:
        return bytes(self.output[self.output.rfind(mark) :])

    def until(self, condition: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + DEADLINE_S
        while not condition():
            if time.monotonic() > deadline_s or not self._take(0.5):
                raise SystemExit(f"the screen did not come so far: {bytes(self.output[-400:])!r}")

    def quiet(self, for_s: float) -> None:
        end_s = time.monotonic() + for_s
        while (left_s := end_s - time.monotonic()) > 0:
            self._take(left_s)

    def drain_to_end(self) -> None:
        while self._take(5.0):
            pass

    def _take(self, wait_s: float) -> bool:
        ready, _, _ = select.select([self._fd], [], [], wait_s)
        if not ready:
            return True
        try:
            data = os.read(self._fd, 65536)
        except OSError:
            return False
        self.chunks.append((time.monotonic_ns() // 1000, len(data)))
        self.output += data
        return bool(data)


def _turn_ended(folder: Path) -> bool:
    return any(b'"turn_end"' in journal.read_bytes() for journal in folder.rglob("*.journal"))


def _edgetop(model: Path, tokens: int, threads: int) -> list[str]:
    settings = ["--threads", str(threads), "--temp", "0", "--seed", "1", "--max-tokens", str(tokens)]
    return [sys.executable, "-m", "edgetop", "-m", str(model), *settings]


def _environment(folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "EDGETOP_DATA_DIR": str(folder),
        "XDG_STATE_HOME": str(folder / "state"),
        "XDG_CONFIG_HOME": str(folder / "config"),
        "LANG": "C.UTF-8",
        "TERM": "xterm-256color",
        "COLORTERM": "truecolor",
    }


def ratio_words(name: str, these: Sequence[float], base: Sequence[float], seed: int = 1) -> str:
    """The median of the ratios within rounds, with its 95 % bootstrap interval."""
    ratios = [this / one for this, one in zip(these, base, strict=True)]
    generator = random.Random(seed)  # noqa: S311 - not for secrets
    medians = sorted(statistics.median(generator.choices(ratios, k=len(ratios))) for _ in range(4000))
    low, high = medians[100], medians[-101]
    return f"{name}: {statistics.median(ratios):.3f} ({low:.3f} to {high:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", type=Path, default=demo_model())
    options = parser.parse_args()
    if options.model is None:
        raise SystemExit("no model: name one with --model, or install the demo model")
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    order = random.Random(1)  # noqa: S311 - not for secrets
    speeds: dict[str, list[float]] = {"bare": [], "run": [], "screen": []}
    screens: list[ScreenRun] = []
    imports_s: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def screen() -> float:
            screens.append(under_screen(options.model, options.tokens, options.threads, folder))
            return screens[-1].decode_tokens_per_s

        runs: dict[str, Callable[[], float]] = {
            "bare": lambda: bare(options.model, options.tokens, options.threads),
            "run": lambda: headless(options.model, options.tokens, options.threads, folder),
            "screen": screen,
        }
        for number in range(options.rounds):
            for kind in order.sample(sorted(runs), len(runs)):
                speeds[kind].append(runs[kind]())
            imports_s.append(import_textual_s())
            print(f"round {number + 1}: " + "  ".join(f"{kind} {speeds[kind][-1]:.1f}" for kind in runs), flush=True)
    print(
        "decode tok/s, median: " + "  ".join(f"{kind} {statistics.median(each):.1f}" for kind, each in speeds.items())
    )
    print(ratio_words("edgetop run / bare", speeds["run"], speeds["bare"]))
    print(ratio_words("screen / bare", speeds["screen"], speeds["bare"]))
    print(
        f"screen process while streaming: {statistics.median(run.cpu_percent for run in screens):.1f} % of a core, ",
        end="",
    )
    print(f"{max(run.rss_mib for run in screens):.0f} MiB at most")
    print(f"to the terminal while streaming: {statistics.median(run.streaming_bytes_per_s for run in screens):.0f} B/s")
    base_s = statistics.median(imports_s)
    first, whole = (
        statistics.median(getattr(run, name) for run in screens) / base_s
        for name in ("first_frame_s", "whole_screen_s")
    )
    print(f"first frame: {first:.2f} times `import textual.app` ({base_s:.2f} s); the whole screen: {whole:.2f} times")


if __name__ == "__main__":
    main()
