"""One session: device, model, settings, each figure and how it was measured, sources, turns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePath, PureWindowsPath

from msgspec import Struct

from edgetop.core.clock import US_PER_S
from edgetop.core.energy.tokens import Energy, grade_text
from edgetop.core.figures import OF_SESSION, TURN_COLUMNS, Summary, is_asked_for, reason_of, text_of, value_of
from edgetop.core.format import (
    NOT_AVAILABLE,
    format_bytes,
    format_count,
    format_duration,
    format_seconds,
    format_significant,
    format_time,
)
from edgetop.core.quantity import Interval
from edgetop.core.records import LoadEntry
from edgetop.session.file import SeriesEntry, SessionFile, TurnEntry
from edgetop.session.watch import figure_rows

METHODS = {
    "strict": "the meter's readings between the stamps of a turn's beginning and end, shifted by the meter's lag",
    "extended": "the meter's readings from before a turn until it has settled after it, less the idle energy of both "
    "edges, since the meter is slow",
}


class Fact(Struct, frozen=True, kw_only=True):
    """A name and what is the case."""

    name: str
    value: str
    differs: bool = False
    """Another session of the report has another value."""


class Measurement(Struct, frozen=True, kw_only=True):
    """One figure and how it was measured."""

    name: str
    value: str
    interval: str = ""
    parts: str = ""
    """Of the interval's half width: systematic and random."""
    how: str


def measurements_of(summary: Summary, *, energy: bool) -> Iterator[Measurement]:
    """The figures of energy, or all others, and how they are computed; why one is missing where it is."""
    for figure in OF_SESSION:
        if figure.kind == "reason" or figure.name.startswith(("energy.", "duty.")) != energy:
            continue
        if not is_asked_for(summary, figure):
            continue
        value = value_of(summary, figure.name)
        if energy and isinstance(value, str):
            continue  # among the facts that the energy rests on
        if value is None:
            yield Measurement(name=figure.label, value=NOT_AVAILABLE, how=f"missing: {reason_of(summary, figure)}")
        elif isinstance(value, Interval):
            yield Measurement(
                name=figure.label,
                value=f"{format_significant(value.value)} {figure.unit}",
                interval=f"{format_significant(value.low)} to {format_significant(value.high)}",
                parts=f"{_share(value.u_systematic, value.value)} and {_share(value.u_random, value.value)}",
                how=figure.formula,
            )
        else:
            yield Measurement(name=figure.label, value=text_of(figure, value), how=figure.formula)


def energy_basis(energy: Energy, series: Sequence[SeriesEntry]) -> list[Fact]:
    """What the energy figures rest on."""
    names = energy.source.split(" + ")
    drivers = ", ".join(entry.source.driver for entry in series if entry.source.name in names)
    facts = [
        ("covers", energy.scope.replace("_", " ")),
        ("source", f"{energy.source} ({drivers})" if drivers else energy.source),
        ("method", f"{energy.method}: {METHODS[energy.method]}"),
        ("grade", grade_text(energy)),
        ("a better grade", energy.grade_hint),
        ("bridged", f"{100 * energy.estimated_share:.1f} % of the time rests on no reading"),
        ("final", "" if energy.final else "no: readings were still to come when the recording ended"),
    ]
    return [Fact(name=name, value=value) for name, value in facts if value]


def _share(part: float, value: float) -> str:
    return f"{100 * part / abs(value):.1f} %" if value else format_significant(part, 2)


MISSING_SHOWN = 5
ROUTINE_EVENTS = frozenset({"model_loading", "session_ended"})


class SourceText(Struct, frozen=True, kw_only=True):
    """A source of readings."""

    name: str
    what: str
    readings: str
    missing: tuple[str, ...]


TURN_HEADINGS = ("turn", *(figure.heading for figure in TURN_COLUMNS))


def facts_of(file: SessionFile) -> dict[str, list[Fact]]:
    """What the session ran on, by subject."""
    device, load = file.device, file.loads[-1] if file.loads else None
    subjects = {
        "Device": [
            ("board", device.model),
            ("processor", device.cpu),
            ("cores", _cores(device.cores_physical, device.cores_logical)),
            ("memory", format_bytes(device.memory_bytes) if device.memory_bytes else ""),
            ("system", device.system),
            ("host", device.hostname),
            ("governor", device.governor),
            ("power mode", device.power_mode),
            ("virtualised", device.virtualised),
        ],
        "Model": [] if load is None else _model_facts(load),
        "Engine and settings": [] if load is None else _engine_facts(load),
        "Sampling": _sampling_facts(file.turns),
        "Servers that were watched": _watch_facts(file),
        "Session": [
            ("id", file.id),
            ("started", format_time(file.started_at)),
            ("length", format_duration(file.duration_us / US_PER_S)),
            ("recorded by", f"edgetop {file.edgetop_version}"),
            ("tags", ", ".join(file.tags)),
        ],
    }
    return {
        subject: [Fact(name=name, value=value) for name, value in facts if value]
        for subject, facts in subjects.items()
        if any(value for _, value in facts)
    }


def _watch_facts(file: SessionFile) -> list[tuple[str, str]]:
    """The servers, and what they did for all their users."""
    if file.watch is None:
        return []
    services = [
        (
            f"{service.number}",
            " ".join(part for part in (service.kind, service.version, service.address, *service.models) if part),
        )
        for service in file.services
    ]
    return [*services, *((name, value) for name, value in figure_rows(file.watch))]


def sources_of(file: SessionFile) -> Iterator[SourceText]:
    """What was read, how often, and what of it is missing."""
    for entry in file.series:
        source = entry.source
        channels = ", ".join(f"{channel.label or channel.name} ({channel.unit})" for channel in source.channels)
        reasons: dict[str, int] = {}
        for name, runs in entry.missing.items():
            for run in runs:
                line = f"{name}: {run.reason}"
                reasons[line] = reasons.get(line, 0) + run.count
        missing = [f"{line} ({count} of {len(entry.dt_us)})" for line, count in reasons.items()]
        more = [f"and {len(missing) - MISSING_SHOWN} more reasons"] if len(missing) > MISSING_SHOWN else []
        yield SourceText(
            name=f"{source.name} ({source.driver})",
            what=channels,
            readings=f"{len(entry.dt_us)}, every {format_seconds(source.period_s)}",
            missing=(*missing[:MISSING_SHOWN], *more),
        )


def absent_facts(file: SessionFile) -> list[Fact]:
    """The kinds of reading that the machine does not give."""
    return [Fact(name=name, value=str(missing)) for name, missing in file.absent.items()]


def events_of(file: SessionFile) -> list[tuple[float, str]]:
    """Seconds since the session began and what happened, without what happens in every session."""
    return [(event.t_us / US_PER_S, event.text) for event in file.events if event.kind not in ROUTINE_EVENTS]


def _model_facts(load: LoadEntry) -> list[tuple[str, str]]:
    model = load.model
    bits = "" if model.bits_per_weight is None else f", {format_significant(model.bits_per_weight)} bits per weight"
    return [
        ("model", model.name),
        ("file", _file_name(model.path)),
        ("quantization", f"{model.quantization}{bits}"),
        ("size", format_bytes(model.size_bytes) if model.size_bytes else ""),
        ("parameters", format_count(model.parameters) if model.parameters else ""),
        ("architecture", model.architecture),
        ("trained context", str(model.n_ctx_train) if model.n_ctx_train else ""),
        ("template", model.template_note or model.chat_template),
    ]


def _engine_facts(load: LoadEntry) -> list[tuple[str, str]]:
    engine, chosen = load.engine, load.settings
    return [
        ("engine", engine.label),
        ("devices", ", ".join(engine.devices)),
        ("built for", engine.system_info),
        ("server", engine.server),
        ("token stamps", "arrival from the server" if engine.stamps == "arrival" else ""),
        ("threads", _number(chosen.n_threads)),
        ("threads, prefill", _number(chosen.n_threads_batch)),
        ("context", _number(chosen.n_ctx)),
        ("batch", _number(chosen.n_batch)),
        ("ubatch", _number(chosen.n_ubatch)),
        ("GPU layers", _number(chosen.n_gpu_layers)),
        ("layers", "; ".join(share.words(load.model.n_layer) for share in load.memory.layers)),
        ("KV types", f"{chosen.type_k}/{chosen.type_v}" if chosen.type_k else NOT_AVAILABLE),
        ("flash attention", chosen.flash_attention or NOT_AVAILABLE),
        *((flag, value) for flag, value in chosen.flags.items() if flag != "--flash-attn"),
        ("load mode", chosen.load_mode or NOT_AVAILABLE),
        ("full context", chosen.full_context or NOT_AVAILABLE),
        ("template arguments", ", ".join(f"{name}={value}" for name, value in chosen.template_args.items())),
    ]


def _sampling_facts(turns: Sequence[TurnEntry]) -> list[tuple[str, str]]:
    def values(name: str) -> str:
        return ", ".join(dict.fromkeys(_value(getattr(turn.sampling, name)) for turn in turns))

    names = {"temperature": "temperature", "top_k": "top-k", "top_p": "top-p", "min_p": "min-p", "seed": "seed",
             "max_tokens": "most tokens"}  # fmt: skip
    return [(label, values(name)) for name, label in names.items()]


def _value(value: float | None) -> str:
    return "not set" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _cores(physical: int | None, logical: int | None) -> str:
    if physical is None or logical is None or physical == logical:
        return str(physical or logical or "")
    return f"{physical}, {logical} with hyperthreads"


def _file_name(path: str) -> str:
    """The last part of a path of whatever system: a report is given away, and folders tell of their owner."""
    return PureWindowsPath(path).name if "\\" in path else PurePath(path).name


def _number(value: int | None) -> str:
    return "the engine's choice" if value is None else str(value)
