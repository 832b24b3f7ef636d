"""A soak: the tests over and over for minutes; where speed, power, heat and clock settle.

On a board without a fan the first minute is not what a product gets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite, log
from statistics import fmean, stdev
from typing import NamedTuple

from msgspec import Struct

from edgetop.core.bootstrap import SPREAD_LEAST
from edgetop.core.statistics import decay, welch_difference

MINUTE_S = 60.0

SETTLED = 3.0
"""After so many time constants 95 % of a change is over."""

_STEPS, _FACTOR = 48, 1.15
"""Time constants that are tried, each so much shorter than the one before; then as many about the best."""


class Moment(Struct, frozen=True, kw_only=True):
    """One repetition within a soak, or the mean of those of a minute."""

    at_s: float
    """Since the soak began: the middle of a repetition, the beginning of a minute."""
    tokens_per_s: float
    power_w: float | None = None
    j_per_token: float | None = None
    temperature_c: float | None = None
    frequency_hz: float | None = None


class Soak(Struct, frozen=True, kw_only=True):
    """What became of the rate of one test."""

    length_s: float
    minutes: tuple[Moment, ...]
    first_tokens_per_s: float
    """Of the first minute."""
    last_tokens_per_s: float
    """Of the last minute."""
    change_percent: tuple[float, float] | None
    """95 % interval of the last minute against the first; `None` where one of them has a single repetition."""
    steady_tokens_per_s: float | None
    """Where the rate settles: the asymptote of an exponential from its beginning; the mean where it does not change."""
    time_constant_s: float | None
    """Of this exponential; `None` where the rate does not change by more than its scatter."""
    begins_s: float
    """How long the rate was that of the beginning before it changed."""
    first_j_per_token: float | None = None
    last_j_per_token: float | None = None

    @property
    def is_steady(self) -> bool:
        """Whether it lasted long enough to know where the rate settles."""
        return self.time_constant_s is None or self.begins_s + SETTLED * self.time_constant_s <= self.length_s


def soak_of(moments: Sequence[Moment], length_s: float) -> Soak | None:
    """What repetitions in their order say; `None` where they do not fill two minutes, or none is to be had."""
    first = [each for each in moments if each.at_s < MINUTE_S]
    last = [each for each in moments if each.at_s >= length_s - MINUTE_S]
    if length_s < 2 * MINUTE_S or not first or not last:
        return None
    change = _change(first, last)
    changed = change is not None and not change[0] <= 0.0 <= change[1]
    fit = _fit(moments, length_s) if changed else None
    mean = None if change is None else fmean(each.tokens_per_s for each in moments)
    return Soak(
        length_s=length_s,
        minutes=tuple(_minutes(moments)),
        first_tokens_per_s=fmean(each.tokens_per_s for each in first),
        last_tokens_per_s=fmean(each.tokens_per_s for each in last),
        change_percent=change,
        steady_tokens_per_s=mean if fit is None else fit.steady,
        time_constant_s=None if fit is None else fit.constant_s,
        begins_s=0.0 if fit is None else fit.begins_s,
        first_j_per_token=_mean([each.j_per_token for each in first]),
        last_j_per_token=_mean([each.j_per_token for each in last]),
    )


def _change(first: Sequence[Moment], last: Sequence[Moment]) -> tuple[float, float] | None:
    """Of the last minute against the first, in per cent: the 95 % interval by Welch's t."""
    if len(first) < 2 or len(last) < 2:
        return None
    means, spreads = [], []
    for group in (last, first):
        rates = [each.tokens_per_s for each in group]
        means.append(fmean(rates))
        spreads.append((max(SPREAD_LEAST, stdev(rates) / fmean(rates) / len(rates) ** 0.5), float(len(rates) - 1)))
    return welch_difference(log(means[0] / means[1]), *spreads).interval()


class _Fit(NamedTuple):
    """rate = steady + step * exp(-(t - begins) / constant), and steady + step before it begins; least squares."""

    error: float
    begins_s: float
    constant_s: float
    steady: float


def _fit(moments: Sequence[Moment], length_s: float) -> _Fit:
    begins = [half * MINUTE_S / 2 for half in range(int(2 * (length_s / MINUTE_S - 1)))]
    constants = [length_s * _FACTOR**-step for step in range(_STEPS)]
    best = min(_fitted(moments, begin, constant) for begin in begins for constant in constants)
    near = [best.constant_s * _FACTOR ** (2 * step / _STEPS - 1) for step in range(_STEPS + 1)]
    return min(_fitted(moments, best.begins_s, constant) for constant in near)


def _fitted(moments: Sequence[Moment], begins_s: float, constant_s: float) -> _Fit:
    found = decay([(each.at_s - begins_s, each.tokens_per_s) for each in moments], constant_s)
    return _Fit(found.error, begins_s, constant_s, found.end)


def _minutes(moments: Sequence[Moment]) -> Iterator[Moment]:
    by_minute: dict[int, list[Moment]] = {}
    for each in moments:
        by_minute.setdefault(int(each.at_s // MINUTE_S), []).append(each)
    for minute, group in sorted(by_minute.items()):
        yield Moment(
            at_s=minute * MINUTE_S,
            tokens_per_s=fmean(each.tokens_per_s for each in group),
            power_w=_mean([each.power_w for each in group]),
            j_per_token=_mean([each.j_per_token for each in group]),
            temperature_c=_mean([each.temperature_c for each in group]),
            frequency_hz=_mean([each.frequency_hz for each in group]),
        )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None and isfinite(value)]
    return fmean(known) if known else None
