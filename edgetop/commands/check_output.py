"""What `edgetop check` prints, and the exit code it ends with."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct

from edgetop.commands.console import write_data
from edgetop.commands.listing import table, write_json, write_rows
from edgetop.core.energy.figure import Figure
from edgetop.core.format import NOT_AVAILABLE, format_bytes, format_seconds
from edgetop.core.records import Missing
from edgetop.core.text import one_line
from edgetop.fit.assessment import Assessment, Place
from edgetop.fit.suggestions import Choices, Suggestion, suggest
from edgetop.fit.wording import Entry, banded, effect_text, page, verdict_text

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
    mend: str = ""


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
    place: Place,
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


def write_page(assessment: Assessment, place: Place, choices: Choices | None = None, *, currency: str) -> None:
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


def as_object(checked: Checked, place: Place, choices: Callable[[Assessment], Choices]) -> dict[str, Any]:
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
        "memory": None if isinstance(need, Missing) else {**_fields(need), "total_bytes": need.total_bytes},
        "memory_missing": _missing(need),
        "room": assessment.room,
        "largest_context": assessment.largest_context,
        "prompt_tokens": assessment.talk.prompt_tokens,
        "answer_tokens": assessment.talk.answer_tokens,
        "speed": None if isinstance(assessment.speed, Missing) else assessment.speed,
        "speed_missing": _missing(assessment.speed),
        "energy": None if isinstance(assessment.energy, Missing) else assessment.energy,
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
        "needed_bytes": None if isinstance(after.need, Missing) else after.need.needed_bytes,
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
        "Memory": NOT_AVAILABLE if isinstance(need, Missing) else format_bytes(need.needed_bytes),
        "Decode": banded(assessment.decode),
        "FirstToken": NOT_AVAILABLE
        if isinstance(speed, Missing) or speed.first_token_s is None
        else format_seconds(speed.first_token_s.value),
        "Joules": NOT_AVAILABLE if isinstance(energy, Missing) else banded(energy.decode_j_per_token),
        "Verdict": verdict_text(assessment),
        "Basis": NOT_AVAILABLE if isinstance(speed, Missing) else speed.basis,
    }


def _called(source: str) -> str:
    """A model by the name of its file: those in headers are often the same for all quantizations."""
    return source if source.startswith("hf:") else source.rpartition("/")[2].removesuffix(".gguf")


def _values(assessment: Assessment | None) -> dict[str, Any]:
    """Figures by their names; without an assessment the names alone."""
    facts = None if assessment is None else assessment.facts
    settings = None if assessment is None else assessment.settings
    need = None if assessment is None or isinstance(assessment.need, Missing) else assessment.need
    speed = None if assessment is None or isinstance(assessment.speed, Missing) else assessment.speed
    energy = None if assessment is None or isinstance(assessment.energy, Missing) else assessment.energy
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


def _figure(name: str, figure: Figure | None) -> dict[str, float | None]:
    return {
        name: None if figure is None else figure.value,
        f"{name}_low": None if figure is None else figure.low,
        f"{name}_high": None if figure is None else figure.high,
    }


def _fields(struct: Struct) -> dict[str, Any]:
    return {name: getattr(struct, name) for name in struct.__struct_fields__}


def _missing(value: object) -> str | None:
    if not isinstance(value, Missing):
        return None
    return f"{value.reason}: {value.mend}" if value.mend else value.reason
