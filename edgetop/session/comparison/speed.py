"""Decode rate over time, in few enough steps to be drawn."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from edgetop.session.comparison.result import Speed

STEPS = 120


def speed_over_time(turns_s: Sequence[Sequence[float]]) -> Speed | None:
    """Tokens per second in STEPS equal steps from the first token to the last; `None` with no two tokens in a turn.

    `turns_s` has the stamps of each turn's tokens, in seconds and ascending. Only time between tokens of one turn
    counts, and a token that takes longer than a step is spread over all of its time, so that the area under the rates
    is the number of tokens after the first one of each turn, as in the graph of the live screen.
    """
    turns_s = [stamps for stamps in turns_s if len(stamps) > 1]
    if not turns_s or turns_s[-1][-1] <= turns_s[0][0]:
        return None
    begin_s, end_s = turns_s[0][0], turns_s[-1][-1]
    step_s = (end_s - begin_s) / STEPS
    tokens, spans_s = [0.0] * STEPS, [0.0] * STEPS
    for stamps in turns_s:
        low_s = stamps[0]
        done = 0.0
        for step in range(min(STEPS - 1, int((low_s - begin_s) / step_s)), STEPS):
            high_s = min(stamps[-1], begin_s + (step + 1) * step_s)
            if high_s > low_s:
                now = _decoded(stamps, high_s)
                tokens[step] += now - done
                spans_s[step] += high_s - low_s
                low_s, done = high_s, now
            if high_s >= stamps[-1]:
                break
    rates = [count / span_s if span_s > 0 else None for count, span_s in zip(tokens, spans_s, strict=True)]
    return Speed(step_s=step_s, tokens_per_s=tuple(rates))


def _decoded(stamps: Sequence[float], t_s: float) -> float:
    """Tokens decoded after the first one until `t_s`, which lies after the first stamp and not after the last."""
    if t_s >= stamps[-1]:
        return len(stamps) - 1
    index = bisect_left(stamps, t_s)
    earlier, later = stamps[index - 1], stamps[index]
    return index - 1 + (t_s - earlier) / (later - earlier)
