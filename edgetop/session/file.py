"""The file's layout: session to file and back, structure checks.

A session file is one JSON object. Its first line holds everything but the long parts, so that a list of sessions reads
one line of each. Stamps are whole microseconds since the session began; columns of stamps hold differences, which are
short. `session.schema.json` is generated from these types.

A file says `version` 1. A newer edgetop may add fields, which older ones keep when they write the file again; anything
else that changes raises the version.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, chain, islice, pairwise
from math import isnan, nan
from typing import Annotated, Any, Final, Literal, TypeVar

from msgspec import Meta, Struct
from msgspec.json import Decoder as JSONDecoder
from msgspec.structs import replace

from edgetop.core.energy.duty import Duty
from edgetop.core.engine_settings import EnginePerf, SamplingSettings
from edgetop.core.figures import Summary, TurnFigures, WatchFigures
from edgetop.core.numbers import small
from edgetop.core.records import (
    FORMAT_VERSION,
    LARGEST,
    BenchRun,
    Count,
    DeviceInfo,
    Event,
    EventEntry,
    LoadEntry,
    ModelLoaded,
    Predicted,
    PredictionEntry,
    QualityEntry,
    ReplyPart,
    RequestEntry,
    RequestServed,
    Scored,
    ServiceEntry,
    ServiceSeen,
    SessionKind,
    SessionStarted,
    Stamp,
    StopReason,
    TurnFinished,
    TurnStarted,
    number_problems,
)
from edgetop.core.sources import SourceInfo, Unavailable
from edgetop.io import json
from edgetop.io.files import as_utf8
from edgetop.session.requests import (
    ClientFigures,
    LevelFigures,
    RereadFigures,
    client_figures,
    level_figures,
    reread_figures,
)
from edgetop.session.session import Column, MissingRun, Series, Session, UnfittingError
from edgetop.session.snapshot import snapshot
from edgetop.session.summary import turn_result
from edgetop.session.turn import Span, Turn
from edgetop.session.watch import is_watch, watch_figures

Value = Annotated[int, Meta(ge=-LARGEST, le=LARGEST)] | Annotated[float, Meta(ge=-LARGEST, le=LARGEST)] | None
"""A reading; whole ones are written without a fraction and read as they are written."""


class SessionHead(Struct, frozen=True, kw_only=True):
    """The first line of a session file: who, where, which model, and the figures."""

    format: Literal["edgetop-session"] = "edgetop-session"
    version: int = FORMAT_VERSION
    id: str
    started_at: str
    """Wall clock, ISO 8601 in UTC."""
    clock_us: Count = 0
    """The recording machine's monotonic clock when the session began."""
    duration_us: Count
    edgetop_version: str
    text_recorded: bool = True
    power: str | None = None
    """The power source that the person chose by name; `none` for no power at all."""
    use: Duty = Duty()
    """How the model is used, as the person said when it was recorded."""
    tags: tuple[str, ...] = ()
    notes: str = ""
    device: DeviceInfo
    loads: tuple[LoadEntry, ...] = ()
    predictions: tuple[PredictionEntry, ...] = ()
    """What was expected of them before they ran, at most one for each."""
    bench: BenchRun | None = None
    """Which part of a benchmark it is."""
    quality: tuple[QualityEntry, ...] = ()
    absent: dict[str, Unavailable] = {}
    """Kinds of reading that the machine does not give, and why."""
    kind: SessionKind = "chat"
    services: tuple[ServiceEntry, ...] = ()
    """What was watched, in the order in which it was found."""
    watch: WatchFigures | None = None
    """What they did for all their users; `null` where nothing was watched."""
    summary: Summary = Summary()


class TurnStamps(Struct, frozen=True, kw_only=True):
    """When a turn did what; `None` for what it did not come to."""

    submitted_us: Stamp
    prefill_us: Stamp | None = None
    """When the first prompt token was about to be evaluated."""
    first_token_us: Stamp | None = None
    last_token_us: Stamp | None = None
    finished_us: Stamp | None = None


class PrefillColumns(Struct, frozen=True, kw_only=True):
    """How the prefill went on."""

    total: Count
    """Tokens to evaluate, without the `cached` ones."""
    cached: Count
    dt_us: tuple[Count, ...]
    """The first one since the turn was submitted, each other one since its predecessor."""
    done: tuple[Count, ...]
    """Tokens evaluated by then."""


class TokenColumns(Struct, frozen=True, kw_only=True):
    """Tokens of a reply."""

    dt_us: Sequence[Count] = []
    """The first one since the turn was submitted, each other one since its predecessor."""
    chars: Sequence[Count] = []
    """Characters (code points) of the reply that each token gave."""
    counted: bool = True
    """False: the stamps are those of chunks, of which a server did not say how many tokens each holds."""


class ReplySpan(Struct, frozen=True, kw_only=True):
    """Tokens in a row of the same part of a reply."""

    part: ReplyPart
    tokens: Count
    text: str


class TurnEnd(Struct, frozen=True, kw_only=True):
    """How a turn ended, as the engine said."""

    stop_reason: StopReason
    prompt_tokens: Count | None
    """`None` where a server does not say, as of the next two."""
    cached_tokens: Count | None
    generated_tokens: Count
    hidden_tokens: Count = 0
    """Generated ones that a server counted and did not show."""
    context_used: Count | None
    seed: int | None = None
    perf: EnginePerf | None = None
    error: str = ""
    counted: bool = True
    """False: `generated_tokens` counts chunks."""


class TurnEntry(Struct, frozen=True, kw_only=True):
    """A prompt and its reply."""

    turn: int
    prompt: str | None
    """`None` when text was not recorded."""
    system: str | None = None
    retry_of: int | None = None
    task: str = ""
    """What a benchmark measures with it."""
    warmup: bool = False
    """Its figures do not count."""
    sampling: SamplingSettings
    stamps: TurnStamps
    figures: TurnFigures
    end: TurnEnd | None = None
    reply: tuple[ReplySpan, ...] = ()
    prefill: PrefillColumns | None = None
    tokens: TokenColumns = TokenColumns()


class SeriesEntry(Struct, frozen=True, kw_only=True):
    """What one source read."""

    source: SourceInfo
    dt_us: list[Stamp]
    """The first one since the session began, each other one since its predecessor and not negative."""
    values: dict[str, list[Value]]
    """By channel, as long as `dt_us`; `null` where a reading is missing."""
    missing: dict[str, list[MissingRun]] = {}
    """By channel, for the readings that are missing: index of the first, how many, and why."""


class SessionFile(SessionHead, frozen=True, kw_only=True):
    """A session, whole."""

    requests: tuple[RequestEntry, ...] = ()
    """Of other programs, that a proxy passed on, or of a benchmark's clients, by their ends."""
    clients: tuple[ClientFigures, ...] = ()
    """The figures of those requests by client and model."""
    levels: tuple[LevelFigures, ...] = ()
    """The figures of a benchmark's requests by the number of its clients."""
    rereads: tuple[RereadFigures, ...] = ()
    """Prompt tokens that were processed though they had been seen, by model and reason."""
    turns: tuple[TurnEntry, ...] = ()
    events: tuple[EventEntry, ...] = ()
    series: tuple[SeriesEntry, ...] = ()


LONG_PARTS: Final = ("requests", "clients", "levels", "rereads", "turns", "events", "series")
"""What does not stand on the first line."""

_RENAMED_KEYS = ((b'"mend":', b'"hint":'), (b'"grade_mend":', b'"grade_hint":'))

T = TypeVar("T", bound=Struct)
Item = TypeVar("Item")


def with_current_names(data: bytes) -> bytes:
    """JSON of a session or of a journal's line, with keys of earlier versions under the names they have today.

    A quoted word before a colon is a key wherever it stands: quotes within a text are escaped.
    """
    data = as_utf8(data)
    for before, now in _RENAMED_KEYS:
        data = data.replace(before, now)
    return data


def to_file(session: Session) -> SessionFile:
    """The file of a session, with the figures at its end. Raises ValueError for a session without a beginning."""
    parts: dict[str, tuple[Any, ...]] = {name: tuple(items) for name, items in long_parts(session).items()}
    series = tuple(map(series_entry, parts.pop("series")))
    return _copied(SessionFile, head_of(session), **parts, series=series)


def head_of(session: Session) -> SessionHead:
    """The first line of a session's file. Raises ValueError for a session without a beginning."""
    header = session.header
    if header is None:
        raise ValueError("a session that has not begun cannot be written")
    return SessionHead(
        version=header.format_version,
        id=header.session_id,
        started_at=header.started_at,
        clock_us=header.t_us,
        duration_us=session.end_us,
        edgetop_version=header.edgetop_version,
        text_recorded=header.text_recorded,
        power=header.power,
        use=header.use,
        device=header.device,
        loads=tuple(_copied(LoadEntry, load) for load in session.loads),
        predictions=tuple(_copied(PredictionEntry, each) for each in session.predictions),
        bench=header.bench,
        quality=tuple(_copied(QualityEntry, each) for each in session.scores),
        absent=dict(session.absent),
        kind=header.kind,
        services=tuple(_copied(ServiceEntry, service) for service in session.services.values()),
        watch=watch_figures(session, session.end_us, exact=True) if is_watch(session) else None,
        summary=snapshot(session, session.end_us).summary,
    )


def long_parts(session: Session) -> dict[str, Iterable[Any]]:
    """The items of the other lines, made one after the other; a series as it is, for `encoded_series`."""
    return {
        "requests": (_copied(RequestEntry, each) for each in session.requests),
        "clients": client_figures(session, session.end_us),
        "levels": level_figures(session, session.end_us),
        "rereads": reread_figures(session, session.end_us),
        "turns": (_turn_entry(session, index) for index in range(len(session.turns))),
        "events": (_copied(EventEntry, event) for event in session.events),
        "series": session.series.values(),
    }


def _copied(kind: type[T], source: Struct, **given: object) -> T:
    """A struct of another kind, with its fields from `given`, else from `source`."""
    return kind(**{name: getattr(source, name) for name in kind.__struct_fields__ if name not in given}, **given)


def to_session(file: SessionFile) -> Session:
    """The session of a file. Raises ValueError, naming the place, where its parts do not fit together."""
    for problem in structure_problems(file):
        raise ValueError(problem)
    session = session_of_head(file)
    session.requests = [_copied(RequestServed, each) for each in file.requests]
    session.turns = [_turn(entry) for entry in file.turns]
    session.events = [_copied(Event, event) for event in file.events]
    for entry in file.series:
        session.add_series(series_of(entry))
    return finished(session)


def session_of_head(head: SessionHead) -> Session:
    """A session that has what stands on the first line of its file, and nothing yet of the long parts."""
    session = Session()
    session.header = SessionStarted(
        t_us=head.clock_us,
        session_id=head.id,
        started_at=head.started_at,
        edgetop_version=head.edgetop_version,
        device=head.device,
        text_recorded=head.text_recorded,
        power=head.power,
        use=head.use,
        bench=head.bench,
        kind=head.kind,
        format_version=head.version,
    )
    session.loads = [_copied(ModelLoaded, load) for load in head.loads]
    session.scores = [_copied(Scored, each) for each in head.quality]
    session.predictions = [_copied(Predicted, each) for each in head.predictions]
    session.absent = dict(head.absent)
    session.services = {each.number: _copied(ServiceSeen, each) for each in head.services}
    session.end_us = head.duration_us
    return session


def finished(session: Session) -> Session:
    """The session with its end. Raises ValueError where something is stamped before its predecessor."""
    parts = (session.loads, session.scores, session.predictions, session.requests, session.events)
    stamps_us = [[turn.started.t_us for turn in session.turns], *([each.t_us for each in part] for part in parts)]
    for part_us in stamps_us:
        for problem in _order_problems("", part_us):
            raise ValueError(problem)
    ends_us = (*chain(*stamps_us), *(each.t_us for each in session.services.values()))
    session.end_us = max((session.end_us, *ends_us, *(turn.last_us for turn in session.turns)))
    return session


LINES: Final[Mapping[str, JSONDecoder[Any]]] = {
    "requests": JSONDecoder(RequestEntry),
    "clients": JSONDecoder(ClientFigures),
    "levels": JSONDecoder(LevelFigures),
    "rereads": JSONDecoder(RereadFigures),
    "turns": JSONDecoder(TurnEntry),
    "events": JSONDecoder(EventEntry),
}
"""What reads an item of the long parts but the series, of which one may be longer than memory."""

_SOURCE: Final = JSONDecoder(SourceInfo)
_NAME: Final = JSONDecoder(str)
_MISSING: Final = JSONDecoder(dict[str, list[MissingRun]])
_STAMPS: Final = JSONDecoder(list[Stamp])
_VALUES: Final = JSONDecoder(list[Value])

Pieces = Iterable[bytes]
"""A line of a file, some hundred kilobytes at a time."""


def session_of_lines(head: SessionHead, items: Iterable[tuple[str, Any]]) -> Session:
    """The session of a file, from the items of its long parts with their names; no part of it is held twice.

    An item is a line, that of a series comes in pieces. Raises ValueError and msgspec.MsgspecError where something is
    not as it should be; `to_session` says what.
    """
    session = session_of_head(head)
    for problem in number_problems(head):
        raise ValueError(problem)
    for name, line in items:
        if name == "series":
            series = series_of_text(line)
            if series is not None:
                session.add_series(series)
            continue
        item: Any = LINES[name].decode(line)
        for problem in number_problems(item):
            raise ValueError(problem)
        if name == "turns":
            for problem in _turn_problems(item):
                raise ValueError(problem)
            session.turns.append(_turn(item))
        elif name == "events":
            session.events.append(_copied(Event, item))
        elif name == "requests":
            session.requests.append(_copied(RequestServed, item))
    return finished(session)


def compact(turn: TurnEntry) -> TurnEntry:
    """The turn with its tokens in arrays, which take a tenth of the memory."""
    tokens = replace(turn.tokens, dt_us=small(turn.tokens.dt_us), chars=small(turn.tokens.chars))
    return replace(turn, tokens=tokens)


class _Text:
    """The text of a series, read from its beginning to its end."""

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = iter(pieces)
        self._text = b""

    def _more(self) -> None:
        piece = next(self._pieces, b"")
        if not piece:
            raise ValueError("it ends too soon")
        self._text += piece

    def until(self, mark: bytes) -> bytes:
        """What comes before a mark, which is passed over."""
        while (at := self._text.find(mark)) < 0:
            self._more()
        found, self._text = self._text[:at], self._text[at + len(mark) :]
        return found

    def passes(self, mark: bytes) -> bool:
        """Pass over a mark; false, and nothing, where it does not come next."""
        while len(self._text) < len(mark):
            self._more()
        found = self._text.startswith(mark)
        if found:
            self._text = self._text[len(mark) :]
        return found

    def numbers(self, decoder: JSONDecoder[list[Item]]) -> Iterator[list[Item]]:
        """The numbers up to the end of a list, some ten thousand at a time."""
        goes_on = False
        while (end := self._text.find(b"]")) < 0:
            at = self._text.rfind(b",")
            if at >= 0:
                yield decoder.decode(b"[%b]" % self._text[:at])
                self._text, goes_on = self._text[at + 1 :], True
            self._more()
        if end:
            yield decoder.decode(b"[%b]" % self._text[:end])
        elif goes_on:
            raise ValueError("a number is missing")
        self._text = self._text[end + 1 :]

    def rest(self) -> bytes:
        """All that is left."""
        return self._text + b"".join(self._pieces)


def series_of_text(pieces: Pieces, wanted: Callable[[SourceInfo], bool] = lambda _: True) -> Series | None:
    """A series from its text, as `encoded_series` writes it, with what stands behind it on its line.

    `None`, with most of the text unread, where its source is not wanted. Raises ValueError and msgspec.MsgspecError.
    """
    text = _Text(pieces)
    if not text.passes(b'{"source":'):
        raise ValueError("source")
    series = Series(_SOURCE.decode(with_current_names(text.until(b',"dt_us":['))))
    for problem in number_problems(series.info):
        raise ValueError(problem)
    if not wanted(series.info):
        return None
    for block in text.numbers(_STAMPS):
        last_us = series.t_us[-1] if series.t_us else 0
        if min(block[1:] if not series.t_us else block, default=0) < 0 or last_us + sum(block) > LARGEST:
            raise ValueError("dt_us")
        series.t_us.extend(_stamp_array(block, last_us))
    absent = _read_values(text, series)
    rest = text.rest()
    if not rest.startswith(_BEFORE_MISSING) or not rest.endswith((b"}},\n", b"}}]}\n")):
        raise ValueError("missing")
    missing = _MISSING.decode(rest[len(_BEFORE_MISSING) : rest.rindex(b"}}") + 1])
    if missing.keys() - absent:
        raise ValueError("missing")
    for column in series.columns:
        column.runs = missing.get(column.channel.name, [])
        if absent[column.channel.name] != sum(run.count for run in column.runs) or not _are_missing(column):
            raise ValueError("missing")
    return series


def _read_values(text: _Text, series: Series) -> Mapping[str, int]:
    """Fill the columns; how many readings each lacks."""
    if not text.passes(b',"values":{'):
        raise ValueError("values")
    columns = {column.channel.name: column for column in series.columns}
    absent = dict.fromkeys(columns, 0)
    while columns:
        name = _NAME.decode(text.until(b'":[') + b'"')
        column = columns.pop(name, None)
        if column is None:
            raise ValueError("values")
        for values in text.numbers(_VALUES):
            absent[name] += values.count(None)
            column.values.extend(nan if value is None else value for value in values)
        if len(column.values) != len(series.t_us) or (columns and not text.passes(b",")):
            raise ValueError("values")
    return absent


def _are_missing(column: Column) -> bool:
    """Whether the readings are missing that are said to be, in order."""
    end = 0
    for run in column.runs:
        if run.start < end or run.count < 1 or not all(map(isnan, column.values[run.start : run.start + run.count])):
            return False
        end = run.start + run.count
    return True


_BEFORE_MISSING: Final = b'},"missing":'


def structure_problems(file: SessionFile) -> Iterator[str]:
    """Where the parts of a file do not fit together, each in one line that begins with the place."""
    yield from number_problems(file)
    yield from _order_problems("loads", [load.t_us for load in file.loads])
    yield from _order_problems("quality", [each.t_us for each in file.quality])
    yield from _order_problems("predictions", [each.t_us for each in file.predictions])
    yield from _order_problems("turns", [turn.stamps.submitted_us for turn in file.turns])
    yield from _order_problems("requests", [each.t_us for each in file.requests])
    yield from _order_problems("events", [event.t_us for event in file.events])
    for index, turn in enumerate(file.turns):
        for problem in _turn_problems(turn):
            yield f"$.turns[{index}].{problem}"
    sources = Session()
    for index, series in enumerate(file.series):
        for problem in _series_problems(series):
            yield f"$.series[{index}].{problem}"
        try:
            sources.add_series(Series(series.source))
        except UnfittingError as error:
            yield f"$.series[{index}].source: {error}"


def _order_problems(name: str, stamps: Sequence[int]) -> Iterator[str]:
    for index, (earlier, later) in enumerate(pairwise(stamps), 1):
        if later < earlier:
            yield f"$.{name}[{index}]: it is stamped before its predecessor"


def _turn_problems(turn: TurnEntry) -> Iterator[str]:
    tokens, prefill, stamps = turn.tokens, turn.prefill, turn.stamps
    if len(tokens.dt_us) != len(tokens.chars):
        yield f"tokens: {len(tokens.dt_us)} stamps, but {len(tokens.chars)} numbers of characters"
    if sum(span.tokens for span in turn.reply) != len(tokens.dt_us):
        yield f"reply: it does not hold as many tokens as there are stamps, {len(tokens.dt_us)}"
    if sum(len(span.text) for span in turn.reply) != sum(tokens.chars):
        yield "tokens.chars: they do not add up to the length of the reply"
    if prefill is not None and len(prefill.dt_us) != len(prefill.done):
        yield f"prefill: {len(prefill.dt_us)} stamps, but {len(prefill.done)} numbers of tokens"
    prefill_dt_us = prefill.dt_us if prefill is not None else ()
    last_us = stamps.submitted_us + max(sum(tokens.dt_us), sum(prefill_dt_us))
    if last_us > LARGEST:
        yield "tokens.dt_us: they add up to more than any clock counts"
    if (stamps.finished_us is None) != (turn.end is None):
        yield "end: a turn has both an end and the stamp of it, or neither"
    if stamps.finished_us is not None and stamps.finished_us < last_us:
        yield "stamps.finished_us: the turn ended before its last token"
    expected = _stamps(stamps.submitted_us, prefill_dt_us, tokens.dt_us, stamps.finished_us)
    if stamps != expected:
        yield "stamps: they are not those of the prefill and the tokens"


def _series_problems(series: SeriesEntry) -> Iterator[str]:
    count = len(series.dt_us)
    if any(dt_us < 0 for dt_us in islice(series.dt_us, 1, None)):
        yield "dt_us: a reading is stamped before its predecessor"
    if sum(series.dt_us) > LARGEST:
        yield "dt_us: they add up to more than any clock counts"
    names = [channel.name for channel in series.source.channels]
    if set(names) != series.values.keys():
        yield "values: they are not those of the source's channels"
    for name in series.missing.keys() - set(names):
        yield f"missing.{name}: the source has no such channel"
    for name, values in series.values.items():
        if len(values) != count:
            yield f"values.{name}: {len(values)} values for {count} stamps"
        end = covered = 0
        for run in series.missing.get(name, ()):
            read = values[run.start : run.start + run.count] if run.start >= end else ()
            if run.start < end or run.count < 1 or any(each is not None for each in read):
                yield f"missing.{name}: they are not the readings that are null"
            end = run.start + run.count
            covered += run.count
        if covered != values.count(None) or end > count:
            yield f"missing.{name}: they are not the readings that are null"


def _differences(stamps_us: Iterable[int], origin_us: int) -> Iterator[int]:
    return (later - earlier for earlier, later in pairwise(chain((origin_us,), stamps_us)))


def _stamps(
    submitted_us: int, prefill_dt_us: Sequence[int], token_dt_us: Sequence[int], finished_us: int | None
) -> TurnStamps:
    return TurnStamps(
        submitted_us=submitted_us,
        prefill_us=submitted_us + prefill_dt_us[0] if prefill_dt_us else None,
        first_token_us=submitted_us + token_dt_us[0] if token_dt_us else None,
        last_token_us=submitted_us + sum(token_dt_us) if token_dt_us else None,
        finished_us=finished_us,
    )


def _turn_entry(session: Session, index: int) -> TurnEntry:
    turn = session.turns[index]
    started, finished = turn.started, turn.finished
    prefill_dt_us = tuple(_differences(turn.prefill_t_us, started.t_us))
    token_dt_us = list(_differences(turn.token_t_us, started.t_us))
    return _copied(
        TurnEntry,
        started,
        stamps=_stamps(started.t_us, prefill_dt_us, token_dt_us, None if finished is None else finished.t_us),
        figures=turn_result(session, index, session.end_us).figures,
        end=None if finished is None else _copied(TurnEnd, finished),
        reply=tuple(ReplySpan(part=span.part, tokens=span.tokens, text=span.text) for span in turn.reply),
        prefill=None
        if turn.to_evaluate is None or turn.cached is None
        else PrefillColumns(
            total=turn.to_evaluate, cached=turn.cached, dt_us=prefill_dt_us, done=tuple(turn.prefill_done)
        ),
        tokens=TokenColumns(dt_us=token_dt_us, chars=list(turn.token_chars), counted=turn.counted),
    )


def _turn(entry: TurnEntry) -> Turn:
    submitted_us = entry.stamps.submitted_us
    turn = Turn(_copied(TurnStarted, entry, t_us=submitted_us))
    if entry.prefill is not None:
        turn.to_evaluate, turn.cached = entry.prefill.total, entry.prefill.cached
        turn.prefill_t_us = _stamp_array(entry.prefill.dt_us, submitted_us)
        turn.prefill_done = array("q", entry.prefill.done)
    turn.token_t_us = _stamp_array(entry.tokens.dt_us, submitted_us)
    turn.token_chars = small(entry.tokens.chars)
    turn.counted = entry.tokens.counted
    turn.reply = [Span(span.part, span.tokens, span.text) for span in entry.reply]
    end = entry.end
    if end is not None and entry.stamps.finished_us is not None:
        turn.finished = _copied(TurnFinished, end, turn=entry.turn, t_us=entry.stamps.finished_us)
    return turn


def _stamp_array(dt_us: Iterable[int], origin_us: int) -> array[int]:
    return array("q", islice(accumulate(dt_us, initial=origin_us), 1, None))


def series_entry(series: Series) -> SeriesEntry:
    """The readings of a source, for a file."""
    return SeriesEntry(
        source=series.info,
        dt_us=list(_differences(series.t_us, 0)),
        values={column.channel.name: _plain_numbers(column.values) for column in series.columns},
        missing={column.channel.name: list(column.runs) for column in series.columns if column.runs},
    )


def _plain_numbers(values: Iterable[float]) -> list[Value]:
    """Values of a column; whole ones as integers, which JSON writes without `.0`."""
    return [
        None if value != value else int(value) if value.is_integer() and abs(value) <= LARGEST else value  # noqa: PLR0124
        for value in values
    ]


BLOCK: Final = 2**14


def encoded_series(series: Series) -> Iterator[bytes]:
    """A `SeriesEntry` as JSON, in pieces: a day of a quick sensor has millions of numbers."""
    stamps_us = series.t_us

    def differences(begin: int, end: int) -> list[int]:
        return list(_differences(stamps_us[begin:end], stamps_us[begin - 1] if begin else 0))

    yield b'{"source":' + json.encode(series.info) + b',"dt_us":'
    yield from _encoded_blocks(len(stamps_us), differences)
    separator = b',"values":{'
    for column in series.columns:
        yield separator + json.encode(column.channel.name) + b":"
        values = column.values
        yield from _encoded_blocks(len(values), lambda begin, end: _plain_numbers(values[begin:end]))  # noqa: B023
        separator = b","
    missing = {column.channel.name: column.runs for column in series.columns if column.runs}
    yield (b"" if series.columns else separator) + b'},"missing":' + json.encode(missing) + b"}"


def _encoded_blocks(count: int, block: Callable[[int, int], Sequence[object]]) -> Iterator[bytes]:
    """A list of `count` items as JSON; `block` gives those from one index to before another."""
    yield b"["
    for begin in range(0, count, BLOCK):
        yield (b"," if begin else b"") + json.encode(block(begin, min(count, begin + BLOCK)))[1:-1]
    yield b"]"


def series_of(entry: SeriesEntry) -> Series:
    """The readings of a file; they fit together."""
    series = Series(entry.source)
    series.t_us.extend(_stamp_array(entry.dt_us, 0))
    for column in series.columns:
        name = column.channel.name
        column.values.extend(nan if value is None else value for value in entry.values[name])
        column.runs = list(entry.missing.get(name, ()))
    return series
