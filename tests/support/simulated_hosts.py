"""Boards of known energy behind lines with delays, each with a clock of its own, in simulated time.

A model runs on all of them. What each says is written as `edgetop power --stream` writes it and read by the real
`HostSource`, sampler and session, so that the figures of a run can be held against the truth.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgetop.core.records import Prefill, Record, SourceAdded, Tokens, TurnFinished, TurnStarted
from edgetop.session.session import Session
from edgetop.telemetry.host import Host
from edgetop.telemetry.power_feed import Connection
from edgetop.telemetry.power_stream import HostSource
from edgetop.telemetry.sampler import ScheduledSource
from tests.support.recorded_sessions import LOADED, START_US, STARTED, S, event, fold

STEP_US = 5_000
PREFILL_US, TOKEN_US = 400_000, 100_000
SUBMITTED_US = 4 * S
AFTER_US = 3 * S
Array = NDArray[np.float64]


class World:
    """The time of everything, in microseconds of our own monotonic clock."""

    def __init__(self) -> None:
        self.now_us = START_US

    def clock(self) -> int:
        return self.now_us


@dataclass(frozen=True)
class Path:
    """The way to a host: what is constant in each direction, and the mean of what comes on top, in microseconds."""

    there_us: float
    back_us: float
    jitter_us: float


@dataclass(frozen=True)
class Clock:
    """A host's monotonic clock: what it shows when ours shows START_US, and how much faster than ours it runs."""

    begins_us: int
    drift: float

    def shows_us(self, our_us: float) -> float:
        return self.begins_us + (our_us - START_US) * (1 + self.drift)


@dataclass
class Board:
    """What a host truly draws, and what is wrong with its sensor."""

    kind: str
    """`counter`, `point` or `mean`: the sensor."""
    energy_j: Array
    gain: float
    offset_w: float

    def until_j(self, our_us: float) -> float:
        position = (our_us - START_US) / STEP_US
        return float(np.interp(position, np.arange(self.energy_j.size), self.energy_j))

    def shown(self, our_us: float) -> float:
        """What the sensor shows at a moment: joules of a counter, else watts."""
        if self.kind == "counter":
            return round(self.until_j(our_us) * (1 + self.gain), 3)
        span_us = STEP_US if self.kind == "point" else INTERVALS_US["mean"]
        mean_w = (self.until_j(our_us) - self.until_j(our_us - span_us)) / (span_us / S)
        return round((mean_w * (1 + self.gain) + self.offset_w) / 0.01) * 0.01


HEADERS = {
    "counter": "kind=energy unit=J scope=module update=0.05 gain=0.05 lsb=0.001",
    "point": "kind=power unit=W scope=module update=0.02 window=0.005 gain=0.01 offset=0.08 lsb=0.01",
    "mean": "kind=power unit=W scope=module update=0.1 window=0.1 gain=0.03 offset=0.05 lsb=0.01",
}
INTERVALS_US = {"counter": 50_000, "point": 20_000, "mean": 100_000}
PRIORS = {"counter": (0.05, 0.0), "point": (0.01, 0.08), "mean": (0.03, 0.05)}


@dataclass
class HostFeed:
    """What a host says, as it comes here."""

    name: str
    world: World
    board: Board
    clock: Clock
    path: Path
    chance: np.random.Generator
    silent_us: tuple[float, float] = (np.inf, np.inf)
    """From when to when the line is cut."""
    starts: int = 0
    _coming: deque[tuple[float, str]] = field(default_factory=deque)
    _due_us: float = 0.0
    _number: int = 0
    _last_us: float = 0.0

    @property
    def interval_us(self) -> int:
        return INTERVALS_US[self.board.kind]

    def start(self) -> None:
        self.starts += 1
        self._coming.clear()
        self._number = 0
        self._last_us = self.world.now_us
        begun_us = self.world.now_us + 300_000.0
        self._due_us = begun_us + self.chance.uniform(0, self.interval_us)
        self._push(begun_us, f"# edgetop-power/1 {HEADERS[self.board.kind]} host={self.name} clock=monotonic")

    def receive(self, timeout_s: float) -> bytes | None:
        horizon_us = self.world.now_us + timeout_s * S
        self._go_on(self.world.now_us)
        while not self._coming and self._due_us <= horizon_us:
            self._go_on(self._due_us)  # no further: what is sent later must not overtake an answer
        if not self._coming or self._coming[0][0] > horizon_us:
            self.world.now_us = round(horizon_us)
            return b""
        self.world.now_us = max(self.world.now_us, round(self._coming[0][0] + 0.5))
        text = ""
        while self._coming and self._coming[0][0] <= self.world.now_us:
            text += self._coming.popleft()[1] + "\n"
        return text.encode()

    def send(self, line: str) -> bool:
        asked_us = self.world.now_us + self.path.there_us + self._jitter_us()
        self._go_on(asked_us)
        self._push(asked_us, f"pong {line.split()[1]} {self.clock.shows_us(asked_us) / S:.6f}")
        return True

    def why_ended(self) -> str:
        return "ssh exited with status 255"

    def close(self) -> None:
        self._coming.clear()

    def _go_on(self, until_us: float) -> None:
        while self._due_us <= until_us:
            sent_us = self._due_us
            self._number += 1
            age_us = self.chance.uniform(20, 3000)
            value = self.board.shown(sent_us - age_us)
            key = "j" if self.board.kind == "counter" else "w"
            stamp_s = self.clock.shows_us(sent_us) / S
            self._push(sent_us, f'{{"n":{self._number},"m":{stamp_s:.6f},"age":{age_us / S:.6f},"{key}":{value:.6f}}}')
            self._due_us += self.interval_us * self.chance.uniform(0.97, 1.03)

    def _push(self, sent_us: float, text: str) -> None:
        begin_us, end_us = self.silent_us
        if begin_us <= sent_us < end_us:
            return
        self._last_us = max(self._last_us, sent_us + self.path.back_us + self._jitter_us())
        self._coming.append((self._last_us, text))

    def _jitter_us(self) -> float:
        return float(self.chance.exponential(self.path.jitter_us))


@dataclass(frozen=True)
class Ran:
    """A session with one turn, and what it truly took."""

    session: Session
    records: list[Record]
    truth_j: dict[str, float]
    tokens: int
    end_us: int
    sources: Sequence[HostSource]


def hosts_of(
    world: World, count: int, chance: np.random.Generator, *, length_us: int, path: Path | None = None
) -> list[HostFeed]:
    """Hosts with everything drawn that can be drawn; all compute during the turn, some more and some less."""
    feeds = []
    for index in range(count):
        time_us = np.arange(0, length_us, STEP_US)
        power_w = chance.uniform(2, 5) + np.cumsum(chance.normal(0, 0.002, time_us.size))
        works = (time_us >= SUBMITTED_US) & (time_us < length_us - AFTER_US)
        share = chance.uniform(0.3, 1)
        power_w[works] += share * (6 + 2 * np.sin(2 * np.pi * (time_us[works] / TOKEN_US + chance.random())))
        power_w[works & (time_us < SUBMITTED_US + PREFILL_US)] += 3 * share
        kind = ("counter", "point", "mean")[int(chance.integers(3))]
        gain, offset_w = PRIORS[kind]
        board = Board(
            kind=kind,
            energy_j=np.concatenate(([0.0], np.cumsum(power_w) * STEP_US / S)),
            gain=chance.uniform(-1, 1) * gain,
            offset_w=chance.uniform(-1, 1) * offset_w,
        )
        feeds.append(
            HostFeed(
                name=f"pi{index + 2}",
                world=world,
                board=board,
                clock=Clock(begins_us=int(chance.integers(1, 10**11)), drift=chance.uniform(-50e-6, 50e-6)),
                path=path
                or Path(
                    there_us=chance.uniform(200, 60_000),
                    back_us=chance.uniform(200, 60_000),
                    jitter_us=chance.uniform(100, 20_000),
                ),
                chance=chance,
            )
        )
    return feeds


def run(
    seed: int,
    count: int,
    *,
    turn_s: float = 5.0,
    path: Path | None = None,
    prepare: Callable[[list[HostFeed]], None] = lambda _feeds: None,
) -> Ran:
    """A session of one turn on so many hosts."""
    chance = np.random.default_rng(seed)
    world = World()
    length_us = round(SUBMITTED_US + turn_s * S + AFTER_US)
    feeds = hosts_of(world, count, chance, length_us=length_us, path=path)
    prepare(feeds)
    host = Host(clock=world.clock)
    sources = [HostSource(Connection(feed, world.clock), feed.name, host) for feed in feeds]
    followed = [ScheduledSource(source, world.clock, cpu_clock=lambda: 0) for source in sources]
    read: list[Record] = []
    while world.now_us < START_US + length_us:
        each = min(followed, key=lambda one: one.due_us)
        world.now_us = max(world.now_us, each.due_us)
        read += each.read()
    turn = _turn(round(turn_s * S))
    stamps = [stamp for each in turn if isinstance(each, Tokens) for stamp in each.t_us]
    records: list[Record] = [
        STARTED,
        *(SourceAdded(source=source.info) for source in sources),
        LOADED,
        *sorted([*read, *turn], key=_stamp_us),
        event("session_ended", world.now_us - START_US + 1),
    ]
    return Ran(
        session=fold(records),
        records=records,
        truth_j={
            feed.name: feed.board.until_j(stamps[-1]) - feed.board.until_j(START_US + SUBMITTED_US) for feed in feeds
        },
        tokens=len(stamps),
        end_us=world.now_us - START_US + 1,
        sources=sources,
    )


def _turn(length_us: int) -> list[Record]:
    begin_us = START_US + SUBMITTED_US
    stamps = range(begin_us + PREFILL_US, begin_us + length_us + 1, TOKEN_US)
    return [
        TurnStarted(turn=1, t_us=begin_us, prompt="Why?"),
        Prefill(turn=1, t_us=begin_us + 1, done=0, total=50, cached=0),
        Prefill(turn=1, t_us=stamps[0] - 1, done=50, total=50, cached=0),
        *(Tokens(turn=1, t_us=(stamp_us,), pieces=("word",)) for stamp_us in stamps),
        TurnFinished(
            turn=1,
            t_us=begin_us + length_us,
            stop_reason="max_tokens",
            prompt_tokens=50,
            cached_tokens=0,
            generated_tokens=len(stamps),
            context_used=50 + len(stamps),
        ),
    ]


def _stamp_us(each: Record) -> int:
    stamp = getattr(each, "t_us", START_US)
    return max(stamp) if isinstance(stamp, tuple) else int(stamp)
