"""From sessions to results: rates, energies, conditions and problems of runs whose truth is known."""

from __future__ import annotations

from math import sqrt
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from edgetop.bench import results
from edgetop.bench.plan import BenchRequest, ModelFile, Plan, PromptTest, Test, TokenTest, Until, settings_of
from edgetop.bench.results import MeanInterval, PlanResult, results_of, runs_until_known
from edgetop.bench.run_log import FinishedRun
from edgetop.core.figures import FIRST_TOKEN, LOAD, NET_J_PER_TOKEN
from edgetop.core.quantity import Interval
from edgetop.session.file_io import load_file
from tests.support.bench_sessions import DECODE_W, IDLE_W, PREFILL_W, MadeSession

PP, TG = TokenTest(n_prompt=500), TokenTest(n_gen=60)
BOTH, DEEP = TokenTest(n_prompt=300, n_gen=40), TokenTest(n_gen=40, depth=256)
TALK = PromptTest(title="turns", prompts=("Hi.", "And?"), max_tokens=40)
T_OF_ONE_DEGREE = 12.7062


class Runs:
    """The runs of one setting, each a session of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.finished: list[FinishedRun] = []

    def add(self, session: MadeSession, *, notes: tuple[str, ...] = ()) -> Path:
        number = len(self.finished) + 1
        path = session.save(self.folder / f"{number}.json")
        self.finished.append(
            FinishedRun(setting="a t1", round=number, outcome="measured", session=str(path), notes=notes)
        )
        return path

    def result(self, *tests: Test) -> PlanResult:
        settings = settings_of([ModelFile(path="/models/a.gguf", label="a")], BenchRequest(threads=(1,)))
        return results_of(Plan(name="made", settings=settings, tests=tests), self.finished)

    def test(self, test: Test) -> results.TestResult:
        found = self.result(test).settings[0].test(test.name)
        assert found is not None
        return found


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


def holds(figure: object, value: float) -> bool:
    return (
        isinstance(figure, Interval)
        and figure.value == pytest.approx(value, rel=0.02)
        and figure.low <= value <= figure.high
    )


@pytest.mark.parametrize(
    ("test", "tokens_per_s", "j_per_token"),
    [
        (PP, 100.0, PREFILL_W / 100.0),
        (TG, 20.0, DECODE_W / 20.0),
        (DEEP, 20.0, DECODE_W / 20.0),
        (BOTH, 340 / (3.0 + 2.0), (PREFILL_W * 3.0 + DECODE_W * 2.0) / 340),
    ],
    ids=lambda value: value.name if isinstance(value, TokenTest) else "",
)
def test_a_test_of_tokens_has_the_rate_and_the_energy_of_its_own_time(
    runs: Runs, test: TokenTest, tokens_per_s: float, j_per_token: float
) -> None:
    for number in (1, 2):
        session = MadeSession(number=number)
        session.tokens(TokenTest(n_prompt=64, n_gen=8), warmup=True, prefill_tokens_per_s=7, decode_tokens_per_s=3)
        if test.depth:
            session.tokens(TokenTest(depth=test.depth), task=f"fill@d{test.depth}", warmup=True)
        session.tokens(test)
        runs.add(session)
    result = runs.test(test)
    assert [each.round for each in result.repetitions] == [1, 2]
    assert result.tokens_per_s.mean == pytest.approx(tokens_per_s, rel=1e-4)
    tokens = test.n_prompt + test.n_gen
    assert result.repetitions[0].duration_ns == pytest.approx(1e9 * tokens / tokens_per_s, rel=1e-4)
    assert holds(result.j_per_token, j_per_token)
    assert holds(result.figures[NET_J_PER_TOKEN], j_per_token - IDLE_W / tokens_per_s)
    assert result.energy_missing == ""
    assert result.flags == ()


def test_a_conversation_is_one_repetition_with_all_its_turns(runs: Runs) -> None:
    session = MadeSession()
    for _ in range(2):
        session.reply(TALK, (41, 21))
    runs.add(session)
    result = runs.test(TALK)
    assert len(result.repetitions) == 2
    assert result.tokens_per_s.mean == pytest.approx(20.0, rel=1e-4)
    first = result.figures[FIRST_TOKEN]
    assert isinstance(first, MeanInterval)
    assert first.mean == pytest.approx(0.5, rel=1e-3)
    energy_j = 2 * 0.5 * PREFILL_W + (40 + 20) / 20.0 * DECODE_W
    assert holds(result.j_per_token, energy_j / 62)


def test_the_interval_is_that_of_student_over_repetitions(runs: Runs) -> None:
    for number, rate in enumerate((19.0, 21.0), 1):
        session = MadeSession(number=number)
        session.tokens(TG, decode_tokens_per_s=rate)
        runs.add(session)
    speed = runs.test(TG).tokens_per_s
    assert speed.mean == pytest.approx(20.0, rel=1e-4)
    assert speed.deviation == pytest.approx(sqrt(2), rel=1e-3)
    assert speed.high is not None
    assert speed.high - speed.mean == pytest.approx(T_OF_ONE_DEGREE * sqrt(2) / sqrt(2), rel=1e-3)
    assert speed.low == pytest.approx(speed.mean - (speed.high - speed.mean), rel=1e-3)


def test_a_single_repetition_has_no_interval(runs: Runs) -> None:
    session = MadeSession()
    session.tokens(TG)
    runs.add(session)
    speed = runs.test(TG).tokens_per_s
    assert (speed.deviation, speed.low, speed.high) == (None, None, None)


@pytest.mark.parametrize(
    ("channel", "value", "flag"),
    [
        ("throttle.undervoltage", 1.0, "throttled in 1 of 2"),
        ("cpu.others", 60.0, "contention in 1 of 2"),
        ("engine.major_faults", 500.0, "paging in 1 of 2"),
        ("power.battery", 12.0, "on battery in 1 of 2"),
    ],
)
@pytest.mark.parametrize("test", [PP, TG, TokenTest(n_prompt=20)], ids=lambda test: test.name)
def test_what_disturbed_a_test_is_told(runs: Runs, test: TokenTest, channel: str, value: float, flag: str) -> None:
    for number in (1, 2):
        session = MadeSession(number=number)
        session.tokens(TokenTest(n_prompt=64, n_gen=8), warmup=True)
        session.tokens(test)
        session.disturb(channel, value, turn=0)
        if number == 2:
            session.disturb(channel, value)
        runs.add(session)
    result = runs.test(test)
    assert result.flags == (flag,)
    assert [bool(each.conditions.disturbances) for each in result.repetitions] == [False, True]


@pytest.mark.parametrize("test", [PP, TG], ids=lambda test: test.name)
def test_a_clock_that_changed_within_or_between_repetitions_is_told(runs: Runs, test: TokenTest) -> None:
    for number in (1, 2):
        session = MadeSession(number=number)
        session.tokens(test)
        if number == 2:
            session.disturb("cpu.frequency", 1.2e9)
        runs.add(session)
    assert runs.test(test).flags == ("clock from 1.20 to 2.40 GHz",)


def test_the_hottest_temperature_at_the_beginning_and_at_the_end_is_kept(runs: Runs) -> None:
    session = MadeSession()
    session.tokens(TG)
    session.tokens(TG)
    session.disturb("temperature.gpu", 71.0, turn=1)
    runs.add(session)
    first, second = runs.test(TG).repetitions
    assert (first.conditions.temperature_begin_c, first.conditions.temperature_end_c) == (50.0, 50.0)
    assert second.conditions.temperature_end_c == 71.0
    assert runs.test(TG).temperature_end_c == pytest.approx(60.5)


def test_what_happened_in_a_run_is_a_problem_of_its_setting(runs: Runs) -> None:
    session = MadeSession()
    session.tokens(TG)
    session.happen("suspended", "The machine was suspended for 40 s.")
    runs.add(session, notes=("began after 120 s though it was hot",))
    runs.finished.append(FinishedRun(setting="a t1", round=2, outcome="failed", reason="It was killed."))
    other = MadeSession(number=3)
    other.device = msgspec.structs.replace(other.device, power_mode="7W")
    other.tokens(TG)
    runs.add(other)
    (setting,) = runs.result(TG).settings
    assert set(setting.problems) == {
        "round 1: it began after 120 s though it was hot",
        "round 1: The machine was suspended for 40 s.",
        "round 2: It was killed.",
        "round 3: the power mode was 7W, and unknown at first",
    }
    assert runs.test(TG).flags[0] == "suspended in 1 of 2"


def test_a_run_that_was_measured_in_the_end_has_no_problem(runs: Runs) -> None:
    runs.finished.append(FinishedRun(setting="a t1", round=1, outcome="failed", reason="It was killed."))
    session = MadeSession()
    session.tokens(TG)
    path = session.save(runs.folder / "x.json")
    runs.finished.append(FinishedRun(setting="a t1", round=1, outcome="measured", session=str(path)))
    assert runs.result(TG).settings[0].problems == ()
    path.unlink()
    (setting,) = runs.result(TG).settings
    assert setting.tests == ()
    assert len(setting.problems) == 1
    assert "x.json" in setting.problems[0], "a session that is gone is told"
    path.write_text("{")
    assert len(runs.result(TG).settings[0].problems) == 1


def test_a_repetition_without_a_rate_is_left_out_and_told(runs: Runs) -> None:
    session = MadeSession()
    session.reply(TALK, (1, 1))
    session.reply(TALK, (41, 21))
    runs.add(session)
    (setting,) = runs.result(TALK).settings
    assert [len(test.repetitions) for test in setting.tests] == [1]
    assert setting.problems == ("prompt:turns: 1 repetitions gave no rate and are left out",)
    broken = MadeSession(number=2)
    broken.tokens(TG, error="The decode call failed.")
    runs.add(broken)
    assert runs.result(TG).settings[0].test(TG.name) is None


def test_without_a_sensor_energy_is_missing_and_not_zero(runs: Runs) -> None:
    session = MadeSession(power=None)
    session.tokens(TG)
    runs.add(session)
    result = runs.test(TG)
    assert result.j_per_token is None
    assert "no power reading" in result.energy_missing
    with_power = MadeSession(number=2)
    with_power.tokens(TG)
    runs.add(with_power)
    result = runs.test(TG)
    assert holds(result.j_per_token, DECODE_W / 20.0)
    assert result.flags == ("energy of 1 of 2",)


def test_energies_of_different_sensors_are_not_mixed(runs: Runs) -> None:
    for number, source in enumerate(("power.board", "power.other"), 1):
        session = MadeSession(number=number, power=source)
        session.tokens(TG)
        runs.add(session)
    result = runs.test(TG)
    assert result.j_per_token is None
    assert "power.board, power.other" in result.energy_missing


def test_the_setting_knows_load_memory_and_idle_power(runs: Runs) -> None:
    session = MadeSession()
    session.tokens(TG)
    runs.add(session)
    (setting,) = runs.result(TG).settings
    assert setting.figures[LOAD] == 0.5
    assert setting.figures["energy.idle_w"] == pytest.approx(IDLE_W, rel=0.01)
    assert (setting.energy_scope, setting.energy_source) == ("board_input", "power.board")
    assert setting.measured_at.startswith("2026")


def test_energy_is_repeated_until_it_is_known_and_not_where_it_cannot_be(tmp_path: Path) -> None:
    settings = settings_of([ModelFile(path="/models/a.gguf", label="a")], BenchRequest(threads=(1,)))
    until = Until(percent=5.0, of="energy", limit=6)
    plan = Plan(name="made", settings=settings, tests=(TG,), repetitions=2, until=until)
    known = Runs(tmp_path)
    asked = []
    for rates in ((20.0, 26.0), (23.0, 23.0, 23.0), (23.0,)):
        session = MadeSession(number=len(known.finished) + 1)
        for rate in rates:
            session.tokens(TG, decode_tokens_per_s=rate)
        known.add(session)
        asked.append([run.round for run in runs_until_known(plan, known.finished)])
    assert asked[0] == [2], "0.45 and 0.35 J/token are not known to 5 %"
    assert asked[-1] == [], "six repetitions are the limit"
    calm = Runs(tmp_path / "calm")
    session = MadeSession()
    for rate in (20.0, 20.01, 20.0):
        session.tokens(TG, decode_tokens_per_s=rate)
    calm.add(session)
    assert runs_until_known(plan, calm.finished) == []
    blind = Runs(tmp_path / "blind")
    session = MadeSession(power=None)
    session.tokens(TG)
    blind.add(session)
    assert runs_until_known(plan, blind.finished) == [], "without a meter no repetition helps"


def test_a_run_whose_energy_rests_on_no_idle_power_tells_it_for_the_others(tmp_path: Path) -> None:
    session = MadeSession()
    session.tokens(TG)
    turns = load_file(session.save(tmp_path / "a.json")).turns
    idle = results.idle_of(turns)
    assert idle is not None
    assert idle.value == pytest.approx(IDLE_W, rel=0.01)
    (turn,) = turns
    energy = turn.figures.energy
    assert energy is not None
    for changes in ({"method": "extended"}, {"idle_w": None}):
        other = replace(turn, figures=replace(turn.figures, energy=replace(energy, **changes)))
        assert results.idle_of([turn, other]) is None
    unknown = MadeSession(power=None)
    unknown.tokens(TG)
    assert results.idle_of(load_file(unknown.save(tmp_path / "b.json")).turns) is None
