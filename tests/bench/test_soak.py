"""A soak on a board that throttles: a scripted tree of thermal zones and clocks, read by the real sources.

The clock is the test's own: the board's physics say what stands in the files at each second.
"""

from __future__ import annotations

from itertools import pairwise
from math import exp
from pathlib import Path

import pytest

from edgetop.bench.conclusions import conclusions_of
from edgetop.bench.plan import BenchRequest, ModelFile, Plan, TokenTest, runs_of, settings_of
from edgetop.bench.results import SettingResult, results_of
from edgetop.bench.run_log import FinishedRun
from edgetop.bench.soak import Moment, soak_of
from edgetop.commands.verbs import duration
from edgetop.core.records import Record, Sampled
from edgetop.core.sources import Unavailable
from edgetop.live.past_runs import outcome_of
from edgetop.session.compare.compare import compare
from edgetop.session.compare.reading import session_result
from edgetop.session.file_io import load_file
from edgetop.telemetry import cpu, thermal
from tests.bench.conftest import Bench
from tests.support.bench_sessions import DECODE_W, GAUGES, IDLE_W, PAUSE_US, MadeSession
from tests.support.fake_sysfs import IDLE, plant, policy, proc_stat, readings, sources, zone
from tests.support.recorded_sessions import STARTED, S

TG = TokenTest(n_gen=128)
TRIP_S, CONSTANT_S, LENGTH_S = 120.0, 60.0, 600.0
READ_TREE_US = 5 * S
PAUSE_LEFT_US = 1000
MOST_HZ, LEAST_HZ = 2.4e9, 1.5e9
TOKENS_PER_CYCLE = 20.0 / MOST_HZ


def clock_hz(t_s: float) -> float:
    """Full speed up to the trip point, and down from there to what the heat sink can carry off."""
    return LEAST_HZ + (MOST_HZ - LEAST_HZ) * exp(-max(0.0, t_s - TRIP_S) / CONSTANT_S)


def heat_c(t_s: float) -> float:
    return 45.0 + 40.0 * (1 - exp(-t_s / 60.0))


class Board(MadeSession):
    """A session whose gauges are what the sources read in a tree, second by second."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.begin_us = self.at_us
        self._root = root
        self._bench = self._bench.__class__(plan="soak", setting="a t1", round=1, soak_s=LENGTH_S)

    def soak(self, length_s: float, speed: float = 1.0) -> None:
        while (t_s := (self.at_us - self.begin_us) / S) < length_s:
            self.tokens(TG, decode_tokens_per_s=speed * TOKENS_PER_CYCLE * clock_hz(t_s))
            self.at_us -= PAUSE_US - PAUSE_LEFT_US

    def _energy_j(self, t_us: int) -> float:
        """It is never idle once the soak has begun."""
        return (IDLE_W * t_us + (DECODE_W - IDLE_W) * max(0, t_us - self.begin_us)) / S

    def _readings(self) -> list[Record]:
        samples = super()._readings()
        tree = {"/proc/stat": proc_stat({0: IDLE, 1: IDLE})}
        host = plant(self._root, {**tree, **zone(0, "cpu-thermal", 45_000), **policy(0, 2_400_000, 2_400_000)})
        found = {**sources(thermal.probe(host)), **sources(cpu.probe(host))}
        names = [channel.name for channel in GAUGES.channels]
        read: list[Record] = []
        now: dict[str, float] = {}
        read_us = -READ_TREE_US
        for each in samples:
            if not isinstance(each, Sampled) or each.source != GAUGES.name:
                read.append(each)
                continue
            since_us = each.t_us - STARTED.t_us - self.begin_us
            if each.t_us >= read_us + READ_TREE_US:
                read_us, t_s = each.t_us, max(0.0, since_us / S)
                heat, clock = round(heat_c(t_s) * 1000), round(clock_hz(t_s) / 1000)
                plant(self._root, {**zone(0, "cpu-thermal", heat), **policy(0, clock, 2_400_000)})
                everything = {name: value for source in found.values() for name, value in readings(source).items()}
                now = {name: value for name, value in everything.items() if not isinstance(value, Unavailable)}
            shown = dict(zip(names, each.values, strict=True)) | {
                "temperature.cpu": now["temperature.cpu"],
                "temperature.gpu": None,
                "cpu.frequency": now["cpu.frequency"],
            }
            read.append(Sampled(source=each.source, t_us=each.t_us, values=tuple(shown[name] for name in names)))
        return read


def soaked(board: Board, path: Path) -> SettingResult:
    file = board.save(path)
    settings = settings_of([ModelFile(path="/models/a.gguf", label="a")], BenchRequest(threads=(1,)))
    plan = Plan(name="soak", settings=settings, tests=(TG,), soak_s=LENGTH_S)
    run = FinishedRun(setting="a t1", round=1, outcome="measured", session=str(file))
    return results_of(plan, [run]).settings[0]


def test_the_steady_state_of_a_board_that_throttles_is_found(tmp_path: Path) -> None:
    board = Board(tmp_path / "root")
    board.soak(LENGTH_S)
    setting = soaked(board, tmp_path / "soak.json")
    found = setting.soak
    assert found is not None
    assert found.first_tokens_per_s == pytest.approx(20.0, rel=1e-3)
    assert found.steady_tokens_per_s == pytest.approx(12.5, rel=0.01), "1.5 of 2.4 GHz"
    assert found.time_constant_s == pytest.approx(CONSTANT_S, rel=0.1)
    assert found.begins_s == pytest.approx(TRIP_S, abs=30)
    assert found.is_steady
    assert found.change_percent is not None
    assert found.change_percent[1] < -30
    assert len(found.minutes) in {10, 11}, "the last repetition may end in the next one"
    assert [found.minutes[0].frequency_hz, found.minutes[-1].frequency_hz] == pytest.approx([2.4e9, 1.5e9], rel=0.01)
    assert found.minutes[-1].temperature_c == pytest.approx(85.0, abs=0.5)
    assert found.minutes[-1].power_w == pytest.approx(9.0, rel=0.02)
    assert found.last_j_per_token == pytest.approx(9.0 / 12.5, rel=0.02), "the same watts, fewer tokens"


def test_a_soak_too_short_says_so_and_a_steady_board_has_no_time_constant(tmp_path: Path) -> None:
    short = Board(tmp_path / "root")
    short.soak(200.0)
    assert short.save(tmp_path / "short.json")
    found = soaked(short, tmp_path / "short.json").soak
    assert found is not None
    assert not found.is_steady
    cool = [Moment(at_s=3.0 * n, tokens_per_s=20.0 + 0.1 * (-1) ** n) for n in range(200)]
    calm = soak_of(cool, 600.0)
    assert calm is not None
    assert (calm.time_constant_s, calm.is_steady) == (None, True)
    assert calm.steady_tokens_per_s == pytest.approx(20.0)
    assert soak_of(cool, 60.0) is None
    assert soak_of([], 600.0) is None


def test_it_is_said_in_a_sentence_and_a_comparison_says_which_is_which(tmp_path: Path) -> None:
    board = Board(tmp_path / "root")
    board.soak(LENGTH_S)
    setting = soaked(board, tmp_path / "soak.json")
    plan = Plan(name="soak", settings=(setting.setting,), tests=(TG,))
    result = results_of(plan, [FinishedRun(setting="a t1", round=1, outcome="measured", session=setting.sessions[0])])
    said = [sentence for sentence in conclusions_of(result).sentences if " over 10 min" in sentence]
    assert len(said) == 1
    assert "20 tok/s in the first minute, 12.5 in the last" in said[0]
    assert "to 85 °C, 2400 to 15" in said[0]
    assert "it settles at 12.5 tok/s (time constant 1 min" in said[0]
    brief = MadeSession()
    brief.tokens(TG)
    other = load_file(brief.save(tmp_path / "brief.json"))
    path = tmp_path / "soak.json"
    file = load_file(path)
    flagged = compare([session_result(other, tmp_path / "brief.json"), session_result(file, path)])
    (flag,) = [each for each in flagged.rows[1].flags if each.name == "other length"]
    assert flag.text == "It is what the device did over 10 min 0 s, the base at first."
    assert outcome_of(file, file.turns) is None, "nothing was predicted"


def test_the_tests_are_done_over_and_over_for_the_time(bench: Bench) -> None:
    """Of the scripted engine; only that it ends, and that every turn is there."""
    plan = bench.plan(models=1, threads=(1,), soak_s=1.5)
    assert [run.repetitions for run in runs_of(plan)] == [1]
    finished, log = bench.run(plan)
    assert finished
    file = load_file(Path(log.finished[0].session))
    assert file.bench is not None
    assert file.bench.soak_s == 1.5
    turns = [turn for turn in file.turns if not turn.warmup]
    assert len(turns) >= 2
    assert {turn.task for turn in turns} == {"pp64", "tg8"}
    starts = [turn.stamps.submitted_us for turn in turns]
    assert all(first < second for first, second in pairwise(starts))
    assert bench.plan(models=1, threads=(1,), soak_s=1.0).identity != plan.identity


@pytest.mark.parametrize(("text", "found"), [("30m", 1800.0), ("90s", 90.0), ("2h", 7200.0), ("0.5m", 30.0)])
def test_times_as_people_write_them(text: str, found: float) -> None:
    assert duration(text) == found


@pytest.mark.parametrize("text", ["30", "", "m", "-1m", "30 d", "nanm", "25h", "1e99s"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="such as 90s, 30m or 2h"):
        duration(text)
