"""Verb bench: run, print, resume, archive and rerun; several clients at once."""

from __future__ import annotations

import argparse
import os
import shlex
import time
from collections.abc import Sequence
from glob import escape
from itertools import chain
from pathlib import Path

from msgspec import to_builtins
from msgspec.structs import replace

from edgetop import __version__
from edgetop.bench.conclusions import Conclusions, conclusions_of
from edgetop.bench.concurrency import Clients, Load
from edgetop.bench.device_settings import DeviceSettings
from edgetop.bench.output import (
    Archive,
    as_cells,
    as_csv,
    as_json,
    as_jsonl,
    as_markdown,
    as_sql,
    held_against,
    here,
    read_archive,
    rows_of,
    write_archive,
)
from edgetop.bench.paper import (
    ENERGY_PARTS,
    MEMORY_PARTS,
    Ownership,
    View,
    caption_of,
    energy_parts,
    memory_parts,
    method_of,
    paper_rows,
    section,
    table_cells,
    table_csv,
    table_latex,
    values_of,
)
from edgetop.bench.plan import (
    ASKED,
    BenchRequest,
    Plan,
    PromptTest,
    runs_of,
)
from edgetop.bench.quality import score_models
from edgetop.bench.results import PlanResult, remaining_of, results_of
from edgetop.bench.run_log import (
    RunLog,
    find_log,
    list_logs,
)
from edgetop.bench.runner import Progress, Runner
from edgetop.commands.bench_plan import (
    bench_request,
    foretell,
    level_folder,
    plan_of,
    print_estimate,
    require_same_server,
)
from edgetop.commands.inputs import (
    bench_folder,
    device_state,
    given_duty,
    live_options,
    local_model,
    open_store,
    power_choice,
    reader_of,
    server_choice,
)
from edgetop.commands.output import (
    ExitCode,
    clear_progress,
    interruptible,
    print_error,
    print_saved,
    print_status,
    show_progress,
    table,
    write_data,
    write_json,
)
from edgetop.core.energy.duty import Duty
from edgetop.core.errors import EdgetopError, ModelError, UsageError
from edgetop.core.format import time_left
from edgetop.core.text import markdown_table, one_line
from edgetop.inference.server.address import KEY_VARIABLE, key_of
from edgetop.io.files import expanded, write_atomically
from edgetop.io.http import RequestError
from edgetop.io.model_file import content_key
from edgetop.live.conversation import Notice
from edgetop.live.live_session import WatchOptions
from edgetop.report import card
from edgetop.report.page import Study
from edgetop.report.plots import Bar, Point, bars, points
from edgetop.session.compare.compare import compare
from edgetop.session.compare.reading import read_all
from edgetop.session.compare.wording import conclusion
from edgetop.session.requests import LEVEL_COLUMNS, LevelFigures, energy_note, failures_line, knee_line, level_rows
from edgetop.session.store import Store
from edgetop.settings import options
from edgetop.settings.resolve import Settings, price_of
from edgetop.telemetry.host import Host


def view_of(arguments: argparse.Namespace, settings: Settings) -> View:
    """How the results are to be shown; read before hours are spent on them. Raises UsageError."""
    price, years = arguments.device_price, arguments.device_years
    if years is not None and price is None:
        raise UsageError("--device-years says nothing without --device-price", "give both, or none")
    for flag, named in (("--report", arguments.report), ("--archive", arguments.archive)):
        if named is not None and not expanded(named).absolute().parent.is_dir():
            raise UsageError(f"{named}: there is no such folder", f"name a file in a folder that exists with {flag}")
    life = {} if years is None else {"life_years": years}
    return View(
        reader=reader_of(settings),
        duty=given_duty(settings) or Duty(),
        price=price_of(settings),
        ownership=None if price is None else Ownership(device_price=price, **life),
    )


def _heading(result: PlanResult) -> str:
    """What it was measured on, as on a card; of several settings what they have in common."""
    loads = [setting.load for setting in result.settings if setting.load is not None]
    alike = len(loads) == 1
    measured = dict.fromkeys(
        f"{'simulated power: ' * setting.simulated}{setting.energy_scope.replace('_', ' ')}, {setting.energy_source}"
        for setting in result.settings
        if setting.energy_scope is not None
    )
    rows = card.heading(result.device, loads[0] if alike else None, "; ".join(measured))
    if not alike:
        rows += [("engine", label) for label in dict.fromkeys(load.engine.label for load in loads)]
    return card.as_markdown("edgetop bench", rows)


def write_results(
    plan: Plan, result: PlanResult, conclusions: Conclusions, form: str, view: View, *, quiet: bool
) -> None:
    """Print results as data; what went wrong goes to stderr, and into the data of those forms that have room for it."""
    rows = rows_of(result)
    match form:
        case "json":
            write_data(as_json(rows))
        case "jsonl":
            write_data(as_jsonl(rows))
        case "csv":
            write_data(as_csv(rows))
        case "sql":
            write_data(as_sql(rows))
        case "paper":
            write_data(section(plan, result, view, conclusions.sentences))
        case "latex":
            write_data(table_latex(paper_rows(result, view), f"Benchmark {plan.name}. {caption_of(result)}"))
        case "md":
            sentences = "".join(f"- {one_line(each)}\n" for each in conclusions.sentences)
            write_data("\n".join([_heading(result), as_markdown(rows), sentences]))
        case _:
            if rows:
                write_data(table(as_cells(rows)) + "\n")
            write_data("".join(f"{one_line(sentence)}\n" for sentence in conclusions.sentences))
    if not quiet or form == "table":
        for setting in result.settings:
            for problem in setting.problems:
                print_status(f"{setting.setting.key}: {problem}")


def study_of(plan: Plan, result: PlanResult, view: View, sentences: Sequence[str]) -> Study:
    """The results section with its pictures."""
    told = paper_rows(result, view)
    headings, *rows = table_cells(told) if told else [[]]
    keys = [each.setting.setting.key for each in told]
    values = [values_of(each) for each in told]
    power = "simulated power: computed, not measured" if result.simulated else "measured gross, idle power included"
    pictures = []
    parts = [(key, memory_parts(each)) for key, each in zip(keys, told, strict=True)]
    if any(found for _, found in parts):
        drawn = [Bar(name=key, parts=found) for key, found in parts if found]
        pictures.append(bars("Memory by part", "MB", MEMORY_PARTS, drawn, "As the engine says it allocated it."))
    for name, title, unit in (("decode_tokens_per_s", "Decode speed", "tok/s"), ("load_s", "Load", "s")):
        known = [(key, each[name]) for key, each in zip(keys, values, strict=True) if name in each]
        if known:
            drawn = [Bar(name=key, parts=(value.value,), low=value.low, high=value.high) for key, value in known]
            pictures.append(bars(title, unit, (title,), drawn, "Bars are means; lines are 95 % intervals."))
    spent = [(key, energy_parts(each)) for key, each in zip(keys, told, strict=True)]
    if any(found for _, found in spent):
        drawn = [Bar(name=key, parts=found) for key, found in spent if found]
        words = f"For each decoded token of the prefill test and the decode test behind it; {power}."
        pictures.append(bars("Energy per token by part", "J/token", ENERGY_PARTS, drawn, words))
    for x, x_unit, y, y_unit, title in (
        ("decode_tokens_per_s", "tok/s", "j_per_token", "J/token", "Energy per token against speed"),
        ("j_per_token", "J/token", "perplexity", "perplexity", "Quality against energy per token"),
        ("j_per_token", "J/token", "right_share", "share of right answers", "Right answers against energy per token"),
    ):
        marks = [
            Point(name=key, x=(each[x].value, each[x].low, each[x].high), y=(each[y].value, each[y].low, each[y].high))
            for key, each in zip(keys, values, strict=True)
            if x in each and y in each
        ]
        if marks:
            pictures.append(points(title, x_unit, y_unit, marks, f"Lines are 95 % intervals; {power}."))
    return Study(
        title=f"Benchmark {plan.name}{': simulated power' * result.simulated}",
        method=method_of(plan, result, view),
        headings=tuple(headings),
        rows=tuple(map(tuple, rows)),
        caption=caption_of(result),
        pictures=tuple(pictures),
        sentences=tuple(sentences),
    )


def write_report(result: PlanResult, output: Path, study: Study) -> None:
    """Write the HTML report of a plan's sessions and say where it is. Raises EdgetopError."""
    from edgetop.commands.report import report_of  # noqa: PLC0415 - brings the plotting library

    sessions = [Path(path) for each in result.settings for path in each.sessions]
    if not sessions:
        return
    try:
        write_atomically(output, [report_of(sessions, study=study).encode("utf-8", "replace")])
    except OSError as error:
        raise EdgetopError(f"{output}: {error.strerror}", "name a file that can be written with --report") from None
    print_status(f"report: {output}")


REPORT_FILE = "report.html"
"""Of a study, in the plan's folder, unless another file is named."""


def execute(arguments: argparse.Namespace, settings: Settings) -> int:
    """Measure what is asked for and print it; 130 when interrupted, 3 when no model could be loaded."""
    store = open_store(settings)
    folder = bench_folder(store)
    if arguments.list:
        headings, rows = ["ID", "NAME", "RUNS", "OF", "BEGUN"], list_logs(folder)
        if arguments.output_format == "json":
            write_json([dict(zip(map(str.lower, headings), row, strict=True)) for row in rows])
        else:
            write_data(table([headings, *rows]))
        return 0
    if arguments.concurrency:
        return _concurrent(arguments, settings, store)
    view = view_of(arguments, settings)
    if arguments.dry_run and arguments.resume is None:
        foretell(arguments, settings, store)
        return 0
    first = None if arguments.rerun is None else _archive(expanded(arguments.rerun), folder)
    device = DeviceSettings(device_state(store), Host(sysroot=settings[options.SYSROOT]))
    log = _log(arguments, settings, folder, device, first)
    quiet = settings[options.QUIET]
    if not quiet or arguments.dry_run:
        _print_beginning(log)
        print_estimate(log, remaining_of(log), settings, store)
    if arguments.dry_run:
        return 0
    finished = carry_out(log, store, settings, device)
    result = results_of(log.plan, log.finished, given_duty(settings))
    conclusions = conclusions_of(result, reader=view.reader, price=view.price, ownership=view.ownership)
    if any(isinstance(test, PromptTest) and test.title == ASKED for test in log.plan.tests):
        conclusions = replace(conclusions, sentences=(*_held_together(result, settings), *conclusions.sentences))
    if first is not None:
        archived = results_of(first.plan, first.finished, given_duty(settings))
        conclusions = replace(conclusions, sentences=(*conclusions.sentences, *held_against(archived, result)))
    write_results(log.plan, result, conclusions, arguments.output_format, view, quiet=quiet)
    if arguments.archive is not None:
        _write_archive(expanded(arguments.archive), log, result, conclusions, view)
    named = log.path / REPORT_FILE if arguments.study else None
    report = named if arguments.report is None else expanded(arguments.report)
    if report is not None:
        write_report(result, report, study_of(log.plan, result, view, conclusions.sentences))
    if not finished:
        print_status(f"interrupted; `edgetop bench --resume {log.plan.identity}` goes on")
        return ExitCode.INTERRUPTED
    return _exit_code(result, log, store)


def _held_together(result: PlanResult, settings: Settings) -> Sequence[str]:
    """What `edgetop compare` says of the settings that were asked the same, and how to see their answers."""
    latest = [Path(each.sessions[-1]) for each in result.settings if each.sessions]
    if len(latest) < 2:
        return ()
    found = compare(read_all([Path(path) for each in result.settings for path in each.sessions], given_duty(settings)))
    print_status(f"side by side: edgetop replay {shlex.join(map(str, latest))}")
    return [conclusion(found, lambda index: found.rows[index].result.name)]


_SAYS_SOMETHING = ("models", "n_prompt", "n_gen", "repetitions", "warmup")
"""What a benchmark with several clients takes of a request."""


def _load_of(arguments: argparse.Namespace) -> tuple[Load, str | None]:
    """What several clients are to ask for, and the model that was named. Raises UsageError."""
    request, unset = bench_request(arguments), BenchRequest()
    others = ("plan", "study", "resume", "rerun", "archive", "report", "dry_run", "again")
    if (
        any(getattr(arguments, name) for name in others)
        or any(
            getattr(request, name) != getattr(unset, name)
            for name in unset.__struct_fields__
            if name not in _SAYS_SOMETHING
        )
        or max(len(request.models), len(request.n_prompt), len(request.n_gen)) > 1
        or 0 in (*request.n_prompt, *request.n_gen)
        or arguments.output_format in {"sql", "paper", "latex"}
    ):
        raise UsageError(
            "with --concurrency there is one model (-m), one prompt (-p), one answer (-n), -r and a table",
            "leave the other options out; -o is table, md, csv, json or jsonl",
        )
    load = Load(at_once=tuple(sorted(set(chain.from_iterable(arguments.concurrency)))), requests=request.repetitions)
    if arguments.n_prompt:
        load = replace(load, prompt_tokens=request.n_prompt[0])
    if arguments.n_gen:
        load = replace(load, answer_tokens=request.n_gen[0])
    return load, request.models[0] if request.models else None


def _concurrent(arguments: argparse.Namespace, settings: Settings, store: Store) -> int:
    """Ask a server with several clients at once, and print what each number of them came to."""
    choice = server_choice(settings)
    if choice is None:
        raise UsageError("--concurrency is for a server", "name it with --server URL")
    load, model = _load_of(arguments)
    quiet = settings[options.QUIET]
    try:
        key = key_of(choice, os.environ.get(KEY_VARIABLE))
    except ValueError as error:
        raise UsageError(str(error), "put the key alone into it") from None
    watched = WatchOptions(
        servers={choice.address: key},
        sysroot=settings[options.SYSROOT],
        power=power_choice(settings),
        record=settings[options.RECORD],
        output=settings[options.OUTPUT],
    )
    finished, path = False, None
    with interruptible() as interrupted:
        try:
            clients = Clients(
                watched,
                store,
                lambda text: None if quiet else print_error(text),
                load=load,
                model=model,
                choice=choice,
                interrupted=interrupted,
            )
            try:
                finished = clients.carry_out(lambda text: None if quiet else show_progress(text))
            finally:
                path = clients.close()
        except RequestError as failure:
            raise ModelError(*failure.reason) from None
        finally:
            clear_progress()
    levels = clients.levels
    _write_levels(levels, clients.slots, arguments.output_format)
    if failures := failures_line(clients.session.requests):
        print_error(failures)
    code = print_saved(path, clients.recorder.why_not, quiet=quiet)
    if not finished:
        return ExitCode.INTERRUPTED
    return code or int(any(level.failed for level in levels))


def _write_levels(levels: Sequence[LevelFigures], slots: int | None, form: str) -> None:
    rows = [to_builtins(level) for level in levels]
    match form:
        case "json":
            write_json(rows)
        case "jsonl":
            write_data(as_jsonl(rows))
        case "csv":
            write_data(as_csv([{**row, "gross_j": row["gross_j"] and row["gross_j"]["value"]} for row in rows]))
        case _:
            cells = level_rows(levels)
            write_data(markdown_table(cells, LEVEL_COLUMNS) if form == "md" else table(cells))
            lines = [knee_line(levels), energy_note(levels)] if levels else ["nothing was measured"]
            if slots is not None:
                lines.append(f"the server works at {slots} request{'s' if slots != 1 else ''} at once; others wait")
            write_data("\n" + "".join(f"{one_line(line)}\n" for line in lines))


def _archive(path: Path, folder: Path) -> Archive:
    """What is to be measured once more; its sessions are unpacked beside the benchmarks of this machine."""
    if path.exists() and not path.is_file():
        raise UsageError(f"{one_line(str(path))} is no file", "name an archive that --archive wrote")
    try:
        name = content_key(path)
    except ModelError as error:
        raise UsageError(error.what, "check the path") from None
    return read_archive(path, folder.parent / "archives" / name)


def _of_archive(first: Archive, arguments: argparse.Namespace, settings: Settings) -> Plan:
    """The archive's plan with the models of this machine. Raises UsageError."""

    def find(name: str) -> list[Path]:
        named = [path for (text,) in arguments.models or () if (path := expanded(text)).is_file()]
        if not name or Path(name).name != name or "\0" in name:
            raise UsageError(f"the archive names no file of a model: {one_line(name)[:80]!r}", "write it anew")
        made = sorted(level_folder().rglob(escape(name)))
        try:
            return [*named, *made, local_model(name.removesuffix(".gguf"), settings)]
        except ModelError:
            return [*named, *made]

    require_same_server(first.plan.server, settings)
    return here(first.plan, find, content_key)


def _write_archive(path: Path, log: RunLog, result: PlanResult, conclusions: Conclusions, view: View) -> None:
    rows = paper_rows(result, view)
    texts = {
        "results.md": section(log.plan, result, view, conclusions.sentences),
        "table.csv": table_csv(rows),
        "table.tex": table_latex(rows, f"Benchmark {log.plan.name}. {caption_of(result)}"),
    }
    try:
        count = write_archive(path, log, result, texts if rows else {}, __version__)
    except OSError as error:
        raise EdgetopError(f"{path}: {error.strerror}", "name a file that can be written with --archive") from None
    print_status(f"archive: {path}, {count} sessions; `edgetop bench --rerun {path.name}` measures it elsewhere")


def carry_out(log: RunLog, store: Store, settings: Settings, device: DeviceSettings) -> bool:
    """Do what remains of a plan, the scores of quality last; False when it was interrupted."""
    quiet = settings[options.QUIET]
    begun: list[tuple[int, float]] = []
    """The first run of this process, and when it began."""
    then = f", then quality of {len(log.unscored)}" if log.unscored else ""

    def left(event: Progress) -> str:
        begun[:] = begun or [(event.run, time.monotonic())]
        first, since_s = begun[0]
        return time_left((event.run - first) / (event.runs - first + 1), time.monotonic() - since_s)

    def on_progress(event: Progress | Notice) -> None:
        if isinstance(event, Notice):
            print_error(event.text, event.hint)
        elif not quiet:
            show_progress(f"{event.run} of {event.runs}{left(event)}{then}  {event.setting}: {event.doing}")

    scoring_s: list[float] = []
    """When the first score began."""

    def on_score(course: str, doing: str, share: float) -> None:
        scoring_s[:] = scoring_s or [time.monotonic()]
        if not quiet:
            show_progress(f"quality: {course}{time_left(share, time.monotonic() - scoring_s[0])}  {doing}")

    with interruptible() as interrupted:
        # Only what its plan does not say: where readings come from, and which engine computes.
        live = replace(live_options(settings), system=None, text_recorded=settings[options.TEXT])
        try:
            done = Runner(log, store, live, on_progress=on_progress, interrupted=interrupted, device=device).run()
            return done and score_models(
                log, store, live, on_score=on_score, on_notice=on_progress, interrupted=interrupted
            )
        finally:
            clear_progress()


def _log(
    arguments: argparse.Namespace, settings: Settings, folder: Path, device: DeviceSettings, first: Archive | None
) -> RunLog:
    """The benchmark to go on with, or the one that is asked for; nothing is begun that the device refuses."""
    if arguments.resume is not None:
        log = find_log(folder, arguments.resume)
        require_same_server(log.plan.server, settings)
        if not arguments.dry_run:
            device.require(log.plan.settings)
        log.forget_failures()
        return log
    if first is None:
        plan = plan_of(bench_request(arguments), settings, quiet=settings[options.QUIET])
    else:
        plan = _of_archive(first, arguments, settings)
    device.require(plan.settings)
    log = RunLog(folder, plan)
    if arguments.again or not (remaining_of(log) or log.unscored):
        log.begin_again()
    return log


def _print_beginning(log: RunLog) -> None:
    done = f", {log.done} of {len(runs_of(log.plan))} runs done already" if log.done else ""
    print_status(f"plan {log.plan.identity}{done}")


def _exit_code(result: PlanResult, log: RunLog, store: Store) -> int:
    """1 when a setting or the quality part failed, or a session is not in the store."""
    last = {(run.setting, run.round): run for run in log.finished}.values()
    outcomes = {run.outcome for run in last}
    if outcomes == {"not_loaded"}:
        return ExitCode.NOT_LOADED
    displaced = any(run.session and Path(run.session).parent != store.folder for run in last)
    has_result = any(setting.tests or setting.quality for setting in result.settings)
    return ExitCode.DONE if has_result and outcomes == {"measured"} and not displaced else ExitCode.FAILED
