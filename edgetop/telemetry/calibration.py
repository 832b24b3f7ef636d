"""The user's two-point calibrations, fitted, kept and applied.

A sensor that does not see all loads, such as the Raspberry Pi 5's, is compared with a meter in the supply line at two
loads or more, idle and busy. What comes out, `meter = slope * sensor + intercept`, holds for that device and that
sensor and is kept in the user's configuration folder.

Corrected is the channel in W that is all of its source; its parts stay as they were measured. A counter in J is not
corrected: a line has an intercept in watts, which a counter's steps cannot carry without a clock. A source that says
`calibration_slope` of itself, such as the Raspberry Pi's, applies its calibration on its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import platformdirs
from msgspec import Struct
from msgspec.structs import replace

from edgetop.core.errors import EdgetopError
from edgetop.core.sources import (
    Channel,
    PowerProperties,
    SourceInfo,
    Unavailable,
    of_channel,
    of_source,
    with_properties,
)
from edgetop.io.json import load_kept, save_kept
from edgetop.telemetry.host import Host
from edgetop.telemetry.source import Source, Stamped, StampedSource, Values

FILE_NAME = "calibration.json"

LINEARITY = 0.05
"""Half-width for the deviation from a straight line while fewer than four points tell little of it. By judgement."""

_ENOUGH_POINTS = 4
_SPREAD = 0.2
"""The points' sensor readings must span this share of the largest one, or the slope is noise."""

_SLOPES = (0.5, 2.0)
"""A sensor further off than this is not miscalibrated: it measures something else. Judgement."""


class Point(Struct, frozen=True, kw_only=True):
    """What sensor and meter showed at the same time, each a mean over one steady load."""

    sensor_w: float
    meter_w: float


class CalibrationLine(Struct, frozen=True, kw_only=True):
    """`meter = slope * sensor + intercept_w`, and how far it can be trusted."""

    slope: float
    intercept_w: float
    gain: float
    """Relative half-width of what the line gives."""

    def corrected_w(self, sensor_w: float) -> float:
        """What the meter would show, in watts, when the sensor shows `sensor_w`."""
        return self.slope * sensor_w + self.intercept_w


class Calibration(Struct, frozen=True, kw_only=True):
    """A user's own fit of one sensor of one device."""

    device: str
    """`device_key` of the machine."""
    source: str
    """Name of the source, such as `power.pi`."""
    line: CalibrationLine
    points: tuple[Point, ...]
    meter: str = ""
    """The external meter, in the user's words or as its source is named."""
    made_at: str = ""
    """Wall clock, ISO 8601 in UTC."""

    @property
    def title(self) -> str:
        """What a channel says that its readings were corrected with."""
        return f"own {self.meter or 'meter'} {self.made_at}".strip()


class _CalibrationFile(Struct, frozen=True, kw_only=True):
    format: Literal["edgetop-calibration"] = "edgetop-calibration"
    version: Literal[1] = 1
    calibrations: tuple[Calibration, ...] = ()


class CalibrationError(EdgetopError):
    """Points that no line can be trusted through, or a file that cannot be read or written."""


def fit(points: Sequence[Point], *, meter_gain: float) -> CalibrationLine:
    """The least-squares line through `points`.

    `meter_gain` is the relative half-width of the external meter. The line's own adds to it what the points say of the
    deviation from a line: the half-width of a uniform distribution as wide as their scatter, sqrt(3) * s, with
    s^2 = sum of squared residuals / (n - 2), relative to the mean of the meter's readings; but while there are fewer
    than four points not less than `LINEARITY`.

    Raises CalibrationError when there are fewer than two points, when they lie too close together, or when the line is
    not one that a sensor of this supply could have.
    """
    if len(points) < 2:
        raise CalibrationError("one point does not make a line", "measure once idle and once under load")
    for point in points:
        if not all(math.isfinite(w) and w > 0 for w in (point.sensor_w, point.meter_w)):
            raise CalibrationError(
                f"sensor {point.sensor_w:g} W beside meter {point.meter_w:g} W is no reading",
                "measure that point again",
            )
    n = len(points)
    sensors = [point.sensor_w for point in points]
    meters = [point.meter_w for point in points]
    if max(sensors) - min(sensors) < _SPREAD * max(sensors):
        raise CalibrationError(
            f"the points lie too close together: {min(sensors):.2f} to {max(sensors):.2f} W",
            "measure once idle and once with all cores busy",
        )
    mean_sensor, mean_meter = math.fsum(sensors) / n, math.fsum(meters) / n
    covariance = math.fsum((x - mean_sensor) * (y - mean_meter) for x, y in zip(sensors, meters, strict=True))
    slope = covariance / math.fsum((x - mean_sensor) ** 2 for x in sensors)
    intercept_w = mean_meter - slope * mean_sensor
    if not _SLOPES[0] <= slope <= _SLOPES[1]:
        raise CalibrationError(
            f"the meter changes by {slope:.2f} W for every watt of the sensor",
            "check that the meter supplies this device and nothing else",
        )
    squares = math.fsum((y - slope * x - intercept_w) ** 2 for x, y in zip(sensors, meters, strict=True))
    scatter = math.sqrt(3 * squares / (n - 2)) / mean_meter if n > 2 else 0.0
    deviation = scatter if n >= _ENOUGH_POINTS else max(scatter, LINEARITY)
    return CalibrationLine(slope=slope, intercept_w=intercept_w, gain=meter_gain + deviation)


def device_key(host: Host) -> str:
    """What identifies this machine: the board's serial number, else the system's machine id, else nothing."""
    for file in ("/proc/device-tree/serial-number", "/etc/machine-id"):
        try:
            text = host.path(file).read_text("ascii", "replace").strip("\0 \n")
        except OSError:
            continue
        if text.isalnum():
            return text
    return ""


def default_file() -> Path:
    """Where the user's calibrations are kept."""
    return platformdirs.user_config_path("edgetop") / FILE_NAME


def load_all(file: Path) -> tuple[Calibration, ...]:
    """All calibrations in `file`; none when there is no such file.

    Raises CalibrationError when it cannot be read or is not one of ours.
    """
    kept = load_kept(file, _CalibrationFile, CalibrationError, f"delete {file} and calibrate again: edgetop calibrate")
    return () if kept is None else kept.calibrations


def load(file: Path, *, device: str, source: str) -> Calibration | None:
    """The calibration of `source` on `device`, if there is one.

    Raises CalibrationError as `load_all` does.
    """
    return find(load_all(file), device=device, source=source)


def find(calibrations: Sequence[Calibration], *, device: str, source: str) -> Calibration | None:
    """The calibration of `source` on `device`, if there is one; none on a device that cannot be identified."""
    for calibration in calibrations:
        if device and calibration.device == device and calibration.source == source:
            return calibration
    return None


def save(file: Path, calibration: Calibration) -> None:
    """Write `calibration` to `file`, in place of an earlier one of the same device and source.

    Raises CalibrationError when the file cannot be written, or holds something that is not ours.
    """
    others = _others(file, calibration)
    save_kept(file, _CalibrationFile(calibrations=(*others, calibration)), CalibrationError)


def remove(file: Path, calibration: Calibration) -> None:
    """Take the calibration of that device and source out of `file`.

    Raises CalibrationError as `save` does.
    """
    save_kept(file, _CalibrationFile(calibrations=_others(file, calibration)), CalibrationError)


def _others(file: Path, calibration: Calibration) -> tuple[Calibration, ...]:
    this = (calibration.device, calibration.source)
    return tuple(other for other in load_all(file) if (other.device, other.source) != this)


AS_READ = CalibrationLine(slope=1.0, intercept_w=0.0, gain=0.0)


class CalibrationTarget(Struct, frozen=True, kw_only=True):
    """What a calibration is fitted on: the total of a source."""

    info: SourceInfo
    channel: Channel

    @property
    def line(self) -> CalibrationLine:
        """What the source makes of its sensor now; `AS_READ` for one that shows what it reads."""
        applied = of_source(self.info)
        if not applied.calibration_slope or applied.calibration_intercept_w is None:
            return AS_READ
        return CalibrationLine(
            slope=applied.calibration_slope,
            intercept_w=applied.calibration_intercept_w,
            gain=of_channel(self.info, self.channel.name).gain or 0.0,
        )

    def sensor_w(self, shown_w: float) -> float:
        """What the sensor itself reads, in watts, when the channel shows `shown_w`."""
        return (shown_w - self.line.intercept_w) / self.line.slope


def calibratable(info: SourceInfo) -> CalibrationTarget | None:
    """The total in W that a calibration of this source corrects.

    `None` for gauges, for counters, for rails without a total, for what is a part of a sum over several sources, and
    for another machine's, which is calibrated there.
    """
    if info.kind != "power" or of_source(info).host:
        return None
    for channel in info.channels:
        known = of_channel(info, channel.name)
        if channel.unit == "W" and known.total and not known.adds_up_as:
            return CalibrationTarget(info=info, channel=channel)
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
            self._trouble = f"{error.what}; {error.hint}"

    def applied_to(self, source: Source) -> Source:
        """The source with its total corrected; the source itself where there is nothing to correct or to tell."""
        total = calibratable(source.info)
        if total is None or of_source(source.info).calibration_slope is not None:
            return source
        own = find(self._calibrations, device=self._device, source=source.info.name)
        if own is not None:
            return _calibrated(source, total, own.line, _corrected_info(total, own))
        if self._trouble:
            noted = replace(of_source(source.info), calibration_note=self._trouble)
            info = with_properties(source.info, _known(source.info), noted)
            return _calibrated(source, total, AS_READ, info)
        return source


class CalibratedSource:
    """A source whose total is corrected by a straight line."""

    def __init__(self, source: Source, total: CalibrationTarget, line: CalibrationLine, info: SourceInfo) -> None:
        self.info = info
        self.blocking = source.blocking
        self._source = source
        self._place = source.info.channels.index(total.channel)
        self._line = line

    def read(self) -> Values:
        """Read the source, its total corrected. Raises SourceLost as it does."""
        return self.corrected(self._source.read())

    def close(self) -> None:
        """Close the source."""
        self._source.close()

    def corrected(self, values: Values) -> Values:
        """The values of all channels, the total corrected."""
        value = values[self._place]
        if isinstance(value, Unavailable):
            return values
        return (*values[: self._place], self._line.corrected_w(value), *values[self._place + 1 :])


class CalibratedStream(CalibratedSource):
    """The same of a source whose readings have times of their own."""

    def __init__(
        self, source: StampedSource, total: CalibrationTarget, line: CalibrationLine, info: SourceInfo
    ) -> None:
        super().__init__(source, total, line, info)
        self._stream = source

    def read_stamped(self) -> Sequence[Stamped]:
        """See StampedSource. Raises SourceLost as the source does."""
        return [Stamped(each.t_us, self.corrected(each.values)) for each in self._stream.read_stamped()]


def _calibrated(source: Source, total: CalibrationTarget, line: CalibrationLine, info: SourceInfo) -> Source:
    if isinstance(source, StampedSource):
        return CalibratedStream(source, total, line, info)
    return CalibratedSource(source, total, line, info)


def _corrected_info(total: CalibrationTarget, own: Calibration) -> SourceInfo:
    info, line, name = total.info, own.line, total.channel.name
    known = _known(info)
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
    applied = replace(of_source(info), calibration_slope=line.slope, calibration_intercept_w=line.intercept_w)
    return with_properties(info, known, applied)


def _known(info: SourceInfo) -> dict[str, PowerProperties]:
    return {channel.name: of_channel(info, channel.name) for channel in info.channels}
