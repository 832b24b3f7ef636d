"""Recorded power whose truth is known, seen by sensors of several kinds: of answered turns, and of a watched server."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from math import pi

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from edgetop.core import sources
from edgetop.core.records import (
    Prefill,
    Record,
    Sampled,
    ServiceSeen,
    SourceAdded,
    SourceMissing,
    Tokens,
    TurnFinished,
    TurnStarted,
)
from edgetop.core.sources import Channel, SourceInfo
from edgetop.session.file import SessionFile, to_file
from edgetop.session.file_io import decode_file, encode_file
from tests.support.recorded_sessions import LOADED, START_US, STARTED, S, event, fold

STEP_S = 0.001
IDLE_W, PREFILL_W, DECODE_W = 4.0, 11.0, 9.0
PREFILL_S, TOKEN_S = 0.4, 0.1
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Sensor:
    """What edgetop is told of a sensor, and what it truly does."""

    unit: str
    period_s: float
    properties: dict[str, str | float | bool]
    update_s: float
    window_s: float
    quiet_s: float
    """Before the first turn: enough for an idle baseline."""
    noise: float = 0.0
    """Of a reading, as a share of it."""

    @property
    def channel(self) -> str:
        return "power.board" if self.unit == "W" else "energy.board"

    @property
    def source(self) -> SourceInfo:
        channel = Channel(name=self.channel, unit=self.unit, digits=6, scope="board_input")
        properties = {"total": True, **self.properties}
        return SourceInfo(
            name="power.board", driver="test", period_s=self.period_s, channels=(channel,), properties=properties
        )


SENSORS = {
    "slow average": Sensor("W", 0.5, {"window_s": 1.0, "update_s": 1.0, "gain": 0.05, "lsb_w": 0.1}, 1.0, 1.0, 27.0),
    "fast point": Sensor(
        "W",
        0.02,
        {"window_s": 0.0011, "update_s": 0.0066, "gain": 0.01, "offset_w": 0.08, "lsb_w": 0.04},
        0.0066,
        0.0011,
        12.0,
    ),
    "counter": Sensor("J", 0.05, {"gain": 0.05, "lsb_j": 0.001, "wrap_j": 100.0, "p_max_w": 1000.0}, 0.001, 0.0, 12.0),
    "noisy": Sensor("W", 0.05, {"window_s": 0.0, "gain": 0.03}, 0.05, 0.001, 12.0, noise=0.1),
    "gain and offset": Sensor("W", 0.1, {"gain": 0.07, "offset_w": 0.5, "lsb_w": 0.01}, 0.1, 0.1, 12.0),
}


@dataclass(frozen=True)
class TurnTruth:
    """When a turn was, in microseconds of the session, and what it truly took."""

    submitted_us: int
    stamps_us: tuple[int, ...]
    gross_j: float
    decode_j: float
    net_j: float


@dataclass(frozen=True)
class RecordedTurns:
    """The records of a session in order of time, and the truth."""

    records: list[Record]
    turns: list[TurnTruth]


def record(sensor: Sensor, seed: int, turns_s: Sequence[float] = (6.0,), pause_s: float = 7.0) -> RecordedTurns:
    """Quiet, then turns of so many seconds with pauses after each, with everything drawn that can be drawn."""
    chance = np.random.default_rng(seed)
    begins_s: list[float] = []
    t_s = 1.0 + sensor.quiet_s + chance.uniform(0, 0.5)
    for turn_s in turns_s:
        begins_s.append(t_s)
        t_s += turn_s + pause_s + chance.uniform(0, 0.5)
    time_s = np.arange(0, t_s, STEP_S)
    power_w = IDLE_W + np.cumsum(chance.normal(0, 0.002 * STEP_S**0.5, time_s.size))
    idle_w = power_w.copy()
    for begin_s, turn_s in zip(begins_s, turns_s, strict=True):
        prefill = (time_s >= begin_s) & (time_s < begin_s + PREFILL_S)
        decode = (time_s >= begin_s + PREFILL_S) & (time_s < begin_s + turn_s)
        power_w[prefill] += PREFILL_W - IDLE_W
        power_w[decode] += DECODE_W - IDLE_W + 1.5 * np.sin(2 * pi * time_s[decode] / TOKEN_S)
    energy_j = np.concatenate(([0.0], np.cumsum(power_w) * STEP_S))
    idle_j = np.concatenate(([0.0], np.cumsum(idle_w) * STEP_S))

    def between_j(curve: Array, start_us: int, end_us: int) -> float:
        return float(np.interp(end_us / 1e6, edges_s, curve) - np.interp(start_us / 1e6, edges_s, curve))

    edges_s = np.append(time_s, time_s[-1] + STEP_S)
    records: list[tuple[int, Record]] = list(_readings(sensor, edges_s, energy_j, chance))
    truths: list[TurnTruth] = []
    for number, (begin_s, turn_s) in enumerate(zip(begins_s, turns_s, strict=True), 1):
        submitted_us, first_us = round(begin_s * S), round((begin_s + PREFILL_S) * S)
        stamps_us = tuple(range(first_us, round((begin_s + turn_s) * S) + 1, round(TOKEN_S * S)))
        records += _turn(number, submitted_us, stamps_us, round((begin_s + turn_s) * S))
        gross_j = between_j(energy_j, submitted_us, stamps_us[-1])
        truths.append(
            TurnTruth(
                submitted_us=submitted_us,
                stamps_us=stamps_us,
                gross_j=gross_j,
                decode_j=between_j(energy_j, first_us, stamps_us[-1]),
                net_j=gross_j - between_j(idle_j, submitted_us, stamps_us[-1]),
            )
        )
    head: list[Record] = [STARTED, SourceAdded(source=sensor.source), LOADED]
    return RecordedTurns([*head, *in_order(records)], truths)


def in_order(stamped: Iterable[tuple[int, Record]]) -> list[Record]:
    """Records by their stamps in microseconds of the session, with stamps of the clock."""
    return [_later(each, STARTED.t_us) for _, each in sorted(stamped, key=lambda pair: pair[0])]


def _later(each: Record, by_us: int) -> Record:
    if isinstance(each, Tokens):
        return msgspec.structs.replace(each, t_us=tuple(t_us + by_us for t_us in each.t_us))
    assert isinstance(each, Sampled | TurnStarted | Prefill | TurnFinished)
    return msgspec.structs.replace(each, t_us=each.t_us + by_us)


def _readings(
    sensor: Sensor, edges_s: Array, energy_j: Array, chance: np.random.Generator
) -> Iterable[tuple[int, Record]]:
    gain = 1 + chance.uniform(-1, 1) * float(sensor.properties.get("gain", 0.15))
    offset_w = chance.uniform(-1, 1) * float(sensor.properties.get("offset_w", 0.0))
    polls_s = np.arange(0.05, edges_s[-1], sensor.period_s)
    polls_s += chance.uniform(0, 0.2 * sensor.period_s, polls_s.size)
    phase_s = chance.uniform(0, sensor.update_s)
    updates_s = np.maximum((polls_s - phase_s) // sensor.update_s * sensor.update_s + phase_s, 2 * STEP_S)
    if sensor.unit == "J":
        step_j, wrap_j = float(sensor.properties["lsb_j"]), float(sensor.properties["wrap_j"])
        values = np.floor(np.interp(updates_s, edges_s, energy_j) * gain / step_j) * step_j % wrap_j
    else:
        window_s = max(sensor.window_s, STEP_S)
        begins_s = np.maximum(updates_s - window_s, 0.0)
        means_w = np.interp(updates_s, edges_s, energy_j) - np.interp(begins_s, edges_s, energy_j)
        means_w /= updates_s - begins_s
        values = means_w * gain + offset_w
        values += chance.normal(0, 1, values.size) * sensor.noise * values
        step_w = float(sensor.properties.get("lsb_w", 1e-6))
        values = np.round(values / step_w) * step_w
    for t_s, value in zip(polls_s, values, strict=True):
        t_us = round(float(t_s) * S)
        yield t_us, Sampled(source="power.board", t_us=t_us, values=(float(value),))


def _turn(number: int, submitted_us: int, stamps_us: Sequence[int], end_us: int) -> Iterable[tuple[int, Record]]:
    yield submitted_us, TurnStarted(turn=number, t_us=submitted_us, prompt="Why?")
    yield submitted_us + 1, Prefill(turn=number, t_us=submitted_us + 1, done=0, total=50, cached=10)
    yield stamps_us[0] - 1, Prefill(turn=number, t_us=stamps_us[0] - 1, done=50, total=50, cached=10)
    for stamp_us in stamps_us:
        yield stamp_us, Tokens(turn=number, t_us=(stamp_us,), pieces=("word",))
    yield (
        end_us,
        TurnFinished(
            turn=number,
            t_us=end_us,
            stop_reason="max_tokens",
            prompt_tokens=60,
            cached_tokens=10,
            generated_tokens=len(stamps_us),
            context_used=60 + len(stamps_us),
        ),
    )


BUSY_W = 6.0
TOKENS_PER_S = 12.0
SERVERS = SourceInfo(
    name="servers",
    driver="http",
    period_s=1.0,
    channels=tuple(
        Channel(name=name, unit="1", digits=1)
        for name in (
            sources.SERVED_TOKENS,
            sources.SERVED_PROMPT_TOKENS,
            sources.SERVED_RUNNING,
            sources.SERVED_WAITING,
            sources.SERVED_UNSURE,
        )
    ),
)
SEEN = ServiceSeen(
    t_us=STARTED.t_us, number=1, kind="llama-server", address="http://127.0.0.1:8080", models=("tiny",), counts="all"
)


@dataclass(frozen=True)
class Watched:
    """A session that watched a server, and the truth between its first look and its last one."""

    records: list[Record]
    gross_j: float
    net_j: float
    tokens: float
    generating_s: float


def usage_reading(
    t_us: int, tokens: float | None, running: float = 0, unsure: float = 0.0, reason: str = ""
) -> Sampled:
    """A look at all servers; `t_us` on the clock of the session."""
    values = (tokens, None if tokens is None else 10 * tokens, running, 0, unsure)
    reasons = (reason or "it did not answer",) * 2 + ("",) * 3 if tokens is None else ()
    return Sampled(source="servers", t_us=t_us, values=values, reasons=reasons)


def record_watch(sensor: Sensor, seed: int, requests: int = 4) -> Watched:
    """Quiet, then requests of some seconds each with pauses between them, and looks about once a second."""
    chance = np.random.default_rng(seed)
    begins_s, ends_s = [], []
    t_s = 1.0 + sensor.quiet_s + chance.uniform(0, 0.5)
    for _ in range(requests):
        begins_s.append(t_s)
        ends_s.append(t_s + chance.uniform(4, 12))
        t_s = ends_s[-1] + chance.uniform(3, 9)
    time_s = np.arange(0, t_s + sensor.quiet_s, STEP_S)
    busy = np.zeros(time_s.size, dtype=bool)
    for begin_s, end_s in zip(begins_s, ends_s, strict=True):
        busy |= (time_s >= begin_s) & (time_s < end_s)
    idle_w = IDLE_W + np.cumsum(chance.normal(0, 0.002 * STEP_S**0.5, time_s.size))
    power_w = idle_w + BUSY_W * busy
    edges_s = np.append(time_s, time_s[-1] + STEP_S)
    energy_j, idle_j, tokens, busy_s = (
        np.concatenate(([0.0], np.cumsum(each) * STEP_S)) for each in (power_w, idle_w, busy * TOKENS_PER_S, busy * 1.0)
    )
    stamped = list(_readings(sensor, edges_s, energy_j, chance))
    looks_s = np.arange(0.5, edges_s[-1] - 2.5, 1.0)
    looks_s += chance.uniform(0, 0.1, looks_s.size)
    for look_s in looks_s:
        took_s = chance.uniform(0.002, 0.05)
        counted = float(np.floor(np.interp(look_s + chance.uniform(-0.5, 0.5) * took_s, edges_s, tokens)))
        is_busy = any(begin_s <= look_s < end_s for begin_s, end_s in zip(begins_s, ends_s, strict=True))
        t_us = round(float(look_s) * S)
        stamped.append(
            (t_us, usage_reading(t_us, counted, float(is_busy), 1 + TOKENS_PER_S * took_s / 2 if is_busy else 0.0))
        )
    first_s, last_s = float(looks_s[0]), float(looks_s[-1])

    def between(curve: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
        return float(np.interp(last_s, edges_s, curve) - np.interp(first_s, edges_s, curve))

    head: list[Record] = [
        replace(STARTED, kind="watch"), SEEN, SourceAdded(source=sensor.source), SourceAdded(source=SERVERS),
    ]  # fmt: skip
    return Watched(
        records=[*head, *in_order(stamped)],
        gross_j=between(energy_j),
        net_j=between(energy_j) - between(idle_j),
        tokens=between(tokens),
        generating_s=between(busy_s),
    )


def ended(records: Sequence[Record]) -> list[Record]:
    return [*records, event("session_ended", last_us(records) - START_US + 1)]


def last_us(records: Iterable[Record]) -> int:
    return max(stamp_of(record) for record in records)


def stamp_of(record: Record) -> int:
    if isinstance(record, SourceAdded | SourceMissing):
        return START_US
    return record.t_us if isinstance(record.t_us, int) else max(record.t_us)


RAIL = SourceInfo(
    name="power.rail",
    driver="test",
    kind="power",
    period_s=0.05,
    channels=(Channel(name="power.rail", unit="W", digits=3, scope="component"),),
    properties={"window_s": 0.0, "gain": 0.01},
)


@cache
def with_energy(kind: str = "fast point") -> SessionFile:
    """A file with two turns, their energy by one kind of sensor, and half its readings as those of a rail."""
    recorded = record(SENSORS[kind], seed=1, turns_s=(7.0, 6.0))
    rail = [
        Sampled(source=RAIL.name, t_us=each.t_us, values=tuple(None if w is None else w / 2 for w in each.values))
        for each in recorded.records
        if isinstance(each, Sampled)
    ]
    session = fold([*ended(recorded.records)[:2], SourceAdded(source=RAIL), *ended(recorded.records)[2:]])
    for each in rail:
        session.apply(each)
    return decode_file(b"".join(encode_file(to_file(session))))
