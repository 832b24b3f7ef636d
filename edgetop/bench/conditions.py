"""Under which conditions a test was done: heat, other load, clock, battery, sleep; from the session's own readings."""

from __future__ import annotations

from collections.abc import Iterable
from math import isnan

from msgspec import Struct

from edgetop.core.figures import LimitedBy
from edgetop.session.limits import limit_between
from edgetop.session.session import Session

DISTURBING: tuple[LimitedBy, ...] = ("throttled", "contention", "paging", "swap")
"""What makes a repetition something else than a measurement of the setting."""
NOTABLE_EVENTS = frozenset(
    {"suspended", "sensor_lost", "engine_restarted", "engine_stuck", "recording_paused", "record_refused"}
)
"""Events that a reader of a run's figures must know."""
TEMPERATURE_PREFIX = "temperature."
FREQUENCY = "cpu.frequency"
BATTERY_POWER = "power.battery"
"""Above 0 while the batteries give power; missing while a charger does."""
FREQUENCY_SPREAD = 0.1
"""Clocks that differ by more than this share of the highest are told."""
LEAST_LOOK_US = 1_200_000
"""The sensors of load are read once a second, each for the second gone by: a shorter test is judged by the next one."""
STALE_US = 10_000_000
"""A temperature or the state of a battery that is older says nothing of a moment."""
HZ_PER_GHZ = 1e9


class Conditions(Struct, frozen=True, kw_only=True):
    """Of one repetition."""

    disturbances: tuple[str, ...] = ()
    """Such as `throttled`, `contention`, `suspended` or `on battery`."""
    temperature_begin_c: float | None = None
    """Of the hottest sensor when the test began; `None` without one."""
    temperature_end_c: float | None = None
    frequency_least_hz: float | None = None
    """Of the fastest cores while the test ran; `None` if it was not read then."""
    frequency_most_hz: float | None = None


def conditions_between(session: Session, begin_us: int, end_us: int) -> Conditions:
    """The conditions of a test from `begin_us` to `end_us`, both since the session began."""
    looked_us = max(end_us, begin_us + LEAST_LOOK_US)
    limit = limit_between(session, begin_us, looked_us).name
    disturbances: list[str] = [limit] if limit in DISTURBING else []
    if any(event.kind == "suspended" and begin_us <= event.t_us <= end_us for event in session.events):
        disturbances.append("suspended")
    battery_w = _latest(session, BATTERY_POWER, looked_us)
    if battery_w is not None and battery_w > 0:
        disturbances.append("on battery")
    clocks_hz = [value for value in session.window(FREQUENCY, begin_us, end_us)[1] if value > 0]
    return Conditions(
        disturbances=tuple(disturbances),
        temperature_begin_c=_hottest_c(session, begin_us),
        temperature_end_c=_hottest_c(session, end_us),
        frequency_least_hz=min(clocks_hz, default=None),
        frequency_most_hz=max(clocks_hz, default=None),
    )


def flags_of(conditions: Iterable[Conditions]) -> tuple[str, ...]:
    """What disturbed how many of several repetitions, in words."""
    of_all = list(conditions)
    kinds = dict.fromkeys(kind for each in of_all for kind in each.disturbances)
    flags = [f"{kind} in {sum(kind in each.disturbances for each in of_all)} of {len(of_all)}" for kind in kinds]
    least_hz = min((each.frequency_least_hz for each in of_all if each.frequency_least_hz is not None), default=0.0)
    most_hz = max((each.frequency_most_hz for each in of_all if each.frequency_most_hz is not None), default=0.0)
    if least_hz < (1 - FREQUENCY_SPREAD) * most_hz:
        flags.append(f"clock from {least_hz / HZ_PER_GHZ:.2f} to {most_hz / HZ_PER_GHZ:.2f} GHz")
    return tuple(flags)


def happenings_of(session: Session) -> list[str]:
    """What happened in a run that a reader of its figures must know, each in one sentence."""
    return [event.text for event in session.events if event.kind in NOTABLE_EVENTS]


def _hottest_c(session: Session, t_us: int) -> float | None:
    names = [name for name in session.channels() if name.startswith(TEMPERATURE_PREFIX)]
    return max((value for name in names if (value := _latest(session, name, t_us)) is not None), default=None)


def _latest(session: Session, channel: str, t_us: int) -> float | None:
    """The last reading before a moment; `None` if it is missing or old."""
    _, values = session.window(channel, t_us - STALE_US, t_us)
    return values[-1] if values and not isnan(values[-1]) else None
