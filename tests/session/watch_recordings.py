"""Recorded looks at a server in use, beside power whose truth is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from msgspec.structs import replace

from edgetop.core.records import Channel, Record, Sampled, ServiceSeen, SourceAdded, SourceInfo
from edgetop.session import channels
from tests.session.power_recordings import STEP_S, Sensor, _readings, in_order
from tests.session.recordings import STARTED, S

IDLE_W, BUSY_W = 4.0, 6.0
TOKENS_PER_S = 12.0
SERVERS = SourceInfo(
    name="servers",
    driver="http",
    period_s=1.0,
    channels=tuple(
        Channel(name=name, unit="1", digits=1)
        for name in (
            channels.SERVED_TOKENS,
            channels.SERVED_PROMPT_TOKENS,
            channels.SERVED_RUNNING,
            channels.SERVED_WAITING,
            channels.SERVED_UNSURE,
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


def look(t_us: int, tokens: float | None, running: float = 0, unsure: float = 0.0, reason: str = "") -> Sampled:
    """A look at all servers; `t_us` on the clock of the session."""
    values = (tokens, None if tokens is None else 10 * tokens, running, 0, unsure)
    reasons = (reason or "it did not answer",) * 2 + ("",) * 3 if tokens is None else ()
    return Sampled(source="servers", t_us=t_us, values=values, reasons=reasons)


def watch(sensor: Sensor, seed: int, requests: int = 4) -> Watched:
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
        stamped.append((t_us, look(t_us, counted, float(is_busy), 1 + TOKENS_PER_S * took_s / 2 if is_busy else 0.0)))
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
