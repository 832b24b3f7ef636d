"""An assessment in words.

Names from a model's header are in it as they are: whoever writes them to a terminal makes them harmless.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from edgetop.core.energy.duty import SAME_IDLE, DutyFigures
from edgetop.core.engine_settings import KV_TYPE
from edgetop.core.format import (
    NOT_AVAILABLE,
    Column,
    format_bytes,
    format_count,
    format_duration,
    format_seconds,
    format_significant,
    plural,
)
from edgetop.core.quantity import Interval
from edgetop.core.sources import Unavailable
from edgetop.fit.assessment import FITS, Assessment, DraftPrediction, RunTarget
from edgetop.fit.machine import Machine
from edgetop.fit.memory import MemoryNeed, MemoryRoom
from edgetop.fit.model_facts import ModelFacts
from edgetop.fit.speed import OllamaPrediction, SideBySide
from edgetop.fit.suggestions import OfferedModel, Suggestion

TYPES_SHOWN = 4
CHANGED = 0.01


class Entry(NamedTuple):
    """A labelled line of the page; further lines of the same subject have an empty label."""

    label: str
    text: str


def page(
    assessment: Assessment, place: RunTarget, suggestions: tuple[Suggestion, ...], *, currency: str
) -> list[Entry]:
    """Everything there is to say, in the order in which it is asked."""
    return [
        Entry("verdict", verdict_text(assessment)),
        Entry("speed", speed_text(assessment)),
        Entry("energy", energy_text(assessment)),
        Entry("memory", memory_text(assessment)),
        *_labelled("better", suggestion_lines(assessment, suggestions)),
        *_labelled("model", [headline(assessment.facts), *model_lines(assessment.facts)]),
        *_labelled("machine", machine_lines(place.machine)),
        *_labelled("memory", memory_lines(assessment, place)),
        *_labelled("speed", speed_lines(assessment, place)),
        *_labelled("energy", energy_lines(assessment, currency=currency)),
        *_labelled("basis", basis_lines(assessment)),
    ]


def fit_text(assessment: Assessment) -> str:
    """Whether it fits, by size of memory where several are sold and none was named."""
    sizes = assessment.by_size
    if len({fit for _, fit in sizes}) < 2:
        return assessment.verdict.fit or "room not known"
    parts = []
    for fit in FITS:
        of_fit = [f"{size / 2**30:g}" for size, each in sizes if each == fit]
        if of_fit:
            listed = " and ".join([", ".join(of_fit[:-1]), of_fit[-1]] if len(of_fit) > 1 else of_fit)
            parts.append(f"{listed} GB: {'no' if fit == 'does not fit' else fit}")
    return "; ".join(parts)


def speed_text(assessment: Assessment) -> str:
    """The rates in one line."""
    speed, workload = assessment.speed, assessment.workload
    if isinstance(speed, Unavailable):
        return f"{NOT_AVAILABLE}: {speed.reason}"
    after = f"{workload.answer_tokens} tokens after a prompt of {workload.prompt_tokens}"
    answer = f"{after} take {_seconds(assessment.answer_s)}"
    if assessment.answer_s is None:
        answer = f"{after}: {NOT_AVAILABLE}, how fast a prompt is read there is not known"
    return f"{banded(speed.decode_tokens_per_s, 'tok/s')} · {answer}"


def energy_text(assessment: Assessment) -> str:
    """The joules in one line, with their scope."""
    energy = assessment.energy
    if isinstance(energy, Unavailable):
        return f"{NOT_AVAILABLE}: {energy.reason}"
    scope = energy.scope.replace("_", " ")
    answer = "" if assessment.answer_j is None else f" · that answer {banded(assessment.answer_j, 'J')}, {scope}"
    return f"{banded(energy.decode_j_per_token, 'J/token')}, {scope}{answer}"


def memory_text(assessment: Assessment) -> str:
    """The need in one line, against what there is."""
    need, room = assessment.need, assessment.room
    if isinstance(need, Unavailable):
        return f"{NOT_AVAILABLE}: {need.reason}"
    context = f"with a context of {assessment.settings.n_ctx} tokens"
    if room is None:
        return f"{format_bytes(need.needed_bytes)} {context}; how much is free is not known"
    there = need.gpu_bytes if room.name else need.needed_bytes
    rest = f", {format_bytes(need.needed_bytes - there)} in the computer's memory" if there < need.needed_bytes else ""
    return f"{format_bytes(there)} of {format_bytes(room.available_bytes)} {context}{rest}"


def headline(facts: ModelFacts) -> str:
    """Name, quantization and size."""
    label = " ".join(part for part in (facts.name, facts.file_type) if part)
    return f"{label} · {format_bytes(facts.size_bytes)}"


def model_lines(facts: ModelFacts) -> list[str]:
    """What the header says."""
    active = facts.active_parameters != facts.parameters
    experts = f"{facts.n_expert_used} of {facts.n_expert} experts" if facts.n_expert else ""
    shape = [
        facts.architecture,
        f"{format_count(facts.parameters)} parameters",
        f"{format_count(facts.active_parameters)} active per token" if active else "",
        experts,
        f"{facts.n_layer} layers" if facts.n_layer else "",
        f"context {facts.n_ctx_train}" if facts.n_ctx_train else "",
        f"vocabulary {facts.n_vocab}" if facts.n_vocab else "",
    ]
    mix = list(facts.bytes_by_type.items())
    shown = ", ".join(f"{kind} {format_bytes(size)}" for kind, size in mix[:TYPES_SHOWN])
    bits = NOT_AVAILABLE if facts.bits_per_weight is None else f"{facts.bits_per_weight:.2f}"
    rest = f"{bits} bits per weight: {shown}{', ...' if len(mix) > TYPES_SHOWN else ''}"
    others = ["chat template" if facts.has_template else "no chat template", f"license {facts.license or 'not stated'}"]
    if len(facts.files) > 1:
        others.append(f"{len(facts.files)} files")
    return [" · ".join(part for part in shape if part), rest, " · ".join(others)]


def machine_lines(machine: Machine) -> list[str]:
    """On what it is to run."""
    mode = f", power mode {machine.power_mode}" if machine.power_mode else ""
    return [f"{machine.name}{mode}", machine.explanation, *machine.notes]


def memory_lines(assessment: Assessment, place: RunTarget) -> list[str]:
    """Need by part against room."""
    need, room = assessment.need, assessment.room
    if isinstance(need, Unavailable):
        return _missing_lines(need)
    if room is None:
        lines = [f"{format_bytes(need.needed_bytes)}; how much is free is not known"]
    else:
        left = assessment.verdict.left_bytes or 0
        rest = f"{format_bytes(left)} left" if left >= 0 else f"{format_bytes(-left)} too little"
        free = f"{format_bytes(room.available_bytes)} that are {'taken to be ' * _is_assumed(room)}free"
        limit = "" if _is_assumed(room) else f" ({room.limit})"
        there = need.gpu_bytes if room.name else need.needed_bytes
        lines = [f"{format_bytes(there)} of {free}{limit}: {rest}"]
        if assessment.verdict.fit == "tight":
            lines.append(f"tight because less than {format_bytes(place.thresholds.margin_bytes(room))} would stay free")
    if place.gpu_room is not None and place.gpu_room is not room and need.gpu_bytes:
        free = format_bytes(place.gpu_room.available_bytes)
        lines.append(f"of it {format_bytes(need.gpu_bytes)} of {free} that are free on the GPU")
    lines.append(parts_text(need, assessment))
    longest, n_ctx = assessment.largest_context, assessment.settings.n_ctx
    trained = assessment.facts.n_ctx_train
    if room is not None and longest is None:
        lines.append("no context fits")
    elif room is not None:
        whole = f"the {longest} tokens it was trained for fit" if longest == trained else ""
        lines.append(whole or f"longest context that fits: {longest} tokens")
    if trained and n_ctx and n_ctx > trained:
        lines.append(f"beyond {trained} tokens, which it was trained for, answers get worse")
    notes = [need.note, *(room.notes if room is not None else ())]
    return [*lines, *(note for note in notes if note)]


def _is_assumed(room: MemoryRoom) -> bool:
    return room.limit == "assumed of the device"


def parts_text(need: MemoryNeed, assessment: Assessment) -> str:
    """The parts of the need, those that are nothing left out."""
    settings = assessment.settings
    kinds = (settings.type_k or KV_TYPE, settings.type_v or KV_TYPE)
    kv = "/".join(dict.fromkeys(kinds))
    parts = [
        ("weights", need.weights_bytes),
        ("of them not needed once repacked:", need.droppable_bytes),
        ("repacked", need.repack_bytes),
        (f"KV cache ({settings.n_ctx} tokens, {kv})", need.kv_bytes),
        ("compute", need.compute_bytes),
        ("logits", need.output_bytes),
        ("beside the model", need.beside_bytes),
        ("process", need.process_bytes),
        ("of all that on the GPU:", need.gpu_bytes),
    ]
    return " · ".join(f"{name} {format_bytes(size)}" for name, size in parts if size)


def speed_lines(assessment: Assessment, place: RunTarget) -> list[str]:
    """Rates with their bands, against reading speed."""
    speed, workload = assessment.speed, assessment.workload
    if isinstance(speed, Unavailable):
        return _missing_lines(speed)
    reading = place.thresholds.reader.tokens_per_s
    times = format_significant(speed.decode_tokens_per_s.value / reading, 2)
    settings = assessment.settings
    threads = settings.n_threads or 1
    by = "on the GPU" if settings.n_gpu_layers else f"with {plural(threads, 'thread')}"
    first = f"first token after {_seconds(speed.first_token_s)} for a prompt of {workload.prompt_tokens} tokens"
    decode = f"decode {banded(speed.decode_tokens_per_s, 'tok/s')} {by}"
    return [
        f"{decode}: {pace_text(assessment)}, {times} times reading speed",
        f"prefill {banded(speed.prefill_tokens_per_s, 'tok/s')} · {first}",
        f"a {workload.answer_tokens}-token answer takes {_seconds(assessment.answer_s)}",
        f"limited by {'memory bandwidth' if speed.limited_by == 'memory-bandwidth' else 'arithmetic'}",
        *side_by_side_lines(assessment.side_by_side),
        *([ollama_text(assessment.ollama)] if assessment.ollama is not None else []),
        *draft_lines(assessment.draft, None if workload.mtp else assessment.verdict.left_bytes),
        *(["this file has no layer for further tokens: --mtp does nothing"] * (workload.mtp and not assessment.draft)),
    ]


def side_by_side_lines(found: SideBySide | None) -> list[str]:
    """Several conversations at once."""
    if found is None:
        return []
    each, together = banded(found.each_tokens_per_s, "tok/s"), banded(found.together_tokens_per_s, "tok/s")
    return [f"{found.conversations} conversations at once: {each} each, {together} together"]


def ollama_text(ollama: OllamaPrediction) -> str:
    """The same model in Ollama."""
    joules = "" if ollama.decode_j_per_token is None else f", {banded(ollama.decode_j_per_token, 'J/token')}"
    return f"in Ollama, by published rows: {banded(ollama.decode_tokens_per_s, 'tok/s')}{joules}"


def draft_lines(draft: DraftPrediction | None, left_bytes: int | None = None) -> list[str]:
    """What a draft model brings, and from when on; of the model's own layer also whether it fits in what is left."""
    if draft is None:
        return []
    more = f" and {format_bytes(draft.more_bytes)} more" if draft.more_bytes else ""
    more += " (not free)" if left_bytes is not None and 0 <= left_bytes < draft.more_bytes else ""
    with_what = f"with --spec-type draft-mtp of llama-server{more}" if draft.within else "with the draft model"
    if draft.break_even_share is None:
        return [f"{with_what} slower, even if each of {draft.proposed} proposed tokens a step is accepted"]
    rate = banded(draft.decode_tokens_per_s, "tok/s")
    accepted = f"{100 * draft.accepted_share:.0f} % of {draft.proposed} proposed tokens a step are accepted"
    return [f"{with_what} {rate} where {accepted}; it pays off from {100 * draft.break_even_share:.0f} %"]


def energy_lines(assessment: Assessment, *, currency: str) -> list[str]:
    """Joules, battery and price, or why there are none."""
    energy, workload = assessment.energy, assessment.workload
    if isinstance(energy, Unavailable):
        return _missing_lines(energy)
    decode = f"decode {banded(energy.decode_j_per_token, 'J/token')} gross, {energy.scope.replace('_', ' ')}"
    lines = [
        f"{decode} · prefill {banded(energy.prefill_j_per_token, 'J/token')}",
        f"a {workload.answer_tokens}-token answer to {workload.prompt_tokens}: {banded(assessment.answer_j, 'J')}",
    ]
    lines += duty_lines(assessment.duty)
    hours = assessment.battery_hours
    if hours is not None:
        low, middle, high = (format_duration(each * 3600) for each in (hours.low, hours.value, hours.high))
        lines.append(f"battery {middle} ({low} to {high}) of decoding")
    if assessment.price_per_million is not None:
        lines.append(f"{banded(assessment.price_per_million, currency)} per million tokens")
    return lines


def duty_lines(duty: DutyFigures | None) -> list[str]:
    """A day of use, the battery, and whether to keep the model loaded, where the use was given."""
    if duty is None or duty.use.requests_per_hour is None:
        return []
    often = f"asked {duty.use.requests_per_hour:g} times an hour"
    lines = []
    if duty.kept_wh_per_day is not None:
        lines.append(f"{often}: {banded(duty.kept_wh_per_day, 'Wh')} a day, kept loaded")
    if duty.kept_battery_h is not None:
        lines.append(f"a battery of {duty.use.battery_wh:g} Wh lasts {banded(duty.kept_battery_h, 'h')}")
    if duty.unload_after_s is not None:
        lines.append(f"unloading pays after a pause of {_seconds(duty.unload_after_s)}")
    for name in ("kept_wh_per_day", "unload_after_s"):
        missing = duty.missing.get(name)
        if missing == SAME_IDLE:
            lines.append(f"{missing.hint}: {missing.reason}")
        elif missing is not None:
            what = "a day" if name == "kept_wh_per_day" else "keep or unload"
            lines.append(f"{what}: {NOT_AVAILABLE}: {missing.reason} ({missing.hint})")
    return lines


def verdict_text(assessment: Assessment) -> str:
    """The verdict; of what does not fit nobody needs to know how it reads."""
    verdict = assessment.verdict
    if verdict.fit == "refused":
        return verdict.reason
    if verdict.fit == "does not fit":
        return f"does not fit: {verdict.reason or format_bytes(-(verdict.left_bytes or 0)) + ' too little'}"
    by_size = len({fit for _, fit in assessment.by_size}) > 1
    reads = pace_text(assessment)
    if verdict.pace in {"comfortable", "usable"}:
        reads = reads.replace(verdict.pace, f"{verdict.pace} to read", 1)
    return f"{fit_text(assessment)}{';' if by_size else ','} {reads}"


def pace_text(assessment: Assessment) -> str:
    """How it is to read along, with what it might be instead."""
    verdict = assessment.verdict
    if verdict.pace is None:
        return "speed not known"
    others = [pace for pace in (verdict.pace_at_worst, verdict.pace_at_best) if pace and pace != verdict.pace]
    return f"{verdict.pace} (perhaps {' or '.join(others)})" if others else verdict.pace


def suggestion_lines(assessment: Assessment, suggestions: tuple[Suggestion, ...]) -> list[str]:
    """The changes and their effects."""
    if suggestions:
        flags = (f" [{suggestion.flag}]" if suggestion.flag else "" for suggestion in suggestions)
        return [
            f"{suggestion.words}{flag}: {effect_text(assessment, suggestion.after)}"
            for suggestion, flag in zip(suggestions, flags, strict=True)
        ]
    if assessment.verdict.rank == (0, 0):
        return ["nothing to change"]
    if assessment.verdict.fit == "refused" and isinstance(assessment.need, Unavailable) and assessment.need.hint:
        return [assessment.need.hint]
    return ["no single change that was tried would help: a smaller model, or a larger machine"]


def effect_text(before: Assessment, after: Assessment) -> str:
    """What a change is predicted to bring."""
    parts: list[str] = []
    if after.verdict.fit != before.verdict.fit:
        parts.append(f"{after.verdict.fit or 'room not known'} instead of {before.verdict.fit or 'room not known'}")
    if (
        before.verdict.fit != "fits"
        and not isinstance(before.need, Unavailable)
        and not isinstance(after.need, Unavailable)
    ):
        parts += _instead(before.need.needed_bytes, after.need.needed_bytes, format_bytes, "")
    if before.decode is not None and after.decode is not None:
        parts += _instead(before.decode.value, after.decode.value, format_significant, " tok/s")
    if not isinstance(before.energy, Unavailable) and not isinstance(after.energy, Unavailable):
        was_j, now_j = before.energy.decode_j_per_token.value, after.energy.decode_j_per_token.value
        parts += _instead(was_j, now_j, format_significant, " J/token")
    if after.verdict.pace != before.verdict.pace and after.verdict.pace is not None:
        parts.append(after.verdict.pace)
    return ", ".join(parts) or "no difference"


def basis_lines(assessment: Assessment) -> list[str]:
    """What the figures rest on."""
    need, speed, energy = assessment.need, assessment.speed, assessment.energy
    lines = [] if isinstance(need, Unavailable) else [f"memory: {_MEMORY_BASIS[need.basis]}"]
    if not isinstance(speed, Unavailable):
        lines.append(f"speed: {speed.basis}: {speed.explanation}")
        if speed.prefill_explanation:
            lines.append(f"prefill: {speed.prefill_explanation}")
    if not isinstance(energy, Unavailable):
        lines.append(f"energy: {energy.basis}: {energy.explanation}")
    return lines


_MEMORY_BASIS = {
    "llama.cpp": "llama.cpp itself, asked without allocating",
    "formula": "formulas for this architecture; --exact asks llama.cpp",
}


def banded(figure: Interval | None, unit: str = "") -> str:
    """A value with its interval: 12.4 (10 to 15) tok/s."""
    if figure is None:
        return NOT_AVAILABLE
    low, high = format_significant(figure.low, 2), format_significant(figure.high, 2)
    return f"{format_significant(figure.value)} ({low} to {high}) {unit}".rstrip()


def called(source: str) -> str:
    """A model by the name of its file: those in headers are often the same for all quantizations."""
    return source if source.startswith("hf:") else source.rpartition("/")[2].removesuffix(".gguf")


def joules_cell(assessment: Assessment) -> str:
    """Joules per token in a table."""
    energy = assessment.energy
    return NOT_AVAILABLE if isinstance(energy, Unavailable) else banded(energy.decode_j_per_token)


def memory_cell(assessment: Assessment) -> str:
    """The memory that is needed in a table."""
    need = assessment.need
    return NOT_AVAILABLE if isinstance(need, Unavailable) else format_bytes(need.needed_bytes)


def figure_at(found: object, path: str) -> object:
    """What lies at a path of attributes, such as `need.kv_bytes`; `None` where there is none."""
    for name in path.split("."):
        found = getattr(found, name, None)
    return found


def _cell(words: Callable[[Assessment], str]) -> Callable[[OfferedModel], str]:
    return lambda choice: words(choice.assessment)


def _value(path: str) -> Callable[[OfferedModel], object]:
    return lambda choice: figure_at(choice.assessment, path)


OFFERED_COLUMNS: tuple[Column[OfferedModel], ...] = (
    Column("name", heading="MODEL"),
    Column("file_type", _value("facts.file_type"), "QUANT", _cell(lambda each: each.facts.file_type)),
    Column("parameters", _value("facts.parameters"), "PARAMS",
           _cell(lambda each: format_count(each.facts.parameters))),
    Column("size_bytes", _value("facts.size_bytes"), "SIZE",
           lambda choice: ("~" if choice.size_is_computed else "") + format_bytes(choice.assessment.facts.size_bytes)),
    Column("size_is_computed"),
    Column("needed_bytes", _value("need.needed_bytes"), "MEMORY", _cell(memory_cell)),
    Column("fit", _value("verdict.fit"), "FITS", _cell(fit_text)),
    Column("", heading="TOK/S", text=_cell(lambda each: banded(each.decode))),
    Column("decode_tokens_per_s", _value("decode")),
    Column("", heading="J/TOKEN", text=_cell(joules_cell)),
    Column("decode_j_per_token", _value("energy.decode_j_per_token")),
    Column("energy_scope", _value("energy.scope")),
    Column("speed_basis", _value("speed.basis")),
    Column("here"),
    Column("described_by"),
    Column("published"),
    Column("source", heading="-m", text=lambda choice: called(choice.source) if choice.here else choice.source),
)  # fmt: skip


def _seconds(figure: Interval | None) -> str:
    if figure is None:
        return NOT_AVAILABLE
    return f"{format_seconds(figure.value)} ({format_seconds(figure.low)} to {format_seconds(figure.high)})"


def _instead(was: float, now: float, text: Callable[[float], str], unit: str) -> list[str]:
    return [f"{text(now)}{unit} instead of {text(was)}"] if was > 0 and abs(now / was - 1) >= CHANGED else []


def _missing_lines(missing: Unavailable) -> list[str]:
    return [f"{NOT_AVAILABLE}: {missing.reason}", *([missing.hint] if missing.hint else [])]


def _labelled(label: str, lines: list[str]) -> list[Entry]:
    return [Entry(label if index == 0 else "", line) for index, line in enumerate(lines) if line]
