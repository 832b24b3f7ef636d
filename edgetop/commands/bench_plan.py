"""From the flags of bench and its plan file to a plan, its models and levels; what it would take."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path

import platformdirs
from msgspec import Struct
from msgspec.structs import replace

from edgetop.bench.plan import (
    CHARACTERS_PER_TOKEN,
    DEVICE_AXES,
    LOOK_S,
    QUESTIONS,
    WITHOUT,
    BenchRequest,
    CoolDown,
    ModelFile,
    Plan,
    PromptTest,
    Run,
    Setting,
    Test,
    TokenTest,
    Until,
    changed_request,
    engine_settings,
    prompt_of,
    quality_plan,
    read_request,
    require_tests,
    runs_of,
    settings_of,
    tests_of,
)
from edgetop.bench.run_log import RunLog
from edgetop.commands.inputs import (
    has_own_engine,
    local_model,
    server_choice,
)
from edgetop.commands.output import (
    clear_progress,
    print_status,
    show_progress,
)
from edgetop.commands.power_findings import power_headline
from edgetop.core.errors import ModelError, UsageError
from edgetop.core.format import format_bytes, format_duration, time_left
from edgetop.core.sources import Unavailable
from edgetop.fit.assessment import RunTarget, Workload, assess
from edgetop.fit.model_facts import read_facts
from edgetop.inference.quantization import LEVELS, level_path, quantize_model, size_of_level
from edgetop.inference.server.address import ServerChoice
from edgetop.inference.server.backend import ServerProbe, choose, probe
from edgetop.io.files import expanded
from edgetop.io.http import RequestError
from edgetop.io.model_file import content_key, in_time
from edgetop.live.this_machine import own_run_target
from edgetop.session.store import Store
from edgetop.settings import options
from edgetop.settings.option import SCRIPT_PREFIX, SERVER_ENGINE, Option, parse_value
from edgetop.settings.resolve import Settings
from edgetop.telemetry.host import Host

STUDY_LEVELS = ("F16", "Q8_0", "Q5_K_M", "Q4_K_M", "Q4_0", "Q2_K")


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


def plan_of(request: BenchRequest, settings: Settings, *, quiet: bool = False, make: bool = True) -> Plan:
    """The plan; its levels are made unless `make` is false.

    Raises ModelError for a model that is not found, QuantizationError and UsageError.
    """
    server = ""
    if settings[options.SERVER] is not None:
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
        quality=quality_plan(request),
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


def _local_models(request: BenchRequest, settings: Settings, *, quiet: bool, make: bool) -> list[ModelFile]:
    if settings[options.ENGINE].startswith(SCRIPT_PREFIX):
        return [_model_file(Path(name)) for name in request.models or ("scripted",)]
    names: Sequence[str | None] = request.models or (None,)
    wanted = [(path, level) for path in [local_model(name, settings) for name in names] for level in _levels(request)]
    missing = [each for each in wanted if each[1] != WITHOUT and not level_path(*each, level_folder()).is_file()]
    begun_s, models = time.monotonic(), []
    for path, level in wanted:
        if level == WITHOUT:
            models.append(_model_file(path))
            continue
        number = missing.index((path, level)) if (path, level) in missing else 0
        left = time_left(number / max(1, len(missing)), time.monotonic() - begun_s)
        course = f"{number + 1} of {len(missing)}{left}"
        models.append(_level(path, level, course, quiet=quiet, make=make))
    return _with_distinct_labels(models)


def _levels(request: BenchRequest) -> tuple[str, ...]:
    """The levels, WITHOUT for a model as it is."""
    for level in request.quant:
        if level not in LEVELS and level.casefold() != WITHOUT:
            choices = f"choose from {', '.join(LEVELS)}, or {WITHOUT} for the model as it is"
            raise UsageError(f"{level!r} is no level that can be made", choices)
    return tuple(WITHOUT if level.casefold() == WITHOUT else level for level in request.quant) or (WITHOUT,)


UNQUANTIZED = frozenset({"F32", "F16", "BF16", "all F32"})


def _level(path: Path, level: str, course: str, *, quiet: bool, make: bool) -> ModelFile:
    """A level of a model; unless it is to be made, how large it will be is said.

    What is quantized twice has lost twice, and no level of it can be better than itself: its name says so.
    """
    target, made_of = level_path(path, level, level_folder()), read_facts(path).file_type
    label = target.stem if made_of in UNQUANTIZED else f"{target.stem} from {made_of}"
    if make:
        if not (quiet or target.is_file()):
            show_progress(f"making levels: {course}  {level} of {path.name}")
        made = quantize_model(path, level, level_folder())
        clear_progress()
        if made.made_now and not quiet:
            note = f"; {made.fallback_tensors} tensors got another type" if made.fallback_tensors else ""
            print_status(f"made {label}, {format_bytes(target.stat().st_size)}{note}")
    elif not target.is_file():
        show_progress(f"how large {level} of {path.name} will be")
        print_status(f"{level} of {path.name} is to be made: {format_bytes(size_of_level(path, level))}")
    return _model_file(target, label)


def _model_file(path: Path, label: str = "") -> ModelFile:
    """A file, or what an engine that plays a script calls its model, or a level that is to be made."""
    content = content_key(path) if path.is_file() else ""
    return ModelFile(path=str(path), label=label or path.stem, content=content)


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


RUN_OVERHEAD_S = 4.0
"""Starting the engine's process, finding sensors, saving the session."""

REST_WITHOUT_POWER_S = 1.0
SETTLE_S = 1.0
"""After each test, where power is measured, until its last readings have come."""

SESSION_BYTES_PER_S = 2_000
"""A session with ten channels takes about 6 MB an hour (`benchmarks/session_file.py`)."""


class Expected(Struct, frozen=True, kw_only=True):
    """What is expected of a setting; `None` where nothing is known."""

    prefill_tokens_per_s: float | None = None
    decode_tokens_per_s: float | None = None
    load_s: float = 1.0
    memory_bytes: int | None = None
    fits: bool | None = None


class Estimate(Struct, frozen=True, kw_only=True):
    """Of what remains of a plan."""

    runs: int
    duration_s: float | None
    """`None` where the speed of a setting is not known."""
    session_bytes: int
    memory_bytes: int | None
    """Of the largest setting."""
    too_large: tuple[str, ...] = ()
    """Settings that are not expected to fit; they are tried all the same."""
    unknown: tuple[str, ...] = ()
    """Settings whose speed is not known."""


def estimate(
    plan: Plan,
    runs: Iterable[Run],
    expected: Mapping[str, Expected],
    *,
    has_power: bool,
    unscored: Sequence[ModelFile] = (),
) -> Estimate:
    """What `runs` of a plan and the scores of the `unscored` models will take. `expected` is by the settings' keys."""
    duration_s = 0.0
    count = 0
    keys: dict[str, None] = {}
    unknown: dict[str, None] = {}
    for run in runs:
        count += 1
        key = run.setting.key
        keys[key] = None
        run_s = _run_s(plan, run, expected.get(key, Expected()), has_power=has_power)
        if run_s is None:
            unknown[key] = None
        else:
            duration_s += run_s
    for model in unscored:
        key = next(setting.key for setting in plan.settings if setting.model == model)
        score_s = _score_s(plan, expected.get(key, Expected()))
        if score_s is None:
            unknown[key] = None
        else:
            duration_s += score_s
    memory = [bytes_ for key in keys if (bytes_ := expected.get(key, Expected()).memory_bytes) is not None]
    return Estimate(
        runs=count,
        duration_s=None if unknown else duration_s,
        session_bytes=round(duration_s * SESSION_BYTES_PER_S),
        memory_bytes=max(memory, default=None),
        too_large=tuple(key for key in keys if expected.get(key, Expected()).fits is False),
        unknown=tuple(unknown),
    )


def _run_s(plan: Plan, run: Run, expected: Expected, *, has_power: bool) -> float | None:
    tests = [*plan.tests] * (0 if plan.soak_s else run.repetitions) + ([plan.warmup_test] if plan.warmup else [])
    durations = [_test_s(test, expected) for test in tests]
    if any(duration is None for duration in durations):
        return None
    # The first run of a setting measures idle power without the model and with it.
    rest_s = 2 * plan.cool_down.idle_s if has_power and run.round == 1 else REST_WITHOUT_POWER_S + LOOK_S * has_power
    settle_s = SETTLE_S * len(tests) if has_power else 0.0
    return RUN_OVERHEAD_S + expected.load_s + rest_s + settle_s + plan.soak_s + sum(each or 0.0 for each in durations)


def _score_s(plan: Plan, expected: Expected) -> float | None:
    """Of one model: the text is evaluated once, and so are the questions with each of their choices."""
    if plan.quality is None:
        return 0.0
    tokens = len(plan.quality.text) // CHARACTERS_PER_TOKEN
    if plan.quality.chunks is not None:
        tokens = min(tokens, plan.quality.chunks * plan.quality.n_ctx)
    if plan.quality.questions:
        characters = sum(
            len(prompt_of(each)) + len(choice) for each in plan.quality.asked or QUESTIONS for choice in each.choices
        )
        tokens += characters // CHARACTERS_PER_TOKEN
    evaluate_s = _seconds(tokens, expected.prefill_tokens_per_s)
    return None if evaluate_s is None else RUN_OVERHEAD_S + expected.load_s + evaluate_s


def _test_s(test: Test, expected: Expected) -> float | None:
    prefilled, decoded = _tokens(test)
    prefill_s = _seconds(prefilled, expected.prefill_tokens_per_s)
    decode_s = _seconds(decoded, expected.decode_tokens_per_s)
    return None if prefill_s is None or decode_s is None else prefill_s + decode_s


def _tokens(test: Test) -> tuple[int, int]:
    """Tokens evaluated together and one by one."""
    if isinstance(test, TokenTest):
        return test.n_prompt + test.depth, test.n_gen
    assert isinstance(test, PromptTest)  # noqa: S101 - the other kind
    return sum(len(prompt) // CHARACTERS_PER_TOKEN for prompt in test.prompts), test.max_tokens * len(test.prompts)


def _seconds(tokens: int, tokens_per_s: float | None) -> float | None:
    if tokens == 0:
        return 0.0
    return tokens / tokens_per_s if tokens_per_s else None


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


def foretell(arguments: argparse.Namespace, settings: Settings, store: Store) -> None:
    """Say what a plan would take; levels that are not there yet are not made."""
    plan = plan_of(bench_request(arguments), settings, quiet=True, make=False)
    print_estimate(plan, runs_of(plan), settings, store)
