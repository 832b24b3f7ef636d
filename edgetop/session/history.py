"""Series in equal steps for graphs.

With `RollingHistory` a graph costs what has happened since it was last drawn, however long the session is.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from math import isnan
from typing import Generic, Literal, NamedTuple, TypeVar

from msgspec import Struct

from edgetop.core.clock import US_PER_S
from edgetop.session.session import Session
from edgetop.session.turn import Turn

STEPS = 120
"""Of `speed_over_time`."""

HOLD_PERIODS = 1.5
"""A reading stands for so many periods of its source, so that a meter slower than the steps leaves no holes."""


class Speed(Struct, frozen=True, kw_only=True):
    """Decode rate over a session, in equal steps; `None` where nothing was decoded."""

    step_s: float
    tokens_per_s: tuple[float | None, ...]


class StepPhase(NamedTuple):
    """What the model did in a step."""

    phase: Literal["prefill", "decode", ""]
    turn_begins: bool


def speed_over_time(turns_s: Sequence[Sequence[float]]) -> Speed | None:
    """Tokens per second in STEPS equal steps from the first token to the last; `None` with no two tokens in a turn.

    `turns_s` has the stamps of each turn's tokens, in seconds and ascending.
    """
    turns_s = [stamps for stamps in turns_s if len(stamps) > 1]
    if not turns_s or turns_s[-1][-1] <= turns_s[0][0]:
        return None
    begin_s = turns_s[0][0]
    decoded = _Decoded(begin_s, (turns_s[-1][-1] - begin_s) / STEPS, STEPS)
    for stamps in turns_s:
        decoded.add(stamps, stamps[-1])
    return Speed(step_s=decoded.step, tokens_per_s=tuple(decoded.rates()))


def decode_rate_history(session: Session, t_us: int, steps: int, step_us: int) -> list[float | None]:
    """Decoded tokens per second in each of `steps` spans of `step_us`, oldest first; `None` where nothing was decoded.

    The spans are aligned to multiples of `step_us`, so that a graph moves by whole steps; the last one is that in which
    `t_us` lies, and counts the part of it that has passed.
    """
    begin_us = _begin_us(t_us, steps, step_us)
    decoded = _Decoded(begin_us, step_us, steps)
    for turn in _turns_back(session, t_us):
        stamps_us = turn.token_t_us
        count = bisect_right(stamps_us, t_us)
        if count == 0:
            continue
        if stamps_us[count - 1] <= begin_us:
            break
        decoded.add(stamps_us, stamps_us[count - 1])
    return [None if rate is None else rate * US_PER_S for rate in decoded.rates()]


def channel_history(session: Session, channel: str, t_us: int, steps: int, step_us: int) -> list[float | None]:
    """Mean reading of a channel in each of `steps` spans of `step_us`, oldest first; `None` where it is missing.

    The spans are those of `decode_rate_history`.
    """
    found = session.find_channel(channel)
    if found is None:
        return [None] * steps
    hold_us = round(HOLD_PERIODS * found[0].info.period_s * US_PER_S)
    begin_us = _begin_us(t_us, steps, step_us)
    stamps_us, values = session.window(channel, begin_us - hold_us, t_us)
    means: list[float | None] = []
    high = bisect_left(stamps_us, begin_us)
    for step in range(steps):
        low, high = high, bisect_left(stamps_us, begin_us + (step + 1) * step_us)
        if low == high and low > 0 and stamps_us[low - 1] + hold_us >= begin_us + step * step_us:
            low -= 1
        read = [value for value in values[low:high] if not isnan(value)]
        means.append(sum(read) / len(read) if read else None)
    return means


def phase_history(session: Session, t_us: int, steps: int, step_us: int) -> list[StepPhase]:
    """What the model did for the longer part of each step, and whether a turn began in it.

    The spans are those of `decode_rate_history`. A turn reads its prompt from when it was submitted to its first token.
    """
    begin_us = _begin_us(t_us, steps, step_us)
    reading_us, writing_us, begins = [0] * steps, [0] * steps, [False] * steps
    for turn in _turns_back(session, t_us):
        submitted_us = turn.started.t_us
        end_us = t_us if turn.finished_at(t_us) is None else turn.last_us
        if end_us < begin_us:
            break
        first_us = turn.token_t_us[0] if turn.token_t_us and turn.token_t_us[0] <= t_us else end_us
        if submitted_us >= begin_us:
            begins[(submitted_us - begin_us) // step_us] = True
        _add_span(reading_us, submitted_us - begin_us, first_us - begin_us, step_us)
        _add_span(writing_us, first_us - begin_us, end_us - begin_us, step_us)
    return [
        StepPhase("prefill" if reading > writing else "decode" if writing else "", begin)
        for reading, writing, begin in zip(reading_us, writing_us, begins, strict=True)
    ]


def _turns_back(session: Session, t_us: int) -> Iterator[Turn]:
    """The turns that have begun by `t_us`, the last one first."""
    last = session.turn_at(t_us)
    return (session.turns[index] for index in range(-1 if last is None else last, -1, -1))


def _add_span(spans_us: list[int], low_us: int, high_us: int, step_us: int) -> None:
    """Add to each step what a span from `low_us` to `high_us`, both since the first step, has of it."""
    low_us = max(0, low_us)
    for step in range(low_us // step_us, len(spans_us)):
        if low_us >= high_us:
            break
        until_us = min(high_us, (step + 1) * step_us)
        spans_us[step] += until_us - low_us
        low_us = until_us


def _begin_us(t_us: int, steps: int, step_us: int) -> int:
    return (t_us // step_us + 1 - steps) * step_us


class _Decoded:
    """Tokens decoded in equal steps, and the time that this took.

    Only time between tokens of one turn counts. A token that takes longer than a step is spread over all of the time
    since its predecessor, so that the area under the rates is the number of tokens after the first one of each turn.
    """

    def __init__(self, begin: float, step: float, steps: int) -> None:
        self.step = step
        self._begin = begin
        self._tokens, self._spans = [0.0] * steps, [0.0] * steps

    def add(self, stamps: Sequence[float], last: float) -> None:
        """Add a turn's tokens, by their ascending stamps, from the first step on and up to the stamp `last`."""
        low = max(stamps[0], self._begin)
        done = _decoded_at(stamps, low) if low > stamps[0] else 0.0
        steps = len(self._tokens)
        for step in range(min(steps - 1, int((low - self._begin) / self.step)), steps):
            high = min(last, self._begin + (step + 1) * self.step)
            if high > low:
                done, before = _decoded_at(stamps, high), done
                self._tokens[step] += done - before
                self._spans[step] += high - low
                low = high
            if high >= last:
                break

    def rates(self) -> list[float | None]:
        """Tokens per unit of time in each step; `None` where nothing was decoded."""
        return [count / span if span > 0 else None for count, span in zip(self._tokens, self._spans, strict=True)]


def _decoded_at(stamps: Sequence[float], t: float) -> float:
    """Tokens decoded after the first one until `t`, which lies between the first stamp and the last."""
    index = bisect_right(stamps, t) - 1
    if index == len(stamps) - 1:
        return float(index)
    return index + (t - stamps[index]) / (stamps[index + 1] - stamps[index])


Value = TypeVar("Value")


class RollingHistory(Generic[Value]):
    """One series in equal steps that are aligned to multiples of their length."""

    def __init__(self, compute: Callable[[int, int, int], list[Value]]) -> None:
        """`compute(t_us, steps, step_us)` gives the values of the last `steps` steps up to that of `t_us`."""
        self.computed = 0
        """How many steps were computed so far: the work that it has done."""
        self._compute = compute
        self._stored: list[Value] = []
        self._first = 0
        """The number of the first step that is stored."""
        self._t_us = 0
        self._valid_for: tuple[int, object] = (0, None)

    def until(self, t_us: int, steps: int, step_us: int, settled_us: int, version: object = None) -> list[Value]:
        """The last `steps` values, that of the step in which `t_us` lies at the end.

        What ended by `settled_us` is computed once, as long as `version` is the same and time goes forward.
        """
        if (step_us, version) != self._valid_for or t_us < self._t_us:
            self._stored, self._valid_for = [], (step_us, version)
        self._t_us = t_us
        end = t_us // step_us + 1
        first = end - steps
        stored_end = self._first + len(self._stored)
        begin = stored_end if self._first <= first < stored_end else first
        old = self._stored[first - self._first :] if begin != first else []
        values = [*old, *self._compute(t_us, end - begin, step_us)]
        self.computed += end - begin
        self._first = first
        self._stored = values[: max(0, min(settled_us // step_us, end) - first)]
        return values
