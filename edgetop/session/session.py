"""The fold of records; columns of readings; no caches of others.

The live screen folds records as they come, recovery folds a journal, and reading a session file builds the same thing,
so that every figure taken from a session is the same wherever the session came from. A session is used by one thread.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Sequence
from itertools import pairwise
from math import nan
from typing import Final, Generic, TypeVar, cast
from uuid import uuid4

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.clock import US_PER_S
from edgetop.core.numbers import Numbers, PackedNumbers
from edgetop.core.records import (
    LARGEST,
    Event,
    ModelLoaded,
    Predicted,
    Prediction,
    Prefill,
    Record,
    RequestServed,
    Sampled,
    Scored,
    ServiceSeen,
    SessionStarted,
    SourceAdded,
    SourceMissing,
    Tokens,
    TurnFinished,
    TurnStarted,
    number_problems,
)
from edgetop.core.sources import Channel, SourceInfo, Unavailable
from edgetop.session.turn import Turn

NO_REASON = "the sensor gave no value"
UNPACKED_TURNS: Final = 4
"""Of a session that goes on, the last so many turns are at hand; those before take less memory."""

MOST_DIGITS: Final = 15
"""A double holds no more."""

EXTENT_EVERY: Final = 1024
"""Running statistics are noted after every so many readings, so that earlier moments can be asked for at once."""


class MissingRun(Struct, frozen=True, array_like=True):
    """Readings in a row that are missing for one reason."""

    start: int
    """Index of the first one."""
    count: int
    reason: str


class RunningStats(Struct, frozen=True):
    """Running statistics of the first `count` readings of a column; missing ones do not count."""

    count: int = 0
    present: int = 0
    total: float = 0.0
    least: float | None = None
    most: float | None = None

    @property
    def mean(self) -> float | None:
        """Mean of the readings that are there."""
        return self.total / self.present if self.present else None


class Column:
    """The readings of one channel: a double each, NaN inside where one is missing."""

    __slots__ = ("_digits", "_extent", "_extents", "channel", "runs", "values")

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self._digits = max(-MOST_DIGITS, min(MOST_DIGITS, channel.digits))
        self.values: Numbers[float] = Numbers("d")
        self.runs: list[MissingRun] = []
        self._extent = RunningStats()
        self._extents = [RunningStats()]
        """Of the first 0, EXTENT_EVERY, 2 EXTENT_EVERY ... readings."""

    def append(self, value: float | None, reason: str) -> None:
        """Add a reading, rounded to the channel's digits. One beyond LARGEST is no reading, and missing."""
        if value is not None and abs(value) <= LARGEST:
            self.values.append(round(value, self._digits) + 0.0)  # a zero without a sign, as files have it
            return
        reason = reason or NO_REASON
        index = len(self.values)
        last = self.runs[-1] if self.runs else None
        if last is not None and last.start + last.count == index and last.reason == reason:
            self.runs[-1] = MissingRun(last.start, last.count + 1, reason)
        else:
            self.runs.append(MissingRun(index, 1, reason))
        self.values.append(nan)

    def at(self, index: int) -> float | Unavailable:
        """The reading at `index`."""
        value = self.values[index]
        if value == value:  # noqa: PLR0124 (only NaN differs from itself)
            return value
        position = bisect_right(self.runs, index, key=lambda run: run.start) - 1
        return Unavailable(self.runs[position].reason)

    def extent(self, count: int) -> RunningStats:
        """Statistics of the first `count` readings. Asking costs what lies between `count` and one asked for before."""
        extent = self._extent if self._extent.count <= count else RunningStats()
        noted = self._extents[min(count // EXTENT_EVERY, len(self._extents) - 1)]
        extent = max(extent, noted, key=lambda each: each.count)
        while extent.count < count:
            extent = self._more(extent, min(count, (extent.count // EXTENT_EVERY + 1) * EXTENT_EVERY))
            if extent.count == len(self._extents) * EXTENT_EVERY:
                self._extents.append(extent)
        self._extent = extent
        return extent

    def _more(self, extent: RunningStats, count: int) -> RunningStats:
        total, present, least, most = extent.total, extent.present, extent.least, extent.most
        for value in self.values[extent.count : count]:
            if value == value:  # noqa: PLR0124
                total += value
                present += 1
                if least is None or value < least:
                    least = value
                if most is None or value > most:
                    most = value
        return RunningStats(count=count, present=present, total=total, least=least, most=most)


class PackedSeries(Struct, frozen=True, array_like=True):
    """A series, to be kept in a file of this machine."""

    info: SourceInfo
    t_us: PackedNumbers
    columns: list[tuple[PackedNumbers, list[MissingRun]]]


class Series:
    """Everything one source read: stamps and one column per channel."""

    __slots__ = ("columns", "info", "t_us")

    def __init__(self, info: SourceInfo) -> None:
        self.info = info
        self.t_us: Numbers[int] = Numbers("q")
        """Microseconds since the session began, ascending."""
        self.columns = tuple(Column(channel) for channel in info.channels)

    def packed(self) -> PackedSeries:
        """The readings as they are in memory."""
        columns = [(column.values.packed(), column.runs) for column in self.columns]
        return PackedSeries(self.info, self.t_us.packed(), columns)

    @classmethod
    def of(cls, packed: PackedSeries) -> Series:
        """The series that was packed."""
        series = cls(packed.info)
        series.t_us = Numbers.of(packed.t_us)
        for column, (values, runs) in zip(series.columns, packed.columns, strict=True):
            column.values, column.runs = Numbers.of(values), runs
        return series

    def append(self, t_us: int, values: Sequence[float | None], reasons: Sequence[str]) -> None:
        """Add one reading of all channels. `reasons` is empty or as long as `values`, which fit the channels."""
        self.t_us.append(t_us)
        for index, (column, value) in enumerate(zip(self.columns, values, strict=True)):
            column.append(value, reasons[index] if index < len(reasons) else "")

    def count_until(self, t_us: int) -> int:
        """How many readings were taken up to and including `t_us`."""
        return self.t_us.bisect_right(t_us)

    def between(self, t0_us: int, t1_us: int) -> tuple[int, int]:
        """The range of indices whose stamps lie in t0_us <= t <= t1_us."""
        return self.t_us.bisect_left(t0_us), self.t_us.bisect_right(t1_us)


T = TypeVar("T")

POWER_CHOSEN = "power_chosen"
"""Kind of the event that says that the person chose another source of power: its name is `source`, empty for none."""

PAUSED = "paused"
"""Kind of the event that says that the model stood still for `paused_s` before it, in the middle of a turn."""

REFUSED = "record_refused"
"""Kind of the event that says a record did not fit what came before; one for each reason."""


def new_session_id() -> str:
    """A new random name for a session: 12 hexadecimal digits."""
    return uuid4().hex[:12]


class PerSession(Generic[T]):
    """A value derived from a session, made when it is first asked for and kept as long as the session."""

    def __init__(self, make: Callable[[Session], T]) -> None:
        self._make = make

    def of(self, session: Session) -> T:
        """The value that belongs to this session."""
        if self not in session.derived:
            self.replace(session, self._make(session))
        return cast("T", session.derived[self])

    def replace(self, session: Session, value: T) -> None:
        """Keep another value from now on."""
        session.derived[self] = value


class UnfittingError(Exception):
    """A record does not fit what came before it."""


class Session:
    """What happened, with every stamp in microseconds since the session began.

    `apply` never raises and takes constant time per token and reading: a record that does not fit (a turn that is
    not running, a stamp before its predecessor) is left out, and an event says so.
    """

    def __init__(self) -> None:
        self.header: SessionStarted | None = None
        """The first record, with its stamp on the clock of the machine that recorded it."""
        self.loads: list[ModelLoaded] = []
        self.predictions: list[Predicted] = []
        """What was expected, at most one for each load."""
        self.scores: list[Scored] = []
        self.services: dict[int, ServiceSeen] = {}
        """Model processes and servers that were watched, by their numbers."""
        self.requests: list[RequestServed] = []
        """Of other programs, that were passed on, by their ends."""
        self.turns: list[Turn] = []
        self.series: dict[str, Series] = {}
        """By the name of the source."""
        self.absent: dict[str, Unavailable] = {}
        """Kinds of reading that the machine does not give."""
        self.events: list[Event] = []
        """By their stamps."""
        self.end_us = 0
        """The latest stamp."""
        self.derived: dict[object, object] = {}
        """What `PerSession` keeps for the modules that compute figures from this session."""
        self._channels: dict[str, tuple[Series, int]] = {}
        self._refused: set[str] = set()

    @property
    def start_us(self) -> int:
        """When the session began, on the clock of the machine that recorded it; 0 before the first record."""
        return self.header.t_us if self.header is not None else 0

    def relative(self, t_us: int) -> int:
        """A stamp of `edgetop.core.clock` in microseconds since the session began."""
        return t_us - self.start_us

    def channel(self, name: str) -> Channel | None:
        """What is known of a channel, `None` if no source reads it."""
        found = self._channels.get(name)
        return None if found is None else found[0].columns[found[1]].channel

    def find_channel(self, name: str) -> tuple[Series, int] | None:
        """The series that has a channel, and the channel's column in it."""
        return self._channels.get(name)

    def channels(self) -> Sequence[str]:
        """Names of all channels, in the order in which their sources were found."""
        return tuple(self._channels)

    def window(self, channel: str, t0_us: int, t1_us: int) -> tuple[array[int], array[float]]:
        """Stamps and readings of a channel with t0_us <= t <= t1_us.

        Missing readings are NaN; both arrays are empty if no source reads the channel.
        """
        found = self._channels.get(channel)
        if found is None:
            return array("q"), array("d")
        series, column = found
        begin, end = series.between(t0_us, t1_us)
        return series.t_us[begin:end], series.columns[column].values[begin:end]

    def turn_at(self, t_us: int) -> int | None:
        """Index of the turn that runs at `t_us`, or else of the last one before; `None` before the first."""
        index = bisect_right(self.turns, t_us, key=lambda turn: turn.started.t_us) - 1
        return index if index >= 0 else None

    def load_at(self, t_us: int) -> ModelLoaded | None:
        """The model that is resident at `t_us`."""
        return next((load for load in reversed(self.loads) if load.t_us <= t_us), None)

    def prediction_at(self, t_us: int) -> Prediction | None:
        """What was expected of the model that is resident at `t_us`, if anything was and is known by then."""
        load = self.load_at(t_us)
        for predicted in reversed(self.predictions):
            if predicted.t_us <= t_us:
                return predicted.prediction if load is not None and predicted.t_us >= load.t_us else None
        return None

    def events_until(self, t_us: int) -> int:
        """How many of the events had happened by `t_us`."""
        return bisect_right(self.events, t_us, key=lambda event: event.t_us)

    def pauses(self, t0_us: int, t1_us: int) -> list[tuple[int, int]]:
        """When the model stood still between two moments: beginnings and ends, ascending and apart."""
        found: list[tuple[int, int]] = []
        begin = bisect_left(self.events, t0_us, key=lambda event: event.t_us)
        for event in self.events[begin : self.events_until(t1_us)]:
            paused_s = event.data.get("paused_s")
            if event.kind == PAUSED and isinstance(paused_s, int | float) and 0 < paused_s <= LARGEST:
                from_us = max(t0_us, event.t_us - round(paused_s * US_PER_S), found[-1][1] if found else t0_us)
                if from_us < event.t_us:
                    found.append((from_us, event.t_us))
        return found

    def apply(self, record: Record) -> None:
        """Take in the next record."""
        try:
            self._apply(record)
        except UnfittingError as error:
            reason = str(error)
            if reason not in self._refused:
                self._refused.add(reason)
                self._add_record(
                    Event(t_us=self._stamp_of(record), kind=REFUSED, text=f"A record was left out: {reason}.")
                )

    def _stamp_of(self, record: Record) -> int:
        """The stamp of any record, or that of the latest one where it has none of its own that can be meant."""
        latest_us = self.start_us + self.end_us
        if isinstance(record, SourceAdded | SourceMissing):
            return latest_us
        t_us = record.t_us if isinstance(record.t_us, int) else max(record.t_us, default=latest_us)
        return max(latest_us, t_us) if self.relative(t_us) <= LARGEST else latest_us

    def _apply(self, record: Record) -> None:
        if self.header is None and not isinstance(record, SessionStarted):
            raise UnfittingError("it came before the beginning of the session")
        if not isinstance(record, Sampled | Tokens | Prefill):
            for problem in number_problems(record):
                raise UnfittingError(f"it has {problem.partition(': ')[2]}")
        match record:
            case Sampled():
                self._add_sample(record)
            case Tokens():
                self._add_tokens(record)
            case Prefill() | TurnStarted() | TurnFinished():
                self._add_to_turn(record)
            case SourceAdded():
                self.add_series(Series(record.source))
            case SourceMissing():
                self.absent[record.name] = record.missing
            case ModelLoaded() | Event() | Predicted() | Scored() | ServiceSeen() | RequestServed():
                self._add_record(record)
            case SessionStarted():
                if self.header is not None:
                    raise UnfittingError("the session began a second time")
                self._stamp(record.t_us)
                self.header = record

    def add_series(self, series: Series) -> None:
        """Take in a source, with the readings it has already.

        Found again after it was lost, a source goes on where it was. Raises UnfittingError when its channels are other
        ones than before, or belong to another source.
        """
        info = series.info
        known = self.series.get(info.name)
        if known is not None:
            if known.info.channels != info.channels:
                raise UnfittingError(f"the source {info.name} came back with other channels")
            known.info = info
            return
        names = [channel.name for channel in info.channels]
        if len(set(names)) < len(names) or not self._channels.keys().isdisjoint(names):
            raise UnfittingError(f"a channel of {info.name} has the name of another one")
        self.series[info.name] = series
        self.absent.pop(info.name, None)
        self._channels.update((name, (series, index)) for index, name in enumerate(names))
        if series.t_us:
            self._note_time(series.t_us[-1])

    def _add_to_turn(self, record: Prefill | TurnStarted | TurnFinished) -> None:
        t_us = self._stamp(record.t_us)
        if self.turns:
            _require_order(self.turns[-1].last_us, t_us)
        if isinstance(record, TurnStarted):
            for turn in self.turns[-UNPACKED_TURNS - 1 : -UNPACKED_TURNS]:
                turn.pack()
            self.turns.append(Turn(replace(record, t_us=t_us)))
        elif isinstance(record, Prefill):
            if not all(0 <= count <= LARGEST for count in (record.done, record.total, record.cached)):
                raise UnfittingError("it counts tokens that cannot be")
            self._running(record.turn).add_prefill(record, t_us)
        else:
            self._running(record.turn).finish(replace(record, t_us=t_us))
        self._note_time(t_us)

    def _add_record(self, record: ModelLoaded | Event | Predicted | Scored | ServiceSeen | RequestServed) -> None:
        t_us = self._stamp(record.t_us)
        if isinstance(record, Event):
            insort(self.events, replace(record, t_us=t_us), key=lambda each: each.t_us)
            if record.kind == POWER_CHOSEN and self.header is not None:
                self.header = replace(self.header, power=str(record.data.get("source") or "") or None)
        elif isinstance(record, ServiceSeen):
            self.services[record.number] = replace(record, t_us=t_us)
        elif isinstance(record, RequestServed):
            insort(self.requests, replace(record, t_us=t_us), key=lambda each: each.t_us)
        elif isinstance(record, Scored):
            if self.scores:
                _require_order(self.scores[-1].t_us, t_us)
            self.scores.append(replace(record, t_us=t_us))
        elif isinstance(record, ModelLoaded):
            if self.loads:
                _require_order(self.loads[-1].t_us, t_us)
            self.loads.append(replace(record, t_us=t_us))
        else:
            if not self.loads or (self.predictions and self.predictions[-1].t_us >= self.loads[-1].t_us):
                raise UnfittingError("a prediction came without a model that it is of")
            _require_order(self.loads[-1].t_us, t_us)
            self.predictions.append(replace(record, t_us=t_us))
        self._note_time(t_us)

    def _add_sample(self, record: Sampled) -> None:
        series = self.series.get(record.source)
        if series is None:
            raise UnfittingError(f"a reading came from {record.source}, which is no source of this session")
        if len(record.values) != len(series.columns):
            raise UnfittingError(f"a reading of {record.source} has not one value per channel")
        t_us = self._stamp(record.t_us)
        if series.t_us:
            _require_order(series.t_us[-1], t_us)
        series.append(t_us, record.values, record.reasons)
        self._note_time(t_us)

    def _add_tokens(self, record: Tokens) -> None:
        turn = self._running(record.turn)
        if len(record.t_us) != len(record.pieces):
            raise UnfittingError("tokens came with not one stamp each")
        if not record.t_us:
            return
        start_us = self.start_us
        t_us = [stamp - start_us for stamp in record.t_us]
        self._stamp(record.t_us[-1])
        _require_order(turn.last_us, t_us[0])
        if any(later < earlier for earlier, later in pairwise(t_us)):
            raise UnfittingError("it is stamped before its predecessor")
        turn.add_tokens(record, t_us)
        self._note_time(t_us[-1])

    def _running(self, number: int) -> Turn:
        turn = self.turns[-1] if self.turns else None
        if turn is None or turn.started.turn != number or turn.finished is not None:
            raise UnfittingError("it belongs to a turn that is not running")
        return turn

    def _stamp(self, t_us: int) -> int:
        relative_us = self.relative(t_us)
        if abs(relative_us) > LARGEST:
            raise UnfittingError("its stamp is beyond any clock")
        return relative_us

    def _note_time(self, t_us: int) -> None:
        self.end_us = max(self.end_us, t_us)


def _require_order(earlier_us: int, later_us: int) -> None:
    if later_us < earlier_us:
        raise UnfittingError("it is stamped before its predecessor")
