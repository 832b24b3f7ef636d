"""Verb calibrate."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from datetime import datetime, timezone

from edgetop.commands.inputs import power_choice
from edgetop.commands.output import clear_progress, print_status, show_progress, table, write_data, write_json
from edgetop.commands.power_findings import find_sensors, scope_text
from edgetop.core.energy.scopes import Headline
from edgetop.core.errors import EdgetopError, UsageError
from edgetop.core.format import format_significant
from edgetop.core.sources import Meter, Unavailable
from edgetop.live.energy_meter import MeanPower, SensorSession
from edgetop.session.meters import SEE_DOCTOR
from edgetop.settings import options
from edgetop.settings.option import parse_value
from edgetop.settings.resolve import Settings
from edgetop.telemetry.calibration import (
    Calibration,
    CalibrationLine,
    CalibrationTarget,
    Point,
    calibratable,
    default_file,
    device_key,
    fit,
    load_all,
    remove,
    save,
)
from edgetop.telemetry.host import Host
from edgetop.telemetry.registry import Inventory

UNSTEADY = 0.2
"""Readings that span more than this share of their mean were not taken at one load. Judgement."""

LOAD_EXAMPLE = 'edgetop run -n 500 -p "Tell a long story."'

Ask = Callable[[str], str]
"""Puts a question and returns the answer, stripped. Raises EdgetopError when there will be none."""


def measure_points(
    watch: SensorSession, total: CalibrationTarget, seconds: float, ask: Ask | None = None
) -> list[Point]:
    """Idle, under load, and at as many more loads as the person likes. Raises EdgetopError."""
    ask = ask or ask_terminal
    (meter,) = [each for each in watch.meters if each.name == total.channel.name]
    print_status(f"source: {total.info.name}, {total.channel.name} ({scope_text(meter.scope)}), {total.info.driver}")
    print_status("The meter must supply this device and nothing else.")
    print_status("")
    ask("1. Leave the device idle. Enter when it is: ")
    points = [_measure_point(watch, meter, total, seconds, ask)]
    print_status("")
    print_status(f"2. Start a load in another terminal and let it run, such as: {LOAD_EXAMPLE}")
    ask("Enter when it runs: ")
    points.append(_measure_point(watch, meter, total, seconds, ask))
    while ask("Another load, to check the line? y, or Enter to finish: ").lower() in {"y", "yes"}:
        ask("Enter when it runs: ")
        points.append(_measure_point(watch, meter, total, seconds, ask))
    return points


def ask_terminal(question: str) -> str:
    """Ask on stderr and read a line of stdin. Raises EdgetopError when it is closed."""
    clear_progress()
    sys.stderr.write(question)
    sys.stderr.flush()
    answer = sys.stdin.readline()
    if not answer:
        sys.stderr.write("\n")
        raise EdgetopError("the questions were not answered, so nothing is saved", "start again: edgetop calibrate")
    return answer.strip()


def _measure_point(watch: SensorSession, meter: Meter, total: CalibrationTarget, seconds: float, ask: Ask) -> Point:
    shown = _read(watch, meter, seconds)
    while isinstance(shown, Unavailable) or _is_unsteady(shown):
        if isinstance(shown, Unavailable):
            raise EdgetopError(f"{meter.name}: {shown.reason}", shown.hint or SEE_DOCTOR)
        print_status(
            f"The load was not steady: {format_significant(shown.least_w)} to {format_significant(shown.most_w)} W. "
            "The means of sensor and meter must be of the same seconds."
        )
        if ask("Read again? Enter, or k to keep it: ").lower() == "k":
            break
        shown = _read(watch, meter, seconds)
    sensor_w = total.sensor_w(shown.mean_w)
    print_status(f"The sensor read {format_significant(sensor_w, 4)} W, the mean of {shown.readings} readings.")
    return Point(sensor_w=sensor_w, meter_w=_meter_w(ask))


def _read(watch: SensorSession, meter: Meter, seconds: float) -> MeanPower | Unavailable:
    print_status(f"Reading for {seconds:g} s: look at the meter meanwhile.")
    span = watch.read_for(seconds, tick=lambda left_s: show_progress(f"{left_s:.0f} s left"))
    clear_progress()
    return watch.power(meter, span)


def _is_unsteady(shown: MeanPower) -> bool:
    return shown.most_w - shown.least_w > UNSTEADY * abs(shown.mean_w)


def _meter_w(ask: Ask) -> float:
    while True:
        text = ask("What did the meter show, in W, on average? ")
        try:
            meter_w = float(text.lower().removesuffix("w").strip().replace(",", "."))
        except ValueError:
            meter_w = 0.0
        if 0 < meter_w < float("inf"):
            return meter_w
        print_status(f"{text!r} is not a power in watts, such as 6.1.")


POINT = "SENSOR_W:METER_W"


def execute(arguments: argparse.Namespace, settings: Settings) -> int:
    """Show or remove calibrations, or make one of the points that are given or asked for."""
    device = device_key(Host(sysroot=settings[options.SYSROOT]))
    if arguments.show:
        return _show(device, as_json=arguments.json)
    if arguments.remove:
        return _remove(device, power_choice(settings).headline)
    return _calibrate(arguments, settings, device)


def parse_point(text: str) -> Point:
    """One load: what the sensor and the meter showed. Raises ValueError with what was expected."""
    try:
        sensor_w, meter_w = (float(part) for part in text.split(":"))
    except ValueError:
        raise ValueError(f"{POINT}, such as 5.2:6.1") from None
    return Point(sensor_w=sensor_w, meter_w=meter_w)


def choose(inventory: Inventory, watch: SensorSession, chosen: str | None) -> CalibrationTarget:
    """The total that is to be calibrated: of the source named, or of the one that sessions go by.

    Raises EdgetopError when there is none, or when it is a counter or a sum of several sources.
    """
    totals = [total for source in inventory.sources if (total := calibratable(source.info)) is not None]
    names = ", ".join(total.info.name for total in totals)
    hint = f"choose another source with --power: {names}" if names else "no source of this machine can be calibrated"
    headline = watch.headline
    if not isinstance(headline, Headline):
        raise EdgetopError(headline.reason, headline.hint or "choose a source with --power")
    for total in totals:
        if [total.channel.name] == [meter.name for meter in headline.meters]:
            return total
    meters = " + ".join(meter.name for meter in headline.meters)
    if any(meter.kind == "energy" for meter in headline.meters):
        raise EdgetopError(f"{meters} counts joules, and only readings in watts are calibrated", hint)
    what = "is one of several rails" if chosen is not None else "is not one reading of one source"
    raise EdgetopError(f"{meters} {what}, and only the total of a source is calibrated", hint)


def _calibrate(arguments: argparse.Namespace, settings: Settings, device: str) -> int:
    points = [parse_value("--point", text, parse_point) for text in arguments.points]
    meter_gain = arguments.meter_gain / 100
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
    watch = SensorSession(inventory, choice.headline)
    try:
        total = choose(inventory, watch, choice.headline)
        if not points:
            points = measure_points(watch, total, arguments.seconds)
            flags = " ".join(f"--point {point.sensor_w:.4g}:{point.meter_w:.4g}" for point in points)
            print_status(f"The same without the questions: edgetop calibrate {flags}")
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
    print_status(f"saved in {file}; from now on {own.source} of this machine is corrected with it")
    return 0


def _show(device: str, *, as_json: bool) -> int:
    here = [each for each in load_all(default_file()) if each.device == device]
    if as_json:
        write_json(here)
    elif not here:
        print_status("no source of this machine has been calibrated; `edgetop calibrate` does it")
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
    print_status(f"the calibration of {found[0].source} is removed; it is read as its sensor says again")
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


def _point_text(point: Point, line: CalibrationLine) -> str:
    off_w = line.corrected_w(point.sensor_w) - point.meter_w
    return (
        f"sensor {format_significant(point.sensor_w)} W, meter {format_significant(point.meter_w)} W, "
        f"line {format_significant(line.corrected_w(point.sensor_w))} W ({off_w:+.3f} W)"
    )


def _residual_text(points: Sequence[Point], line: CalibrationLine) -> str:
    if len(points) < 3:
        return "none: two points lie on any line, and a third one would check it"
    squares = sum((line.corrected_w(point.sensor_w) - point.meter_w) ** 2 for point in points)
    return f"{(squares / (len(points) - 2)) ** 0.5:.3f} W"


def _gain_words(own: Calibration, meter_gain: float | None) -> str:
    if meter_gain is None:
        return ""
    residual = own.line.gain - meter_gain
    return f": {meter_gain * 100:.2g} % of the meter and {residual * 100:.2g} % for {len(own.points)} points"


def _is_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()
