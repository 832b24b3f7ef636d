"""Two boards as processes of their own, far away by clock and line, measured by two streams while a model decodes."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from edgetop.core.energy.tokens import HostEnergy
from edgetop.core.engine_settings import EngineSettings, SamplingSettings
from edgetop.core.sources import Unavailable
from edgetop.session.energy import PowerNow
from edgetop.session.file_io import load
from edgetop.session.summary import turn_result
from edgetop.telemetry.registry import PowerChoice
from tests.live.test_chat_session_energy import REPOSITORY, Board, Run, holds, same_moment


@pytest.fixture(autouse=True)
def _from_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands of the streams are found wherever the tests were started."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")])))


@pytest.fixture
def boards(tmp_path: Path) -> Iterator[Callable[..., Board]]:
    started: list[Board] = []

    def start(name: str, kind: str, seed: int) -> Board:
        started.append(Board(tmp_path / name, kind, seed))
        return started[-1]

    yield start
    for board in started:
        board.stop()


def stream(board: Board, *, offset_s: float, drift_ppm: float, seed: int) -> str:
    """A board's stream over a line with delays, from a host with a clock of its own."""
    line = [
        *("--offset-s", str(offset_s), "--drift-ppm", str(drift_ppm), "--seed", str(seed)),
        *("--delay-ms", "40", "--jitter-ms", "10"),
    ]
    edgetop = [sys.executable, "-m", "edgetop", "power", "--stream", "--sysroot", str(board.root)]
    command = [sys.executable, "-m", "tests.support.delayed_link", *line, "--", *edgetop]
    return f"{board.root.name}={shlex.join(command)}"


def line_to(board: Board) -> psutil.Process:
    """The process that is the line to a board."""
    (line,) = [
        process
        for process in psutil.Process().children()
        if {"tests.support.delayed_link", str(board.root)} <= set(process.cmdline())
    ]
    return line


def why_no_power(run: Run) -> str:
    power = run.live.snapshot().power
    return power.reason if isinstance(power, Unavailable) else ""


def parts(found: tuple[HostEnergy, ...]) -> list[str]:
    return [part.host for part in found]


def test_the_sum_of_two_boards_holds_the_truth_and_is_absent_while_one_is_silent(
    boards: Callable[..., Board], tmp_path: Path, small_model: Path
) -> None:
    first, second = boards("pi2", "ina3221", 11), boards("pi3", "ina3221", 12)
    streams = (
        stream(first, offset_s=7200.0, drift_ppm=50, seed=1),
        stream(second, offset_s=90_000.0, drift_ppm=-50, seed=2),
    )
    empty = tmp_path / "nothing"
    empty.mkdir()
    run = Run(tmp_path, empty, power=PowerChoice(streams=streams), sampling=SamplingSettings(temperature=0.0))
    try:
        run.load(small_model, EngineSettings(n_ctx=2048, n_threads=1, n_threads_batch=1))
        run.until(lambda: isinstance(run.live.snapshot().power, PowerNow))
        energy = run.ask("Repeat the word lighthouse a thousand times.", stop_after_s=4.0)
        assert energy is not None
        assert energy.final
        assert parts(energy.hosts) == ["pi2", "pi3"]
        line_to(second).suspend()
        run.until(lambda: "pi3: it has said nothing for " in why_no_power(run))
        run.until(lambda: isinstance(run.live.snapshot().power, PowerNow))
        path = run.close()
    finally:
        run.end()
    truths = {"pi2": first.truth(), "pi3": second.truth()}
    session = load(path)
    now, again = same_moment(run.live.session, session)
    assert now == again
    figures = turn_result(session, 0, session.end_us).figures.energy
    assert figures is not None
    turn = session.turns[0]
    start_us, last_us = session.start_us + turn.started.t_us, session.start_us + turn.token_t_us[-1]
    true_j = {host: truth.energy_j(start_us, last_us) for host, truth in truths.items()}
    assert holds(figures.gross_j, sum(true_j.values())), (true_j, figures.gross_j)
    assert holds(figures.j_per_token, sum(true_j.values()) / len(turn.token_t_us))
    for part in figures.hosts:
        assert holds(part.gross_j, true_j[part.host]), (true_j, part)
    for host in ("pi2", "pi3"):
        _, half_widths_s = session.window(f"clock.{host}", 0, session.end_us)
        known = [value for value in half_widths_s if value == value]  # noqa: PLR0124 - not NaN
        assert 0 < min(known) < 0.2
