"""Series for graphs: what a session's figures were over the last while, in equal steps."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from math import isnan
from typing import Literal, NamedTuple

from edgetop.core.clock import US_PER_S
from edgetop.session.session import Session
from edgetop.session.turn import Turn

HOLD_PERIODS = 1.5
"""A reading stands for so many periods of its source, so that a meter slower than the steps leaves no holes."""


class StepPhase(NamedTuple):
    """What the model did in a step."""

    phase: Literal["prefill", "decode", ""]
    turn_begins: bool


def decode_rate_history(session: Session, t_us: int, steps: int, step_us: int) -> list[float | None]:
    """Decoded tokens per second in each of `steps` spans of `step_us`, oldest first; `None` where nothing was decoded.

    The spans are aligned to multiples of `step_us`, so that a graph moves by whole steps; the last one is that in which
    `t_us` lies, and counts the part of it that has passed. A token that takes longer than a span is spread over all of
    the time since its predecessor, so that the area under the rates is the number of tokens after the first one.
    """
    begin_us = _begin_us(t_us, steps, step_us)
    tokens, spans_us = [0.0] * steps, [0] * steps
    for turn in _turns_back(session, t_us):
        stamps_us = turn.token_t_us
        count = bisect_right(stamps_us, t_us)
        if count == 0:
            continue
        first_us, last_us = stamps_us[0], stamps_us[count - 1]
        if last_us <= begin_us:
            break
        low_us = max(first_us, begin_us)
        decoded = _decoded(stamps_us, low_us) if low_us > first_us else 0.0
        for step in range((low_us - begin_us) // step_us, steps):
            if low_us >= last_us:
                break
            high_us = min(last_us, begin_us + (step + 1) * step_us)
            decoded, before = _decoded(stamps_us, high_us), decoded
            tokens[step] += decoded - before
            spans_us[step] += high_us - low_us
            low_us = high_us
    return [count * US_PER_S / span_us if span_us else None for count, span_us in zip(tokens, spans_us, strict=True)]


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


def _decoded(stamps_us: Sequence[int], t_us: int) -> float:
    """Tokens decoded after the first one until `t_us`, which lies between the first stamp and the last."""
    index = bisect_right(stamps_us, t_us) - 1
    if index == len(stamps_us) - 1:
        return float(index)
    return index + (t_us - stamps_us[index]) / (stamps_us[index + 1] - stamps_us[index])
