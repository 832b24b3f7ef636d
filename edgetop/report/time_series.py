"""A session's curves, decimated for drawing, gaps kept.

All curves come from the histories that the live screen draws, in steps as fine as the readings where the session is
short; a long one is thinned to the least and the greatest value in each column of the picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil

from msgspec import Struct

from edgetop.core.clock import US_PER_S
from edgetop.core.energy.scopes import Headline
from edgetop.core.sources import ENGINE_ANONYMOUS, ENGINE_RSS, Unavailable
from edgetop.session.energy import SessionEnergy
from edgetop.session.history import channel_history, decode_rate_history
from edgetop.session.session import Session

COLUMNS = 600
"""Of a picture: about a column for each pixel that a wide page gives it."""

FINE_STEPS = 12_000
"""The most steps that a history is asked for, twenty to a column."""

SPEED_STEP_US = 250_000
POWER_STEP_US = 50_000
MEMORY_STEP_US = US_PER_S
MIB = 2**20


class History(Struct, frozen=True, kw_only=True):
    """Means over equal steps from the session's beginning on; `None` where there is none."""

    step_us: int
    values: tuple[float | None, ...]

    def between(self, begin_s: float, end_s: float) -> list[float]:
        """The values that are there, of the steps that begin in a span."""
        begin, end = (ceil(edge_s * US_PER_S / self.step_us) for edge_s in (begin_s, end_s))
        return [value for value in self.values[begin:end] if value is not None]

    @property
    def gaps(self) -> list[tuple[float, float]]:
        """Begin and end, in seconds, of each stretch without a value between two that are there."""
        found: list[tuple[float, float]] = []
        last: int | None = None
        for index, value in enumerate(self.values):
            if value is None:
                continue
            if last is not None and index > last + 1:
                found.append(((last + 1) * self.step_us / US_PER_S, index * self.step_us / US_PER_S))
            last = index
        return found


class Phase(Struct, frozen=True):
    """A span of prefill or decode, in seconds since the session began."""

    begin_s: float
    end_s: float


class Drawn(Struct, frozen=True, kw_only=True):
    """A curve as it is drawn: a value of `None` breaks the line."""

    t_s: tuple[float, ...]
    values: tuple[float | None, ...]


class TimeSeries(Struct, frozen=True, kw_only=True):
    """The curves of one session."""

    length_s: float
    speed: History
    """Decoded tokens per second; `None` while nothing is decoded."""
    power: History | Unavailable
    """The headline meters together, in W."""
    resident: History | None
    """Memory of the process that holds the model, in MiB; `None` where it was not read."""
    private: History | None
    """The part of it that is not mapped from files, in MiB."""
    prefills: tuple[Phase, ...]
    decodes: tuple[Phase, ...]


def time_series(session: Session) -> TimeSeries:
    """The curves of a session that has ended."""
    return TimeSeries(
        length_s=session.end_us / US_PER_S,
        speed=_speed(session),
        power=_power(session),
        resident=_memory(session, ENGINE_RSS),
        private=_memory(session, ENGINE_ANONYMOUS),
        prefills=tuple(_merged(_prefills(session), session.end_us)),
        decodes=tuple(_merged(_decodes(session), session.end_us)),
    )


def decimated(history: History, columns: int = COLUMNS) -> Drawn:
    """The curve of a history: each value in the middle of its step, or the extremes of each column if that is less."""
    values = history.values
    if len(values) <= 2 * columns:
        points = list(enumerate(values))
    else:
        points = [
            point
            for column in range(columns)
            for point in _extremes(values, column * len(values) // columns, (column + 1) * len(values) // columns)
        ]
    return Drawn(
        t_s=tuple(round((index + 0.5) * history.step_us / US_PER_S, 3) for index, _ in points),
        values=tuple(None if value is None else float(f"{value:.5g}") for _, value in points),
    )


def _extremes(values: Sequence[float | None], begin: int, end: int) -> Iterator[tuple[int, float | None]]:
    """The least and the greatest of `values[begin:end]` in their order, and a `None` wherever there is one between."""
    present = [index for index in range(begin, end) if values[index] is not None]
    kept = sorted({min(present, key=values.__getitem__), max(present, key=values.__getitem__)}) if present else []  # type: ignore[arg-type]
    before = begin - 1
    for index in (*kept, end):
        hole = next((each for each in range(before + 1, index) if values[each] is None), None)
        if hole is not None:
            yield hole, None
        if index < end:
            yield index, values[index]
        before = index


def _step_us(session: Session, least_us: int) -> int:
    return max(least_us, ceil(session.end_us / FINE_STEPS))


def _speed(session: Session) -> History:
    step_us = _step_us(session, SPEED_STEP_US)
    steps = session.end_us // step_us + 1
    return History(step_us=step_us, values=tuple(decode_rate_history(session, session.end_us, steps, step_us)))


def _power(session: Session) -> History | Unavailable:
    account = SessionEnergy(session)
    account.advance(session.end_us)
    headline = account.headline
    if not isinstance(headline, Headline):
        return headline
    period_us = round(max(meter.poll_s for meter in headline.meters) * US_PER_S)
    step_us = _step_us(session, max(POWER_STEP_US, period_us))
    return History(step_us=step_us, values=tuple(account.power_history(session.end_us // step_us, step_us)))


def _memory(session: Session, channel: str) -> History | None:
    if session.find_channel(channel) is None:
        return None
    step_us = _step_us(session, MEMORY_STEP_US)
    steps = session.end_us // step_us + 1
    means = channel_history(session, channel, session.end_us, steps, step_us)
    return History(step_us=step_us, values=tuple(None if size is None else size / MIB for size in means))


def _prefills(session: Session) -> Iterator[tuple[int, int]]:
    for turn in session.turns:
        yield turn.started.t_us, turn.token_t_us[0] if turn.token_t_us else turn.last_us


def _decodes(session: Session) -> Iterator[tuple[int, int]]:
    for turn in session.turns:
        if turn.token_t_us:
            yield turn.token_t_us[0], turn.token_t_us[-1]


def _merged(spans: Iterator[tuple[int, int]], length_us: int) -> Iterator[Phase]:
    """The spans, those that are closer together than a column of the picture as one."""
    begin_us = end_us = -1
    for next_begin_us, next_end_us in spans:
        if begin_us >= 0 and next_begin_us - end_us >= length_us / COLUMNS:
            yield Phase(begin_us / US_PER_S, end_us / US_PER_S)
            begin_us = -1
        if begin_us < 0:
            begin_us = next_begin_us
        end_us = next_end_us
    if begin_us >= 0:
        yield Phase(begin_us / US_PER_S, end_us / US_PER_S)
