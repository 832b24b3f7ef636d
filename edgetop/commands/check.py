"""Verb check."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from edgetop.commands.inputs import sessions_folder
from edgetop.commands.output import print_error, print_status, table, write_data, write_json, write_rows
from edgetop.commands.screens import show_page
from edgetop.core.energy.duty import Price
from edgetop.core.engine_settings import EngineSettings
from edgetop.core.errors import ModelError, UsageError
from edgetop.core.format import NOT_AVAILABLE, format_bytes, format_rate, format_seconds, format_significant
from edgetop.core.quantity import Interval
from edgetop.core.sources import Unavailable
from edgetop.core.text import one_line
from edgetop.fit.assessment import Assessment, Reader, RunTarget, Thresholds, Workload, assess
from edgetop.fit.devices import Device, default_file, load_devices
from edgetop.fit.memory import MemoryRoom
from edgetop.fit.model_assessments import CONTEXTS, ModelAssessments
from edgetop.fit.model_facts import ModelFacts
from edgetop.fit.model_file import models_in, read_facts
from edgetop.fit.suggestions import Choices, Suggestion, suggest
from edgetop.fit.wording import Entry, banded, effect_text, page, verdict_text
from edgetop.inference.catalog import find_models, resolve
from edgetop.live.this_machine import outcomes_in
from edgetop.session.past_runs import Outcome, PredictedVsMeasured, PredictionAccuracy, Quantity, records_of
from edgetop.settings import options
from edgetop.settings.option import integer, real, token_count
from edgetop.settings.resolve import Settings, engine_settings
from edgetop.telemetry.device import describe
from edgetop.telemetry.host import Host

SYSTEM_SHARE = 0.15
"""Of a device's memory that its system and its desktop take before a model comes: 0.5 to 1.2 GB of 8 GB boards."""


def place_of(arguments: argparse.Namespace, settings: Settings) -> RunTarget:
    """The place that is meant. Raises UsageError for a device or a power mode that is not in the table."""
    if arguments.device is None and arguments.power_mode is not None:
        raise UsageError("--power-mode is one of a device of the table", "name the device with --device, too")
    if arguments.device is None:
        return _judged(_own(arguments, settings), settings)
    return _judged(_device(arguments.device, arguments.power_mode), settings)


def other_modes(arguments: argparse.Namespace, settings: Settings) -> dict[str, RunTarget]:
    """The other power modes of the device that was named, by name; none of this machine, which has one at a time."""
    if arguments.device is None:
        return {}
    from edgetop.fit.devices import default_file, find_device, load_devices, mode_of  # noqa: PLC0415 - see below

    device = find_device(load_devices(default_file()), arguments.device)
    names = [name for name in device.modes if name != mode_of(device, arguments.power_mode)]
    return {name: _judged(_device(arguments.device, name), settings) for name in names}


def _judged(place: RunTarget, settings: Settings) -> RunTarget:
    """The place with the thresholds and the price that the settings have."""
    per_kwh = settings[options.PRICE_PER_KWH]
    return replace(
        place,
        thresholds=Thresholds(
            margin_share=settings[options.MEMORY_MARGIN] / 100,
            reader=Reader(
                words_per_minute=settings[options.WORDS_PER_MINUTE], tokens_per_word=settings[options.TOKENS_PER_WORD]
            ),
        ),
        price=None if per_kwh is None else Price(per_kwh=per_kwh, currency=settings[options.CURRENCY]),
    )


def _own(arguments: argparse.Namespace, settings: Settings) -> RunTarget:
    from edgetop.live.this_machine import Probe, own_place  # noqa: PLC0415 - a device of the table needs none of it
    from edgetop.telemetry.host import Host  # noqa: PLC0415 - the same

    probe: Probe = "never" if arguments.no_probe else "always" if arguments.force_probe else "once"
    return own_place(Host(sysroot=settings[options.SYSROOT]), sessions_folder(settings), probe=probe, tell=print_error)


def _device(name: str, power_mode: str | None) -> RunTarget:
    from edgetop.fit.devices import (  # noqa: PLC0415 - own machine needs none
        default_file,
        find_device,
        load_devices,
        machine_of,
    )

    machine = machine_of(find_device(load_devices(default_file()), name), power_mode)
    memory_bytes = machine.memory_bytes
    room = None
    if memory_bytes is not None:
        room = MemoryRoom(
            available_bytes=round(memory_bytes * (1 - SYSTEM_SHARE)),
            limit="MemAvailable",
            total_bytes=memory_bytes,
            notes=(f"{100 * SYSTEM_SHARE:.0f} % of its memory is taken to be in use by the system.",),
        )
    return RunTarget(machine=machine, threads=machine.cores or 1, room=room)


EXIT_UNREADABLE = 3

EXIT_DOES_NOT_FIT = 4

EXIT_TOO_SLOW = 5

EXIT_NOT_KNOWN = 1

LABEL_COLUMNS, WIDTH_LEAST = 9, 30

SHOWN = {
    "Model": "MODEL", "Quant": "QUANT", "Size": "SIZE", "Context": "CONTEXT", "Memory": "MEMORY", "Decode": "TOK/S",
    "FirstToken": "FIRST TOKEN", "Joules": "J/TOKEN", "Verdict": "VERDICT", "Basis": "BASIS",
}  # fmt: skip


class Checked(Struct, frozen=True, kw_only=True):
    """One model with one context, or why it could not be looked at."""

    source: str
    assessment: Assessment | None = None
    problem: str = ""
    hint: str = ""


def exit_code(checked: Checked, min_speed: float | None) -> int:
    """0 fits, 3 cannot be read, 4 does not fit, 5 fits but is slower than `min_speed`, 1 if that is not known."""
    assessment = checked.assessment
    if assessment is None:
        return EXIT_UNREADABLE
    if assessment.verdict.fit == "does not fit":
        return EXIT_DOES_NOT_FIT
    if assessment.verdict.fit is None or (min_speed is not None and assessment.decode is None):
        return EXIT_NOT_KNOWN
    if min_speed is not None and assessment.decode is not None and assessment.decode.value < min_speed:
        return EXIT_TOO_SLOW
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
        write_rows([_row(each) for each in checked], chosen, SHOWN)


def write_page(assessment: Assessment, place: RunTarget, choices: Choices | None = None, *, currency: str) -> None:
    """Print everything there is to say of one model."""
    entries = page(assessment, place, suggest(assessment, place, choices), currency=currency)
    elsewhere = not place.machine.key  # of the device table
    rows = [row for entry in entries for row in _wrapped(entry)]
    rows += [Entry("verify", "on the device itself:")] if elsewhere else []
    # A command is to be copied, so it stays in one line.
    rows.append(Entry("" if elsewhere else "verify", shlex.join(assessment.verify_command)))
    write_data(table([[row.label, row.text] for row in rows]))


def _wrapped(entry: Entry) -> list[Entry]:
    """The entry in lines that a terminal has room for; as it is where it goes somewhere else."""
    if not sys.stdout.isatty():
        return [entry]
    from textwrap import wrap  # noqa: PLC0415 - only on a terminal

    width = max(WIDTH_LEAST, os.get_terminal_size(sys.stdout.fileno()).columns - LABEL_COLUMNS)
    lines = wrap(one_line(entry.text), width) or [""]
    return [Entry(entry.label if index == 0 else "", line) for index, line in enumerate(lines)]


def as_object(checked: Checked, place: RunTarget, choices: Callable[[Assessment], Choices]) -> dict[str, Any]:
    """The object of `check --json`."""
    assessment = checked.assessment
    if assessment is None:
        return {"source": checked.source, "problem": checked.problem}
    facts, need, settings = assessment.facts, assessment.need, assessment.settings
    suggestions = suggest(assessment, place, choices(assessment))
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
        "room": assessment.room,
        "largest_context": assessment.largest_context,
        "prompt_tokens": assessment.talk.prompt_tokens,
        "answer_tokens": assessment.talk.answer_tokens,
        "speed": None if isinstance(assessment.speed, Unavailable) else assessment.speed,
        "speed_missing": _missing(assessment.speed),
        "energy": None if isinstance(assessment.energy, Unavailable) else assessment.energy,
        "energy_missing": _missing(assessment.energy),
        "answer_s": assessment.answer_s,
        "answer_j": assessment.answer_j,
        "battery_hours": assessment.battery_hours,
        "price_per_million_tokens": assessment.price_per_million,
        "verdict": assessment.verdict,
        "suggestions": [_suggestion(assessment, suggestion) for suggestion in suggestions],
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


def _row(checked: Checked) -> dict[str, Any]:
    """Values for CSV, and texts for a table."""
    assessment = checked.assessment
    if assessment is None:
        return {**dict.fromkeys(_values(None)), "source": checked.source, "problem": checked.problem,
                **dict.fromkeys(SHOWN, ""), "Model": _called(checked.source), "Verdict": "cannot be read"}  # fmt: skip
    facts, need, speed, energy = assessment.facts, assessment.need, assessment.speed, assessment.energy
    return {
        **_values(assessment),
        "source": checked.source,
        "problem": None,
        "Model": _called(checked.source),
        "Quant": facts.file_type or NOT_AVAILABLE,
        "Size": format_bytes(facts.size_bytes),
        "Context": str(assessment.settings.n_ctx),
        "Memory": NOT_AVAILABLE if isinstance(need, Unavailable) else format_bytes(need.needed_bytes),
        "Decode": banded(assessment.decode),
        "FirstToken": NOT_AVAILABLE
        if isinstance(speed, Unavailable) or speed.first_token_s is None
        else format_seconds(speed.first_token_s.value),
        "Joules": NOT_AVAILABLE if isinstance(energy, Unavailable) else banded(energy.decode_j_per_token),
        "Verdict": verdict_text(assessment),
        "Basis": NOT_AVAILABLE if isinstance(speed, Unavailable) else speed.basis,
    }


def _called(source: str) -> str:
    """A model by the name of its file: those in headers are often the same for all quantizations."""
    return source if source.startswith("hf:") else source.rpartition("/")[2].removesuffix(".gguf")


def _values(assessment: Assessment | None) -> dict[str, Any]:
    """Figures by their names; without an assessment the names alone."""
    facts = None if assessment is None else assessment.facts
    settings = None if assessment is None else assessment.settings
    need = None if assessment is None or isinstance(assessment.need, Unavailable) else assessment.need
    speed = None if assessment is None or isinstance(assessment.speed, Unavailable) else assessment.speed
    energy = None if assessment is None or isinstance(assessment.energy, Unavailable) else assessment.energy
    verdict = None if assessment is None else assessment.verdict
    room = None if assessment is None else assessment.room
    return {
        "source": None,
        "problem": None,
        **{name: getattr(facts, name, None) for name in ("name", "architecture", "file_type", "size_bytes")},
        **{name: getattr(facts, name, None) for name in ("bits_per_weight", "parameters", "active_parameters")},
        **{name: getattr(settings, name, None) for name in ("n_ctx", "n_threads", "n_gpu_layers", "type_k", "type_v")},
        **{name: getattr(need, name, None) for name in ("weights_bytes", "repack_bytes", "kv_bytes", "compute_bytes")},
        **{name: getattr(need, name, None) for name in ("output_bytes", "process_bytes", "needed_bytes")},
        "memory_basis": getattr(need, "basis", None),
        "available_bytes": getattr(room, "available_bytes", None),
        "largest_context": None if assessment is None else assessment.largest_context,
        **_figure("decode_tokens_per_s", getattr(speed, "decode_tokens_per_s", None)),
        **_figure("prefill_tokens_per_s", getattr(speed, "prefill_tokens_per_s", None)),
        **_figure("first_token_s", getattr(speed, "first_token_s", None)),
        "limited_by": getattr(speed, "limited_by", None),
        "speed_basis": getattr(speed, "basis", None),
        **_figure("decode_j_per_token", getattr(energy, "decode_j_per_token", None)),
        "energy_scope": getattr(energy, "scope", None),
        "energy_basis": getattr(energy, "basis", None),
        **_figure("answer_j", None if assessment is None else assessment.answer_j),
        "fit": getattr(verdict, "fit", None),
        "pace": getattr(verdict, "pace", None),
        "verify": None if assessment is None else shlex.join(assessment.verify_command),
    }


def _figure(name: str, figure: Interval | None) -> dict[str, float | None]:
    return {
        name: None if figure is None else figure.value,
        f"{name}_low": None if figure is None else figure.low,
        f"{name}_high": None if figure is None else figure.high,
    }


def _fields(struct: Struct) -> dict[str, Any]:
    return {name: getattr(struct, name) for name in struct.__struct_fields__}


def _missing(value: object) -> str | None:
    if not isinstance(value, Unavailable):
        return None
    return f"{value.reason}: {value.hint}" if value.hint else value.reason


T = TypeVar("T")

BESIDE_MAX = 12
"""Models in the same folder whose headers are read to find one that does better."""

REMOTE = ("hf:", "https://", "http://")


def execute(arguments: argparse.Namespace, settings: Settings) -> int:
    """Print what was found and return the worst exit code of all models and contexts."""
    if arguments.history:
        return show_history(settings, arguments.format)
    if arguments.device == "list":
        return show_devices(arguments.format)
    talk = Workload(
        prompt_tokens=_given("--prompt-tokens", arguments.prompt_tokens, integer(1)),
        answer_tokens=_given("--answer-tokens", arguments.answer_tokens, integer(1)),
    )
    speed = arguments.min_speed
    min_speed = None if speed is None else _given("--min-speed", speed, real(0, 1e9))
    wishes = _wishes(arguments.ctx, engine_settings(settings))
    place = place_of(arguments, settings)
    if arguments.screen:
        return show_screen(arguments.models, wishes, talk, place, settings)
    checked = list(_check(arguments.models, wishes, talk, place, settings, exact=arguments.exact))
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


def _badness(code: int) -> int:
    """Too slow is better than not fitting, and that is better than nothing known of the model."""
    return (0, 5, 4, 1, 3).index(code)


def _check(
    models: Sequence[str],
    wishes: Sequence[EngineSettings],
    talk: Workload,
    place: RunTarget,
    settings: Settings,
    *,
    exact: bool,
) -> Iterator[Checked]:
    """Raises ModelError for a single model that cannot be read; of several, those that can are checked."""
    names: Sequence[str | None] = models or [None]
    for name in names:
        try:
            facts = _facts(name, settings)
        except ModelError as error:
            if len(models) <= 1:
                raise
            yield Checked(source=str(name), problem=error.what, hint=error.hint)
            continue
        for wish in wishes:
            yield Checked(source=facts.source, assessment=_assess(facts, wish, talk, place, exact=exact))


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


def _facts(name: str | None, settings: Settings) -> ModelFacts:
    """The facts of a model by the name that a person gave; `None` is the one used last."""
    if name is not None and name.startswith(REMOTE):
        from edgetop.fit.remote_model import fetch_facts  # noqa: PLC0415 - with http

        return fetch_facts(name)
    if name is not None and Path(name).is_file():
        return read_facts(Path(name))
    from edgetop.inference.catalog import (  # noqa: PLC0415 - only without a path
        last_model,
        resolve,
    )

    return read_facts(resolve(name, folders=settings[options.MODEL_DIR], last_used=last_model()))


def _assess(facts: ModelFacts, wish: EngineSettings, talk: Workload, place: RunTarget, *, exact: bool) -> Assessment:
    """By the formulas; by llama.cpp where they have no answer or it is asked for."""
    assessment = assess(facts, wish, talk, place)
    if not (exact or isinstance(assessment.need, Unavailable)) or facts.source.startswith(REMOTE):
        return assessment
    from edgetop.inference.llama.dry_load import dry_load  # noqa: PLC0415 - starts a process

    allocated = dry_load(Path(facts.files[0]), assessment.settings)
    if isinstance(allocated, Unavailable):
        if exact:
            print_error(f"llama.cpp does not say what it would allocate: {allocated.reason}", allocated.hint)
        return assessment
    return assess(facts, wish, talk, place, allocated=allocated)


def _wishes(contexts: str | None, wish: EngineSettings) -> list[EngineSettings]:
    if contexts is None:
        return [wish]
    return [replace(wish, n_ctx=_given("--ctx", text, token_count)) for text in contexts.split(",")]


def _given(flag: str, text: str, parse: Callable[[str], T]) -> T:
    try:
        return parse(text)
    except ValueError as error:
        raise UsageError(f"{flag}: {text!r} cannot be used", f"expected is {error}") from None


def show_screen(
    models: Sequence[str], wishes: Sequence[EngineSettings], talk: Workload, place: RunTarget, settings: Settings
) -> int:
    """Open the screen over `models`, or over all of this machine; print the page of the model that was chosen."""
    from edgetop.tui.screens.models import ModelsScreen  # noqa: PLC0415 - Textual is slow to import

    contexts = tuple(wish.n_ctx for wish in wishes if wish.n_ctx is not None) or CONTEXTS
    survey = ModelAssessments(
        lambda: _files(models, settings), lambda: place, contexts=contexts, wish=wishes[0], talk=talk
    )
    currency = settings[options.CURRENCY]
    choice = show_page(
        lambda level: ModelsScreen(level, survey, currency=currency, enter_does="prints the page"), settings
    )
    if choice is not None:
        wish = replace(wishes[0], n_ctx=choice.n_ctx)
        write_page(assess(read_facts(choice.path), wish, talk, place), place, currency=currency)
    return 0


def _files(models: Sequence[str], settings: Settings) -> Iterator[tuple[str, Path]]:
    folders: Iterable[Path] = settings[options.MODEL_DIR]
    if not models:
        yield from ((model.name, model.path) for model in find_models(folders) if not model.missing_parts)
    for name in models:
        yield name, resolve(name, folders=folders)


DEVICES_SHOWN = {"Name": "NAME", "Title": "DEVICE", "Memory": "MEMORY", "Modes": "POWER MODES", "Sources": "SOURCES"}


def show_devices(chosen: str | None) -> int:
    """Print one row for each device, those of the user's own file among them."""
    write_rows([_device_row(device) for device in load_devices(default_file()).values()], chosen, DEVICES_SHOWN)
    return 0


def _device_row(device: Device) -> dict[str, Any]:
    modes = list(device.modes)
    sizes = [f"{size:g}" for size in device.memory_gb]
    return {
        "name": device.name,
        "title": device.title,
        "memory_gb": "/".join(sizes),
        "power_modes": "/".join(modes),
        "default_power_mode": device.default_mode,
        "sources": "; ".join(dict.fromkeys(device.sources.values())),
        "note": device.note or None,
        "Name": device.name,
        "Title": device.title,
        "Memory": f"{'/'.join(sizes)} GB" if sizes else "",
        "Modes": ", ".join(modes) if len(modes) > 1 else "",
        "Sources": "; ".join(dict.fromkeys(device.sources.values())),
    }


HISTORY_SHOWN = {
    "Started": "STARTED", "Model": "MODEL", "Figure": "FIGURE", "Predicted": "PREDICTED", "Measured": "MEASURED",
    "Error": "ERROR", "Band": "BAND", "Basis": "BASIS",
}  # fmt: skip

UNITS: dict[Quantity, str] = {
    "memory": "bytes", "decode": "tokens_per_s", "prefill": "tokens_per_s", "first token": "s", "energy": "j_per_token",
}  # fmt: skip


def show_history(settings: Settings, chosen: str | None) -> int:
    """Print one row for each figure of each session, and for a person how good the figures have been on the whole."""
    outcomes = outcomes_in(sessions_folder(settings), describe(Host(sysroot=settings[options.SYSROOT])))
    records = records_of(outcomes)
    if chosen == "json":
        write_json({"records": records, "sessions": [_as_object(outcome) for outcome in outcomes]})
        return 0
    rows = [_history_row(outcome, held) for outcome in outcomes for held in outcome.held]
    if not rows and chosen is None:
        print_status(
            "no session of this machine holds a prediction and what came of it undisturbed: `edgetop bench -m MODEL`, "
            "or a chat of some length while nothing else runs, records both"
        )
        return 0
    write_rows(rows, chosen, HISTORY_SHOWN)
    if chosen is None:
        write_data(
            "\n" + table([["FIGURE", "PREDICTIONS", "MEDIAN ERROR", "BIAS", "IN THE BAND"], *map(_told, records)])
        )
    return 0


def _history_row(outcome: Outcome, held: PredictedVsMeasured) -> dict[str, Any]:
    model = outcome.load.model
    band = NOT_AVAILABLE if held.inside is None else "inside" if held.inside else "outside"
    return {
        "session": outcome.session_id,
        "started_at": outcome.started_at,
        "model": model.name,
        "quantization": model.quantization,
        "n_threads": outcome.load.settings.n_threads,
        "depth_tokens": round(outcome.measured.depth_tokens),
        "figure": held.quantity,
        "unit": UNITS[held.quantity],
        "predicted": held.predicted,
        "low": held.low,
        "high": held.high,
        "measured": held.measured,
        "error": held.error,
        "inside": held.inside,
        "basis": outcome.prediction.basis,
        "Started": outcome.started_at[:16].replace("T", " "),
        "Model": f"{model.name} {model.quantization}".strip(),
        "Figure": held.quantity,
        "Predicted": _value(held.quantity, held.predicted),
        "Measured": _value(held.quantity, held.measured),
        "Error": f"{held.error:+.1%}",
        "Band": band,
        "Basis": outcome.prediction.basis,
    }


def _as_object(outcome: Outcome) -> dict[str, Any]:
    return {
        "session": outcome.session_id,
        "started_at": outcome.started_at,
        "model": outcome.load.model,
        "settings": outcome.load.settings,
        "prediction": outcome.prediction,
        "measured": outcome.measured,
        "held": [
            {
                **{name: getattr(held, name) for name in held.__struct_fields__},
                "error": held.error,
                "inside": held.inside,
            }
            for held in outcome.held
        ],
    }


def _told(record: PredictionAccuracy) -> list[str]:
    return [
        record.quantity,
        str(record.count),
        f"{record.median_error:.1%}",
        f"{record.median_bias:+.1%}",
        NOT_AVAILABLE if record.inside is None else f"{record.inside} of {record.count}",
    ]


def _value(quantity: Quantity, value: float) -> str:
    match quantity:
        case "memory":
            return format_bytes(value)
        case "first token":
            return format_seconds(value)
        case "energy":
            return f"{format_significant(value)} J/tok"
        case _:
            return format_rate(value)
