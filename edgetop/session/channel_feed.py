"""From the readings of one channel in a session to its estimator."""

from __future__ import annotations

from bisect import bisect_right
from copy import copy
from math import isnan

from msgspec.structs import replace

from edgetop.core.energy import window
from edgetop.core.energy.baseline import IdlePower
from edgetop.core.energy.estimate import ChannelEstimator, TurnSpan, TurnWindows
from edgetop.core.energy.hosts import lost_host
from edgetop.core.energy.meter import Meter
from edgetop.core.energy.window import Window
from edgetop.core.records import Missing
from edgetop.session.channels import CLOCK_PREFIX
from edgetop.session.quiet import Moment
from edgetop.session.session import Session

NOT_READ_YET = Missing("the first readings have not come yet")
STANDS_STILL = Missing("the energy counter stands still", "choose another meter with --power")
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

    def turn(self, span: TurnSpan, temperature_c: float | None) -> TurnWindows | Missing:
        """The energy of a turn; of another machine's with what its clock makes of it, or why by its name."""
        host = self.estimator.meter.host
        found = self.estimator.turn(span, None if host else temperature_c)
        if not host:
            return found
        if isinstance(found, Missing):
            return lost_host(host, found)
        return found.with_clock(self._clock_error_s(span.submitted_us, span.last_us))

    def measured(self, start_us: int, end_us: int, idle: IdlePower | Missing) -> Window | Missing:
        """The energy of one span, with the idle power that is to be taken off."""
        host = self.estimator.meter.host
        found = window.measure(self.estimator.curve, start_us, end_us, idle)
        if not host:
            return found
        if isinstance(found, Missing):
            return lost_host(host, found)
        return window.with_clock(found, self._clock_error_s(start_us, end_us))

    def latest(self, until_us: int) -> tuple[float, int] | Missing:
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

    def _lost(self) -> Missing:
        """Why there is no power now, in the sensor's own words if it had any; of another machine, with its name."""
        host = self.estimator.meter.host
        missing = self._why_lost()
        return lost_host(host, replace(missing, mend="")) if host else missing

    def _why_lost(self) -> Missing:
        curve = self.estimator.curve
        value = self._series.columns[self._column].at(self.readings_fed - 1) if self.readings_fed else NOT_READ_YET
        if isinstance(value, Missing):
            return value if value is NOT_READ_YET else Missing(value.reason, SEE_DOCTOR)
        if curve.meter.kind == "energy":
            return STANDS_STILL
        return Missing("the sensor does not answer", SEE_DOCTOR)
