from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from edgetop.commands import calibrate
from edgetop.commands.calibrate import measure_points, parse_point
from edgetop.core.errors import EdgetopError
from edgetop.core.sources import Unavailable
from edgetop.live.energy_meter import SensorSession
from edgetop.telemetry.calibration import calibratable, load_all
from edgetop.telemetry.registry import Inventory
from tests.commands.machine import CURRENT, IDENTITY, JETSON, VOLTS, Machine
from tests.support.fake_sources import power_source
from tests.support.fake_sysfs import below

POINTS = ("--point", "5:6", "--point", "10:11.5")
COUNTER: dict[str, str | int] = below(
    "/sys/class/powercap/intel-rapl:0", {"name": "package-0", "max_energy_range_uj": 10**12, "energy_uj": 1_000_000}
)
DEADLINE_S = 60


def test_points_make_a_line_that_is_used_from_then_on(machine: Machine) -> None:
    machine.plant(JETSON)
    ran = machine.run("calibrate", *POINTS, "--meter-name", "USB meter", "--meter-gain", "2")
    assert ran.code == 0
    assert "meter = 1.1000 x sensor + 0.500 W" in ran.stdout
    assert "two points lie on any line" in ran.stdout
    assert "±7 %: 2 % of the meter and 5 %" in ran.stdout
    assert "from now on power.jetson of this machine is corrected with it" in ran.stderr
    (channel, *_) = machine.run("power", "--json").json()["sources"][0]["channels"]
    assert channel["power_w"] == pytest.approx(1.1 * VOLTS * 1.52 + 0.5, abs=0.001)
    assert channel["sensor_w"] == pytest.approx(VOLTS * 1.52, abs=0.001)
    assert channel["calibration"].startswith("own USB meter 20")
    assert channel["gain"] == pytest.approx(0.07)


def test_a_third_point_gives_a_residual(machine: Machine) -> None:
    machine.plant(JETSON)
    ran = machine.run("calibrate", *POINTS, "--point", "15:17.4")
    assert "residual  0.1" in ran.stdout
    assert len([line for line in ran.stdout.splitlines() if line.startswith("point")]) == 3


def test_calibrations_are_shown_and_removed(machine: Machine) -> None:
    machine.plant(JETSON)
    assert "no source of this machine has been calibrated" in machine.run("calibrate", "--show").stderr
    machine.run("calibrate", *POINTS)
    assert "power.jetson" in machine.run("calibrate", "--show").stdout
    assert machine.run("calibrate", "--show", "--json").json()[0]["line"]["slope"] == pytest.approx(1.1)
    assert "is removed" in machine.run("calibrate", "--remove").stderr
    assert load_all(machine.calibrations) == ()
    assert machine.run("power", "--json").json()["sources"][0]["channels"][0]["sensor_w"] is None


@pytest.mark.parametrize(
    ("arguments", "code", "what"),
    [
        (["--point", "5"], 2, "expected SENSOR_W:METER_W"),
        (["--point", "5:six"], 2, "expected SENSOR_W:METER_W"),
        (["--point", "5:6"], 1, "one point does not make a line"),
        (["--point", "5:6", "--point", "5.1:7"], 1, "too close together"),
        ([*POINTS, "--meter-gain", "200"], 2, "expected a number from 0 to 50"),
        ([*POINTS, "--power", "power.VDD_SOC"], 1, "power.VDD_SOC is one of several rails"),
        ([*POINTS, "--power", "power.nope"], 1, "choose one of: power.jetson"),
        ([*POINTS, "--power", "none"], 1, "power was switched off"),
        ([], 2, "--point SENSOR_W:METER_W, twice or more"),
        (["--seconds", "soon"], 2, "--seconds: 'soon' is not valid"),
        (["--remove"], 1, "there is nothing to remove"),
    ],
)
def test_what_cannot_be_done_is_two_lines(machine: Machine, arguments: list[str], code: int, what: str) -> None:
    machine.plant(JETSON)
    ran = machine.run("calibrate", *arguments)
    assert (ran.code, ran.stdout) == (code, "")
    assert what in ran.stderr
    assert len(ran.stderr.splitlines()) == 2
    assert not machine.calibrations.exists()


def test_a_machine_that_cannot_be_told_from_others_is_not_calibrated(machine: Machine) -> None:
    machine.plant({name: text for name, text in JETSON.items() if name not in IDENTITY})
    ran = machine.run("calibrate", *POINTS)
    assert ran.code == 1
    assert "systemd-machine-id-setup" in ran.stderr


def test_a_file_that_is_not_ours_is_left_alone(machine: Machine) -> None:
    machine.plant(JETSON)
    machine.calibrations.parent.mkdir(parents=True)
    machine.calibrations.write_text("mine")
    ran = machine.run("calibrate", *POINTS)
    assert ran.code == 1
    assert len(ran.stderr.splitlines()) == 2
    assert machine.calibrations.read_text() == "mine"


def test_a_counter_of_joules_is_refused(machine: Machine, tmp_path: Path) -> None:
    meter = tmp_path / "meter.py"
    meter.write_text(
        "import time\n"
        "print('# edgetop-power/1 kind=energy unit=J scope=wall update=0.1', flush=True)\n"
        "while True:\n    print(5 * time.monotonic(), flush=True)\n    time.sleep(0.1)\n"
    )
    machine.plant(JETSON)
    ran = machine.run("calibrate", *POINTS, "--power-stream", f"{sys.executable} {meter}")
    assert ran.code == 1
    assert "counts joules, and only readings in watts are calibrated" in ran.stderr
    assert "power.jetson" in ran.stderr


def test_points_are_pairs_of_watts() -> None:
    point = parse_point("5.2:6.1")
    assert (point.sensor_w, point.meter_w) == (5.2, 6.1)
    with pytest.raises(ValueError, match=r"such as 5\.2:6\.1"):
        parse_point("5.2:6.1:7")


class Person:
    """Answers in order, and changes the load when a point has been read."""

    def __init__(self, *answers: str) -> None:
        self.load_w = 4.0
        self.asked: list[str] = []
        self._answers = iter(answers)

    def ask(self, question: str) -> str:
        self.asked.append(question)
        if "load" in question or "runs" in question:
            self.load_w = 10.0
        return next(self._answers)

    def readings(self) -> Iterator[tuple[float | Unavailable, ...]]:
        while True:
            yield (self.load_w,)


def points_of(
    person: Person, source_readings: Iterator[tuple[float | Unavailable, ...]], **properties: float
) -> list[tuple[float, float]]:
    source = power_source("power.a", source_readings)
    source.info.properties.update(properties)
    total = calibratable(source.info)
    assert total is not None
    watch = SensorSession(Inventory((source,), ()))
    try:
        points = measure_points(watch, total, 0.1, person.ask)
    finally:
        watch.close()
    return [(point.sensor_w, point.meter_w) for point in points]


def test_the_dialogue_reads_idle_and_load_and_asks_again_for_what_is_no_power() -> None:
    person = Person("", "about five", "5,2 W", "", "12", "")
    assert points_of(person, person.readings()) == [(4.0, 5.2), (10.0, 12.0)]
    assert sum("What did the meter show" in question for question in person.asked) == 3


def test_more_loads_may_follow() -> None:
    person = Person("", "5", "", "12", "y", "", "12.1", "n")
    assert points_of(person, person.readings()) == [(4.0, 5.0), (10.0, 12.0), (10.0, 12.1)]


def test_points_are_of_the_sensor_not_of_what_an_earlier_calibration_made_of_it() -> None:
    person = Person("", "5", "", "12", "")
    points = points_of(person, person.readings(), calibration_slope=2.0, calibration_intercept_w=1.0)
    assert points == [(1.5, 5.0), (4.5, 12.0)]


def test_an_unsteady_load_is_read_again_unless_it_is_to_be_kept() -> None:
    def flickering() -> Iterator[tuple[float | Unavailable, ...]]:
        while True:
            yield (4.0,)
            yield (8.0,)

    person = Person("", "", "k", "6", "", "k", "6", "")
    points_of(person, flickering())
    assert [question for question in person.asked if question.startswith("Read again")] == [
        "Read again? Enter, or k to keep it: "
    ] * 3


def test_a_sensor_that_gives_nothing_ends_the_dialogue_with_its_reason() -> None:
    person = Person("")
    with pytest.raises(EdgetopError, match="on the charger"):
        points_of(person, iter([(Unavailable("on the charger"),)] * 10_000))


def test_no_answer_saves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path(os.devnull).open() as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        with pytest.raises(EdgetopError, match="nothing is saved"):
            calibrate.ask_terminal("? ")


def test_a_person_is_led_through_it_on_a_terminal(machine: Machine) -> None:
    machine.plant(JETSON)
    environment = {
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "PYTHONPATH": os.pathsep.join(sys.path),
        **machine.environment,
    }
    child = pexpect.spawn(
        sys.executable, ["-m", "edgetop", "calibrate", "--seconds", "0.3"], env=environment, encoding="utf-8",
        timeout=DEADLINE_S, dimensions=(24, 120),
    )  # fmt: skip
    child.expect("Leave the device idle")
    child.sendline("")
    child.expect("The sensor read 7.551 W")
    child.sendline("8.9")
    child.expect("Start a load in another terminal")
    machine.plant({CURRENT: 3000})
    child.sendline("")
    child.expect("The sensor read 14.90 W")
    child.sendline("17")
    child.expect("Another load")
    child.sendline("")
    child.expect("--point 7.551:8.9 --point 14.9:17")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    (own,) = load_all(machine.calibrations)
    assert own.line.corrected_w(7.551) == pytest.approx(8.9, abs=0.01)
