"""Verb tune."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from edgetop.bench.plan import CoolDown, ModelFile, Setting
from edgetop.bench.runner import Progress
from edgetop.bench.tuning import (
    CandidateResult,
    Lengths,
    NothingMeasuredError,
    StageResult,
    TuningInterruptedError,
    TuningRuns,
    answers,
    lengths_for,
    questions,
    suits,
    thread_counts,
)
from edgetop.commands.inputs import live_options, local_model, open_store
from edgetop.commands.output import (
    ExitCode,
    clear_progress,
    interruptible,
    print_error,
    print_status,
    show_progress,
    write_listing,
)
from edgetop.commands.power_findings import power_headline
from edgetop.core.errors import EdgetopError, ModelError, UsageError
from edgetop.core.format import Column, format_time, time_left
from edgetop.core.records import machine_key
from edgetop.core.sources import Unavailable
from edgetop.io.cpus import decode_threads, fast_mask
from edgetop.io.model_file import content_key
from edgetop.live.conversation import Notice
from edgetop.live.this_machine import Goal, TunedModel, load_tuned, remove_tuned, save_tuned, tuned_file
from edgetop.settings import options
from edgetop.settings.option import SCRIPT_PREFIX
from edgetop.settings.resolve import Settings
from edgetop.telemetry.device import describe
from edgetop.telemetry.host import Host

TEST_S = {"speed": 2.0, "energy": 6.0}
"""Length of a test; the slowest sensors of power tell apart little less than the second."""

FIRST_LOOK = 1
"""The run before the first question."""

COOL_DOWN = {"speed": CoolDown(idle_s=0, limit_s=0), "energy": CoolDown(limit_s=40)}


class TriedSetting(NamedTuple):
    """A candidate of a question, how it did, and whether it was chosen."""

    question: StageResult
    result: CandidateResult
    goal: Goal

    @property
    def chosen(self) -> bool:
        """Whether it is the answer."""
        return self.result.setting == self.question.chosen

    @property
    def setting(self) -> str:
        """What it is, as far as the candidates of the question differ."""
        return _value(self.question, self.result.setting)

    @property
    def outcome(self) -> str:
        """Why it was chosen or left out."""
        return f"chosen: {self.question.reason}" if self.chosen else _outcome(self.result)


COLUMNS: tuple[Column[TriedSetting], ...] = (
    Column("question", lambda tried: tried.question.stage.name, "QUESTION"),
    Column("setting", heading="SETTING"),
    Column("test", lambda tried: tried.question.stage.test.name, "TEST"),
    Column(
        "cost",
        lambda tried: tried.result.cost if tried.result.samples else None,
        "MEASURED",
        lambda tried: _measured(tried.result, tried.goal),
    ),
    Column("cost_unit", lambda tried: "s/token" if tried.goal == "speed" else "J/token"),
    Column("relative_deviation", lambda tried: tried.result.spread),
    Column("repetitions", lambda tried: len(tried.result.costs)),
    Column("disturbed", lambda tried: sum(sample.disturbed for sample in tried.result.samples)),
    Column("chosen"),
    Column("failure", lambda tried: tried.result.failure),
    Column("", heading="", text=lambda tried: tried.outcome),
)

TUNED_COLUMNS: tuple[Column[TunedModel], ...] = (
    Column("", heading="MODEL", text=lambda tuned: tuned.label),
    Column("", heading="SETTINGS", text=lambda tuned: tuned.words),
    *(
        Column(name)
        for name in ("model", "n_threads", "n_threads_batch", "n_ubatch", "kv_type", "flash_attn", "cpu_mask", "goal")
    ),
    Column("tuned_at", heading="TUNED", text=lambda tuned: format_time(tuned.tuned_at)[:10]),
)


def execute(arguments: argparse.Namespace, settings: Settings) -> int:
    """Find the settings, print how, and save them; 130 when interrupted, of which what was answered is saved."""
    host = Host(sysroot=settings[options.SYSROOT])
    file, machine = tuned_file(open_store(settings).folder), machine_key(describe(host))
    if arguments.show:
        _show(file, machine, arguments.format)
        return 0
    path = _model(arguments.model, settings)
    key = content_key(path)
    if arguments.remove:
        removed = remove_tuned(file, key, machine)
        print_status(
            f"{path.name} has the usual settings again" if removed else f"{path.name} was not tuned on this machine"
        )
        return 0
    goal: Goal = arguments.goal
    if goal == "energy":
        _require_power(settings)
    test_s = TEST_S[goal] if arguments.test_s is None else arguments.test_s
    try:
        found, asked = _tune(path, key, settings, goal, rounds=arguments.repetitions, test_s=test_s)
    except NothingMeasuredError as error:
        raise EdgetopError(f"{path.name} could not be measured: {error}", "see `edgetop doctor`") from None
    interrupted = f"interrupted after {len(found)} of {asked} questions; " if len(found) < asked else ""
    if not found:
        print_status("interrupted; nothing was saved")
        return ExitCode.INTERRUPTED
    tried = [TriedSetting(question, result, goal) for question in found for result in question.results]
    write_listing(tried, COLUMNS, arguments.format)
    tuned = _tuned(path, key, machine, goal, found[-1].chosen)
    print_status(f"{path.name}: {tuned.words}")
    _warn_of_disturbances(found)
    code = ExitCode.INTERRUPTED if interrupted else 0
    if arguments.dry_run:
        print_status(f"{interrupted}not saved, since --dry-run was given")
        return code
    if interrupted and any((each.model, each.machine) == (key, machine) for each in load_tuned(file)):
        print_status(f"{interrupted}the settings that were found earlier stay")
        return code
    save_tuned(file, tuned)
    told = "these are its defaults on this machine, and whatever you set yourself still wins"
    print_status(f"{interrupted}saved in {file}; {told}")
    return code


def _model(named: str | None, settings: Settings) -> Path:
    if settings[options.SERVER] is not None:
        raise UsageError(
            "a server's settings are not ours to change", "leave --server (EDGETOP_SERVER) out and name a model file"
        )
    if not settings[options.ENGINE].startswith(SCRIPT_PREFIX):
        return local_model(named, settings)
    if named is None:
        raise ModelError("an engine that plays a script has no last model", "name a file")
    return Path(named)


def _require_power(settings: Settings) -> None:
    headline = power_headline(settings)
    if isinstance(headline, Unavailable):
        raise EdgetopError(f"no energy can be measured here: {headline.reason}", headline.hint or "tune for speed")


def _tune(
    path: Path, key: str, settings: Settings, goal: Goal, *, rounds: int, test_s: float
) -> tuple[list[StageResult], int]:
    """The questions that were answered before it was interrupted, if it was, and how many there are."""
    quiet = settings[options.QUIET]
    found: list[StageResult] = []
    asked = {"a first look": 1}
    earlier, begun_s = 0, time.monotonic()
    """Runs of the questions before this one, and when the first question was begun."""

    def on_progress(event: Progress | Notice) -> None:
        if isinstance(event, Notice):
            print_error(event.text, event.hint)
        elif not quiet:
            show_progress(f"{course(event)}  {event.setting}: {event.doing}")

    def course(event: Progress) -> str:
        if not lengths:
            return "a first look"
        name, at = list(asked)[len(found)], len(found) + 1
        # What turns out to be hopeless is left out, so that it is over sooner.
        most = [count * rounds if count > 1 else 1 for count in asked.values()]
        done = runs.done + event.run - 1
        left = sum(most[at:]) + max(1, most[at - 1] - (done - earlier))
        share = (done - FIRST_LOOK) / (done - FIRST_LOOK + left)
        return f"question {at} of {len(asked)}, {name}{time_left(share, time.monotonic() - begun_s)}"

    device = describe(Host(sysroot=settings[options.SYSROOT]))
    threads = thread_counts(decode_threads(settings[options.SYSROOT]), device.cores_logical or 1)
    mask = fast_mask(settings[options.SYSROOT])
    start = Setting(model=ModelFile(path=str(path), label=path.stem, content=key))
    live = replace(live_options(settings), system=None)
    lengths: Lengths | None = None
    with interruptible() as interrupted:
        runs = TuningRuns(live, goal, COOL_DOWN[goal], on_progress=on_progress, interrupted=interrupted)
        try:
            lengths = lengths_for(runs.probe(start), test_s=test_s)
            asked, earlier, begun_s = questions(threads, lengths, fast_mask=mask), runs.done, time.monotonic()
            for result in answers(start, threads, lengths, rounds, runs.measure, fast_mask=mask):
                found.append(result)
                earlier = runs.done
                if not suits(mask, found[0].chosen.threads):
                    asked.pop("cores", None)
                if not quiet:
                    print_status(f"{result.stage.name}: {_value(result, result.chosen)}, since {result.reason}")
        except TuningInterruptedError:
            pass
        finally:
            runs.close()
            clear_progress()
    return found, len(asked)


def _warn_of_disturbances(found: Sequence[StageResult]) -> None:
    samples = [sample for stage in found for result in stage.results for sample in result.samples]
    disturbed = sum(sample.disturbed for sample in samples)
    if 2 * disturbed > len(samples):
        print_error(
            f"{disturbed} of {len(samples)} repetitions were disturbed by other programs, heat or a lack of memory",
            "what was found holds for such times; tune again when the device is at rest",
        )


def _tuned(path: Path, key: str, machine: str, goal: Goal, chosen: Setting) -> TunedModel:
    threads = chosen.threads or 1
    return TunedModel(
        model=key,
        machine=machine,
        label=path.stem[:200],
        size_bytes=path.stat().st_size,
        goal=goal,
        tuned_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        n_threads=threads,
        n_threads_batch=chosen.threads_batch or threads,
        n_ubatch=chosen.ubatch,
        kv_type=chosen.kv_type,
        flash_attn=chosen.flash_attn or "auto",
        cpu_mask=chosen.cpu_mask,
    )


def _value(result: StageResult, setting: Setting) -> str:
    """What the candidates of a question differ in."""
    match result.stage.name:
        case "threads":
            return f"{setting.threads}"
        case "prefill threads":
            return f"{setting.threads_batch}"
        case "ubatch":
            return f"{setting.ubatch}"
        case "cores":
            return "any" if setting.cpu_mask is None else f"mask {setting.cpu_mask}"
        case "flash attention":
            return setting.flash_attn or "auto"
        case _:
            return setting.kv_type


def _measured(result: CandidateResult, goal: Goal) -> str:
    if not result.samples:
        return "n/a"
    spread = "" if result.spread is None else f" ± {100 * result.spread:.1f} %"
    value = f"{1 / result.cost:.1f} tok/s" if goal == "speed" else f"{result.cost:.3g} J/token"
    return f"{value}{spread}"


def _outcome(result: CandidateResult) -> str:
    if result.failure:
        return result.failure
    return "" if result.left_out_after is None else f"left out after round {result.left_out_after}"


def _show(file: Path, machine: str, form: str | None) -> None:
    tuned = [each for each in load_tuned(file) if each.machine == machine]
    if not tuned and form is None:
        print_status("no model was tuned on this machine in its present power mode; `edgetop tune MODEL` does it")
        return
    write_listing(tuned, TUNED_COLUMNS, form)
