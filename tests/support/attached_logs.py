"""Sessions on a virtual board whose clock is a number, and the log of a meter on another computer.

The board's power follows the work that the session records, one tick later; beside it there are other loads, drift and
noise. The log has the board's true power, as means or at moments, on a clock that began at another time.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from edgetop.core.clock import US_PER_S
from edgetop.core.records import Event, Record
from edgetop.live.chat_session import spans_us
from edgetop.session.meters import PULSE
from edgetop.session.session import Session
from tests.support.recorded_sessions import LOADED, START_US, STARTED, S, fold, turn
from tests.support.virtual_board import Board, Truth

TICK_US = 4000
START_S = START_US / US_PER_S


class NoSensor:
    """The board is metered from outside."""

    def step(self, t_s: float, power_w: float, energy_j: float) -> None:
        """See Sensor."""


class BoardSession(NamedTuple):
    """What was recorded, and what was true."""

    session: Session
    truth: Truth
    begin_us: int
    end_us: int
    """Of the truth, on the clock that the session's stamps are of."""


def record(seed: int, *, turns: int | None = None, period_s: float | None = None, pulse: bool = False) -> BoardSession:
    """A session of a load and some turns; with `period_s` all turns are alike and begin one period apart."""
    chance = random.Random(seed)  # noqa: S311 - the same every time
    at_us = 3 * S
    records: list[Record] = [STARTED]
    work: list[tuple[int, int, float]] = []
    if pulse:
        spans = " ".join(f"{begin}-{end}" for begin, end in spans_us())
        records.append(Event(t_us=START_US + at_us, kind=PULSE, text="a pulse", data={"spans_us": spans}))
        work += [(at_us + begin, at_us + end, 2.0) for begin, end in spans_us()]
        at_us += 9 * S
    load_us = round(chance.uniform(0.5, 3.0) * S)
    records.append(Event(t_us=START_US + at_us, kind="model_loading", text="tiny.gguf"))
    work.append((at_us, at_us + load_us, 1.0))
    at_us += load_us
    records.append(replace(LOADED, t_us=START_US + at_us, load_s=load_us / S))
    at_us += round(chance.uniform(2, 8) * S)
    prefill_cores, decode_cores = chance.uniform(1.2, 2.0), chance.uniform(0.6, 1.5)
    for number in range(1, (turns or chance.randint(1, 5)) + 1):
        alike = period_s is not None
        prefill_us = S if alike else round(chance.uniform(0.2, 2.0) * S)
        gap_us = 100_000 if alike else round(chance.uniform(0.03, 0.15) * S)
        answer = turn(
            number, at_us=at_us, prefill_us=prefill_us, gaps_us=[gap_us] * (40 if alike else chance.randint(20, 150))
        )
        end_us = answer[-1].t_us - START_US  # type: ignore[union-attr, operator]
        first_us = at_us + 50_000 + prefill_us
        work += [(at_us + 50_000, first_us, prefill_cores), (first_us, end_us, decode_cores)]
        records += answer
        at_us = round(at_us + period_s * S) if period_s is not None else end_us + round(chance.uniform(1.0, 6.0) * S)
    records.append(Event(t_us=START_US + at_us, kind="session_ended", text="The session was closed."))
    for _ in range(chance.randint(0, 3)):
        begin_us = chance.randint(0, at_us)
        work.append((begin_us, begin_us + chance.randint(S // 5, 3 * S), chance.uniform(0.05, 0.25)))
    begin_us, until_us = -chance.randint(S, 10 * S), at_us + chance.randint(S, 10 * S)
    return BoardSession(fold(records), _truth(chance, work, begin_us, until_us), begin_us, until_us)


def _truth(chance: random.Random, work: list[tuple[int, int, float]], begin_us: int, end_us: int) -> Truth:
    board = Board(NoSensor(), chance, begin_s=START_S + begin_us / S)
    truth = Truth()
    busy_us = [0.0] * ((end_us - begin_us) // TICK_US + 1)
    for first_us, last_us, cores in work:
        for tick in range(
            max(0, (first_us - begin_us) // TICK_US), min(len(busy_us), (last_us - begin_us) // TICK_US + 1)
        ):
            tick_us = begin_us + tick * TICK_US
            inside_us = min(last_us, tick_us + TICK_US) - max(first_us, tick_us)
            busy_us[tick] += max(0, inside_us) * cores
    for tick, busy in enumerate(busy_us):
        t_us = START_US + begin_us + (tick + 1) * TICK_US
        board.step(t_us / S, busy / S)
        truth.note(t_us, board.energy_j)
    return truth


def write_log(path: Path, board: BoardSession, hz: float, shift_s: float, seed: int) -> str:
    """Write the true power as CSV, on a clock that shows `shift_s` when the session begins; `means` or `moments`."""
    chance = random.Random(seed)  # noqa: S311 - the same every time
    step_us = round(S / hz)
    kind = chance.choice(("means", "moments"))
    over_us = step_us if kind == "means" else 1000
    with path.open("w") as opened:
        opened.write("time (s),power (W)\n")
        for t_us in range(
            board.begin_us + 2 * step_us + chance.randrange(step_us), board.end_us - 2 * TICK_US, step_us
        ):
            begin_us = START_US + t_us - over_us
            if begin_us < START_US + board.begin_us + TICK_US:
                continue
            power_w = board.truth.energy_j(begin_us, START_US + t_us) / (over_us / S)
            opened.write(f"{t_us / S + shift_s:.4f},{power_w:.4f}\n")
    return kind
