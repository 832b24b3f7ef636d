"""From the readings of one channel in a session to its estimator."""

from __future__ import annotations

from bisect import bisect_right
from copy import copy
from math import isnan

from edgetop.core.energy.estimate import ChannelEstimator
from edgetop.core.energy.meter import Meter
from edgetop.core.records import Missing
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
        """Take note of a moment; moments come in order, but may come before readings that were taken earlier."""
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

    def _lost(self) -> Missing:
        """Why there is no power now, in the sensor's own words if it had any."""
        curve = self.estimator.curve
        value = self._series.columns[self._column].at(self.readings_fed - 1) if self.readings_fed else NOT_READ_YET
        if isinstance(value, Missing):
            return value if value is NOT_READ_YET else Missing(value.reason, SEE_DOCTOR)
        if curve.meter.kind == "energy":
            return STANDS_STILL
        return Missing("the sensor does not answer", SEE_DOCTOR)
