"""The questions of `edgetop calibrate`: the sensor is read while the person looks at the meter."""

from __future__ import annotations

import sys
from collections.abc import Callable

from edgetop.commands.console import clear_progress, say, show_progress
from edgetop.commands.power_findings import scope_text
from edgetop.core.energy.meter import Meter
from edgetop.core.errors import EdgetopError
from edgetop.core.format import format_significant
from edgetop.core.records import Missing
from edgetop.live.sensor_watch import MeanPower, SensorWatch
from edgetop.session.channel_feed import SEE_DOCTOR
from edgetop.telemetry.calibrated_source import Calibratable
from edgetop.telemetry.calibration import Point

UNSTEADY = 0.2
"""Readings that span more than this share of their mean were not taken at one load. Judgement."""
LOAD_EXAMPLE = 'edgetop run -n 500 -p "Tell a long story."'

Ask = Callable[[str], str]
"""Puts a question and returns the answer, stripped. Raises EdgetopError when there will be none."""


def measure_points(watch: SensorWatch, total: Calibratable, seconds: float, ask: Ask | None = None) -> list[Point]:
    """Idle, under load, and at as many more loads as the person likes. Raises EdgetopError."""
    ask = ask or ask_terminal
    (meter,) = [each for each in watch.meters if each.name == total.channel.name]
    say(f"source: {total.info.name}, {total.channel.name} ({scope_text(meter.scope)}), {total.info.driver}")
    say("The meter must supply this device and nothing else.")
    say("")
    ask("1. Leave the device idle. Enter when it is: ")
    points = [_measure_point(watch, meter, total, seconds, ask)]
    say("")
    say(f"2. Start a load in another terminal and let it run, such as: {LOAD_EXAMPLE}")
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


def _measure_point(watch: SensorWatch, meter: Meter, total: Calibratable, seconds: float, ask: Ask) -> Point:
    shown = _read(watch, meter, seconds)
    while isinstance(shown, Missing) or _is_unsteady(shown):
        if isinstance(shown, Missing):
            raise EdgetopError(f"{meter.name}: {shown.reason}", shown.mend or SEE_DOCTOR)
        say(
            f"The load was not steady: {format_significant(shown.least_w)} to {format_significant(shown.most_w)} W. "
            "The means of sensor and meter must be of the same seconds."
        )
        if ask("Read again? Enter, or k to keep it: ").lower() == "k":
            break
        shown = _read(watch, meter, seconds)
    sensor_w = total.sensor_w(shown.mean_w)
    say(f"The sensor read {format_significant(sensor_w, 4)} W, the mean of {shown.readings} readings.")
    return Point(sensor_w=sensor_w, meter_w=_meter_w(ask))


def _read(watch: SensorWatch, meter: Meter, seconds: float) -> MeanPower | Missing:
    say(f"Reading for {seconds:g} s: look at the meter meanwhile.")
    span = watch.follow(seconds, tick=lambda left_s: show_progress(f"{left_s:.0f} s left"))
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
        say(f"{text!r} is not a power in watts, such as 6.1.")
