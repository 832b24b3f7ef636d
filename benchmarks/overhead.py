"""What edgetop itself costs: decode speed under its screen against the same without, and under other monitors.

    python -m benchmarks.overhead [--answers 4] [--tokens 1200] [--threads 1 2] [--only screen ssh btop]

Under each condition the screen is stopped and continued in turn while the model answers
(`tests.support.monitor_pulses`), with the same model and greedy sampling:

    screen      the live screen in a terminal of 120 by 36 cells that somebody looks at
    tmux        the same in a tmux that nobody is attached to
    ssh         the same over OpenSSH on the loopback
    long chat   the same below 10,000 lines of chat
    scraped     the same with --export, from which metrics are taken every five seconds
    alerts      the same with two alerts
    btop, htop  that monitor at its defaults beside the bare engine, where it is installed

Nothing else should run meanwhile. Printed are the ratio of speeds with its 95 % interval; for how much of a second the
decoding threads waited longer for a core than without, which bounds the loss of speed more sharply; and of the screen's
process its share of one core and the bytes it writes to its terminal, while text streams (in an answer in which nothing
is stopped) and while nothing happens.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import select
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen

import psutil

from benchmarks import run_benchmark
from edgetop.core.clock import US_PER_S
from edgetop.core.engine_settings import EngineSettings, SamplingSettings
from edgetop.core.records import ModelLoaded, Tokens, TurnFinished
from edgetop.inference.client import EngineProcess
from edgetop.inference.protocol import ChatMessage, Generate, Load, LoadFailed
from edgetop.session.file_io import load as load_session
from tests.support.isolated_home import IsolatedHome
from tests.support.monitor_pulses import Stretch, mean_interval, median_interval, pulse, ratios, waits
from tests.support.recorded_sessions import journal_lines
from tests.support.requirements import NotInstalledError, need_demo_model, need_module, need_program
from tests.support.sshd import Sshd, unused_port
from tests.support.timed_terminal import COLUMNS, DEADLINE_S, ROWS, Terminal, Use, cpu_percent, resident_mib, use_of
from tests.support.tmux import Tmux

PROMPT = "Write a long story about a lighthouse keeper and the sea."
LONG_CHAT_LINES = 10_000
SET_LINES = 4
"""Of chat, at least, that each `/set` leaves."""
IDLE_S = 10.0
QUIET_PERCENT = 3.0
"""Of a core: the screen has nothing more to do."""
HEADINGS = (
    "condition", "threads", "tokens/s", "with / without", "waits, ms/s", "pairs", "cpu busy, idle", "B/s busy, idle",
    "MiB",
)  # fmt: skip
F10 = "\x1b[21~"
SCRAPED_EVERY_S = 5.0
"""Prometheus does so every 15 s, unless told otherwise."""
ALERTS = ("--alert", "energy.j_per_token > 1e6 for 60s", "--alert", "decode_tokens_per_s < 0.001")
SCREENS = ("screen", "tmux", "ssh", "long chat", "scraped", "alerts")
MONITORS = ("btop", "htop")
_EDGETOP = """
import signal, sys
from edgetop.cli import main
real = signal.signal
signal.signal = lambda number, handler: None if number == signal.SIGCONT else real(number, handler)
sys.exit(main(sys.argv[1:]))
"""
"""edgetop, but for what it does when it goes on after a stop: it would draw the whole screen anew."""


class Taken(NamedTuple):
    """What a monitor took of the machine for a while."""

    cpu_percent: float
    """Of one core."""
    bytes_per_s: float | None
    """To its terminal; `None` where nobody sees that."""

    @staticmethod
    def between(before: Use, after: Use, terminal: Terminal | Detached) -> Taken:
        """Between two moments."""
        if isinstance(terminal, Detached):
            return Taken(cpu_percent(before, after), None)
        written = terminal.bytes_between(before.t_us, after.t_us)
        return Taken(cpu_percent(before, after), written / (after.t_us - before.t_us) * US_PER_S)


class Cost(NamedTuple):
    """What was found under one condition."""

    ratios: list[float]
    waits: list[float]
    tokens_per_s: float
    streaming: Taken
    idle: Taken
    rss_mib: float


class Setting(NamedTuple):
    """What all conditions have in common."""

    model: Path
    threads: int
    answers: int
    tokens: int
    chance: random.Random


class Detached:
    """A tmux that nobody is attached to, as far as a benchmark uses a terminal."""

    def __init__(self, command: Sequence[str], home: IsolatedHome) -> None:
        self._home = home
        self._window = Tmux(command, environment=home.environment, folder=home.folder, columns=COLUMNS, rows=ROWS)

    def type(self, text: str) -> None:
        """Type."""
        self._window.press(*(["F10"] if text == F10 else ["-l", text]))

    def drain(self, for_s: float) -> None:
        """Wait: what is written goes to tmux."""
        time.sleep(for_s)

    def close(self) -> None:
        """Wait until the screen has ended, and end tmux."""
        self._home.everyone_gone()
        self._window.close()


def screen_cost(setting: Setting, condition: str) -> Cost:
    """What the live screen costs under a condition."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        home = IsolatedHome(Path(name))
        home.environment["COLORTERM"] = "truecolor"
        program = home.folder / "pulsed.py"
        program.write_text(_EDGETOP)
        command = [
            *(sys.executable, str(program)),
            *("-m", str(setting.model), "--threads", str(setting.threads), "--temp", "0", "--seed", "1"),
            *("--max-tokens", str(setting.tokens)),
        ]
        stack.callback(home.end)
        if condition == "alerts":
            command += ALERTS
        if condition == "scraped":
            need_module("prometheus_client")
            port = unused_port()
            command += ["--export", f"127.0.0.1:{port}"]
            stack.enter_context(scraping(port))
        if condition == "ssh":
            server = Sshd(home.folder)
            stack.callback(server.close)
            command = server.command(command, home.environment, terminal=True)
        terminal = Detached(command, home) if condition == "tmux" else Terminal(command, home.environment)
        return _measured(setting, home, terminal, long_chat=condition == "long chat")


@contextlib.contextmanager
def scraping(port: int) -> Iterator[None]:
    """Take the metrics of a port again and again."""
    ended = threading.Event()

    def scrape() -> None:
        while not ended.wait(SCRAPED_EVERY_S):
            with contextlib.suppress(OSError), urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                answer.read()

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _measured(setting: Setting, home: IsolatedHome, terminal: Terminal | Detached, *, long_chat: bool) -> Cost:
    _wait(terminal, lambda: _recorded(home, "model"))
    screen = home.screen().pid
    engine = _engine_of(screen)
    terminal.drain(2.0)
    for _ in range(LONG_CHAT_LINES // SET_LINES if long_chat else 0):
        terminal.type("/set\r")
        terminal.drain(0.002)
    _quiet(screen, terminal)
    idle = [use_of(screen)]
    terminal.drain(IDLE_S)
    idle.append(use_of(screen))
    streaming: list[Use] = []
    stretches: list[list[Stretch]] = []
    for number in range(1, setting.answers + 2):
        if not long_chat:
            terminal.type("/clear\r")
            terminal.drain(0.5)
        terminal.type(f"{PROMPT}\r")
        _wait(terminal, lambda turn=number: _recorded(home, "turn") == turn)  # type: ignore[misc]
        terminal.drain(1.0)

        def going(turn: int = number) -> bool:
            return _recorded(home, "turn_end") < turn

        if number == 1:
            while going():
                streaming.append(use_of(screen))
                terminal.drain(1.0)
        else:
            stretches.append(pulse(screen, engine, terminal.drain, going, setting.chance))
    rss_mib = resident_mib(screen)
    terminal.type(F10)
    terminal.close()
    home.everyone_gone()
    session = load_session(home.session_paths[0])
    stamps = [[session.start_us + t_us for t_us in turn.token_t_us] for turn in session.turns]
    return Cost(
        ratios=[ratio for one, times in zip(stretches, stamps[1:], strict=True) for ratio in ratios(one, times)],
        waits=[wait for one in stretches for wait in waits(one)],
        tokens_per_s=_rate(stamps[0]),
        streaming=Taken.between(streaming[0], streaming[-1], terminal),
        idle=Taken.between(idle[0], idle[1], terminal),
        rss_mib=rss_mib,
    )


def monitor_cost(setting: Setting, monitor: str) -> Cost:
    """What another monitor costs beside the bare engine, of which nobody but this script hears."""
    environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", "LANG": "C.UTF-8"}
    terminal = Terminal([need_program(monitor)], environment)
    try:
        terminal.drain(3.0)
        idle = [use_of(terminal.pid)]
        terminal.drain(IDLE_S)
        idle.append(use_of(terminal.pid))
        streaming: list[Use] = []
        found: list[float] = []
        waited: list[float] = []
        speed = float("nan")
        with EngineProcess.start() as engine:
            talk = _BareTalk(engine, terminal, setting)
            talk.load()
            for number in range(1, setting.answers + 2):
                talk.ask(number)
                if number == 1:
                    while talk.answering:
                        streaming.append(use_of(terminal.pid))
                        talk.drain(1.0)
                    speed = _rate(talk.stamps)
                else:
                    worker = _engine_of(os.getpid())
                    stretches = pulse(terminal.pid, worker, talk.drain, lambda: talk.answering, setting.chance)
                    found += ratios(stretches, talk.stamps)
                    waited += waits(stretches)
        return Cost(
            ratios=found,
            waits=waited,
            tokens_per_s=speed,
            streaming=Taken.between(streaming[0], streaming[-1], terminal),
            idle=Taken.between(idle[0], idle[1], terminal),
            rss_mib=resident_mib(terminal.pid),
        )
    finally:
        os.kill(terminal.pid, signal.SIGKILL)
        terminal.close()


class _BareTalk:
    """The engine without a screen, while a terminal is drained beside it."""

    def __init__(self, engine: EngineProcess, terminal: Terminal, setting: Setting) -> None:
        self.answering = False
        self.stamps: list[int] = []
        self._engine = engine
        self._terminal = terminal
        self._setting = setting
        self._loaded = False

    def load(self) -> None:
        """Load the model."""
        setting = self._setting
        self._engine.send(Load(path=str(setting.model), settings=EngineSettings(n_threads=setting.threads)))
        while not self._loaded:
            self.drain(0.2)

    def ask(self, turn: int) -> None:
        """Ask the question, in a conversation of its own."""
        sampling = SamplingSettings(temperature=0.0, max_tokens=self._setting.tokens, seed=1)
        self.stamps, self.answering = [], True
        self._engine.send(Generate(turn=turn, messages=(ChatMessage("user", PROMPT),), sampling=sampling))
        while not self.stamps:
            self.drain(0.2)

    def drain(self, for_s: float) -> None:
        """Take what terminal and engine say for so long."""
        end_s = time.monotonic() + for_s
        while (left_s := end_s - time.monotonic()) > 0:
            ready, _, _ = select.select([self._terminal.fileno(), self._engine.fileno()], [], [], left_s)
            if self._terminal.fileno() in ready:
                self._terminal.take(0)
            if self._engine.fileno() in ready:
                self._hear()

    def _hear(self) -> None:
        for report in self._engine.receive():
            match report:
                case ModelLoaded():
                    self._loaded = True
                case Tokens():
                    self.stamps += report.t_us
                case TurnFinished():
                    self.answering = False
                case LoadFailed():
                    raise SystemExit(report.message)
        if self._engine.death() is not None:
            raise SystemExit(self._engine.death())


def _engine_of(pid: int) -> int:
    """The process in which the model of a process is."""
    worker = next(child for child in psutil.Process(pid).children() if "edgetop.inference.worker" in child.cmdline())
    return worker.pid


def _rate(stamps_us: Sequence[int]) -> float:
    return (len(stamps_us) - 1) / (stamps_us[-1] - stamps_us[0]) * US_PER_S


def _recorded(home: IsolatedHome, kind: str) -> int:
    """How many records of a kind the journal has."""
    return sum(journal_lines(path).count(b'"type":"%s"' % kind.encode()) for path in home.journal_paths)


def _quiet(screen: int, terminal: Terminal | Detached) -> None:
    """Wait until what was typed has been worked off."""
    percent = 100.0
    while percent > QUIET_PERCENT:
        before = use_of(screen)
        terminal.drain(1.5)
        percent = cpu_percent(before, use_of(screen))


def _wait(terminal: Terminal | Detached, condition: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline_s:
            raise SystemExit("the screen did not come so far")
        terminal.drain(0.2)


def main() -> None:
    conditions = [*SCREENS, *MONITORS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, default=4, help="in which the screen is stopped and continued")
    parser.add_argument("--tokens", type=int, default=1200, help="of an answer")
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({1, 2, os.cpu_count() or 1}))
    parser.add_argument("--only", nargs="+", choices=conditions, default=conditions)
    parser.add_argument("--model", type=Path, help="(default: the demo model)")
    chosen = parser.parse_args()
    model = chosen.model or need_demo_model()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    chance = random.Random(1)  # noqa: S311 - not for secrets
    print(f"| {' | '.join(HEADINGS)} |\n{'|---' * len(HEADINGS)}|")
    for threads in chosen.threads:
        setting = Setting(model, threads, chosen.answers, chosen.tokens, chance)
        for condition in chance.sample(chosen.only, len(chosen.only)):
            try:
                cost = (monitor_cost if condition in MONITORS else screen_cost)(setting, condition)
            except NotInstalledError as missing:
                print(f"{condition} is left out: {missing}", file=sys.stderr)
                continue
            print(row(condition, threads, cost), flush=True)


def row(condition: str, threads: int, cost: Cost) -> str:
    """A line of the table."""
    ratio, wait = median_interval(cost.ratios), mean_interval([1000 * share for share in cost.waits])
    cells = (
        condition,
        str(threads),
        f"{cost.tokens_per_s:.1f}",
        f"{ratio.middle:.4f} ({ratio.low:.4f} to {ratio.high:.4f})",
        f"{wait.middle:.1f} ({wait.low:.1f} to {wait.high:.1f})",
        str(len(cost.ratios)),
        f"{cost.streaming.cpu_percent:.1f} %, {cost.idle.cpu_percent:.1f} %",
        "not seen"
        if cost.streaming.bytes_per_s is None or cost.idle.bytes_per_s is None
        else f"{cost.streaming.bytes_per_s:.0f}, {cost.idle.bytes_per_s:.0f}",
        f"{cost.rss_mib:.0f}",
    )
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    run_benchmark(main)
