"""From flags and plan file to a plan: models, levels, server."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TypeVar

import platformdirs
from msgspec import Struct
from msgspec.structs import replace

from edgetop.bench.conclusions import Ownership
from edgetop.bench.plan import (
    WITHOUT,
    BenchRequest,
    CoolDown,
    ModelFile,
    Plan,
    QualityPlan,
    Setting,
    Until,
    changed_request,
    engine_settings,
    read_request,
    require_tests,
    settings_of,
    token_tests,
)
from edgetop.bench.prompts import prompt_tests, read_questions, reading_text
from edgetop.commands.inputs import has_own_engine, local_model, server_choice
from edgetop.commands.output import clear_progress, print_status, show_progress
from edgetop.core.errors import ModelError, UsageError
from edgetop.core.format import format_bytes
from edgetop.fit.model_facts import read_facts
from edgetop.inference.quantization import LEVELS, level_path, quantize_model, size_of_level
from edgetop.inference.server.backend import choose
from edgetop.inference.server.detection import ServerProbe, probe
from edgetop.io.files import expanded, read_small
from edgetop.io.http import RequestError
from edgetop.io.model_file import content_key
from edgetop.settings import options
from edgetop.settings.option import SCRIPT_PREFIX, SERVER_ENGINE, Option, parse_value
from edgetop.settings.resolve import Settings

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
    if report is not None and not report.absolute().parent.is_dir():
        raise UsageError(f"{report}: there is no such folder", "name a file in a folder that exists with --report")
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
    _refuse(request, found)
    if not found.backend.has_token_tests:
        if not (request.prompts or quiet):
            print_status(
                f"{found.kind}: it takes conversations only, so the built-in prompts are measured, not pp and tg tests"
            )
        request = replace(request, n_prompt=(), n_gen=(), pairs=(), prompts=True)
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


def _refuse(request: BenchRequest, found: ServerProbe) -> None:
    unset = BenchRequest()
    for name, why in _WHY_NOT.items():
        if name not in found.backend.request_settings and getattr(request, name) != getattr(unset, name):
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(f"{flag}: {why}", "set it where the server is started, and leave it out here")
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
    tests = token_tests(request)
    varied = settings_of(models, request)
    _require_llama_server(varied, settings)
    return Plan(
        name=request.name,
        settings=varied,
        tests=(*tests, *(prompt_tests(request.max_tokens) if request.prompts else ())),
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
    for path in found:
        if not quiet:
            _print_requantized(path)
        for level in levels:
            target = level_path(path, level, level_folder())
            if make:
                _make(path, level, quiet=quiet)
            exists = target.is_file()
            models.append(_model_file(target) if exists else ModelFile(path=str(target), label=target.stem))
    return _with_distinct_labels(models)


def _make(path: Path, level: str, *, quiet: bool) -> None:
    if not quiet:
        show_progress(f"making {level} of {path.name}")
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
        return _text_plan(request.quality)
    path = expanded(request.questions)
    items = read_questions(path, request.question_columns)
    if len(items) <= request.shots:
        raise UsageError(f"{path}: it has {len(items)} questions", "give fewer --shots: the others are scored")
    plan = _text_plan(request.quality or True)
    assert plan is not None  # noqa: S101 - there is a text
    return replace(plan, asked=items, asked_name=path.name, shots=request.shots)


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
