"""How fast watched servers generate, all together, from the count that the looks at them gave."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from math import isnan

from edgetop.core.clock import US_PER_S
from edgetop.session import channels
from edgetop.session.session import Session

RECENT_US = 5 * US_PER_S
"""Far enough back for several looks, so that a token more or less does not show."""
APART_US = 5 * US_PER_S
"""Between looks further apart the rate is not known."""


def recent_rate(session: Session, t_us: int) -> float | None:
    """Generated tokens per second over the last looks that know their number; `None` without two of them."""
    stamps_us, counts = session.window(channels.SERVED_TOKENS, t_us - RECENT_US - APART_US, t_us)
    if not stamps_us or t_us - stamps_us[-1] > APART_US:
        return None
    first = last = len(stamps_us) - 1
    while first > 0 and not isnan(counts[first - 1]) and stamps_us[last] - stamps_us[first] < RECENT_US:
        first -= 1
    if isnan(counts[last]) or stamps_us[first] == stamps_us[last]:
        return None
    return (counts[last] - counts[first]) * US_PER_S / (stamps_us[last] - stamps_us[first])


def rate_history(session: Session, t_us: int, steps: int, step_us: int) -> list[float | None]:
    """Generated tokens per second in each of `steps` spans of `step_us`, oldest first; `None` where it is not known.

    The spans are aligned to multiples of `step_us`. Between two looks the rate is taken for even.
    """
    begin_us = (t_us // step_us + 1 - steps) * step_us
    stamps_us, counts = session.window(channels.SERVED_TOKENS, begin_us - APART_US, t_us)
    tokens, spans_us = [0.0] * steps, [0] * steps
    for index in range(max(1, bisect_left(stamps_us, begin_us)), bisect_right(stamps_us, t_us)):
        low_us, high_us = stamps_us[index - 1], stamps_us[index]
        grown = counts[index] - counts[index - 1]
        if isnan(grown) or not 0 < high_us - low_us <= APART_US:
            continue
        for step in range(max(0, (low_us - begin_us) // step_us), min(steps, (high_us - begin_us) // step_us + 1)):
            edge_us = begin_us + step * step_us
            part_us = min(high_us, edge_us + step_us) - max(low_us, edge_us)
            tokens[step] += grown * part_us / (high_us - low_us)
            spans_us[step] += part_us
    pairs = zip(tokens, spans_us, strict=True)
    return [count * US_PER_S / span_us if span_us > 0 else None for count, span_us in pairs]
