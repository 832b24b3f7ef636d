"""Sources that read what the user's own calibration makes of them.

Corrected is the channel in W that is all of its source; its parts stay as they were measured. A counter in J is not
corrected: a line has an intercept in watts, which a counter's steps cannot carry without a clock. A source that says
`calibration_slope` of itself, such as the Raspberry Pi's, applies its calibration on its own.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.records import Channel, Missing, SourceInfo
from edgetop.telemetry.calibration import Calibration, CalibrationError, Line, default_file, device_key, find, load_all
from edgetop.telemetry.power_properties import PowerProperties, of_channel, to_properties
from edgetop.telemetry.source import Host, Source, Values

SLOPE, INTERCEPT, NOTE = "calibration_slope", "calibration_intercept_w", "calibration_note"
"""Properties of a source: the line that it applies to its total, and why it does not apply the user's own."""
AS_READ = Line(slope=1.0, intercept_w=0.0, gain=0.0)
_FIELDS = frozenset(field.name for field in msgspec.structs.fields(PowerProperties))


class Calibratable(Struct, frozen=True, kw_only=True):
    """What a calibration is fitted on: the total of a source."""

    info: SourceInfo
    channel: Channel

    @property
    def line(self) -> Line:
        """What the source makes of its sensor now; `AS_READ` for one that shows what it reads."""
        slope, intercept_w = self.info.properties.get(SLOPE), self.info.properties.get(INTERCEPT)
        if not isinstance(slope, float) or not isinstance(intercept_w, float) or slope == 0:
            return AS_READ
        known = of_channel(self.info, self.channel.name)
        return Line(slope=slope, intercept_w=intercept_w, gain=known.gain or 0.0)

    def sensor_w(self, shown_w: float) -> float:
        """What the sensor itself reads, in watts, when the channel shows `shown_w`."""
        return (shown_w - self.line.intercept_w) / self.line.slope


def calibratable(info: SourceInfo) -> Calibratable | None:
    """The total in W that a calibration of this source corrects.

    `None` for gauges, for counters, for rails without a total, for what is a part of a sum over several sources, and
    for another machine's, which is calibrated there.
    """
    if info.kind != "power" or "host" in info.properties:
        return None
    for channel in info.channels:
        known = of_channel(info, channel.name)
        if channel.unit == "W" and known.total and not known.adds_up_as:
            return Calibratable(info=info, channel=channel)
    return None


class OwnCalibrations:
    """The user's calibrations of this machine."""

    def __init__(self, host: Host, file: Path | None = None) -> None:
        """Read them from `file`, by default the one in the user's configuration folder."""
        self._device = device_key(host)
        self._calibrations: tuple[Calibration, ...] = ()
        self._trouble = ""
        try:
            self._calibrations = load_all(file or default_file())
        except CalibrationError as error:
            self._trouble = f"{error.reason}; {error.mend}"

    def applied_to(self, source: Source) -> Source:
        """The source with its total corrected; the source itself where there is nothing to correct or to tell."""
        total = calibratable(source.info)
        if total is None or SLOPE in source.info.properties:
            return source
        own = find(self._calibrations, device=self._device, source=source.info.name)
        if own is not None:
            return CalibratedSource(source, total, own.line, _corrected_info(total, own))
        if self._trouble:
            info = replace(source.info, properties={**source.info.properties, NOTE: self._trouble})
            return CalibratedSource(source, total, AS_READ, info)
        return source


class CalibratedSource:
    """A source whose total is corrected by a straight line."""

    def __init__(self, source: Source, total: Calibratable, line: Line, info: SourceInfo) -> None:
        self.info = info
        self.blocking = source.blocking
        self._source = source
        self._place = source.info.channels.index(total.channel)
        self._line = line

    def read(self) -> Values:
        """Read the source, its total corrected. Raises SourceLost as it does."""
        values = list(self._source.read())
        value = values[self._place]
        if not isinstance(value, Missing):
            values[self._place] = self._line.corrected_w(value)
        return tuple(values)

    def close(self) -> None:
        """Close the source."""
        self._source.close()


def _corrected_info(total: Calibratable, own: Calibration) -> SourceInfo:
    info, line, name = total.info, own.line, total.channel.name
    known = {channel.name: of_channel(info, channel.name) for channel in info.channels}
    before = known[name]
    known[name] = replace(
        before,
        gain=line.gain,
        offset_w=0.0,  # the line's intercept takes it in
        lsb_w=None if before.lsb_w is None else before.lsb_w * line.slope,
        p_max_w=None if before.p_max_w is None else line.corrected_w(before.p_max_w),
        calibration=own.title,
        sum_of=(),  # corrected, it is the sum of its parts no more
    )
    others = {key: value for key, value in info.properties.items() if key.partition(".")[0] not in _FIELDS}
    return replace(
        info,
        properties={**others, **to_properties(known), SLOPE: line.slope, INTERCEPT: line.intercept_w},
    )
