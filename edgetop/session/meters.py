"""Headline of a session; idle spans and readings fed to estimators."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from copy import copy
from math import isnan
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.energy import windows
from edgetop.core.energy.baselines import IdlePower
from edgetop.core.energy.scopes import Headline, headline_over_hosts, lost_host
from edgetop.core.energy.windows import ChannelEstimator, TurnSpan, TurnWindows, Window
from edgetop.core.records import Event
from edgetop.core.sources import CLOCK_PREFIX, HOST_PREFIX, Meter, Unavailable, meter_of
from edgetop.session.session import Session
from edgetop.session.turn import Turn

SWITCHED_OFF = Unavailable("power was switched off with --power none")


def meters_of(session: Session) -> list[Meter]:
    """The channels of the session that meter power or energy."""
    return [
        meter
        for series in session.series.values()
        for column in series.columns
        if (meter := meter_of(series.info, column.channel)) is not None
    ]


def headline_of(session: Session, meters: Sequence[Meter]) -> Headline | Unavailable:
    """The meters that stand for the device, as the person chose or by their scope; or the best reason for none."""
    chosen = session.header.power if session.header is not None else None
    if chosen == "none":
        return SWITCHED_OFF
    hosts = {
        name.removeprefix(HOST_PREFIX): missing
        for name, missing in session.absent.items()
        if name.startswith(HOST_PREFIX)
    }
    found = headline_over_hosts(meters, chosen, hosts)
    if isinstance(found, Unavailable) and chosen is None and not hosts and not any(meter.host for meter in meters):
        return best_reason(session.absent) or found
    return found


def cross_check_of(meters: Sequence[Meter], chosen: Sequence[Meter]) -> Meter | None:
    """Another view of the one headline meter: the power readings beside a board's counter."""
    if len(chosen) != 1:
        return None
    (main,) = chosen
    for meter in meters:
        if meter.source == main.source and meter.scope == main.scope and meter.kind != main.kind:
            return meter
    return None


def best_reason(absent: Mapping[str, Unavailable]) -> Unavailable | None:
    """Of all reasons why power is not known the one a person can do most about: a sensor that only lacks permission."""
    for name, missing in absent.items():
        if name.startswith("power.") and "sudo" in missing.hint:
            return missing
    return absent.get("power")


LOADED, UNLOADED = "loaded", "unloaded"

UNLOADING_EVENTS = frozenset({"model_loading", "load_failed", "engine_died"})


class Moment(Struct, frozen=True):
    """The device became quiet or busy, or it slept."""

    t_us: int
    what: Literal["quiet", "busy", "suspended"]


class ActivityLog:
    """The moments of a session, kept up as it grows.

    The device is quiet while a model is loaded and no turn runs. A turn that ended because the engine died leaves no
    model behind, whichever of the two was noted first.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._begin()

    def _begin(self) -> None:
        self._found: list[Moment] = []
        self._loads, self._turns, self._events = 0, 0, 0
        self._unfinished: list[Turn] = []
        self._last_event: Event | None = None
        self._last_us: int | None = None
        self._loaded = self._running = self._quiet = False

    def all(self) -> list[Moment]:
        """All of them, in order of time. The list grows; it is another one once a record came late."""
        if self._last_event is not None and self._session.events[self._events - 1] is not self._last_event:
            self._begin()  # one was put before it
        happenings = self._new_happenings()
        if happenings and self._last_us is not None and happenings[0][0] <= self._last_us:
            self._begin()
            happenings = self._new_happenings()
        for t_us, what in happenings:
            self._take(t_us, what)
        return self._found

    def _new_happenings(self) -> list[tuple[int, str]]:
        """What has happened since, in order of time."""
        session = self._session
        happenings: list[tuple[int, str]] = [(load.t_us, LOADED) for load in session.loads[self._loads :]]
        turns = [(turn, False) for turn in self._unfinished]
        turns += [(turn, True) for turn in session.turns[self._turns :]]
        for turn, is_new in turns:
            if is_new:
                happenings.append((turn.started.t_us, "started"))
            if turn.finished is not None:
                happenings.append((turn.finished.t_us, "finished"))
        for event in session.events[self._events :]:
            if event.kind in UNLOADING_EVENTS:
                happenings.append((event.t_us, UNLOADED))
            elif event.kind == "suspended":
                happenings.append((event.t_us, "suspended"))
        self._loads, self._turns, self._events = len(session.loads), len(session.turns), len(session.events)
        self._last_event = session.events[-1] if session.events else None
        self._unfinished = [turn for turn, _ in turns if turn.finished is None]
        # Of one stamp, the order above stays: a turn begins before it ends, and ends before the next one begins.
        happenings.sort(key=lambda happening: happening[0])
        return happenings

    def _take(self, t_us: int, what: str) -> None:
        self._last_us = t_us
        match what:
            case "suspended":
                self._found.append(Moment(t_us, "suspended"))
            case "started" | "finished":
                self._running = what == "started"
            case _:
                self._loaded = what == LOADED
        if self._quiet != (self._loaded and not self._running):
            self._quiet = not self._quiet
            self._found.append(Moment(t_us, "quiet" if self._quiet else "busy"))


NOT_READ_YET = Unavailable("the first readings have not come yet")

STANDS_STILL = Unavailable("the energy counter stands still", "choose another meter with --power")

SEE_DOCTOR = "see edgetop doctor for the sensor's state"

POWER_OVER_S = 0.5
"""Power now is a mean over at least this long: the readings of quick sensors flicker."""


class ChannelFeed:
    """One channel of the session, and how far its estimator has been fed."""

    def __init__(self, session: Session, meter: Meter) -> None:
        found = session.find_channel(meter.name)
        assert found is not None  # noqa: S101 - meters are made of the session's own channels
        self._series, self._column = found
        clock = session.find_channel(f"{CLOCK_PREFIX}{meter.host}") if meter.host else None
        self._clock = None if clock is None or clock[0] is not self._series else clock[1]
        self.estimator = ChannelEstimator(meter)
        self.readings_fed = 0
        self._sleeps_us: list[int] = []

    def mark(self) -> ChannelFeed:
        """The feed as it is now, which is only good for `resumed`."""
        return self._with(self.estimator.mark())

    def resumed(self) -> ChannelFeed:
        """From a mark, a feed that goes on from there."""
        return self._with(self.estimator.resumed())

    def separate(self) -> None:
        """Share no list that changes with the feed that this is a copy of."""
        self._sleeps_us = self._sleeps_us.copy()

    def _with(self, estimator: ChannelEstimator) -> ChannelFeed:
        other = copy(self)
        other.estimator = estimator
        other.separate()
        return other

    def note(self, moment: Moment, temperature_c: float | None) -> None:
        """Take note of a moment; moments come in order, but may come before readings that were taken earlier.

        How warm this machine is says nothing of another one.
        """
        if self.estimator.meter.host:
            temperature_c = None
        match moment.what:
            case "quiet":
                self.estimator.quiet_from(moment.t_us, temperature_c)
            case "busy":
                self.estimator.busy_from(moment.t_us)
            case "suspended":
                self._sleeps_us.append(moment.t_us)

    def advance(self, until_us: int) -> None:
        """Feed the readings up to `until_us`."""
        stamps, values = self._series.t_us, self._series.columns[self._column].values
        end = bisect_right(stamps, until_us)
        for index in range(self.readings_fed, end):
            while self._sleeps_us and self._sleeps_us[0] <= stamps[index]:
                del self._sleeps_us[0]
                self.estimator.suspended()
            value = values[index]
            self.estimator.read(stamps[index], None if isnan(value) else value)
        self.readings_fed = end

    def turn(self, span: TurnSpan, temperature_c: float | None) -> TurnWindows | Unavailable:
        """The energy of a turn; of another machine's with what its clock makes of it, or why by its name."""
        host = self.estimator.meter.host
        found = self.estimator.turn(span, None if host else temperature_c)
        if not host:
            return found
        if isinstance(found, Unavailable):
            return lost_host(host, found)
        return found.with_clock(self._clock_error_s(span.submitted_us, span.last_us))

    def measured(self, start_us: int, end_us: int, idle: IdlePower | Unavailable) -> Window | Unavailable:
        """The energy of one span, with the idle power that is to be taken off."""
        host = self.estimator.meter.host
        found = windows.measure(self.estimator.curve, start_us, end_us, idle)
        if not host:
            return found
        if isinstance(found, Unavailable):
            return lost_host(host, found)
        return windows.with_clock(found, self._clock_error_s(start_us, end_us))

    def latest(self, until_us: int) -> tuple[float, int] | Unavailable:
        """Mean power in W over the last stretch that the sensor can tell, and when that ended; or why there is none."""
        curve = self.estimator.curve
        if curve.first_us is None or curve.last_us is None or not curve.reaches(until_us):
            return self._lost()
        span_us = round(max(curve.update_s, curve.window_s, POWER_OVER_S) * 1e6)
        begin_us = max(curve.first_us, curve.last_us - span_us)
        if begin_us == curve.last_us:
            return NOT_READ_YET
        return curve.mean_w(begin_us, curve.last_us), curve.last_us

    def _clock_error_s(self, start_us: int, end_us: int) -> float:
        """Half-width of the error of the stamps about the ends of a window; the mean of the two."""
        if self._clock is None:
            return 0.0
        return (self._clock_error_at(self._clock, start_us) + self._clock_error_at(self._clock, end_us)) / 2

    def _clock_error_at(self, column: int, t_us: int) -> float:
        values = self._series.columns[column].values
        for index in range(bisect_right(self._series.t_us, t_us) - 1, -1, -1):
            if not isnan(values[index]):
                return values[index]
        return next((value for value in values if not isnan(value)), 0.0)

    def _lost(self) -> Unavailable:
        """Why there is no power now, in the sensor's own words if it had any; of another machine, with its name."""
        host = self.estimator.meter.host
        missing = self._why_lost()
        return lost_host(host, replace(missing, hint="")) if host else missing

    def _why_lost(self) -> Unavailable:
        curve = self.estimator.curve
        value = self._series.columns[self._column].at(self.readings_fed - 1) if self.readings_fed else NOT_READ_YET
        if isinstance(value, Unavailable):
            return value if value is NOT_READ_YET else Unavailable(value.reason, SEE_DOCTOR)
        if curve.meter.kind == "energy":
            return STANDS_STILL
        return Unavailable("the sensor does not answer", SEE_DOCTOR)
