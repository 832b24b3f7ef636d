"""The page: template, scripts, content security policy; the comparison and each session in words.

Its content security policy names the two scripts by their hashes and forbids all addresses, so that nothing a session
holds could run or be fetched even if it came into the page unescaped. Every text goes through `literal` and through
Jinja's escaping; data for the scripts is JSON in which no character can end a script.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from importlib import resources
from pathlib import PurePath, PureWindowsPath
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from msgspec import Struct
from msgspec.structs import replace

from edgetop import __version__
from edgetop.core.clock import US_PER_S
from edgetop.core.energy.tokens import Energy, grade_text
from edgetop.core.figures import (
    COMPARED,
    METHODS,
    OF_SESSION,
    TURN_COLUMNS,
    Figure,
    Summary,
    cell_of,
    is_asked_for,
    reason_of,
    text_of,
    turn_cells,
    value_of,
)
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
from edgetop.core.text import literal
from edgetop.report.plots import (
    Caption,
    Picture,
    Spec,
    energy_against_speed,
    energy_caption,
    plotly_script,
    session_caption,
    session_over_time,
    session_windows,
    short_name,
    speed_caption,
    speed_over_time,
    time_series,
)
from edgetop.report.svg import drawn
from edgetop.session.compare.result import Cell, Comparison, Row, Verdict
from edgetop.session.compare.wording import change_text, conclusion, full_title, label_of
from edgetop.session.file import SessionFile, TurnEntry
from edgetop.session.session import Series, Session
from edgetop.session.watch import figure_rows


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


def energy_basis(energy: Energy, read: Iterable[Series]) -> list[Fact]:
    """What the energy figures rest on."""
    names = energy.source.split(" + ")
    drivers = ", ".join(series.info.driver for series in read if series.info.name in names)
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


def sources_of(session: Session) -> Iterator[SourceText]:
    """What was read, how often, and what of it is missing."""
    for series in session.series.values():
        source = series.info
        channels = ", ".join(f"{channel.label or channel.name} ({channel.unit})" for channel in source.channels)
        reasons: dict[str, int] = {}
        for column in series.columns:
            for run in column.runs:
                line = f"{column.channel.name}: {run.reason}"
                reasons[line] = reasons.get(line, 0) + run.count
        missing = [f"{line} ({count} of {len(series.t_us)})" for line, count in reasons.items()]
        more = [f"and {len(missing) - MISSING_SHOWN} more reasons"] if len(missing) > MISSING_SHOWN else []
        yield SourceText(
            name=f"{source.name} ({source.driver})",
            what=channels,
            readings=f"{len(series.t_us)}, every {format_seconds(source.period_s)}",
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


VERDICT_WORDS: dict[Verdict, str] = {"same": "no difference", "unlike": "not comparable", "absent": ""}
"""In place of a verdict's own name."""


class CellText(NamedTuple):
    """One figure of one result."""

    value: str
    interval: str = ""
    change: str = ""


def keys_of(count: int) -> tuple[str, ...]:
    """Short names of results: A, B, ... Z, AA, AB, ..."""
    return tuple(map(label_of, range(count)))


def names_of(comparison: Comparison) -> tuple[str, ...]:
    """What each result is called where it does not stand below its group's title."""
    return tuple(short_name(full_title(comparison, index)) for index in range(len(comparison.rows)))


def row_facts(row: Row) -> str:
    """What stands below a result's name."""
    facts = [row.result.name, f"{row.result.turns} turns" if row.result.turns else ""]
    return ", ".join(fact for fact in facts if fact and fact not in row.title)


def cell_text(cell: Cell, figure: Figure) -> CellText:
    """A cell with its interval and its change from the base."""
    if cell.value is None:
        return CellText(NOT_AVAILABLE)
    interval = ""
    if cell.low is not None and cell.high is not None:
        interval = f"{cell_of(figure, cell.low)} to {cell_of(figure, cell.high)}"
    change = "" if cell.change_percent is None else percent_text(cell.change_percent)
    if change and cell.change_low is not None and cell.change_high is not None:
        change += f", {percent_text(cell.change_low)} to {percent_text(cell.change_high)}"
    return CellText(cell_of(figure, cell.value), interval, change)


def verdict_text(cell: Cell) -> str:
    """A verdict in words."""
    return VERDICT_WORDS.get(cell.verdict, cell.verdict)


def reasons_of(comparison: Comparison, keys: Sequence[str]) -> list[tuple[str, str, str, str]]:
    """Key, figure, verdict, and what the verdict rests on, or why there is no value."""
    return [
        (key, COMPARED[name].label, verdict_text(cell) or NOT_AVAILABLE, why)
        for key, row in zip(keys, comparison.rows, strict=True)
        for name in comparison.figures
        if (why := (cell := row.cells[name]).why or cell.missing)
    ]


def percent_text(percent: float) -> str:
    """A change, with a minus that is not a hyphen and a space that does not break: +4.1 %, −38 %, x25.0."""
    return change_text(percent).replace(" %", "\u00a0%").replace("-", "−")


NAMED_IN_TITLE = 3


class Recorded(Struct, frozen=True, kw_only=True):
    """A recorded session of the comparison."""

    file: SessionFile
    """Without its series."""
    session: Session


class Plot(Struct, frozen=True, kw_only=True):
    """One plot, with the same in words and numbers for those who cannot see it."""

    id: str
    svg: Markup
    """The picture; empty where a script draws it."""
    data: Markup
    """JSON for the script that draws it; empty where there is a picture."""
    caption: Caption


class Study(Struct, frozen=True, kw_only=True):
    """The results section of a benchmark: method, table, pictures, conclusions."""

    title: str
    method: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str
    """Of the table."""
    pictures: tuple[Picture, ...]
    sentences: tuple[str, ...]


class Section(Struct, frozen=True, kw_only=True):
    """What the report tells of one session."""

    key: str
    name: str
    file: SessionFile
    facts: dict[str, list[Fact]]
    plot: Plot
    measurements: list[Measurement]
    energy: list[Measurement]
    energy_basis: list[Fact]
    sources: list[SourceText]
    events: list[tuple[float, str]]


TEMPLATE_FUNCTIONS = {
    each.__name__: each for each in (absent_facts, cell_text, row_facts, short_name, turn_cells, verdict_text)
}


def report_page(
    comparison: Comparison,
    recorded: Sequence[Recorded | None],
    *,
    written_at: str,
    interactive: bool = False,
    study: Study | None = None,
) -> str:
    """The report of a comparison as HTML.

    `recorded` has one entry for each row, `None` for a result that is not a recorded session; `written_at` is the wall
    clock in words. Plots are SVG, or `interactive`, drawn by plotly, which makes the page some 5 MB longer. Raises
    EdgetopError when that is wanted and plotly is not installed.
    """
    scripts = [_script(plotly_script()), _script(_file("report.js"))] if interactive else []
    keys, names = keys_of(len(comparison.rows)), names_of(comparison)
    sections = list(_sections(keys, names, recorded, interactive=interactive))
    shared = _shared_plots(comparison, keys, names, interactive=interactive)
    plots = list(shared) if len(comparison.rows) > 1 else []
    drawings = (
        []
        if study is None
        else [
            _plot(f"plot-study-{number}", *each, interactive=interactive) for number, each in enumerate(study.pictures)
        ]
    )
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            policy=_policy(*scripts),
            title=_title(names) if study is None else study.title,
            study=study,
            drawings=drawings,
            written_at=written_at,
            version=__version__,
            css=Markup(_file("report.css")),  # noqa: S704 - a file of this package
            scripts=scripts,
            comparison=comparison,
            conclusion=conclusion(comparison),
            figures=[COMPARED[name] for name in comparison.figures],
            reasons=reasons_of(comparison, keys),
            recorded=recorded,
            plots=plots,
            sections=sections,
            keys=keys,
            names=names,
            turn_headings=TURN_HEADINGS,
            **TEMPLATE_FUNCTIONS,
        )
    )


def script_data(value: object) -> Markup:
    """A value as JSON that can stand in a script element: nothing in it ends the element or begins another one.

    Raises ValueError for a number that JSON has not.
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 - escaped above


def _sections(
    keys: Sequence[str], names: Sequence[str], recorded: Sequence[Recorded | None], *, interactive: bool
) -> Iterator[Section]:
    sections = [
        _section(key, name, each, interactive=interactive)
        for key, name, each in zip(keys, names, recorded, strict=True)
        if each
    ]
    for section in sections:
        yield replace(section, facts=_marked(section, sections))


def _section(key: str, name: str, recorded: Recorded, *, interactive: bool) -> Section:
    file, summary = recorded.file, recorded.file.summary
    energy = summary.energy
    series = time_series(recorded.session)
    events = events_of(file)
    idle_w = energy.idle_w.value if energy is not None and energy.idle_w is not None else None
    spec = session_over_time(series, idle_w, events)
    caption = session_caption(f"{key} {name}: speed, power and memory over time", series, summary)
    return Section(
        key=key,
        name=name,
        file=file,
        facts=facts_of(file),
        plot=_plot(f"plot-{key}", spec, replace(caption, rows=session_windows(series)), interactive=interactive),
        measurements=list(measurements_of(summary, energy=False)),
        energy=[] if energy is None else list(measurements_of(summary, energy=True)),
        energy_basis=[] if energy is None else energy_basis(energy, recorded.session.series.values()),
        sources=list(sources_of(recorded.session)),
        events=events,
    )


def _marked(section: Section, sections: Sequence[Section]) -> dict[str, list[Fact]]:
    """The section's facts, with a mark at those that are not the same in all sections."""
    everywhere = [
        {(subject, fact.name): fact.value for subject, facts in each.facts.items() for fact in facts}
        for each in sections
    ]
    return {
        subject: [
            fact
            if subject == "Session"
            else replace(fact, differs=len({each.get((subject, fact.name)) for each in everywhere}) > 1)
            for fact in facts
        ]
        for subject, facts in section.facts.items()
    }


def _shared_plots(
    comparison: Comparison, keys: Sequence[str], names: Sequence[str], *, interactive: bool
) -> Iterator[Plot]:
    spec = energy_against_speed(comparison, keys, names)
    if spec is not None:
        yield _plot("plot-energy", spec, energy_caption(comparison, keys, names), interactive=interactive)
    spec = speed_over_time(comparison, keys, names)
    if spec is not None:
        yield _plot("plot-speed", spec, speed_caption(comparison, keys, names), interactive=interactive)


def _plot(name: str, spec: Spec, caption: Caption, *, interactive: bool) -> Plot:
    if interactive:
        return Plot(id=name, svg=Markup(), data=script_data(spec), caption=caption)
    return Plot(id=name, svg=drawn(spec), data=Markup(), caption=caption)


def _title(names: Sequence[str]) -> str:
    if len(names) > NAMED_IN_TITLE:
        return f"{names[0]} against {len(names) - 1} others"
    return " against ".join(names)


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("edgetop.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )


def _shown(value: Any) -> Any:  # noqa: ANN401 - whatever a template writes
    """Text of whoever made literal, before it is escaped."""
    return literal(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _policy(*scripts: Markup) -> str:
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    hashes = " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"
    # Plotly sets styles and makes pictures to download from data of its own.
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _script(source: str) -> Markup:
    """A script of ours or of plotly to stand in the page."""
    # Inside strings and patterns, the only places where it can stand, this means the same.
    return Markup(source.replace("</script", "<\\/script").replace("<!--", "<\\!--"))  # noqa: S704 - no foreign text


def _file(name: str) -> str:
    return resources.files("edgetop.report").joinpath(name).read_text("utf-8")
