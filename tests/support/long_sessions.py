"""Sessions of any length for benchmarks, as random as real ones and the same every time."""

from __future__ import annotations

import random

from edgetop.core.records import Prefill, Sampled, SourceAdded, Tokens, TurnFinished, TurnStarted
from edgetop.core.sources import Channel, SourceInfo
from edgetop.session.session import Session
from tests.support.recorded_sessions import CPU, ENGINE, LOADED, MEMORY, OWN, START_US, STARTED, S, fold

POWER_HZ, OTHERS_HZ = 50, 10
TOKENS_PER_TURN = 500
TURN_S = 9.0
"""400 turns, and 200,000 tokens, in an hour."""
POWER = SourceInfo(
    name="power.board",
    driver="made up",
    kind="power",
    period_s=1 / POWER_HZ,
    channels=(Channel(name="power.board", unit="W", digits=3, scope="board_input"),),
    properties={"total": True, "window_s": 0.0011, "gain": 0.01, "offset_w": 0.08, "lsb_w": 0.004},
)
HEAT = SourceInfo(name="heat", driver="made up", period_s=0.1, channels=(Channel(name="temperature.cpu", unit="Cel"),))
WORDS = (" the", " model", "ing", ".", " integrated", " a", "\n", " *power*", " of")


def long_session(length_s: float) -> Session:
    """10 samples a second in ten channels, 50 a second of power, and 500 tokens every 9 seconds."""
    chance = random.Random(1)  # noqa: S311 - the same every time
    session = fold(
        [STARTED, *(SourceAdded(source=source) for source in (MEMORY, CPU, ENGINE, OWN, HEAT, POWER)), LOADED]
    )
    available, rss = 4_000_000_000, 1_500_000_000
    turns_begin_us = 12 * S
    for index in range(round(length_s * POWER_HZ)):
        t_us = START_US + index * S // POWER_HZ + chance.randrange(900)
        in_turn_us = (t_us - START_US - turns_begin_us) % round(TURN_S * S)
        busy = t_us - START_US > turns_begin_us and in_turn_us < 0.95 * TURN_S * S
        power_w = chance.gauss(9.0 if busy else 4.0, 0.2)
        session.apply(Sampled(source=POWER.name, t_us=t_us, values=(power_w,)))
        if index % (POWER_HZ // OTHERS_HZ) == 0:
            available += 4096 * chance.randrange(-50, 50)
            rss += 4096 * chance.randrange(-5, 5)
            for source, values in (
                (MEMORY, (available, 0.0)),
                (CPU, (chance.uniform(0, 9), chance.uniform(0, 1))),
                (ENGINE, (rss, 0.0, 0.0)),
                (OWN, (chance.uniform(0, 3), 40e6)),
                (HEAT, (chance.uniform(50, 60),)),
            ):
                session.apply(Sampled(source=source.name, t_us=t_us, values=values))
    for number in range(1, round((length_s - turns_begin_us / S) / TURN_S) + 1):
        _add_turn(session, number, START_US + turns_begin_us + round((number - 1) * TURN_S * S), chance)
    return session


def _add_turn(session: Session, number: int, begin_us: int, chance: random.Random) -> None:
    t_us = begin_us
    session.apply(TurnStarted(turn=number, t_us=t_us, prompt="Explain what a PMIC does. " * 4))
    session.apply(Prefill(turn=number, t_us=t_us + 1_000, done=0, total=30, cached=0))
    t_us += 400_000
    session.apply(Prefill(turn=number, t_us=t_us, done=30, total=30, cached=0))
    stamps_us = []
    for _ in range(TOKENS_PER_TURN):
        t_us += chance.randrange(13_500, 18_500)
        stamps_us.append(t_us)
    pieces = tuple(chance.choice(WORDS) for _ in stamps_us)
    session.apply(Tokens(turn=number, t_us=tuple(stamps_us), pieces=pieces))
    session.apply(
        TurnFinished(
            turn=number,
            t_us=t_us,
            stop_reason="max_tokens",
            prompt_tokens=30,
            cached_tokens=0,
            generated_tokens=TOKENS_PER_TURN,
            context_used=30 + TOKENS_PER_TURN,
        )
    )


def an_hour() -> Session:
    """10 samples a second in ten channels of five sources and 200,000 tokens in 400 turns, as random as real ones."""
    chance = random.Random(1)  # noqa: S311 - the same every time
    sources = (
        SourceInfo(
            name="cpu",
            driver="x",
            period_s=0.1,
            channels=tuple(Channel(name=f"cpu.{core}", unit="%", digits=1) for core in range(4)),
        ),
        SourceInfo(
            name="memory",
            driver="x",
            period_s=0.1,
            channels=(Channel(name="memory.available", unit="B"), Channel(name="swap.used", unit="B")),
        ),
        SourceInfo(
            name="engine",
            driver="x",
            period_s=0.1,
            channels=(Channel(name="engine.rss", unit="B"), Channel(name="engine.major_faults", unit="1/s", digits=1)),
        ),
        SourceInfo(
            name="power", driver="x", period_s=0.1, channels=(Channel(name="power.VDD_IN", unit="W", digits=3),)
        ),
        SourceInfo(name="heat", driver="x", period_s=0.1, channels=(Channel(name="temp.cpu", unit="Cel", digits=1),)),
    )
    session = fold([STARTED, *(SourceAdded(source=source) for source in sources), LOADED])
    available, rss = 4_000_000_000, 1_500_000_000
    for index in range(36_000):
        available += 4096 * chance.randrange(-50, 50)
        rss += 4096 * chance.randrange(-5, 5)
        values = (
            tuple(chance.uniform(0, 100) for _ in range(4)),
            (available, 0.0),
            (rss, 0.0),
            (chance.uniform(3, 12),),
            (chance.uniform(40, 80),),
        )
        for source, read in zip(sources, values, strict=True):
            t_us = START_US + index * 100_000 + chance.randrange(900)
            session.apply(Sampled(source=source.name, t_us=t_us, values=read))
    t_us = START_US + S
    for number in range(1, 401):
        t_us += 20_000
        session.apply(TurnStarted(turn=number, t_us=t_us, prompt="Explain what a PMIC does. " * 4))
        stamps = []
        for _ in range(500):
            t_us += chance.randrange(15_000, 20_000)
            stamps.append(t_us)
        pieces = tuple(chance.choice((" the", " model", "ing", ".", " integrated", " a", "\n")) for _ in stamps)
        session.apply(Tokens(turn=number, t_us=tuple(stamps), pieces=pieces))
        session.apply(
            TurnFinished(
                turn=number,
                t_us=t_us,
                stop_reason="max_tokens",
                prompt_tokens=30,
                cached_tokens=0,
                generated_tokens=500,
                context_used=530,
            )
        )
    return session
