"""Looks at all watched servers together, as a session has recorded them."""

from __future__ import annotations

from bisect import bisect_right
from math import isnan

from msgspec import Struct

from edgetop.core.records import Missing
from edgetop.session import channels
from edgetop.session.series import Series
from edgetop.session.session import Session


class Look(Struct, frozen=True):
    """What one look at all servers told."""

    t_us: int
    tokens: float | None
    running: float
    """Requests under way; 0 where it is not known."""
    unsure: float


def grown_until(session: Session, channel: str, t_us: int) -> int | None:
    """By how much a count has grown."""
    found = session.find_channel(channel)
    if found is None:
        return None
    series, column = found
    extent = series.columns[column].extent(series.count_until(t_us))
    return None if extent.most is None or extent.least is None else round(extent.most - extent.least)


def look_at(series: Series, column: int, index: int) -> Look:
    """The look of an index; `column` is that of the count."""

    def value(name: str) -> float:
        other = next((each for each in series.columns if each.channel.name == name), None)
        read = float("nan") if other is None else other.values[index]
        return 0.0 if isnan(read) else read

    tokens = series.columns[column].values[index]
    return Look(
        series.t_us[index],
        None if isnan(tokens) else tokens,
        value(channels.SERVED_RUNNING),
        value(channels.SERVED_UNSURE),
    )


def reason_at(session: Session, t_us: int) -> str:
    """Why a look does not know what was generated."""
    found = session.find_channel(channels.SERVED_TOKENS)
    if found is None:
        return ""
    series, number = found
    read = series.columns[number].at(bisect_right(series.t_us, t_us) - 1)
    return read.reason if isinstance(read, Missing) else ""
