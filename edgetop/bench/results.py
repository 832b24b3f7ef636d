"""From the sessions of a benchmark to repetitions, their conditions, and means with intervals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil, hypot, isnan, sqrt
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from edgetop.bench.device_settings import ColdFile
from edgetop.bench.plan import (
    UNTIL_LEAST,
    Plan,
    Run,
    Setting,
    Test,
    TokenTest,
    Until,
    Wanted,
    decode_test,
    runs_of,
)
from edgetop.bench.run_log import FinishedRun, RunLog, quality_key
from edgetop.bench.soak import Moment, Soak, soak_of
from edgetop.core.bootstrap import SPREAD_LEAST
from edgetop.core.clock import US_PER_S
from edgetop.core.energy.duty import Duty
from edgetop.core.energy.uncertainty import Letter
from edgetop.core.figures import (
    J_PER_TOKEN,
    OF_SETTING,
    OF_TEST,
    Figure,
    LimitedBy,
    number_of,
    value_of,
    with_duty,
)
from edgetop.core.quantity import COVERAGE_FACTOR, Interval
from edgetop.core.records import DeviceInfo, LoadEntry, Quality
from edgetop.core.sources import Scope, of_source
from edgetop.core.statistics import CONFIDENCE, quantile, welch_difference
from edgetop.session.file import SessionFile, TurnEntry, to_session
from edgetop.session.file_io import SessionFileError, load_file, load_head
from edgetop.session.limits import limit_between
from edgetop.session.session import PAUSED, Session

DISTURBING: tuple[LimitedBy, ...] = ("throttled", "contention", "cpu-quota", "paging", "swap")
"""What makes a repetition something else than a measurement of the setting."""

NOTABLE_EVENTS = frozenset(
    {
        "suspended",
        PAUSED,
        "edgetop_paused",
        "sensor_lost",
        "engine_restarted",
        "engine_stuck",
        "recording_paused",
        "record_refused",
    }
)
"""Events that a reader of a run's figures must know."""

TEMPERATURE_PREFIX = "temperature."
FREQUENCY = "cpu.frequency"
BATTERY_POWER = "power.battery"
"""Above 0 while the batteries give power; missing while a charger does."""

FREQUENCY_SPREAD = 0.1
"""Clocks that differ by more than this share of the highest are flagged."""

SHORTEST_WINDOW_US = 1_200_000
"""The sensors of load are read once a second, each for the second gone by: a shorter test is judged by the next one."""

STALE_US = 10_000_000
"""A temperature or the state of a battery that is older says nothing of a moment."""

HZ_PER_GHZ = 1e9

NS_PER_US = 1000


class Conditions(Struct, frozen=True, kw_only=True):
    """Of one repetition."""

    disturbances: tuple[str, ...] = ()
    """Such as `throttled`, `contention`, `suspended` or `on battery`."""
    temperature_begin_c: float | None = None
    """Of the hottest sensor when the test began; `None` without one."""
    temperature_end_c: float | None = None
    frequency_least_hz: float | None = None
    """Of the fastest cores while the test ran; `None` if it was not read then."""
    frequency_most_hz: float | None = None


class MeanInterval(Struct, frozen=True, kw_only=True):
    """A mean over repetitions."""

    mean: float
    deviation: float | None
    """Standard deviation of one repetition (n - 1); `None` for a single one."""
    low: float | None
    """95 % interval of the mean by Student's t; `None` for a single repetition."""
    high: float | None


class Repetition(Struct, frozen=True, kw_only=True):
    """One test done once."""

    round: int
    tokens_per_s: float
    duration_ns: int
    """Of a test of tokens, as llama-bench measures it; of prompts, from submitting each to its last token."""
    figures: dict[str, float | Interval] = {}
    """Other figures by name. Energy is spread over the tokens that the test is about: of prompts, those generated."""
    energy_source: str = ""
    """Which sensors the energy is from; empty without one."""
    energy_missing: str = ""
    """Why there is no energy; empty when it is there."""
    power_w: float | None = None
    """In the mean of its turns."""
    conditions: Conditions = Conditions()
    begin_us: int = 0
    """Of what its rate is taken over, since its session began."""
    end_us: int = 0

    @property
    def j_per_token(self) -> Interval | None:
        """Energy per token, gross."""
        return _interval(self.figures.get(J_PER_TOKEN))


class TestRepetitions(Struct, frozen=True, kw_only=True):
    """A test as one session has it."""

    repetitions: tuple[Repetition, ...]
    without_rate: int
    """Repetitions that cannot be counted, such as an answer of a single token."""


class TestResult(Struct, frozen=True, kw_only=True):
    """One test of one setting."""

    test: Test
    repetitions: tuple[Repetition, ...]
    """At least one."""
    tokens_per_s: MeanInterval
    figures: dict[str, MeanInterval | Interval] = {}
    """Other figures by name. Energies are over those repetitions whose energy is known; a flag says so where it is not
    that of all."""
    energy_missing: str = ""
    """Why there is no energy; empty when it is there."""
    temperature_begin_c: float | None = None
    """Of the hottest sensor, in the mean of the repetitions."""
    temperature_end_c: float | None = None
    flags: tuple[str, ...] = ()
    """What disturbed how many repetitions, in words."""

    @property
    def j_per_token(self) -> Interval | None:
        """Energy per token, gross."""
        return _interval(self.figures.get(J_PER_TOKEN))

    @property
    def speed_spread(self) -> tuple[float, float]:
        """Relative standard uncertainty of the mean rate, and its degrees of freedom."""
        count = len(self.repetitions)
        deviation = self.tokens_per_s.deviation or 0.0
        return max(SPREAD_LEAST, deviation / self.tokens_per_s.mean / count**0.5), count - 1

    @property
    def energy_spread(self) -> tuple[float, float] | None:
        """The same of energy per token, by its random part alone; `None` where that is not known."""
        energy, count = self.j_per_token, sum(each.j_per_token is not None for each in self.repetitions)
        if energy is None or energy.value <= 0 or count < 2:
            return None
        return max(SPREAD_LEAST, energy.u_random / energy.value), count - 1

    @property
    def least_speed_percent(self) -> float | None:
        """The smallest difference in tokens a second that would have been significant at 95 %.

        It is that from a setting with as many repetitions and as much scatter; `None` for a single repetition.
        """
        return None if len(self.repetitions) < 2 else _least_percent(self.speed_spread)

    @property
    def least_energy_percent(self) -> float | None:
        """The same in joules a token."""
        return None if self.energy_spread is None else _least_percent(self.energy_spread)

    def half_width_percent(self, of: Wanted) -> float | None:
        """Half the 95 % interval of the mean, in per cent of it: of energy, what repetitions can make narrower."""
        spread = self.energy_spread if of == "energy" else self.speed_spread
        if spread is None or spread[1] < 1:
            return None
        return 100 * spread[0] * quantile(CONFIDENCE, spread[1])


def _least_percent(spread: tuple[float, float]) -> float:
    return welch_difference(0.0, spread, spread).interval()[1]


class SettingResult(Struct, frozen=True, kw_only=True):
    """All that was measured with one setting."""

    setting: Setting
    load: LoadEntry | None = None
    """As it was loaded the last time."""
    figures: dict[str, float] = {}
    """Figures of the setting as a whole, by name."""
    energy_scope: Scope | None = None
    energy_source: str = ""
    energy_grade: Letter | None = None
    """The worst of all tests and repetitions."""
    simulated: bool = False
    """Its power was computed, not measured, as the sessions' sources say."""
    measured_at: str = ""
    """When its last run began, ISO 8601 in UTC."""
    tests: tuple[TestResult, ...] = ()
    cold: tuple[ColdFile, ...] = ()
    """How its file was made cold before each load that was."""
    soak: Soak | None = None
    """Of the decode test, where it was done over and over."""
    quality: Quality | None = None
    sessions: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    """Runs that failed, and what a reader must know of those that did not."""

    def test(self, name: str) -> TestResult | None:
        """The result of a test, `None` if it has none."""
        return next((each for each in self.tests if each.test.name == name), None)


class PlanResult(Struct, frozen=True, kw_only=True):
    """The results of a plan, as far as it has been carried out."""

    name: str
    identity: str
    device: DeviceInfo | None
    """As its first run says."""
    settings: tuple[SettingResult, ...]
    until: Until | None = None
    """What was to be known."""

    @property
    def simulated(self) -> bool:
        """Whether the power of a setting was computed, not measured."""
        return any(setting.simulated for setting in self.settings)


class _Measured(NamedTuple):
    """The session of a run that was measured."""

    run: FinishedRun
    file: SessionFile
    session: Session


def results_of(plan: Plan, finished: Sequence[FinishedRun], duty: Duty | None = None) -> PlanResult:
    """The results of a plan, for a use of the models, by default the recorded one.

    Sessions that are gone or cannot be read are reported as problems.
    """
    settings = []
    device: DeviceInfo | None = None
    for setting in plan.settings:
        runs = _last_outcomes([run for run in finished if run.setting == setting.key])
        problems = [f"round {run.round}: {run.reason}" for run in runs if run.outcome != "measured"]
        problems += [f"round {run.round}: it {note}" for run in runs for note in run.notes]
        problems += _quality_problems(setting, finished)
        measured: list[_Measured] = []
        for run in runs:
            if run.outcome != "measured":
                continue
            try:
                file = load_file(Path(run.session))
                file = replace(file, summary=with_duty(file.summary, duty))
                measured.append(_Measured(run, file, to_session(file)))
            except SessionFileError as error:
                problems.append(f"round {run.round}: {error.what}")
            except ValueError as error:
                problems.append(f"round {run.round}: {run.session}: {error}")
        device = device or next((each.file.device for each in measured), None)
        problems += _events_and_changes(measured, device, setting)
        result = _setting_result(setting, plan.tests, measured, problems)
        cold = tuple(each.run.cold for each in measured if each.run.cold is not None)
        settings.append(replace(result, quality=_quality(setting, finished), cold=cold))
    return PlanResult(name=plan.name, identity=plan.identity, device=device, settings=tuple(settings), until=plan.until)


def runs_until_known(plan: Plan, finished: Sequence[FinishedRun]) -> list[Run]:
    """One further run of every setting of which less is known than the plan asks for, once its rounds are done.

    Interleaved, it is one repetition; else as many as are expected to be enough, at most as many as there are. A
    setting is given up whose further run failed.
    """
    test = decode_test(plan.tests)
    if plan.until is None or test is None:
        return []
    planned = {run.setting.key: run for run in runs_of(plan)}
    runs = []
    for setting in plan.settings:
        own = [run for run in finished if run.setting == setting.key]
        further = [run for run in own if run.round > planned[setting.key].round]
        if not own or any(run.outcome != "measured" for run in further):
            continue
        known = results_of(replace(plan, settings=(setting,), tests=(test,)), own).settings[0].test(test.name)
        if known is None:
            continue
        count, width = len(known.repetitions), known.half_width_percent(plan.until.of)
        if known.figures.get(J_PER_TOKEN) is None and plan.until.of == "energy":
            continue
        enough = width is not None and width <= plan.until.percent and count >= UNTIL_LEAST
        room = plan.until.limit - max(count, sum(run.outcome == "measured" for run in own))
        if enough or room < 1:
            continue
        needed = UNTIL_LEAST if width is None else ceil(count * (width / plan.until.percent) ** 2)
        batch = 1 if planned[setting.key].repetitions == 1 < len(plan.settings) else min(count, needed - count)
        number = max(planned[setting.key].round, *(run.round for run in own)) + 1
        runs.append(Run(setting=setting, round=number, repetitions=max(1, min(batch, room))))
    return runs


def remaining_of(log: RunLog) -> list[Run]:
    """What is to be done next of a plan; empty once all is measured, or known as well as was asked for."""
    return log.remaining(runs_of(log.plan)) or runs_until_known(log.plan, log.finished)


def _last_outcomes(runs: Iterable[FinishedRun]) -> list[FinishedRun]:
    """The last outcome of each round, except that a measurement outlasts a later failure."""
    by_round: dict[int, FinishedRun] = {}
    for run in runs:
        before = by_round.get(run.round)
        if before is None or before.outcome != "measured" or run.outcome == "measured":
            by_round[run.round] = run
    return [by_round[number] for number in sorted(by_round)]


def _events_and_changes(measured: Sequence[_Measured], device: DeviceInfo | None, setting: Setting) -> list[str]:
    """What happened in the runs, and where the device was not the same as at first but for what the setting chooses."""
    lines = []
    for run, file, session in measured:
        lines += [f"round {run.round}: {event.text}" for event in session.events if event.kind in NOTABLE_EVENTS]
        if device is None:
            continue
        for what, now, first in (
            ("machine", file.device.model or file.device.cpu, device.model or device.cpu),
            ("power mode", file.device.power_mode, device.power_mode),
            ("governor", file.device.governor, device.governor),
            ("CPU quota", file.device.cpu_quota, device.cpu_quota),
        ):
            if now != first and getattr(setting, what.replace(" ", "_"), None) is None:
                lines.append(f"round {run.round}: the {what} was {now or 'unknown'}, and {first or 'unknown'} at first")
    return lines


def _quality(setting: Setting, finished: Sequence[FinishedRun]) -> Quality | None:
    """The scores of a setting's model, which do not depend on threads and the like."""
    for run in reversed(finished):
        if run.setting == quality_key(setting.model) and run.session:
            try:
                scores = load_head(Path(run.session)).quality
            except SessionFileError:
                continue
            return scores[-1].quality if scores else None
    return None


def _quality_problems(setting: Setting, finished: Sequence[FinishedRun]) -> list[str]:
    runs = _last_outcomes([run for run in finished if run.setting == quality_key(setting.model)])
    return [f"quality: {run.reason}" for run in runs if run.outcome != "measured"]


def _setting_result(
    setting: Setting, tests: Sequence[Test], measured: Sequence[_Measured], problems: Sequence[str]
) -> SettingResult:
    files = [each.file for each in measured]
    loads = [file.loads[-1] for file in files if file.loads]
    turns = [turn for file in files for turn in file.turns if turn.task and not turn.warmup]
    energies = [energy for turn in turns if (energy := turn.figures.energy) is not None]
    results: list[TestResult] = []
    lines = list(problems)
    for test in tests:
        done = [done_in(test, run.round, file, session) for run, file, session in measured]
        without_rate = sum(each.without_rate for each in done)
        if without_rate:
            lines.append(f"{test.name}: {without_rate} repetitions gave no rate and are left out")
        repetitions = [repetition for each in done for repetition in each.repetitions]
        if repetitions:
            results.append(result_of_test(test, repetitions))
    found = {figure.name: _of_setting(figure, files, turns) for figure in OF_SETTING}
    return SettingResult(
        setting=setting,
        load=loads[-1] if loads else None,
        figures={name: value for name, value in found.items() if value is not None},
        energy_scope=energies[-1].scope if energies else None,
        energy_source=energies[-1].source if energies else "",
        energy_grade=max((energy.grade for energy in energies), default=None),
        simulated=any(of_source(each.source).simulated for file in files for each in file.series),
        measured_at=max((file.started_at for file in files), default=""),
        tests=tuple(results),
        soak=_soak(tests, measured),
        sessions=tuple(each.run.session for each in measured),
        problems=tuple(lines),
    )


def idle_of(turns: Sequence[TurnEntry]) -> Interval | None:
    """The idle power with the model loaded that the tests of a run have; `None` where one's energy rests on it."""
    energies = [turn.figures.energy for turn in turns if turn.task and not turn.warmup]
    known = [each.idle_w for each in energies if each is not None and each.method == "strict" and each.idle_w]
    return known[-1] if known and len(known) == len(energies) else None


def _soak(tests: Sequence[Test], measured: Sequence[_Measured]) -> Soak | None:
    """What became of the decode test, or the first one, in the last session that is a soak."""
    test = decode_test(tests) or next(iter(tests), None)
    soaked = [each for each in measured if each.file.bench is not None and each.file.bench.soak_s]
    if test is None or not soaked:
        return None
    run, file, session = soaked[-1]
    turns = [turn for turn in file.turns if not turn.warmup]
    if not turns:
        return None
    begin_us = turns[0].stamps.submitted_us
    moments = []
    for each in done_in(test, run.round, file, session).repetitions:
        joules = each.j_per_token
        clocks = (each.conditions.frequency_least_hz, each.conditions.frequency_most_hz)
        moments.append(
            Moment(
                at_s=((each.begin_us + each.end_us) / 2 - begin_us) / US_PER_S,
                tokens_per_s=each.tokens_per_s,
                power_w=each.power_w,
                j_per_token=None if joules is None else joules.value,
                temperature_c=each.conditions.temperature_end_c,
                frequency_hz=_mean(clocks),
            )
        )
    length_s = (max(turn.stamps.last_token_us or turn.stamps.submitted_us for turn in turns) - begin_us) / US_PER_S
    return soak_of(moments, length_s)


def _of_setting(figure: Figure, files: Sequence[SessionFile], turns: Sequence[TurnEntry]) -> float | None:
    """A figure of all turns if turns have it, else of all sessions: the mean, or the maximum."""
    held = [turn.figures for turn in turns] if "turn" in figure.of else [file.summary for file in files]
    values = [value for each in held if (value := number_of(each, figure.name)) is not None]
    if not values:
        return None
    return max(values) if figure.combined == "maximum" else fmean(values)


def result_of_test(test: Test, repetitions: Sequence[Repetition]) -> TestResult:
    """What at least one repetition of a test gives."""
    rated = [each for each in repetitions if each.j_per_token is not None]
    missing = next((each.energy_missing for each in repetitions if each.j_per_token is None), "")
    flags = flags_of(each.conditions for each in repetitions)
    sources = list(dict.fromkeys(each.energy_source for each in rated))
    if len(sources) > 1:
        missing = f"the power was not read from the same sensors in all rounds: {', '.join(sources)}"
        rated = []
    if rated and len(rated) < len(repetitions):
        flags = (*flags, f"energy of {len(rated)} of {len(repetitions)}")
    figures: dict[str, MeanInterval | Interval] = {}
    for name in (figure.name for figure in OF_TEST):
        intervals = [each for one in rated if isinstance(each := one.figures.get(name), Interval)]
        numbers = [each for one in repetitions if isinstance(each := one.figures.get(name), float)]
        if intervals and len(intervals) == len(rated):
            figures[name] = combined(intervals)
        elif numbers:
            figures[name] = interval_of(numbers)
    return TestResult(
        test=test,
        repetitions=tuple(repetitions),
        tokens_per_s=interval_of([each.tokens_per_s for each in repetitions]),
        figures=figures,
        energy_missing="" if rated else missing,
        temperature_begin_c=_mean(each.conditions.temperature_begin_c for each in repetitions),
        temperature_end_c=_mean(each.conditions.temperature_end_c for each in repetitions),
        flags=flags,
    )


def done_in(test: Test, number: int, file: SessionFile, session: Session) -> TestRepetitions:
    """The repetitions of a test in the session of round `number`; `session` is that of `file`."""
    turns = [turn for turn in file.turns if turn.task == test.name and not turn.warmup]
    size = 1 if isinstance(test, TokenTest) else len(test.prompts)
    groups = [turns[begin : begin + size] for begin in range(0, len(turns), size)]
    found = [_repetition(test, number, group, session) if len(group) == size else None for group in groups]
    repetitions = tuple(each for each in found if each is not None)
    return TestRepetitions(repetitions=repetitions, without_rate=len(found) - len(repetitions))


class _Timing(Struct, frozen=True, kw_only=True):
    """What a repetition is counted by."""

    tokens: int
    """That energy is divided by."""
    tokens_per_s: float
    duration_us: int
    begin_us: int
    end_us: int


def _repetition(test: Test, number: int, turns: Sequence[TurnEntry], session: Session) -> Repetition | None:
    if any(turn.end is None or turn.end.error for turn in turns):
        return None
    timing = _token_timing(test, turns[0]) if isinstance(test, TokenTest) else _prompt_timing(turns)
    if timing is None:
        return None
    energies = [energy for turn in turns if (energy := turn.figures.energy) is not None]
    found = {figure.name: _of_test(figure, test, turns, timing.tokens) for figure in OF_TEST}
    return Repetition(
        round=number,
        tokens_per_s=timing.tokens_per_s,
        duration_ns=timing.duration_us * NS_PER_US,
        figures={name: value for name, value in found.items() if value is not None},
        energy_source=energies[0].source if len(energies) == len(turns) else "",
        energy_missing=next((turn.figures.energy_missing for turn in turns if turn.figures.energy is None), ""),
        power_w=fmean(each.mean_w.value for each in energies) if len(energies) == len(turns) else None,
        conditions=conditions_between(session, timing.begin_us, timing.end_us),
        begin_us=timing.begin_us,
        end_us=timing.end_us,
    )


def _of_test(figure: Figure, test: Test, turns: Sequence[TurnEntry], tokens: int) -> float | Interval | None:
    """A figure of the turns of one repetition.

    An energy per token is that of all turns over the tokens that the test is about; other figures are the mean of the
    turns, of prompts only: the turns of a test of tokens have no first token and no gaps like those of a reply.
    """
    values = [value for turn in turns if (value := value_of(turn.figures, figure.numerator or figure.name)) is not None]
    if figure.numerator:
        return per_token(values, tokens) if len(values) == len(turns) else None
    if not values or isinstance(test, TokenTest):
        return None
    if isinstance(values[0], Interval):
        return combined(values) if len(values) == len(turns) else None
    return fmean(values)


def _token_timing(test: TokenTest, turn: TurnEntry) -> _Timing | None:
    """llama-bench's: all tokens over the time from before the first decode call to after the last one."""
    begin_us = turn.stamps.prefill_us
    end_us = turn.stamps.last_token_us if test.n_gen else _end_of_prefill_us(turn)
    complete = turn.figures.generated_tokens == test.n_gen
    if begin_us is None or end_us is None or end_us <= begin_us or not complete:
        return None
    tokens = test.n_prompt + test.n_gen
    return _Timing(
        tokens=tokens,
        tokens_per_s=tokens * US_PER_S / (end_us - begin_us),
        duration_us=end_us - begin_us,
        begin_us=begin_us,
        end_us=end_us,
    )


def _prompt_timing(turns: Sequence[TurnEntry]) -> _Timing | None:
    """Decode speed over all turns: the tokens but the first of each, over the time from its first to its last."""
    intervals = decode_us = duration_us = 0
    for turn in turns:
        stamps = turn.stamps
        if stamps.first_token_us is None or stamps.last_token_us is None:
            return None
        intervals += turn.figures.generated_tokens - 1
        decode_us += stamps.last_token_us - stamps.first_token_us
        duration_us += stamps.last_token_us - stamps.submitted_us
    if intervals < 1 or decode_us <= 0:
        return None
    return _Timing(
        tokens=sum(turn.figures.generated_tokens for turn in turns),
        tokens_per_s=intervals * US_PER_S / decode_us,
        duration_us=duration_us,
        begin_us=turns[0].stamps.submitted_us,
        end_us=turns[-1].stamps.last_token_us or turns[-1].stamps.submitted_us,
    )


def _end_of_prefill_us(turn: TurnEntry) -> int | None:
    if turn.prefill is None or not turn.prefill.done or turn.prefill.done[-1] < turn.prefill.total:
        return None
    return turn.stamps.submitted_us + sum(turn.prefill.dt_us)


def conditions_between(session: Session, begin_us: int, end_us: int) -> Conditions:
    """The conditions of a test from `begin_us` to `end_us`, both since the session began."""
    until_us = max(end_us, begin_us + SHORTEST_WINDOW_US)
    limit = limit_between(session, begin_us, until_us).name
    disturbances: list[str] = [limit] if limit in DISTURBING else []
    if any(event.kind == "suspended" and begin_us <= event.t_us <= end_us for event in session.events):
        disturbances.append("suspended")
    if session.pauses(begin_us, end_us):
        disturbances.append(PAUSED)
    battery_w = _latest(session, BATTERY_POWER, until_us)
    if battery_w is not None and battery_w > 0:
        disturbances.append("on battery")
    clocks_hz = [value for value in session.window(FREQUENCY, begin_us, end_us)[1] if value > 0]
    return Conditions(
        disturbances=tuple(disturbances),
        temperature_begin_c=_hottest_c(session, begin_us),
        temperature_end_c=_hottest_c(session, end_us),
        frequency_least_hz=min(clocks_hz, default=None),
        frequency_most_hz=max(clocks_hz, default=None),
    )


def flags_of(conditions: Iterable[Conditions]) -> tuple[str, ...]:
    """What disturbed how many of several repetitions, in words."""
    of_all = list(conditions)
    kinds = dict.fromkeys(kind for each in of_all for kind in each.disturbances)
    flags = [f"{kind} in {sum(kind in each.disturbances for each in of_all)} of {len(of_all)}" for kind in kinds]
    least_hz = min((each.frequency_least_hz for each in of_all if each.frequency_least_hz is not None), default=0.0)
    most_hz = max((each.frequency_most_hz for each in of_all if each.frequency_most_hz is not None), default=0.0)
    if least_hz < (1 - FREQUENCY_SPREAD) * most_hz:
        flags.append(f"clock from {least_hz / HZ_PER_GHZ:.2f} to {most_hz / HZ_PER_GHZ:.2f} GHz")
    return tuple(flags)


def _hottest_c(session: Session, t_us: int) -> float | None:
    names = [name for name in session.channels() if name.startswith(TEMPERATURE_PREFIX)]
    return max((value for name in names if (value := _latest(session, name, t_us)) is not None), default=None)


def _latest(session: Session, channel: str, t_us: int) -> float | None:
    """The last reading before a moment; `None` if it is missing or old."""
    _, values = session.window(channel, t_us - STALE_US, t_us)
    return values[-1] if values and not isnan(values[-1]) else None


def interval_of(values: Sequence[float]) -> MeanInterval:
    """Mean, standard deviation and the 95 % interval of the mean of at least one value above 0, by Student's t."""
    mean = fmean(values)
    if len(values) < 2:
        return MeanInterval(mean=mean, deviation=None, low=None, high=None)
    deviation = stdev(values)
    reach = quantile(CONFIDENCE, len(values) - 1) * deviation / sqrt(len(values))
    return MeanInterval(mean=mean, deviation=deviation, low=max(0.0, mean - reach), high=mean + reach)


def combined(figures: Sequence[Interval]) -> Interval:
    """The mean of the same figure of at least one repetition.

    What the sensor gets wrong in the same way each time stays; the rest falls with the square root of their number, and
    is taken from their scatter where that is larger than what the sensor says.
    """
    value = fmean(figure.value for figure in figures)
    systematic = fmean(figure.u_systematic for figure in figures)
    random = sqrt(sum(figure.u_random**2 for figure in figures)) / len(figures)
    factor = COVERAGE_FACTOR
    if len(figures) > 1:
        scatter = stdev(figure.value for figure in figures) / sqrt(len(figures))
        if scatter > random:
            random, factor = scatter, quantile(CONFIDENCE, len(figures) - 1)
    return _with_reach(value, systematic, random, reach=hypot(COVERAGE_FACTOR * systematic, factor * random))


def per_token(energies_j: Sequence[Interval], tokens: int) -> Interval:
    """The energy of turns that follow each other, by the same sensor, over their tokens."""
    value = sum(figure.value for figure in energies_j) / tokens
    systematic = sum(figure.u_systematic for figure in energies_j) / tokens
    random = sqrt(sum(figure.u_random**2 for figure in energies_j)) / tokens
    return _with_reach(value, systematic, random, reach=COVERAGE_FACTOR * hypot(systematic, random))


def _with_reach(value: float, systematic: float, random: float, *, reach: float) -> Interval:
    return Interval(value=value, low=value - reach, high=value + reach, u_systematic=systematic, u_random=random)


def _interval(value: float | MeanInterval | Interval | None) -> Interval | None:
    return value if isinstance(value, Interval) else None


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
