"""`edgetop calibrate`: fit a power sensor of this machine to an outside meter, by two loads or more."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import datetime, timezone

from edgetop.commands.calibration_dialogue import measure_points
from edgetop.commands.console import clear_progress, say, show_progress, write_data
from edgetop.commands.conversing import power_choice
from edgetop.commands.diagnosis import find_sensors
from edgetop.commands.listing import table, write_json
from edgetop.core.energy.scope import Headline
from edgetop.core.errors import EdgetopError, UsageError
from edgetop.core.format import format_significant
from edgetop.live.sensor_watch import SensorWatch
from edgetop.settings import options
from edgetop.settings.option import real
from edgetop.settings.resolve import Settings
from edgetop.telemetry.calibrated_source import Calibratable, calibratable
from edgetop.telemetry.calibration import (
    Calibration,
    CalibrationError,
    Line,
    Point,
    default_file,
    device_key,
    fit,
    load_all,
    remove,
    save,
)
from edgetop.telemetry.registry import Inventory
from edgetop.telemetry.source import Host

POINT = "SENSOR_W:METER_W"
SECONDS_MOST = 3600
PERCENT_MOST = 50


def execute(arguments: argparse.Namespace, settings: Settings) -> int:
    """Show or remove calibrations, or make one of the points that are given or asked for."""
    device = device_key(Host(sysroot=settings[options.SYSROOT]))
    try:
        if arguments.show:
            return _show(device, as_json=arguments.json)
        if arguments.remove:
            return _remove(device, power_choice(settings).headline)
        return _calibrate(arguments, settings, device)
    except CalibrationError as error:
        raise EdgetopError(error.reason, error.mend) from None


def parse_point(text: str) -> Point:
    """One load: what the sensor and the meter showed. Raises UsageError."""
    try:
        sensor_w, meter_w = (float(part) for part in text.split(":"))
    except ValueError:
        raise UsageError(f"--point: {text!r} cannot be used", f"expected is {POINT}, such as 5.2:6.1") from None
    return Point(sensor_w=sensor_w, meter_w=meter_w)


def choose(inventory: Inventory, watch: SensorWatch, chosen: str | None) -> Calibratable:
    """The total that is to be calibrated: of the source named, or of the one that sessions go by.

    Raises EdgetopError when there is none, or when it is a counter or a sum of several sources.
    """
    totals = [total for source in inventory.sources if (total := calibratable(source.info)) is not None]
    names = ", ".join(total.info.name for total in totals)
    mend = f"choose another source with --power: {names}" if names else "no source of this machine can be calibrated"
    headline = watch.headline
    if not isinstance(headline, Headline):
        raise EdgetopError(headline.reason, headline.mend)
    for total in totals:
        if [total.channel.name] == [meter.name for meter in headline.meters]:
            return total
    meters = " + ".join(meter.name for meter in headline.meters)
    if any(meter.kind == "energy" for meter in headline.meters):
        raise EdgetopError(f"{meters} counts joules, and only readings in watts are calibrated", mend)
    what = "is one of several rails" if chosen is not None else "is not one reading of one source"
    raise EdgetopError(f"{meters} {what}, and only the total of a source is calibrated", mend)


def _calibrate(arguments: argparse.Namespace, settings: Settings, device: str) -> int:
    points = [parse_point(text) for text in arguments.points]
    seconds = _number("--seconds", arguments.seconds, 0.1, SECONDS_MOST)
    meter_gain = _number("--meter-gain", arguments.meter_gain, 0, PERCENT_MOST) / 100
    if not points and not _is_terminal():
        raise UsageError("without a terminal nobody can be asked for the meter's readings",
                         f"give them: --point {POINT}, twice or more")  # fmt: skip
    if not device:
        raise EdgetopError(
            "this machine has neither a serial number nor a machine id, so a calibration could not be found again",
            "make an id: sudo systemd-machine-id-setup",
        )
    choice = power_choice(settings)
    show_progress("looking for sensors")
    inventory = find_sensors(settings[options.SYSROOT], choice)
    clear_progress()
    watch = SensorWatch(inventory, choice.headline)
    try:
        total = choose(inventory, watch, choice.headline)
        if not points:
            points = measure_points(watch, total, seconds)
            flags = " ".join(f"--point {point.sensor_w:.4g}:{point.meter_w:.4g}" for point in points)
            say(f"The same without the questions: edgetop calibrate {flags}")
    finally:
        watch.close()
    own = Calibration(
        device=device,
        source=total.info.name,
        line=fit(points, meter_gain=meter_gain),
        points=tuple(points),
        meter=arguments.meter_name,
        made_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
    file = default_file()
    save(file, own)
    if arguments.json:
        write_json(own)
    else:
        _print(own, meter_gain)
    say(f"saved in {file}; from now on {own.source} of this machine is corrected with it")
    return 0


def _show(device: str, *, as_json: bool) -> int:
    here = [each for each in load_all(default_file()) if each.device == device]
    if as_json:
        write_json(here)
    elif not here:
        say("no source of this machine has been calibrated; `edgetop calibrate` does it")
    for each in [] if as_json else here:
        _print(each)
    return 0


def _remove(device: str, source: str | None) -> int:
    here = [each for each in load_all(default_file()) if each.device == device]
    found = [each for each in here if source in {None, each.source}]
    names = ", ".join(each.source for each in here)
    if not found:
        what = f"{source} of this machine" if source is not None else "no source of this machine"
        raise EdgetopError(
            f"{what} has {'no calibration' if source is not None else 'a calibration'}",
            f"calibrated are {names}" if names else "there is nothing to remove",
        )
    if len(found) > 1:
        raise UsageError(f"several sources are calibrated: {names}", "say which one with --power NAME")
    remove(default_file(), found[0])
    say(f"the calibration of {found[0].source} is removed; it is read as its sensor says again")
    return 0


def _print(own: Calibration, meter_gain: float | None = None) -> None:
    line = own.line
    sign = "-" if line.intercept_w < 0 else "+"
    rows = [
        ["source", own.source],
        ["meter", f"{own.meter or 'not named'}, {own.made_at}"],
        ["line", f"meter = {line.slope:.4f} x sensor {sign} {abs(line.intercept_w):.3f} W"],
        *(["point", _point_text(point, line)] for point in own.points),
        ["residual", _residual_text(own.points, line)],
        ["scale", f"±{line.gain * 100:.2g} %{_gain_words(own, meter_gain)}"],
    ]
    write_data(table(rows))


def _point_text(point: Point, line: Line) -> str:
    off_w = line.corrected_w(point.sensor_w) - point.meter_w
    return (
        f"sensor {format_significant(point.sensor_w)} W, meter {format_significant(point.meter_w)} W, "
        f"line {format_significant(line.corrected_w(point.sensor_w))} W ({off_w:+.3f} W)"
    )


def _residual_text(points: Sequence[Point], line: Line) -> str:
    if len(points) < 3:
        return "none: two points lie on any line, and a third one would check it"
    squares = sum((line.corrected_w(point.sensor_w) - point.meter_w) ** 2 for point in points)
    return f"{(squares / (len(points) - 2)) ** 0.5:.3f} W"


def _gain_words(own: Calibration, meter_gain: float | None) -> str:
    if meter_gain is None:
        return ""
    beside = own.line.gain - meter_gain
    return (
        f": {meter_gain * 100:.2g} % of the meter and {beside * 100:.2g} % for what {len(own.points)} points leave open"
    )


def _number(flag: str, text: str, low: float, high: float) -> float:
    try:
        return real(low, high)(text)
    except ValueError as error:
        raise UsageError(f"{flag}: {text!r} cannot be used", f"expected is {error}") from None


def _is_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()
