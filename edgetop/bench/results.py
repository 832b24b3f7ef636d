"""From the sessions of a plan to its results: for each setting and test the repetitions, their mean and interval."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from edgetop.bench.conditions import flags_of, happenings_of
from edgetop.bench.means import Interval, combined, interval_of
from edgetop.bench.plan import Plan, PromptTest, Setting, Test
from edgetop.bench.repetitions import Repetition, done_in
from edgetop.bench.run_log import FinishedRun, quality_key
from edgetop.core.energy.figures import Figure
from edgetop.core.energy.grade import Letter
from edgetop.core.quality import Quality
from edgetop.core.records import DeviceInfo, Scope
from edgetop.session.codec import SessionFileError
from edgetop.session.conversion import to_session
from edgetop.session.disk import load_file, load_head
from edgetop.session.file import LoadEntry, SessionFile
from edgetop.session.session import Session


class TestResult(Struct, frozen=True, kw_only=True):
    """One test of one setting."""

    test: Test
    repetitions: tuple[Repetition, ...]
    """At least one."""
    tokens_per_s: Interval
    j_per_token: Figure | None = None
    """Gross, over those repetitions whose energy is known; a flag says so where it is not that of all."""
    net_j_per_token: Figure | None = None
    energy_missing: str = ""
    """Why `j_per_token` is not there; empty when it is."""
    first_token_s: Interval | None = None
    """Of prompts only."""
    temperature_begin_c: float | None = None
    """Of the hottest sensor, in the mean of the repetitions."""
    temperature_end_c: float | None = None
    flags: tuple[str, ...] = ()
    """What disturbed how many repetitions, in words."""


class SettingResult(Struct, frozen=True, kw_only=True):
    """All that was measured with one setting."""

    setting: Setting
    load: LoadEntry | None = None
    """As it was loaded the last time."""
    load_s: Interval | None = None
    rss_peak_bytes: int | None = None
    bandwidth_use: float | None = None
    """Of decoding; `None` where this machine's bandwidth is not known."""
    idle_w: float | None = None
    energy_scope: Scope | None = None
    energy_source: str = ""
    energy_grade: Letter | None = None
    """The worst of all tests and repetitions."""
    measured_at: str = ""
    """When its last run began, ISO 8601 in UTC."""
    tests: tuple[TestResult, ...] = ()
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


class _Measured(NamedTuple):
    """The session of a run that was measured."""

    run: FinishedRun
    file: SessionFile
    session: Session


def results_of(plan: Plan, finished: Sequence[FinishedRun]) -> PlanResult:
    """The results of a plan. Sessions that are gone or cannot be read are told as problems."""
    settings = []
    device: DeviceInfo | None = None
    for setting in plan.settings:
        runs = _last_words([run for run in finished if run.setting == setting.key])
        problems = [f"round {run.round}: {run.reason}" for run in runs if run.outcome != "measured"]
        problems += [f"round {run.round}: it {note}" for run in runs for note in run.notes]
        problems += _quality_problems(setting, finished)
        measured: list[_Measured] = []
        for run in runs:
            if run.outcome != "measured":
                continue
            try:
                file = load_file(Path(run.session))
                measured.append(_Measured(run, file, to_session(file)))
            except SessionFileError as error:
                problems.append(f"round {run.round}: {error.what}")
            except ValueError as error:
                problems.append(f"round {run.round}: {run.session}: {error}")
        device = device or next((each.file.device for each in measured), None)
        problems += _happenings(measured, device)
        result = _setting_result(setting, plan.tests, measured, problems)
        settings.append(replace(result, quality=_quality(setting, finished)))
    return PlanResult(name=plan.name, identity=plan.identity, device=device, settings=tuple(settings))


def _happenings(measured: Sequence[_Measured], device: DeviceInfo | None) -> list[str]:
    """What happened in the runs, and where the device was not the same as at first."""
    told = []
    for run, file, session in measured:
        told += [f"round {run.round}: {text}" for text in happenings_of(session)]
        if device is None:
            continue
        for what, now, first in (
            ("machine", file.device.model or file.device.cpu, device.model or device.cpu),
            ("power mode", file.device.power_mode, device.power_mode),
            ("governor", file.device.governor, device.governor),
        ):
            if now != first:
                told.append(f"round {run.round}: the {what} was {now or 'unknown'}, and {first or 'unknown'} at first")
    return told


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
    runs = _last_words([run for run in finished if run.setting == quality_key(setting.model)])
    return [f"quality: {run.reason}" for run in runs if run.outcome != "measured"]


def _last_words(runs: Iterable[FinishedRun]) -> list[FinishedRun]:
    """Of each round what was said last, except that a measurement stands against a later failure."""
    by_round: dict[int, FinishedRun] = {}
    for run in runs:
        before = by_round.get(run.round)
        if before is None or before.outcome != "measured" or run.outcome == "measured":
            by_round[run.round] = run
    return [by_round[number] for number in sorted(by_round)]


def _setting_result(
    setting: Setting, tests: Sequence[Test], measured: Sequence[_Measured], problems: Sequence[str]
) -> SettingResult:
    files = [each.file for each in measured]
    loads = [file.loads[-1] for file in files if file.loads]
    turns = [turn for file in files for turn in file.turns if turn.task and not turn.warmup]
    energies = [energy for turn in turns if (energy := turn.figures.energy) is not None]
    peaks = [peak for file in files if (peak := file.summary.memory.rss_peak_bytes) is not None]
    uses = [use for file in files if (use := file.summary.bandwidth_use) is not None]
    idle = [energy.idle_w.value for energy in energies if energy.idle_w is not None]
    results: list[TestResult] = []
    told = list(problems)
    for test in tests:
        done = [done_in(test, run.round, file, session) for run, file, session in measured]
        without_rate = sum(each.without_rate for each in done)
        if without_rate:
            told.append(f"{test.name}: {without_rate} repetitions gave no rate and are left out")
        repetitions = [repetition for each in done for repetition in each.repetitions]
        if repetitions:
            results.append(result_of_test(test, repetitions))
    return SettingResult(
        setting=setting,
        load=loads[-1] if loads else None,
        load_s=interval_of([load.load_s for load in loads]) if loads else None,
        rss_peak_bytes=max(peaks, default=None),
        bandwidth_use=fmean(uses) if uses else None,
        idle_w=fmean(idle) if idle else None,
        energy_scope=energies[-1].scope if energies else None,
        energy_source=energies[-1].source if energies else "",
        energy_grade=max((energy.grade for energy in energies), default=None),
        measured_at=max((file.started_at for file in files), default=""),
        tests=tuple(results),
        sessions=tuple(each.run.session for each in measured),
        problems=tuple(told),
    )


def result_of_test(test: Test, repetitions: Sequence[Repetition]) -> TestResult:
    """What at least one repetition of a test says."""
    rated = [each for each in repetitions if each.j_per_token is not None]
    missing = next((each.energy_missing for each in repetitions if each.j_per_token is None), "")
    flags = flags_of(each.conditions for each in repetitions)
    sources = list(dict.fromkeys(each.energy_source for each in rated))
    if len(sources) > 1:
        missing = f"the power was not read from the same sensors in all rounds: {', '.join(sources)}"
        rated = []
    if rated and len(rated) < len(repetitions):
        flags = (*flags, f"energy of {len(rated)} of {len(repetitions)}")
    gross = [each.j_per_token for each in rated if each.j_per_token is not None]
    net = [each.net_j_per_token for each in rated if each.net_j_per_token is not None]
    first_s = [each.first_token_s for each in repetitions if each.first_token_s is not None]
    return TestResult(
        test=test,
        repetitions=tuple(repetitions),
        tokens_per_s=interval_of([each.tokens_per_s for each in repetitions]),
        j_per_token=combined(gross) if gross else None,
        net_j_per_token=combined(net) if net and len(net) == len(gross) else None,
        energy_missing="" if gross else missing,
        first_token_s=interval_of(first_s) if first_s and isinstance(test, PromptTest) else None,
        temperature_begin_c=_mean(each.conditions.temperature_begin_c for each in repetitions),
        temperature_end_c=_mean(each.conditions.temperature_end_c for each in repetitions),
        flags=flags,
    )


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
