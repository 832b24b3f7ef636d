"""Calibrations: a sensor's reading as a straight line of what an outside meter shows.

A sensor that does not see all loads, such as the Raspberry Pi 5's, is compared with a meter in the supply line at two
loads or more, idle and busy. What comes out, `meter = slope * sensor + intercept`, holds for that device and that
sensor and is kept in the user's configuration folder.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec
import platformdirs
from msgspec import Struct

from edgetop.telemetry.source import Host

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


class Line(Struct, frozen=True, kw_only=True):
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
    line: Line
    points: tuple[Point, ...]
    meter: str = ""
    """The outside meter, in the user's words or as its source is named."""
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


class CalibrationError(Exception):
    """Points that no line can be trusted through, or a file that cannot be read or written."""

    def __init__(self, reason: str, mend: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.mend = mend


def fit(points: Sequence[Point], *, meter_gain: float) -> Line:
    """The least-squares line through `points`.

    `meter_gain` is the relative half-width of the outside meter. The line's own adds to it what the points say of the
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
    return Line(slope=slope, intercept_w=intercept_w, gain=meter_gain + deviation)


def device_key(host: Host) -> str:
    """What tells this machine from others: the board's serial number, else the system's machine id, else nothing."""
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
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise CalibrationError(f"{file}: {error.strerror}", f"make {file} readable") from error
    try:
        return msgspec.json.decode(content, type=_CalibrationFile).calibrations
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CalibrationError(f"{file}: {error}", f"delete {file} and calibrate again: edgetop calibrate") from error


def load(file: Path, *, device: str, source: str) -> Calibration | None:
    """The calibration of `source` on `device`, if there is one.

    Raises CalibrationError as `load_all` does.
    """
    return find(load_all(file), device=device, source=source)


def find(calibrations: Sequence[Calibration], *, device: str, source: str) -> Calibration | None:
    """The calibration of `source` on `device`, if there is one; none on a device that nothing tells from others."""
    for calibration in calibrations:
        if device and calibration.device == device and calibration.source == source:
            return calibration
    return None


def save(file: Path, calibration: Calibration) -> None:
    """Write `calibration` to `file`, in place of an earlier one of the same device and source.

    Raises CalibrationError when the file cannot be written, or holds something that is not ours.
    """
    _write(file, (*_others(file, calibration), calibration))


def remove(file: Path, calibration: Calibration) -> None:
    """Take the calibration of that device and source out of `file`.

    Raises CalibrationError as `save` does.
    """
    _write(file, _others(file, calibration))


def _others(file: Path, calibration: Calibration) -> tuple[Calibration, ...]:
    this = (calibration.device, calibration.source)
    return tuple(other for other in load_all(file) if (other.device, other.source) != this)


def _write(file: Path, calibrations: tuple[Calibration, ...]) -> None:
    content = msgspec.json.encode(_CalibrationFile(calibrations=calibrations))
    unfinished = file.with_suffix(".tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_bytes(msgspec.json.format(content, indent=2) + b"\n")
        unfinished.replace(file)
    except OSError as error:
        raise CalibrationError(f"{file}: {error.strerror}", f"make {file.parent} writable") from error
