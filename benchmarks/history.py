"""What the graphs of the panes cost per draw, in sessions of ten minutes, an hour and ten hours.

    python -m benchmarks.history

Three graphs of 200 values each are drawn once a second for a minute, as a zoomed pane does, at the end of each session.
`steps` is how many values were computed for a draw, the rest being kept; it is the same on every machine.
"""

from __future__ import annotations

import argparse
import time
from statistics import median

from benchmarks import run_benchmark
from edgetop.core.records import Record, Sampled, SourceAdded, Tokens, TurnFinished, TurnStarted
from edgetop.core.sources import Channel, SourceInfo
from edgetop.session.session import Session
from edgetop.session.snapshot import snapshot
from edgetop.tui.panes.pane import SPANS, ChartHistory
from tests.support.recorded_sessions import ENGINE, LOADED, START_US, STARTED, S, fold

LENGTHS_S = {"10 min": 600, "1 h": 3600, "10 h": 36_000}
TURN_S, TOKENS, TOKEN_US = 15, 100, 100_000
DRAWS, COLUMNS = 60, 200
POWER = SourceInfo(
    name="power.board",
    driver="made up",
    kind="power",
    period_s=1.0,
    channels=(Channel(name="power.board", unit="W", digits=3, scope="board_input"),),
    properties={"total": True, "window_s": 1.0, "gain": 0.01, "offset_w": 0.08, "lsb_w": 0.004},
)


def begun() -> Session:
    """A session in which a model was loaded."""
    return fold([STARTED, SourceAdded(source=ENGINE), SourceAdded(source=POWER), LOADED])


def second(session: Session, at_s: int) -> None:
    """What happens in one second: a reading of each sensor, and a turn of 100 tokens every 15 seconds."""
    t_us = START_US + at_s * S
    begins = at_s % TURN_S == 0 and at_s > 0
    records: list[Record] = [
        Sampled(source=POWER.name, t_us=t_us, values=(9.0 if at_s % TURN_S < 11 else 4.0,)),
        Sampled(source=ENGINE.name, t_us=t_us, values=(1.5e9 + at_s, 0.0, 0.0)),
    ]
    number = at_s // TURN_S
    if begins:
        stamps_us = tuple(t_us + 200_000 + index * TOKEN_US for index in range(TOKENS))
        records += [
            TurnStarted(turn=number, t_us=t_us, prompt="Explain what a PMIC does."),
            Tokens(turn=number, t_us=stamps_us, pieces=(" a",) * TOKENS),
            TurnFinished(
                turn=number, t_us=stamps_us[-1] + 1000, stop_reason="end_of_generation", prompt_tokens=30,
                cached_tokens=0, generated_tokens=TOKENS, context_used=130, seed=1,
            ),
        ]  # fmt: skip
    for record in records:
        session.apply(record)


def cost(length_s: int, span: str) -> tuple[float, float]:
    """Milliseconds (median) and steps (mean) per draw."""
    session, traces = begun(), ChartHistory(span)
    for at_s in range(length_s):
        second(session, at_s)
    spent_ms, work = [], 0
    for at_s in range(length_s, length_s + DRAWS):
        second(session, at_s)
        now = traces.at(session, snapshot(session, at_s * S))
        before = now.work
        begin = time.perf_counter()
        now.speed(COLUMNS)
        now.power(COLUMNS)
        now.channel("engine.rss", COLUMNS)
        spent_ms.append((time.perf_counter() - begin) * 1e3)
        work += now.work - before if at_s > length_s else 0
    return median(spent_ms), work / (DRAWS - 1)


def main() -> None:
    """Print the table."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print(f"{'span':8} {'session':>8} {'steps a draw':>13} {'ms a draw':>10}")
    for span, _ in SPANS:
        for name, length_s in LENGTHS_S.items():
            spent_ms, steps = cost(length_s, span)
            print(f"{span:8} {name:>8} {steps:13.1f} {spent_ms:10.2f}")


if __name__ == "__main__":
    run_benchmark(main)
