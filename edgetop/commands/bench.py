"""Verb bench: from flags and plan file to a plan; estimate, run, print, resume."""

from __future__ import annotations

import argparse
import os
import shlex
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from itertools import chain, product
from pathlib import Path
from typing import TypeVar

import platformdirs
from msgspec import Struct, to_builtins
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
    DEVICE_AXES,
    WITHOUT,
    BenchRequest,
    CoolDown,
    Expected,
    ModelFile,
    Plan,
    PromptTest,
    QualityPlan,
    Run,
    Setting,
    Until,
    changed_request,
    engine_settings,
    estimate,
    read_questions,
    read_request,
    reading_text,
    require_tests,
    runs_of,
    settings_of,
    tests_of,
)
from edgetop.bench.quality import QualityError, QualityScorer
from edgetop.bench.results import PlanResult, remaining_of, results_of
from edgetop.bench.run_log import PLAN_FILE, BenchFolderError, FinishedRun, RunLog, quality_key, read_plan
from edgetop.bench.runner import Progress, Runner
from edgetop.commands.inputs import (
    bench_folder,
    device_state,
    given_duty,
    has_own_engine,
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
from edgetop.commands.power_findings import power_headline
from edgetop.core.energy.duty import Duty
from edgetop.core.errors import EdgetopError, ModelError, UsageError
from edgetop.core.format import format_bytes, format_duration, format_time, time_left
from edgetop.core.sources import Unavailable
from edgetop.core.text import markdown_table, one_line
from edgetop.fit.assessment import RunTarget, Workload, assess
from edgetop.fit.model_facts import in_time, read_facts
from edgetop.inference.quantization import LEVELS, level_path, quantize_model, size_of_level
from edgetop.inference.server.address import KEY_VARIABLE, ServerChoice, key_of
from edgetop.inference.server.backend import choose
from edgetop.inference.server.detection import ServerProbe, probe
from edgetop.io.files import expanded, read_small, write_atomically
from edgetop.io.http import RequestError
from edgetop.io.model_file import content_key
from edgetop.live.chat_session import LiveOptions
from edgetop.live.conversation import Notice
from edgetop.live.live_session import WatchOptions
from edgetop.live.this_machine import own_run_target
from edgetop.report import card
from edgetop.report.page import Study
from edgetop.report.plots import Bar, Point, bars, points
from edgetop.session.compare.compare import compare
from edgetop.session.compare.reading import read_all
from edgetop.session.compare.wording import conclusion
from edgetop.session.requests import LEVEL_COLUMNS, LevelFigures, energy_note, failures_line, knee_line, level_rows
from edgetop.session.store import Store
from edgetop.settings import options
from edgetop.settings.option import SCRIPT_PREFIX, SERVER_ENGINE, Option, parse_value
from edgetop.settings.resolve import Settings, price_of
from edgetop.telemetry.host import Host

T = TypeVar("T")

STUDY_LEVELS = ("F16", "Q8_0", "Q5_K_M", "Q4_K_M", "Q4_0", "Q2_K")


class Presentation(Struct, frozen=True, kw_only=True):
    """How the results are to be shown."""

    form: str
    """One of `edgetop.bench.output.Format`."""
    ownership: Ownership | None
    report: Path | None


def presentation_of(arguments: argparse.Namespace) -> Presentation:
    """How the results are to be shown; read before hours are spent on them. Raises UsageError."""
    price, years = arguments.device_price, arguments.device_years
    if years is not None and price is None:
        raise UsageError("--device-years says nothing without --device-price", "give both, or none")
    ownership = None
    if price is not None:
        ownership = Ownership(device_price=price) if years is None else Ownership(device_price=price, life_years=years)
    report = None if arguments.report is None else expanded(arguments.report)
    for flag, named in (("--report", arguments.report), ("--archive", arguments.archive)):
        if named is not None and not expanded(named).absolute().parent.is_dir():
            raise UsageError(f"{named}: there is no such folder", f"name a file in a folder that exists with {flag}")
    return Presentation(form=arguments.output_format, ownership=ownership, report=report)


def bench_request(arguments: argparse.Namespace) -> BenchRequest:
    """What is to be measured. Raises UsageError."""
    request = BenchRequest() if arguments.plan is None else read_request(expanded(arguments.plan))
    if arguments.study:
        request = _study(request)
    given = {name: getattr(arguments, name, None) for name in BenchRequest.__struct_fields__}
    given |= {option.name: _axis(option, getattr(arguments, option.name)) for option in options.BENCH_AXES}
    # A list has a tuple for each time that the flag was given.
    changes = {
        name: tuple(dict.fromkeys(chain.from_iterable(value))) if isinstance(value, list) else value
        for name, value in given.items()
        if value is not None
    }
    request = changed_request(request, **changes)
    if arguments.prompt and arguments.plan is None and not arguments.study:
        # A prompt of one's own stands in place of the usual tests; those that were asked for are done as well.
        request = replace(request, n_prompt=changes.get("n_prompt", ()), n_gen=changes.get("n_gen", ()))
    require_tests(request)
    return request


def _study(request: BenchRequest) -> BenchRequest:
    """The whole study: six levels, one thread and all, the usual tests, real prompts and quality."""
    from edgetop.io.cpus import decode_threads  # noqa: PLC0415 - reads the machine

    threads = decode_threads()
    return replace(
        request,
        name="study" if request.name == "bench" else request.name,
        quant=request.quant or STUDY_LEVELS,
        threads=request.threads or tuple(sorted({1, max(1, threads // 2), threads})),
        prompts=True,
        quality=request.quality or True,
    )


def _axis(option: Option[object], given: Sequence[str]) -> tuple[object, ...] | None:
    """What a setting is varied over; where it is a list, each value is kept as the text that says one."""

    def parse(text: str) -> object:
        if text == WITHOUT and option.default in {None, ()}:
            return text
        value = option.parse(text)
        return text if isinstance(value, tuple) else value

    if option not in options.FILE_AXES:
        words = [word.strip() for text in given for word in text.split(",")]
        return tuple(dict.fromkeys(parse_value(option.flags[-1], word, parse) for word in words)) or None
    return tuple(dict.fromkeys(given)) or None


_WHY_NOT = {
    "quant": "levels cannot be made of a server's model",
    **{option.name: "the server decides that" for option in options.BENCH_AXES},
    "threads": "the server decides how many threads it uses",
    "threads_batch": "the server decides how many threads it uses",
    "kv_type": "the server decides of which type its KV cache is",
    "gpu_layers": "the server decides how many layers it offloads",
    "batch": "the server decides how many tokens it computes together",
    "ubatch": "the server decides how many tokens it computes together",
    "quality": "a server tells no likelihoods, so that quality cannot be scored with it",
    "questions": "a server tells no likelihoods, so that choices cannot be weighed with it",
}


def server_plan(request: BenchRequest, settings: Settings, *, quiet: bool) -> tuple[BenchRequest, list[ModelFile], str]:
    """What of the request can be measured, the server's models and its address.

    Raises UsageError for what it decides by itself, and ModelError where it does not answer or lacks a model.
    """
    choice = server_choice(settings)
    assert choice is not None  # noqa: S101 - asked for by the caller
    found = probe(choice)
    if found.problem:
        raise ModelError(found.problem, found.hint)
    _refuse(request, found, choice)
    if not found.backend.has_token_tests:
        if not (request.prompts or quiet):
            print_status(
                f"{found.kind}: it takes conversations only, so the built-in prompts are measured, not pp and tg tests"
            )
        request = replace(request, n_prompt=(), n_gen=(), pairs=(), prompts=request.prompts or not request.prompt)
    return request, _models(request.models, found), choice.url


def require_same_server(server: str, settings: Settings) -> None:
    """Raise UsageError where a benchmark that is to go on is of another server than the one that was named."""
    choice = server_choice(settings)
    named = "" if choice is None else choice.url
    if server == named:
        return
    if server:
        raise UsageError(f"this benchmark is of the server at {server}", f"go on with --server {server}")
    raise UsageError("this benchmark is of model files, not of a server", "go on without --server (EDGETOP_SERVER)")


def _refuse(request: BenchRequest, found: ServerProbe, server: ServerChoice) -> None:
    unset = BenchRequest()
    for name, why in _WHY_NOT.items():
        if name not in found.backend.request_settings and getattr(request, name) != getattr(unset, name):
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(f"{flag}: {why}", "set it where the server is started, and leave it out here")
    away = not server.address.is_loopback
    for name in DEVICE_AXES if away else ():
        if getattr(request, name):
            raise UsageError(f"--{name.replace('_', '-')}: the server is on another machine", "bench on that one")
    if any(request.n_depth) and not found.backend.has_depth_tests:
        raise UsageError(f"-d: {found.kind} does not say what of a prompt it kept", "leave it out")


def _models(names: Sequence[str], found: ServerProbe) -> list[ModelFile]:
    models = []
    for name in names or (None,):
        try:
            offer = choose(list(found.offers), name)
        except RequestError as failure:
            raise ModelError(failure.what, failure.hint) from None
        label = offer.name.rpartition("/")[2].removesuffix(".gguf") or offer.name
        models.append(ModelFile(path=offer.name, label=label))
    return models


def has_server(settings: Settings) -> bool:
    """Whether a server is to be measured."""
    return settings[options.SERVER] is not None


UNQUANTIZED = frozenset({"F32", "F16", "BF16", "all F32"})
LARGEST_TEXT_BYTES = 16 * 2**20


def plan_of(request: BenchRequest, settings: Settings, *, quiet: bool = False, make: bool = True) -> Plan:
    """The plan; its levels are made unless `make` is false.

    Raises ModelError for a model that is not found, QuantizationError and UsageError.
    """
    server = ""
    if has_server(settings):
        request, found, server = server_plan(request, settings, quiet=quiet)
        models = _with_distinct_labels(found)
    else:
        models = _local_models(request, settings, quiet=quiet, make=make)
    cool_down = CoolDown()
    if request.idle_s is not None:
        cool_down = replace(cool_down, idle_s=request.idle_s)
    if request.cool_down_limit_s is not None:
        cool_down = replace(cool_down, limit_s=request.cool_down_limit_s)
    varied = settings_of(models, request)
    _require_llama_server(varied, settings)
    return Plan(
        name=request.name,
        settings=varied,
        tests=tests_of(request),
        repetitions=1 if request.soak_s else request.repetitions,
        soak_s=request.soak_s,
        order=request.order,
        warmup=request.warmup,
        cool_down=cool_down,
        quality=_quality(request),
        seed=request.seed,
        server=server,
        until=None
        if request.until_percent is None
        else Until(percent=request.until_percent, of=request.until_of, limit=request.until_limit),
    )


def _require_llama_server(varied: Sequence[Setting], settings: Settings) -> None:
    """Raise UsageError for what this engine would refuse at every load."""
    if has_own_engine(settings) and not settings[options.ENGINE].startswith(SERVER_ENGINE):
        for setting in varied:
            if flags := engine_settings(setting, 0).of_server_only:
                raise UsageError(
                    f"{' and '.join(flags)}: llama.cpp's library does not carry this out in edgetop",
                    "measure with --engine llama-server",
                )


def level_folder() -> Path:
    """Where levels that were made are kept: below the user's cache folder, or EDGETOP_CACHE_DIR."""
    chosen = os.environ.get("EDGETOP_CACHE_DIR", "")
    return (expanded(chosen) if chosen else platformdirs.user_cache_path("edgetop")) / "levels"


def print_sizes(request: BenchRequest, settings: Settings) -> None:
    """Say how much the levels take that have to be made. Raises as `plan_of`."""
    if not has_own_engine(settings):
        return
    for path in _found(request, settings):
        for level in _levels(request):
            if level_path(path, level, level_folder()).is_file():
                continue
            show_progress(f"how large {level} of {path.name} will be")
            size_bytes = size_of_level(path, level)
            print_status(f"{level} of {path.name} is to be made: {format_bytes(size_bytes)}")


def _found(request: BenchRequest, settings: Settings) -> list[Path]:
    names: Sequence[str | None] = request.models or (None,)
    return [local_model(name, settings) for name in names]


def _levels(request: BenchRequest) -> tuple[str, ...]:
    for level in request.quant:
        if level not in LEVELS:
            raise UsageError(f"{level!r} is no level that can be made", f"choose from {', '.join(LEVELS)}")
    return request.quant


def _local_models(request: BenchRequest, settings: Settings, *, quiet: bool, make: bool) -> list[ModelFile]:
    if settings[options.ENGINE].startswith(SCRIPT_PREFIX):
        return [_played_model(name) for name in request.models or ("scripted",)]
    levels, found = _levels(request), _found(request, settings)
    if not levels:
        return _with_distinct_labels([_model_file(path) for path in found])
    models = []
    missing = [each for each in product(found, levels) if not level_path(*each, level_folder()).is_file()]
    begun_s, made = time.monotonic(), 0
    for path in found:
        if not quiet:
            _print_requantized(path)
        for level in levels:
            target = level_path(path, level, level_folder())
            if make:
                left = time_left(made / max(1, len(missing)), time.monotonic() - begun_s)
                number = min(made + 1, len(missing))
                _make(path, level, f"{number} of {len(missing)}{left}", quiet=quiet)
                made += (path, level) in missing
            exists = target.is_file()
            models.append(_model_file(target) if exists else ModelFile(path=str(target), label=target.stem))
    return _with_distinct_labels(models)


def _make(path: Path, level: str, course: str, *, quiet: bool) -> None:
    if not quiet:
        show_progress(f"making levels: {course}  {level} of {path.name}")
    made = quantize_model(path, level, level_folder())
    clear_progress()
    if made.made_now and not quiet:
        note = f"; {made.fallback_tensors} tensors got another type" if made.fallback_tensors else ""
        print_status(f"made {made.path.name}, {format_bytes(made.path.stat().st_size)}{note}")


def _print_requantized(path: Path) -> None:
    """What is quantized twice has lost twice, and no level of it can be better than itself."""
    file_type = read_facts(path).file_type
    if file_type not in UNQUANTIZED:
        print_status(
            f"{path.name} is {file_type} already: its levels carry that loss too, and stand for those made from the "
            "unquantized model in speed and energy, but not in quality"
        )


def _played_model(name: str) -> ModelFile:
    """A model of an engine that plays a script: any name."""
    path = Path(name)
    return ModelFile(path=name, label=path.stem, content=content_key(path) if path.is_file() else "")


def _model_file(path: Path) -> ModelFile:
    return ModelFile(path=str(path), label=path.stem, content=content_key(path))


def _with_distinct_labels(models: Sequence[ModelFile]) -> list[ModelFile]:
    """Files of the same name get a number behind it; the same file twice is one."""
    distinct = list({model.path: model for model in models}.values())
    seen: dict[str, int] = {}
    labelled = []
    for model in distinct:
        seen[model.label] = seen.get(model.label, 0) + 1
        number = seen[model.label]
        labelled.append(model if number == 1 else replace(model, label=f"{model.label} ({number})"))
    return labelled


def _quality(request: BenchRequest) -> QualityPlan | None:
    """How quality is scored; the questions of a file bring the text with them."""
    if not request.questions:
        if request.shots or request.question_columns:
            raise UsageError("--shots and --question-columns say nothing without --questions", "give a file of them")
        if request.question_template and request.quality is False:
            raise UsageError("--question-template says nothing without --quality or --questions", "give one of them")
        text = _text_plan(request.quality)
        return None if text is None else replace(text, template=request.question_template)
    path = expanded(request.questions)
    items = read_questions(path, request.question_columns)
    if len(items) <= request.shots:
        raise UsageError(f"{path}: it has {len(items)} questions", "give fewer --shots: the others are scored")
    plan = _text_plan(request.quality or True)
    assert plan is not None  # noqa: S101 - there is a text
    return replace(plan, asked=items, asked_name=path.name, shots=request.shots, template=request.question_template)


def _text_plan(asked: bool | str) -> QualityPlan | None:
    if asked is False:
        return None
    if asked is True:
        return QualityPlan(text=reading_text())
    path = expanded(str(asked))
    try:
        data = read_small(path, LARGEST_TEXT_BYTES)
    except OSError as error:
        hint = "give a text file to --quality; a few pages are enough"
        raise UsageError(f"{path}: {error.strerror or error}", hint) from None
    return QualityPlan(text=data.decode("utf-8", "replace"), text_name=path.name)


LOAD_BYTES_PER_S = 500e6
"""Of an SD card or an eMMC it is a fifth of this, of an NVMe drive several times; said as an estimate."""

KEYS_SHOWN = 3
WORKLOAD = Workload(prompt_tokens=512, answer_tokens=128)


def print_estimate(log: RunLog | Plan, runs: Sequence[Run], settings: Settings, store: Store) -> None:
    """Say how long what remains will take, and which settings are not expected to fit; `log` or a plan not begun."""
    plan, unscored = (log, _models_to_score(log)) if isinstance(log, Plan) else (log.plan, log.unscored)
    if not has_own_engine(settings) or not (runs or unscored):
        return
    target = own_run_target(Host(sysroot=settings[options.SYSROOT]), store.folder, probe="once", report=lambda *_: None)
    expected = {each.key: _expected(each, plan.n_ctx, target) for each in plan.settings}
    has_power = not isinstance(power_headline(settings), Unavailable)
    found = estimate(plan, runs, expected, has_power=has_power, unscored=unscored)
    words = [f"{found.runs} run{'s' if found.runs != 1 else ''}"]
    words += [f"scores of {len(unscored)} model{'s' if len(unscored) != 1 else ''}"] if unscored else []
    if found.duration_s is not None:
        words.append(f"about {format_duration(found.duration_s)}")
    if found.memory_bytes is not None:
        words.append(f"up to {format_bytes(found.memory_bytes)} of memory")
    if found.session_bytes:
        words.append(f"{format_bytes(found.session_bytes)} of sessions")
    print_status(", ".join(words))
    for key in found.too_large:
        print_status(f"{key} is not expected to fit into memory; it is tried all the same")
    if found.unknown:
        more = f" and {len(found.unknown) - KEYS_SHOWN} more" if len(found.unknown) > KEYS_SHOWN else ""
        print_status(
            f"the speed of {', '.join(found.unknown[:KEYS_SHOWN])}{more} is not known yet, so the time is not either"
        )


def _models_to_score(plan: Plan) -> list[ModelFile]:
    return [] if plan.quality is None else list(dict.fromkeys(each.model for each in plan.settings))


def _expected(setting: Setting, n_ctx: int, target: RunTarget) -> Expected:
    if setting.rpc not in {None, WITHOUT}:
        # What other machines hold and how fast they are is not known.
        return Expected()
    try:
        facts = in_time(lambda: read_facts(Path(setting.model.path)))
        found = in_time(lambda: assess(facts, engine_settings(setting, n_ctx), WORKLOAD, target))
    except ModelError:
        return Expected()
    speed, need = found.speed, found.need
    prefill = None if isinstance(speed, Unavailable) else speed.prefill_tokens_per_s
    return Expected(
        prefill_tokens_per_s=None if prefill is None else prefill.value,
        decode_tokens_per_s=None if isinstance(speed, Unavailable) else speed.decode_tokens_per_s.value,
        load_s=facts.size_bytes / LOAD_BYTES_PER_S,
        memory_bytes=None if isinstance(need, Unavailable) else need.total_bytes,
        fits=None if found.verdict.fit is None else found.verdict.fit != "does not fit",
    )


def find_log(folder: Path, identity: str) -> RunLog:
    """The benchmark whose identity begins so; `last` is the one begun last. Raises UsageError."""
    paths = _paths(folder)
    found = paths[:1] if identity == "last" else [path for path in paths if path.name.startswith(identity)]
    if not found:
        raise UsageError(f"no benchmark is called {identity!r}", "`edgetop bench --list` shows those there are")
    if len(found) > 1:
        raise UsageError(f"{len(found)} benchmarks begin with {identity!r}", "give more of its identity")
    return RunLog(folder, read_plan(found[0]), path=found[0])


def list_logs(folder: Path) -> list[list[str]]:
    """One row for each: identity, name, runs done, runs in all, when it was begun."""
    rows = []
    for path in _paths(folder):
        begun = format_time(datetime.fromtimestamp((path / PLAN_FILE).stat().st_mtime, timezone.utc).isoformat())
        try:
            log = RunLog(folder, read_plan(path), path=path)
        except BenchFolderError as error:
            rows.append([path.name, error.what, "", "", begun])
            continue
        rows.append([path.name, log.plan.name, str(log.done), str(len(runs_of(log.plan))), begun])
    return rows


def _paths(folder: Path) -> list[Path]:
    """Newest first."""
    paths = [path.parent for path in folder.glob(f"*/{PLAN_FILE}")]
    return sorted(paths, key=lambda path: -(path / PLAN_FILE).stat().st_mtime)


def _heading(result: PlanResult) -> str:
    """What it was measured on, as on a card; of several settings what they have in common."""
    loads = [setting.load for setting in result.settings if setting.load is not None]
    alike = len(loads) == 1
    measured = dict.fromkeys(
        f"{setting.energy_scope.replace('_', ' ')}, {setting.energy_source}"
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
            write_data(table_latex(paper_rows(result, view), f"Benchmark {plan.name}"))
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
    simulated = "virtual" in ("" if result.device is None else result.device.model.casefold())
    power = "simulated power: computed, not measured" if simulated else "measured gross, idle power included"
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
        title=f"Benchmark {plan.name}{': simulated power' * simulated}",
        method=method_of(plan, result, view),
        headings=tuple(headings),
        rows=tuple(map(tuple, rows)),
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


def score_quality(
    log: RunLog, store: Store, live: LiveOptions, *, quiet: bool, interrupted: Callable[[], bool]
) -> bool:
    """Score every model of a plan that asks for it; False when interrupted.

    The levels of one model are held against the most precise of them. All are scored or none: what the others are held
    against is kept only as long as this takes.
    """
    plan = log.plan
    if plan.quality is None:
        return True

    models, scored, begun_s = log.unscored, 0, time.monotonic()

    def on_progress(text: str, share: float) -> None:
        if not quiet:
            left = time_left((scored + share) / len(models), time.monotonic() - begun_s)
            show_progress(f"quality: {scored + 1} of {len(models)}{left}  {text}")

    threads = max((each.threads for each in plan.settings if each.threads is not None), default=None)
    for family in families_of(models):
        scorer = QualityScorer(
            plan.quality,
            plan.identity,
            store,
            live,
            folder=log.path / "reference",
            on_progress=on_progress,
            interrupted=interrupted,
        )
        try:
            for model in family:
                if not _score(log, scorer, model, threads):
                    return False
                scored += 1
        finally:
            scorer.close()
            clear_progress()
    return True


def families_of(models: Sequence[ModelFile]) -> list[list[ModelFile]]:
    """The levels of each model together, the most precise, which is the largest file, first.

    They are known by their architecture, vocabulary and number of weights; what cannot be read is one family. Those of
    one family that read other tokens all the same, the scorer tells apart.
    """
    families: dict[tuple[object, ...], list[ModelFile]] = {}
    for model in models:
        try:
            facts = read_facts(Path(model.path))
            key: tuple[object, ...] = (facts.architecture, facts.n_vocab, facts.parameters)
        except ModelError:
            key = ()
        families.setdefault(key, []).append(model)
    return [sorted(family, key=_size_bytes, reverse=True) for family in families.values()]


def _score(log: RunLog, scorer: QualityScorer, model: ModelFile, threads: int | None) -> bool:
    """Whether it was not interrupted."""
    key = quality_key(model)
    try:
        scored = scorer.score(model, threads=threads)
    except QualityError as error:
        print_error(f"quality of {model.label}: {error.what}", error.hint)
        log.add(FinishedRun(setting=key, round=1, outcome="failed", reason=error.what))
        return True
    if scored is not None:
        log.add(FinishedRun(setting=key, round=1, outcome="measured", session=str(scored[1] or "")))
    return scored is not None


def _size_bytes(model: ModelFile) -> int:
    try:
        return Path(model.path).stat().st_size
    except OSError:
        return 0


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
    shown = presentation_of(arguments)
    if arguments.dry_run and arguments.resume is None:
        _foretell(arguments, settings, store)
        return 0
    first = None if arguments.rerun is None else _archive(expanded(arguments.rerun), folder)
    log = _log(arguments, settings, folder) if first is None else _rerun(first, arguments, settings, folder)
    quiet = settings[options.QUIET]
    if not quiet or arguments.dry_run:
        _print_beginning(log)
        print_estimate(log, remaining_of(log), settings, store)
    if arguments.dry_run:
        return 0
    finished = carry_out(log, store, settings)
    result = results_of(log.plan, log.finished, given_duty(settings))
    conclusions = conclusions_of(
        result, reader=reader_of(settings), price=price_of(settings), ownership=shown.ownership
    )
    view = View(
        reader=reader_of(settings),
        duty=given_duty(settings) or Duty(),
        price=price_of(settings),
        ownership=shown.ownership,
    )
    if any(isinstance(test, PromptTest) and test.title == ASKED for test in log.plan.tests):
        conclusions = replace(conclusions, sentences=(*_held_together(result, settings), *conclusions.sentences))
    if first is not None:
        archived = results_of(first.plan, first.finished, given_duty(settings))
        conclusions = replace(conclusions, sentences=(*conclusions.sentences, *held_against(archived, result)))
    write_results(log.plan, result, conclusions, shown.form, view, quiet=quiet)
    if arguments.archive is not None:
        _write_archive(expanded(arguments.archive), log, result, conclusions, view)
    report = shown.report or (log.path / REPORT_FILE if arguments.study else None)
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
    try:
        name = content_key(path)
    except ModelError as error:
        raise UsageError(error.what, "check the path") from None
    return read_archive(path, folder.parent / "archives" / name)


def _rerun(first: Archive, arguments: argparse.Namespace, settings: Settings, folder: Path) -> RunLog:
    """The archive's plan with the models of this machine. Raises UsageError."""

    def find(name: str) -> list[Path]:
        named = [path for (text,) in arguments.models or () if (path := expanded(text)).is_file()]
        made = sorted(level_folder().rglob(name))
        try:
            return [*named, *made, local_model(name.removesuffix(".gguf"), settings)]
        except ModelError:
            return [*named, *made]

    require_same_server(first.plan.server, settings)
    log = RunLog(folder, here(first.plan, find, content_key))
    if arguments.again or not (remaining_of(log) or log.unscored):
        log.begin_again()
    return log


def _write_archive(path: Path, log: RunLog, result: PlanResult, conclusions: Conclusions, view: View) -> None:
    rows = paper_rows(result, view)
    texts = {
        "results.md": section(log.plan, result, view, conclusions.sentences),
        "table.csv": table_csv(rows),
        "table.tex": table_latex(rows, f"Benchmark {log.plan.name}"),
    }
    try:
        count = write_archive(path, log, result, texts if rows else {}, __version__)
    except OSError as error:
        raise EdgetopError(f"{path}: {error.strerror}", "name a file that can be written with --archive") from None
    print_status(f"archive: {path}, {count} sessions; `edgetop bench --rerun {path.name}` measures it elsewhere")


def carry_out(log: RunLog, store: Store, settings: Settings) -> bool:
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

    with interruptible() as interrupted:
        # Only what its plan does not say: where readings come from, and which engine computes.
        live = replace(live_options(settings), system=None, text_recorded=settings[options.TEXT])
        try:
            device = DeviceSettings(device_state(store), Host(sysroot=settings[options.SYSROOT]))
            device.require(log.plan.settings)
            done = Runner(log, store, live, on_progress=on_progress, interrupted=interrupted, device=device).run()
            return done and score_quality(log, store, live, quiet=quiet, interrupted=interrupted)
        finally:
            clear_progress()


def _log(arguments: argparse.Namespace, settings: Settings, folder: Path) -> RunLog:
    """The benchmark to go on with, or the one that is asked for."""
    if arguments.resume is not None:
        log = find_log(folder, arguments.resume)
        require_same_server(log.plan.server, settings)
        log.forget_failures()
        return log
    plan = plan_of(bench_request(arguments), settings, quiet=settings[options.QUIET])
    log = RunLog(folder, plan)
    if arguments.again or not (remaining_of(log) or log.unscored):
        log.begin_again()
    return log


def _foretell(arguments: argparse.Namespace, settings: Settings, store: Store) -> None:
    """Say what a plan would take; levels that are not there yet are not made."""
    request = bench_request(arguments)
    print_sizes(request, settings)
    plan = plan_of(request, settings, quiet=True, make=False)
    print_estimate(plan, runs_of(plan), settings, store)


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
