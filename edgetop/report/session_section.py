"""One session: device, model, settings, each figure and how it was measured, sources, turns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePath, PureWindowsPath

from msgspec import Struct

from edgetop.core.clock import US_PER_S
from edgetop.core.energy.tokens import Energy
from edgetop.core.figures import Summary
from edgetop.core.format import (
    NOT_AVAILABLE,
    format_bytes,
    format_count,
    format_duration,
    format_rate,
    format_seconds,
    format_significant,
)
from edgetop.core.quantity import Interval
from edgetop.core.sources import Unavailable
from edgetop.session.file import LoadEntry, SeriesEntry, SessionFile, TurnEntry
from edgetop.session.watch import figure_rows

METHODS = {
    "strict": "the meter's readings between the stamps of a turn's beginning and end, shifted by the meter's lag",
    "extended": "the meter's readings from before a turn until it has settled after it, less the idle energy of both "
    "edges, since the meter is slow",
}

DEFINITIONS: dict[str, tuple[str, str]] = {
    "j_per_token": ("J/token, gross", "all energy from submitting to the last token over the tokens generated"),
    "net_j_per_token": ("J/token, net", "the same less what the loaded model draws while idle"),
    "decode_j_per_token": ("J/token, decode", "from the first to the last token, over the tokens after the first"),
    "prefill_j_per_token": ("J/token, prefill", "from submitting to the first token, over the prompt tokens evaluated"),
    "tokens_per_wh": ("tokens/Wh", "the inverse of gross J/token"),
    "gross_j": ("energy of all turns, J", "the pauses between turns not among it"),
    "net_j": ("net energy, J", "the same less idle power times the length of the turns"),
    "idle_w": ("idle power, W", "with the model loaded and nothing to do, before and after the turns"),
    "mean_w": ("mean power, W", "over the turns"),
    "peak_w": ("peak power, W", "the greatest single reading within a turn"),
}


class Fact(Struct, frozen=True, kw_only=True):
    """A name and what is the case."""

    name: str
    value: str
    differs: bool = False
    """Another session of the report has another value."""


class Measurement(Struct, frozen=True, kw_only=True):
    """One figure and how it came about."""

    name: str
    value: str
    interval: str = ""
    parts: str = ""
    """Of the interval's half width: systematic and random."""
    how: str


def measurements_of(summary: Summary) -> list[Measurement]:
    """The session's figures without energy, and how they are computed."""
    gaps, memory, cost = summary.token_gap_ms, summary.memory, summary.own_cost
    return [
        Measurement(
            name="decode speed",
            value=format_rate(summary.decode_tokens_per_s),
            how="(tokens − 1) ÷ (last token − first token), the turns added up",
        ),
        Measurement(
            name="prefill speed",
            value=format_rate(summary.prefill_tokens_per_s),
            how="prompt tokens evaluated ÷ prefill time; tokens reused from the KV cache are not counted",
        ),
        Measurement(
            name="first token",
            value=format_seconds(summary.first_token_s),
            how="from submitting to the first token, template and tokenizing included; median of the turns",
        ),
        Measurement(
            name="gaps between tokens",
            value=NOT_AVAILABLE
            if gaps is None
            else ", ".join(
                f"{label} {format_significant(value)}"
                for label, value in (("p50", gaps.p50), ("p95", gaps.p95), ("p99", gaps.p99), ("max", gaps.max))
            )
            + " ms",
            how="stamped in the process that decodes; percentiles over all turns",
        ),
        Measurement(name="model load", value=format_seconds(summary.load_s), how="until the model can answer"),
        Measurement(
            name="memory peak",
            value=format_bytes(memory.rss_peak_bytes),
            how="largest resident set of the process that holds the model, read once a second",
        ),
        Measurement(
            name="memory reserved",
            value=f"weights {format_bytes(memory.weights_bytes)}, KV {format_bytes(memory.kv_bytes)}, "
            f"compute {format_bytes(memory.compute_bytes)}",
            how="as the engine says",
        ),
        Measurement(
            name="memory bandwidth in use",
            value=NOT_AVAILABLE if summary.bandwidth_use is None else f"{100 * summary.bandwidth_use:.0f} %",
            how=summary.bandwidth_use_missing or "bytes that decoding has to read ÷ the bandwidth of this machine",
        ),
        Measurement(
            name="limited by",
            value=summary.limited_by,
            how="what held back the turns that took longest together, as far as the readings tell",
        ),
        Measurement(
            name="edgetop's own cost",
            value=f"processor {_percent(cost.cpu_percent)}, memory {format_bytes(cost.rss_bytes)}",
            how="mean share of one core and peak memory of the process that recorded",
        ),
    ]


def energy_measurements(energy: Energy) -> Iterator[Measurement]:
    """The energy figures with their intervals; why one is missing where it is."""
    for name, (label, how) in DEFINITIONS.items():
        figure: Interval | None = getattr(energy, name)
        if figure is None:
            missing = energy.missing.get(name)
            why = f"missing: {with_hint(missing)}" if missing is not None else "missing"
            yield Measurement(name=label, value=NOT_AVAILABLE, how=why)
            continue
        yield Measurement(
            name=label,
            value=format_significant(figure.value),
            interval=f"{format_significant(figure.low)} to {format_significant(figure.high)}",
            parts=f"{_share(figure.u_systematic, figure.value)} and {_share(figure.u_random, figure.value)}",
            how=how,
        )


def energy_basis(energy: Energy, series: Sequence[SeriesEntry]) -> list[Fact]:
    """What the energy figures rest on."""
    names = energy.source.split(" + ")
    drivers = ", ".join(entry.source.driver for entry in series if entry.source.name in names)
    grade = f"{energy.grade}" + (f": {energy.grade_reason}" if energy.grade_reason else "")
    facts = [
        ("covers", energy.scope.replace("_", " ")),
        ("source", f"{energy.source} ({drivers})" if drivers else energy.source),
        ("method", f"{energy.method}: {METHODS[energy.method]}"),
        ("grade", grade),
        ("a better grade", energy.grade_hint),
        ("flags", ", ".join(energy.flags)),
        ("bridged", f"{100 * energy.estimated_share:.1f} % of the time rests on no reading"),
        ("final", "" if energy.final else "no: readings were still to come when the recording ended"),
    ]
    return [Fact(name=name, value=value) for name, value in facts if value]


def with_hint(missing: Unavailable) -> str:
    """Why something is not there, and what would bring it."""
    return f"{missing.reason}; {missing.hint}" if missing.hint else missing.reason


def _share(part: float, value: float) -> str:
    return f"{100 * part / abs(value):.1f} %" if value else format_significant(part, 2)


def _percent(value: float | None) -> str:
    return NOT_AVAILABLE if value is None else f"{value:.1f} %"


MISSING_SHOWN = 5

ROUTINE_EVENTS = frozenset({"model_loading", "session_ended"})


class SourceText(Struct, frozen=True, kw_only=True):
    """A source of readings."""

    name: str
    what: str
    readings: str
    missing: tuple[str, ...]


class TurnText(Struct, frozen=True, kw_only=True):
    """One turn."""

    number: int
    cells: tuple[str, ...]
    prompt: str | None
    system: str | None
    reply: tuple[tuple[str, str], ...]
    """Part and text of each span."""
    error: str


TURN_HEADINGS = (
    "turn", "prompt tokens", "of them cached", "generated", "decode", "prefill", "first token", "J/token", "limited by",
    "ended",
)  # fmt: skip


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
            ("started", file.started_at),
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
        told = [f"{line} ({count} of {len(entry.dt_us)})" for line, count in reasons.items()]
        more = [f"and {len(told) - MISSING_SHOWN} more reasons"] if len(told) > MISSING_SHOWN else []
        yield SourceText(
            name=f"{source.name} ({source.driver})",
            what=channels,
            readings=f"{len(entry.dt_us)}, every {format_seconds(source.period_s)}",
            missing=(*told[:MISSING_SHOWN], *more),
        )


def absent_of(file: SessionFile) -> list[Fact]:
    """The kinds of reading that the machine does not give."""
    return [Fact(name=name, value=with_hint(missing)) for name, missing in file.absent.items()]


def events_of(file: SessionFile) -> list[tuple[float, str]]:
    """Seconds since the session began and what happened, without what happens in every session."""
    return [(event.t_us / US_PER_S, event.text) for event in file.events if event.kind not in ROUTINE_EVENTS]


def turns_of(file: SessionFile) -> Iterator[TurnText]:
    """The turns with their figures and texts."""
    for turn in file.turns:
        figures = turn.figures
        energy = figures.energy.j_per_token if figures.energy is not None else None
        yield TurnText(
            number=turn.turn,
            cells=(
                _count(figures.prompt_tokens),
                _count(figures.cached_tokens),
                str(figures.generated_tokens),
                format_rate(figures.decode_tokens_per_s),
                format_rate(figures.prefill_tokens_per_s),
                format_seconds(figures.first_token_s),
                NOT_AVAILABLE
                if energy is None
                else f"{format_significant(energy.value)} ± {format_significant((energy.high - energy.low) / 2, 2)}",
                figures.limited_by,
                (figures.stop_reason or "not ended").replace("_", " "),
            ),
            prompt=turn.prompt,
            system=turn.system,
            reply=tuple((span.part, span.text) for span in turn.reply if span.text),
            error=turn.end.error if turn.end is not None else "",
        )


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
        ("engine", f"{engine.name} {engine.version}".strip()),
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
        ("KV types", f"{chosen.type_k}/{chosen.type_v}"),
        ("flash attention", chosen.flash_attention),
        ("load mode", chosen.load_mode),
        ("full context", chosen.full_context),
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


def _count(value: int | None) -> str:
    return NOT_AVAILABLE if value is None else str(value)
