"""`edgetop bench`: speed, energy, memory and quality over models and settings, so that the figures can be published."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from msgspec.structs import replace

from edgetop.bench.answers import answers_of
from edgetop.bench.measurement import Progress
from edgetop.bench.plan import runs_of
from edgetop.bench.results import PlanResult, results_of
from edgetop.bench.run_log import RunLog
from edgetop.bench.runner import Runner
from edgetop.commands.bench_estimate import say_estimate
from edgetop.commands.bench_folder import find_log, list_logs
from edgetop.commands.bench_output import require_plotting, write_report, write_results
from edgetop.commands.bench_plan import plan_of, say_sizes
from edgetop.commands.bench_quality import score_quality
from edgetop.commands.bench_server import require_same_server
from edgetop.commands.bench_wishes import presentation_of, wishes_of
from edgetop.commands.console import clear_progress, say, say_trouble, show_progress, write_data
from edgetop.commands.conversing import ENDING_SIGNALS, live_options, price_of
from edgetop.commands.listing import table
from edgetop.commands.storage import open_store
from edgetop.fit.reading_speed import Reader
from edgetop.live.conversation import Notice
from edgetop.session.store import Store
from edgetop.settings import options
from edgetop.settings.resolve import Settings

EXIT_INTERRUPTED = 130
EXIT_NOT_LOADED = 3
REPORT_FILE = "report.html"
"""Of a study, in the plan's folder, unless another file is named."""


def execute(arguments: argparse.Namespace, settings: Settings) -> int:
    """Measure what is asked for and print it; 130 when interrupted, 3 when no model could be loaded."""
    store = open_store(settings)
    folder = bench_folder(store)
    if arguments.list:
        write_data(table([["ID", "NAME", "RUNS", "OF", "BEGUN"], *list_logs(folder)]))
        return 0
    shown = presentation_of(arguments)
    if shown.report is not None or arguments.study:
        require_plotting()
    if arguments.dry_run and arguments.resume is None:
        _foretell(arguments, settings, store)
        return 0
    log = _log(arguments, settings, folder)
    quiet = settings[options.QUIET]
    if not quiet or arguments.dry_run:
        _say_beginning(log)
        say_estimate(log, log.remaining(runs_of(log.plan)), settings, store)
    if arguments.dry_run:
        return 0
    finished = carry_out(log, store, settings)
    result = results_of(log.plan, log.finished)
    reader = Reader(
        words_per_minute=settings[options.WORDS_PER_MINUTE], tokens_per_word=settings[options.TOKENS_PER_WORD]
    )
    answers = answers_of(result, reader=reader, price=price_of(settings), ownership=shown.ownership)
    write_results(result, answers, shown.form, quiet=quiet)
    report = shown.report or (log.path / REPORT_FILE if arguments.study else None)
    if report is not None:
        write_report(result, report)
    if not finished:
        say(f"interrupted; `edgetop bench --resume {log.plan.identity}` goes on")
        return EXIT_INTERRUPTED
    return _exit_code(result, log)


def bench_folder(store: Store) -> Path:
    """Where plans and what was done of them are kept: beside the folder of the sessions."""
    return store.folder.parent / "benches"


def carry_out(log: RunLog, store: Store, settings: Settings) -> bool:
    """Do what remains of a plan, the scores of quality last; False when it was interrupted."""
    quiet = settings[options.QUIET]

    def tell(said: Progress | Notice) -> None:
        if isinstance(said, Notice):
            say_trouble(said.text, said.mend)
        elif not quiet:
            show_progress(f"{said.run}/{said.runs}  {said.setting}: {said.doing}")

    with interruptible() as interrupted:
        # Only what a run is not told by its plan: where readings come from, and which engine computes.
        live = replace(live_options(settings), system=None, text_recorded=settings[options.TEXT])
        try:
            done = Runner(log, store, live, tell=tell, interrupted=interrupted).run()
            return done and score_quality(log, store, live, quiet=quiet, interrupted=interrupted)
        finally:
            clear_progress()


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Whether an ending signal has come; the second Ctrl+C ends at once."""
    asked = False

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    heard = [number for number in ENDING_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, interrupt) for number in heard}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _log(arguments: argparse.Namespace, settings: Settings, folder: Path) -> RunLog:
    """The benchmark to go on with, or the one that is asked for."""
    if arguments.resume is not None:
        log = find_log(folder, arguments.resume)
        require_same_server(log.plan.server, settings)
        log.forget_failures()
        return log
    plan = plan_of(wishes_of(arguments), settings, quiet=settings[options.QUIET])
    log = RunLog(folder, plan)
    if arguments.again or not (log.remaining(runs_of(plan)) or log.unscored):
        log.begin_again()
    return log


def _foretell(arguments: argparse.Namespace, settings: Settings, store: Store) -> None:
    """Say what a plan would take; levels that are not there yet are not made."""
    wishes = wishes_of(arguments)
    say_sizes(wishes, settings)
    plan = plan_of(wishes, settings, quiet=True, make=False)
    say_estimate(plan, runs_of(plan), settings, store)


def _say_beginning(log: RunLog) -> None:
    done = f", {log.done} of {len(runs_of(log.plan))} runs done already" if log.done else ""
    say(f"plan {log.plan.identity}{done}")


def _exit_code(result: PlanResult, log: RunLog) -> int:
    if any(setting.tests or setting.quality for setting in result.settings):
        return 0
    outcomes = {run.outcome for run in log.finished}
    return EXIT_NOT_LOADED if outcomes == {"not_loaded"} else 1
