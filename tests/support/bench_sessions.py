"""Sessions of a benchmark whose every rate and energy is known, put together second by second."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from edgetop.bench.plan import PromptTest, TokenTest
from edgetop.core.records import (
    BenchRun,
    Event,
    Prefill,
    Record,
    Sampled,
    SourceAdded,
    SourceMissing,
    Tokens,
    TurnFinished,
    TurnStarted,
)
from edgetop.core.sources import Channel, SourceInfo
from edgetop.io.files import write_atomically
from edgetop.session.file import to_file
from edgetop.session.file_io import encode_file
from tests.support.recorded_sessions import LOADED, STARTED, S, fold

IDLE_W, PREFILL_W, DECODE_W = 4.0, 12.0, 9.0
READ_EVERY_US = 50_000
PAUSE_US = 2 * S
QUIET_US = 13 * S
"""Before the first turn, for the idle power."""
GAUGES = SourceInfo(
    name="gauges",
    driver="test",
    period_s=1.0,
    channels=tuple(
        Channel(name=name, unit=unit, digits=3)
        for name, unit in (
            ("throttle.undervoltage", "1"), ("cpu.others", "%"), ("engine.major_faults", "1/s"), ("engine.swap", "B"),
            ("power.battery", "1"), ("cpu.frequency", "Hz"), ("temperature.cpu", "Cel"), ("temperature.gpu", "Cel"),
        )
    ),
)  # fmt: skip
CALM = {
    "throttle.undervoltage": 0.0, "cpu.others": 1.0, "engine.major_faults": 0.0, "engine.swap": 0.0,
    "power.battery": 0.0, "cpu.frequency": 2.4e9, "temperature.cpu": 50.0, "temperature.gpu": 40.0,
}  # fmt: skip


def counter(name: str = "power.board") -> SourceInfo:
    """An energy counter without fault."""
    return SourceInfo(
        name=name,
        driver="test",
        kind="energy",
        period_s=READ_EVERY_US / S,
        channels=(Channel(name="energy.board", unit="J", digits=6, scope="board_input"),),
        properties={"total": True, "gain": 0.0, "lsb_j": 1e-6, "p_max_w": 1000.0},
    )


class MadeSession:
    """One run: turns are appended, each after a pause; readings are made at the end."""

    def __init__(self, *, setting: str = "a t1", number: int = 1, power: str | None = "power.board") -> None:
        self.at_us = QUIET_US
        self.spans: list[tuple[int, int]] = []
        """Of each turn."""
        self._bench = BenchRun(plan="plan", setting=setting, round=number)
        self._power = power
        self._busy: list[tuple[int, int, float]] = []
        self._records: list[Record] = []
        self._disturbances: list[tuple[int, int, str, float]] = []
        self._turns = 0
        self.device = STARTED.device

    def tokens(
        self,
        test: TokenTest,
        *,
        prefill_tokens_per_s: float = 100.0,
        decode_tokens_per_s: float = 20.0,
        task: str | None = None,
        warmup: bool = False,
        error: str = "",
    ) -> None:
        """A turn of random tokens."""
        self._turn(test.name if task is None else task, warmup=warmup)
        begin_us = self._evaluate(test.n_prompt, prefill_tokens_per_s, cached=test.depth)
        stamps = [begin_us + round((k + 1) * S / decode_tokens_per_s) for k in range(test.n_gen)]
        self._generate(begin_us, stamps, prompt=test.n_prompt + test.depth, cached=test.depth, error=error)

    def reply(self, test: PromptTest, counts: Sequence[int], *, decode_tokens_per_s: float = 20.0) -> None:
        """The turns of a conversation, with so many tokens each; the first one comes with the end of the prefill."""
        for count in counts:
            self._turn(test.name, warmup=False)
            begin_us = self._evaluate(50, 100.0, cached=0)
            stamps = [begin_us + round(k * S / decode_tokens_per_s) for k in range(count)]
            self._generate(begin_us, stamps, prompt=50, cached=0)

    def disturb(self, channel: str, value: float, *, turn: int = -1) -> None:
        """Let a gauge show something else while a turn runs."""
        self._disturbances.append((*self.spans[turn], channel, value))

    def happen(self, kind: str, text: str) -> None:
        """An event in the middle of the last turn."""
        begin_us, end_us = self.spans[-1]
        self._records.append(Event(t_us=STARTED.t_us + (begin_us + end_us) // 2, kind=kind, text=text))

    def save(self, path: Path) -> Path:
        """Write the session's file."""
        started = msgspec.structs.replace(STARTED, bench=self._bench, device=self.device)
        loaded = msgspec.structs.replace(LOADED, t_us=STARTED.t_us + S // 2)
        sources = [GAUGES, *([counter(self._power)] if self._power is not None else [])]
        head: list[Record] = [started, *(SourceAdded(source=source) for source in sources), loaded]
        ended = Event(t_us=STARTED.t_us + self.at_us + 1, kind="session_ended", text="The session was closed.")
        session = fold([*head, *sorted([*self._records, *self._readings(), ended], key=_stamp_us)])
        write_atomically(path, encode_file(to_file(session)))
        return path

    def _turn(self, task: str, *, warmup: bool) -> None:
        self._turns += 1
        self._records.append(
            TurnStarted(turn=self._turns, t_us=STARTED.t_us + self.at_us, prompt="", task=task, warmup=warmup)
        )

    def _evaluate(self, count: int, tokens_per_s: float, *, cached: int) -> int:
        begin_us, end_us = self.at_us + 1, self.at_us + 1 + round(count * S / tokens_per_s)
        for t_us, done in ((begin_us, 0), *([(end_us, count)] if count else [])):
            self._records.append(
                Prefill(turn=self._turns, t_us=STARTED.t_us + t_us, done=done, total=count, cached=cached)
            )
        self._busy.append((self.at_us, end_us, PREFILL_W))
        return end_us

    def _generate(self, begin_us: int, stamps: Sequence[int], *, prompt: int, cached: int, error: str = "") -> None:
        for t_us in stamps:
            self._records.append(Tokens(turn=self._turns, t_us=(STARTED.t_us + t_us,), pieces=("x",)))
        end_us = stamps[-1] if stamps else begin_us
        self._busy.append((begin_us, end_us, DECODE_W))
        self._records.append(
            TurnFinished(
                turn=self._turns, t_us=STARTED.t_us + end_us + 1, stop_reason="failed" if error else "max_tokens",
                prompt_tokens=prompt, cached_tokens=cached, generated_tokens=len(stamps),
                context_used=prompt + len(stamps), error=error,
            )
        )  # fmt: skip
        self.spans.append((self.at_us, end_us))
        self.at_us = end_us + PAUSE_US

    def _readings(self) -> list[Record]:
        readings: list[Record] = []
        if self._power is not None:
            for t_us in range(0, self.at_us, READ_EVERY_US):
                values = (self._energy_j(t_us),)
                readings.append(Sampled(source=self._power, t_us=STARTED.t_us + t_us, values=values))
        for t_us in range(0, self.at_us, S // 2):
            # A reading tells of the time before it, so that the one after a short turn belongs to it, too.
            shown = CALM | {
                channel: value
                for begin_us, end_us, channel, value in self._disturbances
                if begin_us <= t_us <= max(end_us, begin_us + S)
            }
            values_now = tuple(shown[channel.name] for channel in GAUGES.channels)
            readings.append(Sampled(source=GAUGES.name, t_us=STARTED.t_us + t_us, values=values_now))
        return readings

    def _energy_j(self, t_us: int) -> float:
        energy_j = IDLE_W * t_us / S
        for begin_us, end_us, power_w in self._busy:
            energy_j += (power_w - IDLE_W) * max(0, min(t_us, end_us) - begin_us) / S
        return energy_j


def _stamp_us(record: Record) -> int:
    if isinstance(record, SourceAdded | SourceMissing):
        return 0
    return record.t_us if isinstance(record.t_us, int) else max(record.t_us)
