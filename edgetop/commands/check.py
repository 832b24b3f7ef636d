"""Verb check."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from edgetop.commands.inputs import PROGRESS_S, duty_of, reader_of, sessions_folder, show_screen
from edgetop.commands.output import (
    ExitCode,
    clear_progress,
    print_error,
    print_status,
    show_progress,
    table,
    write_data,
    write_json,
    write_listing,
)
from edgetop.core.engine_settings import EngineSettings
from edgetop.core.errors import ModelError, UsageError
from edgetop.core.format import (
    NOT_AVAILABLE,
    Column,
    format_bytes,
    format_rate,
    format_seconds,
    format_significant,
    format_time,
)
from edgetop.core.sources import Unavailable
from edgetop.core.text import one_line
from edgetop.fit.assessment import Assessment, RunTarget, Thresholds, Workload, assess
from edgetop.fit.devices import (
    DESKTOP,
    DESKTOP_NOTE,
    DESKTOP_THREADS,
    Device,
    default_file,
    load_devices,
    machine_of,
    memory_sizes,
    mode_of,
    named_device,
)
from edgetop.fit.memory import MemoryRoom, memory_need
from edgetop.fit.model_facts import ModelFacts, read_facts
from edgetop.fit.suggestions import CONTEXTS, Candidate, Choices, ModelAssessments, Suggestion, best_first, suggest
from edgetop.fit.wording import (
    OFFERED_COLUMNS,
    Entry,
    banded,
    called,
    effect_text,
    figure_at,
    joules_cell,
    memory_cell,
    page,
    verdict_text,
)
from edgetop.io.model_file import in_time, models_in
from edgetop.io.terminal import terminal_size
from edgetop.settings import options
from edgetop.settings.option import byte_count, integer, parse_value, real, token_count
from edgetop.settings.resolve import Settings, engine_settings, price_of

if TYPE_CHECKING:
    from edgetop.live.past_runs import Outcome, PredictedVsMeasured, PredictionAccuracy, Quantity

SYSTEM_SHARE = 0.15
"""Of a device's memory that its system and its desktop take before a model comes: 0.5 to 1.2 GB of 8 GB boards."""

CARD_SHARE = 0.06
"""Of a graphics card's memory that driver and desktop take."""


def run_target(arguments: argparse.Namespace, settings: Settings) -> RunTarget:
    """The place that is meant. Raises UsageError for a device or a power mode that is not in the table."""
    memory_bytes = None if arguments.memory is None else parse_value("--memory", arguments.memory, byte_count)
    if arguments.device is not None:
        place = _device(arguments.device, arguments.power_mode, memory_bytes)
        return _judged(_beside_card(place, engine_settings(settings)), settings)
    if arguments.power_mode is not None:
        raise UsageError("--power-mode is one of a device of the table", "name the device with --device, too")
    place = _own(arguments, settings)
    return _judged(place if memory_bytes is None else replace(place, room=_room(memory_bytes, SYSTEM_SHARE)), settings)


def other_modes(arguments: argparse.Namespace, settings: Settings) -> dict[str, RunTarget]:
    """The other power modes of the device that was named, by name; none of this machine, which has one at a time."""
    if arguments.device is None:
        return {}
    named = named_device(arguments.device, default_file())
    names = [name for name in named.device.modes if name != mode_of(named.device, arguments.power_mode)]
    return {name: run_target(argparse.Namespace(**{**vars(arguments), "power_mode": name}), settings) for name in names}


def _judged(place: RunTarget, settings: Settings) -> RunTarget:
    """The place with the thresholds, the price and the use that the settings have."""
    return replace(
        place,
        thresholds=Thresholds(margin_share=settings[options.MEMORY_MARGIN] / 100, reader=reader_of(settings)),
        price=price_of(settings),
        duty=duty_of(settings),
    )


def _own(arguments: argparse.Namespace, settings: Settings) -> RunTarget:
    from edgetop.live.this_machine import Probe, own_run_target  # noqa: PLC0415 - a device of the table needs none of it
    from edgetop.telemetry.host import Host  # noqa: PLC0415 - the same

    probe: Probe = "never" if arguments.no_probe else "always" if arguments.force_probe else "once"
    try:
        return own_run_target(
            Host(sysroot=settings[options.SYSROOT]),
            sessions_folder(settings),
            probe=probe,
            report=print_error,
            say=show_progress,
        )
    finally:
        clear_progress()


def _device(name: str, power_mode: str | None, memory_bytes: int | None) -> RunTarget:
    """A device of the table with the memory that was said, else with each size that it is sold with."""
    device, memory_gb = named_device(name, default_file())
    machine = machine_of(device, power_mode)
    card = machine.cpu is None and not machine.gpu_shares_memory
    said = memory_bytes if memory_bytes is not None else None if memory_gb is None else round(memory_gb * 2**30)
    sold = memory_sizes(device)
    rooms = [_room(size, CARD_SHARE if card else SYSTEM_SHARE) for size in ([said] if said is not None else sold)]
    if card:
        rooms = [replace(room, name=machine.name) for room in rooms]
    if said is not None and sold and said not in sold:
        notes = (*machine.notes, f"It is sold with {_sizes(device)} GB, not with {format_bytes(said)}.")
        machine = replace(machine, notes=notes)
    first = rooms[0] if rooms else None
    return RunTarget(
        machine=machine,
        threads=machine.cores or 1,
        room=None if card else first,
        gpu_room=first if card else None,
        sizes=tuple(rooms) if len(rooms) > 1 else (),
    )


def _beside_card(place: RunTarget, engine: EngineSettings) -> RunTarget:
    """With the computer around a graphics card, where a part of the model stays in its memory."""
    stays = engine.n_cpu_moe or engine.override_tensor or engine.n_gpu_layers is not None
    if place.gpu_room is None or not stays:
        return place
    machine = replace(place.machine, cpu=DESKTOP, notes=(*place.machine.notes, DESKTOP_NOTE))
    return replace(place, machine=machine, threads=DESKTOP_THREADS)


def _room(memory_bytes: int, taken: float) -> MemoryRoom:
    return MemoryRoom(
        available_bytes=round(memory_bytes * (1 - taken)),
        limit="assumed of the device",
        total_bytes=memory_bytes,
        notes=(f"{100 * taken:.0f} % of the memory is taken to be in use by the system.",),
    )


LABEL_COLUMNS, WIDTH_LEAST = 9, 30


class Checked(Struct, frozen=True, kw_only=True):
    """One model with one context, or why it could not be looked at."""

    source: str
    assessment: Assessment | None = None
    problem: str = ""
    hint: str = ""


def exit_code(checked: Checked, min_speed: float | None) -> int:
    """0 fits, 3 cannot be read, 4 does not fit, 5 fits but is slower than `min_speed`, 1 if that is not known."""
    assessment = checked.assessment
    if assessment is None or assessment.verdict.fit == "refused":
        return ExitCode.NOT_LOADED
    if assessment.verdict.fit == "does not fit":
        return ExitCode.DOES_NOT_FIT
    if assessment.verdict.fit is None or (min_speed is not None and assessment.decode is None):
        return ExitCode.FAILED
    if min_speed is not None and assessment.decode is not None and assessment.decode.value < min_speed:
        return ExitCode.TOO_SLOW
    return 0


def write_checked(
    checked: Sequence[Checked],
    place: RunTarget,
    chosen: str | None,
    *,
    currency: str,
    choices: Callable[[Assessment], Choices] = lambda _: Choices(),
) -> None:
    """Print a page for one, a table for several, or the format that was chosen.

    `choices` gives what else could be done with one; it is asked for where suggestions are shown.
    """
    first = checked[0] if checked else None
    if chosen == "json":
        write_json([as_object(each, place, choices) for each in checked])
    elif chosen is None and len(checked) == 1 and first is not None and first.assessment is not None:
        write_page(first.assessment, place, choices(first.assessment), currency=currency)
    else:
        write_listing(checked, COLUMNS, chosen)


def write_page(assessment: Assessment, place: RunTarget, choices: Choices | None = None, *, currency: str) -> None:
    """Print everything there is to say of one model."""
    entries = page(assessment, place, in_time(lambda: suggest(assessment, place, choices)), currency=currency)
    rows = [row for entry in entries for row in _wrapped(entry)]
    # A command is to be copied, so it stays in one line.
    rows += [
        Entry("run", shlex.join(assessment.server_command)),
        Entry("verify", shlex.join(assessment.verify_command)),
    ]
    write_data(table([[row.label, row.text] for row in rows]))


def _wrapped(entry: Entry) -> list[Entry]:
    """The entry in lines that a terminal has room for; as it is where it goes somewhere else."""
    if not sys.stdout.isatty():
        return [entry]
    from textwrap import wrap  # noqa: PLC0415 - only on a terminal

    width = max(WIDTH_LEAST, terminal_size().columns - LABEL_COLUMNS)
    lines = wrap(one_line(entry.text), width) or [""]
    return [Entry(entry.label if index == 0 else "", line) for index, line in enumerate(lines)]


def as_object(checked: Checked, place: RunTarget, choices: Callable[[Assessment], Choices]) -> dict[str, Any]:
    """The object of `check --json`."""
    assessment = checked.assessment
    if assessment is None:
        return {"source": checked.source, "problem": checked.problem}
    facts, need, settings = assessment.facts, assessment.need, assessment.settings
    suggestions = in_time(lambda: suggest(assessment, place, choices(assessment)))
    return {
        "source": checked.source,
        "problem": None,
        "model": {
            name: getattr(facts, name)
            for name in (
                "name", "files", "size_bytes", "architecture", "file_type", "bits_per_weight", "bytes_by_type",
                "parameters", "active_parameters", "n_layer", "n_embd", "n_vocab", "n_ctx_train", "n_expert",
                "n_expert_used", "has_template", "license", "is_projector", "weight_bytes_per_token",
            )
        },
        "machine": {
            "name": place.machine.name,
            "power_mode": place.machine.power_mode or None,
            "basis": place.machine.basis,
            "explanation": place.machine.explanation,
        },
        "settings": settings,
        "memory": None if isinstance(need, Unavailable) else {**_fields(need), "total_bytes": need.total_bytes},
        "memory_missing": _missing(need),
        "prompt_tokens": assessment.workload.prompt_tokens,
        "answer_tokens": assessment.workload.answer_tokens,
        "speed": _known(assessment.speed),
        "speed_missing": _missing(assessment.speed),
        "energy": _known(assessment.energy),
        "energy_missing": _missing(assessment.energy),
        "price_per_million_tokens": assessment.price_per_million,
        "fit_by_memory": [{"memory_bytes": size, "fit": fit} for size, fit in assessment.by_size],
        **{
            name: getattr(assessment, name)
            for name in (
                "room", "largest_context", "answer_s", "answer_j", "battery_hours", "verdict", "duty", "draft",
                "side_by_side", "ollama",
            )
        },
        "suggestions": [_suggestion(assessment, suggestion) for suggestion in suggestions],
        "server_command": list(assessment.server_command),
        "verify": list(assessment.verify_command),
    }  # fmt: skip


def _suggestion(before: Assessment, suggestion: Suggestion) -> dict[str, Any]:
    after = suggestion.after
    return {
        "kind": suggestion.kind,
        "words": suggestion.words,
        "flag": suggestion.flag or None,
        "effect": effect_text(before, after),
        "needed_bytes": None if isinstance(after.need, Unavailable) else after.need.needed_bytes,
        "decode_tokens_per_s": after.decode,
        "verdict": after.verdict,
    }


def _of(path: str) -> Callable[[Checked], Any]:
    """Looks up a figure of the assessment, such as `need.kv_bytes`; `None` where there is none."""
    return lambda checked: figure_at(checked.assessment, path)


def _text(words: Callable[[Assessment], str], without: str = "") -> Callable[[Checked], str]:
    """A cell for a person; `without` an assessment."""
    return lambda checked: without if checked.assessment is None else words(checked.assessment)


def _plain(*paths: str) -> list[Column[Checked]]:
    """Columns that only programs read, named by the last name of their paths."""
    return [Column(path.rpartition(".")[2], _of(path)) for path in paths]


def _interval(path: str) -> list[Column[Checked]]:
    name = path.rpartition(".")[2]
    return [
        Column(f"{name}{suffix}", _of(f"{path}.{part}"))
        for suffix, part in (("", "value"), ("_low", "low"), ("_high", "high"))
    ]


def _first_token_text(assessment: Assessment) -> str:
    speed = assessment.speed
    if isinstance(speed, Unavailable) or speed.first_token_s is None:
        return NOT_AVAILABLE
    return format_seconds(speed.first_token_s.value)


COLUMNS: tuple[Column[Checked], ...] = (
    Column("source", heading="MODEL", text=lambda checked: called(checked.source)),
    Column("problem", lambda checked: checked.problem or None),
    *_plain("facts.name", "facts.architecture"),
    Column("file_type", _of("facts.file_type"), "QUANT", _text(lambda each: each.facts.file_type or NOT_AVAILABLE)),
    Column("size_bytes", _of("facts.size_bytes"), "SIZE", _text(lambda each: format_bytes(each.facts.size_bytes))),
    *_plain("facts.bits_per_weight", "facts.parameters", "facts.active_parameters"),
    Column("n_ctx", _of("settings.n_ctx"), "CONTEXT", _text(lambda each: str(each.settings.n_ctx))),
    *_plain("settings.n_threads", "settings.n_gpu_layers", "settings.type_k", "settings.type_v"),
    *_plain("need.weights_bytes", "need.repack_bytes", "need.kv_bytes", "need.compute_bytes", "need.output_bytes"),
    *_plain("need.process_bytes"),
    Column("needed_bytes", _of("need.needed_bytes"), "MEMORY", _text(memory_cell)),
    Column("memory_basis", _of("need.basis")),
    *_plain("room.available_bytes", "largest_context"),
    Column("", heading="TOK/S", text=_text(lambda each: banded(each.decode))),
    *_interval("speed.decode_tokens_per_s"),
    *_interval("speed.prefill_tokens_per_s"),
    Column("", heading="FIRST TOKEN", text=_text(_first_token_text)),
    *_interval("speed.first_token_s"),
    *_plain("speed.limited_by"),
    Column("speed_basis", _of("speed.basis")),
    Column("", heading="J/TOKEN", text=_text(joules_cell)),
    *_interval("energy.decode_j_per_token"),
    Column("energy_scope", _of("energy.scope")),
    Column("energy_basis", _of("energy.basis")),
    *_interval("answer_j"),
    Column("", heading="VERDICT", text=_text(verdict_text, without="cannot be read")),
    *_plain("verdict.fit", "verdict.pace"),
    Column("", heading="BASIS", text=_text(lambda each: str(figure_at(each, "speed.basis") or NOT_AVAILABLE))),
    Column("verify", lambda checked: checked.assessment and shlex.join(checked.assessment.verify_command)),
)


def _fields(struct: Struct) -> dict[str, Any]:
    return {name: getattr(struct, name) for name in struct.__struct_fields__}


def _known(value: object) -> object:
    return None if isinstance(value, Unavailable) else value


def _missing(value: object) -> str | None:
    if not isinstance(value, Unavailable):
        return None
    return f"{value.reason}: {value.hint}" if value.hint else value.reason


BESIDE_MAX = 12
"""Models in the same folder whose headers are read to find one that does better."""

REMOTE = ("hf:", "https://", "http://")


def execute(arguments: argparse.Namespace, settings: Settings) -> int:
    """Print what was found and return the worst exit code of all models and contexts."""
    if arguments.history:
        return show_history(settings, arguments.format)
    if arguments.device == "list":
        return show_devices(arguments.format)
    requests = _requested(arguments.ctx, engine_settings(settings))
    workload = _workload(arguments, settings, requests[0])
    speed = arguments.min_speed
    min_speed = None if speed is None else parse_value("--min-speed", speed, real(0, 1e9))
    place = run_target(arguments, settings)
    if arguments.screen:
        return choose_on_screen(arguments.models, requests, workload, place, settings)
    if not arguments.models:
        write_offered(settings, requests[0], workload, place, purpose=arguments.purpose, form=arguments.format)
        return 0
    checked = list(_check(arguments.models, requests, workload, place, settings, exact=arguments.exact))
    modes = other_modes(arguments, settings)
    write_checked(
        checked,
        place,
        arguments.format,
        currency=settings[options.CURRENCY],
        choices=lambda assessment: Choices(modes=modes, others=_others(assessment, checked)),
    )
    for each in checked:
        if each.problem:
            print_error(f"{each.source}: {each.problem}", each.hint)
    if min_speed is not None and any(
        each.assessment is not None and each.assessment.decode is None for each in checked
    ):
        print_status("without a predicted speed nothing can be said of --min-speed")
    return max((exit_code(each, min_speed) for each in checked), key=_badness, default=0)


def _workload(arguments: argparse.Namespace, settings: Settings, requested: EngineSettings) -> Workload:
    """What the model is to do, and what is loaded beside it."""
    beside_bytes, draft, asked = 0, None, arguments.prompt_tokens
    if arguments.mmproj is not None:
        beside_bytes += read_facts(Path(arguments.mmproj)).tensor_bytes
    if requested.draft_model is not None:
        draft = read_facts(Path(requested.draft_model))
        cache = memory_need(draft, replace(requested, draft_model=None, n_ctx=requested.n_ctx))
        beside_bytes += draft.tensor_bytes if isinstance(cache, Unavailable) else cache.allocated_bytes
    return Workload(
        prompt_tokens=512 if asked is None else parse_value("--prompt-tokens", asked, integer(1)),
        prompt_is_asked=asked is not None,
        answer_tokens=settings[options.ANSWER_TOKENS],
        slots=parse_value("--slots", arguments.slots, integer(1, 256)),
        projector=arguments.mmproj or "",
        beside_bytes=beside_bytes,
        draft=draft,
        mtp=arguments.mtp,
    )


def _badness(code: int) -> int:
    """Too slow is better than not fitting, and that is better than nothing known of the model."""
    return (0, 5, 4, 1, 3).index(code)


def _check(
    models: Sequence[str],
    requests: Sequence[EngineSettings],
    workload: Workload,
    place: RunTarget,
    settings: Settings,
    *,
    exact: bool,
) -> Iterator[Checked]:
    """Raises ModelError for a single model that cannot be read; of several, those that can are checked."""
    for name in models:
        try:
            facts = _facts(name, settings)
            found = [_assess(facts, requested, workload, place, exact=exact) for requested in requests]
        except ModelError as error:
            if len(models) <= 1:
                raise
            yield Checked(source=name, problem=error.what, hint=error.hint)
            continue
        yield from (Checked(source=facts.source, assessment=each) for each in found)


def _others(assessment: Assessment, checked: Sequence[Checked]) -> tuple[ModelFacts, ...]:
    """The models that were named beside this one, and those that lie beside it; none where it needs no other."""
    if assessment.verdict.rank == (0, 0):
        return ()
    named = {each.assessment.facts.files[0]: each.assessment.facts for each in checked if each.assessment is not None}
    file = Path(assessment.facts.files[0])
    beside = [] if assessment.facts.source.startswith(REMOTE) else models_in(file.parent)
    for model in [each for each in beside if str(each) not in named][:BESIDE_MAX]:
        with suppress(ModelError):
            named[str(model)] = read_facts(model)
    return tuple(named.values())


def _facts(name: str, settings: Settings) -> ModelFacts:
    """The facts of a model by the name that a person gave."""
    if name.startswith(REMOTE):
        from edgetop.fit.remote_model import fetch_facts  # noqa: PLC0415 - with http

        shown_s = 0.0

        def report(received_bytes: int, elapsed_s: float) -> None:
            nonlocal shown_s
            if elapsed_s - shown_s >= PROGRESS_S and not settings[options.QUIET]:
                shown_s = elapsed_s
                rate = format_bytes(received_bytes / elapsed_s)
                show_progress(f"reading the header of {name}: {format_bytes(received_bytes)}, {rate}/s")

        try:
            return fetch_facts(name, report=report)
        finally:
            clear_progress()
    if Path(name).is_file():
        return in_time(lambda: read_facts(Path(name)))
    from edgetop.inference.catalog import resolve  # noqa: PLC0415 - only without a path

    path = resolve(name, folders=settings[options.MODEL_DIR])
    return in_time(lambda: read_facts(path))


def _assess(
    facts: ModelFacts, requested: EngineSettings, workload: Workload, place: RunTarget, *, exact: bool
) -> Assessment:
    """By the formulas; by llama.cpp where they have no answer or it is asked for. Raises ModelError."""
    assessment = in_time(lambda: assess(facts, requested, workload, place))
    if assessment.verdict.fit == "refused" or not (exact or isinstance(assessment.need, Unavailable)):
        return assessment
    from edgetop.inference.llama.dry_load import dry_load, dry_load_header  # noqa: PLC0415 - starts a process

    if facts.source.startswith(REMOTE):
        allocated = dry_load_header(facts.header, facts.n_vocab or 0, assessment.settings)
    else:
        allocated = dry_load(Path(facts.files[0]), assessment.settings)
    if isinstance(allocated, Unavailable):
        if exact:
            print_error(f"llama.cpp does not say what it would allocate: {allocated.reason}", allocated.hint)
        return assessment
    return in_time(lambda: assess(facts, requested, workload, place, allocated=allocated))


def write_offered(
    settings: Settings,
    requested: EngineSettings,
    workload: Workload,
    place: RunTarget,
    *,
    purpose: str,
    form: str | None,
) -> None:
    """Print the models that one may choose, the best first, and where the figures come from."""
    found = best_first(_files((), settings), requested, workload, place, purpose)
    write_listing(found, OFFERED_COLUMNS, form)
    if form is not None:
        return
    energies = [each.assessment.energy for each in found]
    scope = next((each.scope.replace("_", " ") for each in energies if not isinstance(each, Unavailable)), None)
    reasons = (f"{NOT_AVAILABLE}, {each.reason}" for each in energies if isinstance(each, Unavailable))
    print_status(f"best for {purpose} first, on {place.machine.name}; J/token: {scope or next(reasons, NOT_AVAILABLE)}")
    print_status("sizes with ~ are computed; `edgetop check MODEL` says more; -m hf:... is downloaded when it is used")


def _requested(contexts: str | None, requested: EngineSettings) -> list[EngineSettings]:
    if contexts is None:
        return [requested]
    return [replace(requested, n_ctx=parse_value("--ctx", text, token_count)) for text in contexts.split(",")]


def choose_on_screen(
    models: Sequence[str], requests: Sequence[EngineSettings], workload: Workload, place: RunTarget, settings: Settings
) -> int:
    """Open the screen over `models`, or over all of this machine; print the page of the model that was chosen."""
    from edgetop.tui.screens.models import ModelsScreen  # noqa: PLC0415 - Textual is slow to import

    contexts = tuple(requested.n_ctx for requested in requests if requested.n_ctx is not None) or CONTEXTS
    survey = ModelAssessments(
        lambda: _files(models, settings), lambda: place, contexts=contexts, requested=requests[0], workload=workload
    )
    currency = settings[options.CURRENCY]
    choice = show_screen(
        lambda level: ModelsScreen(level, survey, currency=currency, enter_does="Print the page"), settings
    )
    if choice is not None:
        requested = replace(requests[0], n_ctx=choice.n_ctx)
        write_page(assess(read_facts(choice.path), requested, workload, place), place, currency=currency)
    return 0


def _files(models: Sequence[str], settings: Settings) -> Iterator[Candidate]:
    from edgetop.inference.catalog import find_models, problem_of, resolve  # noqa: PLC0415 - only for the screen

    folders: Iterable[Path] = settings[options.MODEL_DIR]
    if not models:
        yield from (Candidate(each.name, each.path, each.origin, problem_of(each)) for each in find_models(folders))
    for name in models:
        yield Candidate(name, resolve(name, folders=folders))


def _sources(device: Device) -> str:
    return "; ".join(dict.fromkeys(device.sources.values()))


def _sizes(device: Device) -> str:
    return "/".join(f"{size:g}" for size in device.memory_gb)


DEVICE_COLUMNS: tuple[Column[Device], ...] = (
    Column("name", heading="NAME"),
    Column("title", heading="DEVICE"),
    Column("memory_gb", _sizes, "MEMORY", lambda device: f"{_sizes(device)} GB" if device.memory_gb else ""),
    Column(
        "power_modes",
        lambda device: "/".join(device.modes),
        "POWER MODES",
        lambda device: ", ".join(device.modes) if len(device.modes) > 1 else "",
    ),
    Column("default_power_mode", lambda device: device.default_mode),
    Column("sources", _sources, "SOURCES"),
    Column("note", lambda device: device.note or None),
)


def show_devices(chosen: str | None) -> int:
    """Print one row for each device, those of the user's own file among them."""
    write_listing(list(load_devices(default_file()).values()), DEVICE_COLUMNS, chosen)
    return 0


FIGURES: dict[Quantity, tuple[str, Callable[[float], str]]] = {
    "memory": ("bytes", format_bytes),
    "decode": ("tokens_per_s", format_rate),
    "prefill": ("tokens_per_s", format_rate),
    "first token": ("s", format_seconds),
    "energy": ("j_per_token", lambda value: f"{format_significant(value)} J/tok"),
}
"""Unit and text of a figure."""


class HistoryRow(NamedTuple):
    """One figure of one session: predicted and measured."""

    outcome: Outcome
    held: PredictedVsMeasured

    def text(self, value: float) -> str:
        """A value of the figure."""
        return FIGURES[self.held.quantity][1](value)


_BANDS = {None: NOT_AVAILABLE, True: "inside", False: "outside"}

HISTORY_COLUMNS: tuple[Column[HistoryRow], ...] = (
    Column("session", lambda row: row.outcome.session_id),
    Column(
        "started_at",
        lambda row: row.outcome.started_at,
        "STARTED",
        lambda row: format_time(row.outcome.started_at),
    ),
    Column(
        "model",
        lambda row: row.outcome.load.model.name,
        "MODEL",
        lambda row: f"{row.outcome.load.model.name} {row.outcome.load.model.quantization}".strip(),
    ),
    Column("quantization", lambda row: row.outcome.load.model.quantization),
    Column("n_threads", lambda row: row.outcome.load.settings.n_threads),
    Column("depth_tokens", lambda row: round(row.outcome.measured.depth_tokens)),
    Column("figure", lambda row: row.held.quantity, "FIGURE"),
    Column("unit", lambda row: FIGURES[row.held.quantity][0]),
    Column("predicted", lambda row: row.held.predicted, "PREDICTED", lambda row: row.text(row.held.predicted)),
    Column("low", lambda row: row.held.low),
    Column("high", lambda row: row.held.high),
    Column("measured", lambda row: row.held.measured, "MEASURED", lambda row: row.text(row.held.measured)),
    Column("error", lambda row: row.held.error, "ERROR", lambda row: f"{row.held.error:+.1%}"),
    Column("inside", lambda row: row.held.inside, "BAND", lambda row: _BANDS[row.held.inside]),
    Column("basis", lambda row: row.outcome.prediction.basis, "BASIS"),
)


def show_history(settings: Settings, chosen: str | None) -> int:
    """Print one row for each figure of each session, and for a person how good the figures have been on the whole."""
    from edgetop.live.past_runs import outcomes_in, records_of  # noqa: PLC0415 - reads sessions; nothing else here does
    from edgetop.telemetry.device import describe  # noqa: PLC0415 - the same
    from edgetop.telemetry.host import Host  # noqa: PLC0415 - the same

    outcomes = outcomes_in(sessions_folder(settings), describe(Host(sysroot=settings[options.SYSROOT])))
    records = records_of(outcomes)
    if chosen == "json":
        write_json({"records": records, "sessions": [_as_object(outcome) for outcome in outcomes]})
        return 0
    rows = [HistoryRow(outcome, held) for outcome in outcomes for held in outcome.held]
    if not rows and chosen is None:
        print_status(
            "no session of this machine holds a prediction and what came of it undisturbed: `edgetop bench -m MODEL`, "
            "or a chat of some length while nothing else runs, records both"
        )
        return 0
    write_listing(rows, HISTORY_COLUMNS, chosen)
    if chosen is None:
        write_data(
            "\n"
            + table([["FIGURE", "PREDICTIONS", "MEDIAN ERROR", "BIAS", "IN THE BAND"], *map(_accuracy_cells, records)])
        )
    return 0


def _as_object(outcome: Outcome) -> dict[str, Any]:
    return {
        "session": outcome.session_id,
        "started_at": outcome.started_at,
        "model": outcome.load.model,
        "settings": outcome.load.settings,
        "prediction": outcome.prediction,
        "measured": outcome.measured,
        "held": [{**_fields(held), "error": held.error, "inside": held.inside} for held in outcome.held],
    }


def _accuracy_cells(record: PredictionAccuracy) -> list[str]:
    return [
        record.quantity,
        str(record.count),
        f"{record.median_error:.1%}",
        f"{record.median_bias:+.1%}",
        NOT_AVAILABLE if record.inside is None else f"{record.inside} of {record.count}",
    ]
