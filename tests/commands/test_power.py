"""`edgetop power` and the power section of `edgetop doctor`: what there is, which goes first, and why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgetop.commands.power_findings import is_of_power
from tests.commands.machine import JETSON, VOLTS, Machine
from tests.support.fake_sysfs import below

BATTERY: dict[str, str | int] = below(
    "/sys/class/power_supply/BAT0",
    {"type": "Battery", "status": "Charging", "power_now": 9_000_000, "energy_now": 40_000_000, "capacity": 80},
)
INA226: dict[str, str | int] = below(
    "/sys/class/hwmon/hwmon7", {"name": "ina226", "power1_input": 9_500_000, "shunt_resistor": 10_000}
)


def test_every_channel_is_a_row_and_the_headline_is_told_with_its_reason(machine: Machine) -> None:
    machine.plant(JETSON)
    ran = machine.run("power")
    assert ran.code == 0
    rows = [line.split() for line in ran.stdout.splitlines()]
    assert rows[1] == ["power.jetson", "power.VDD_IN", "7.55", "W", "module", "headline"]
    assert rows[2] == ["power.jetson", "power.VDD_CPU_GPU_CV", "8.85", "W", "component"]
    assert "power.VDD_IN, module, 7.55 W: the only scope that reads now" in ran.stdout
    assert "this machine has no battery" in ran.stdout


def test_the_widest_scope_is_the_headline_unless_another_is_chosen(machine: Machine) -> None:
    machine.plant({**JETSON, **INA226})
    widest = machine.run("power", "--json").json()["headline"]
    assert (widest["scope"], widest["why"]) == ("dc_in", "the widest scope that reads now")
    assert widest["power_w"] == pytest.approx(9.5)
    chosen = machine.run("power", "--json", "--power", "power.jetson").json()["headline"]
    assert (chosen["channels"], chosen["why"]) == (["power.VDD_IN"], "chosen with --power")
    assert chosen["power_w"] == pytest.approx(VOLTS * 1.52, abs=0.001)


def test_without_a_source_the_reason_and_the_hint_stand_there(machine: Machine) -> None:
    machine.plant({"/proc/cpuinfo": "flags\t\t: hypervisor"})
    found = machine.run("power", "--json").json()
    assert (found["sources"], found["headline"]) == ([], None)
    assert "virtual machine" in found["headline_missing"]["reason"]
    ran = machine.run("power")
    assert "no  headline" in ran.stdout
    assert "--power shelly:HOST" in ran.stdout


def test_a_source_without_a_reading_now_says_why_and_is_no_zero(machine: Machine) -> None:
    machine.plant(BATTERY)
    found = machine.run("power", "--json").json()
    (channel,) = found["sources"][0]["channels"]
    assert (channel["power_w"], channel["missing"]["reason"]) == (None, "the battery is not discharging")
    assert found["headline"]["power_w"] is None
    assert "n/a: the battery is not discharging" in machine.run("power").stdout


def test_a_name_that_is_not_there_is_answered_with_those_that_are(machine: Machine) -> None:
    machine.plant(JETSON)
    ran = machine.run("power", "--power", "power.nope")
    assert "there is no power source called 'power.nope'" in ran.stdout
    assert "choose one of: power.jetson" in ran.stdout


def test_doctor_tells_all_that_is_known_of_a_source_and_no_source_twice(machine: Machine) -> None:
    machine.script(replies=[])
    machine.plant({**JETSON, "/sys/class/hwmon/hwmon1/in2_label": "\x1b[2JRAIL"})
    ran = machine.run("doctor")
    power = ran.stdout.partition("\npower\n")[2].partition("\nterminal\n")[0]
    assert power.count("power.jetson") == ran.stdout.count("power.jetson") == 1
    for words in ("hwmon ina3221", "read every 0.0", "7.55 W, module, headline", "averaged over 1.1 ms",
                  "new every 7.0 ms", "scale ±1 %", "zero ±0.079 W", "step 0.040 W", "no  power.battery"):  # fmt: skip
        assert words in power
    assert "\x1b" not in ran.stdout
    assert "power.battery" not in ran.stdout.partition("\npower\n")[0]


def test_doctor_has_the_same_in_json(machine: Machine) -> None:
    machine.script(replies=[])
    machine.plant(JETSON)
    sensors = machine.run("doctor", "--json").json()["sensors"]
    (source,) = sensors["power"]["sources"]
    assert source["name"] in {each["name"] for each in sensors["sources"]}
    total = source["channels"][0]
    assert (total["power_w"], total["gain"], total["is_headline"]) == (pytest.approx(7.551, abs=0.001), 0.01, True)
    assert sensors["power"]["absent"].items() <= sensors["absent"].items()


@pytest.mark.parametrize(
    ("name", "expected"),
    [("power", True), ("power.rapl", True), ("energy.gpu.0", True), ("rapl", True), ("thermal", False), ("gpu", False)],
)
def test_what_is_absent_belongs_to_power_or_to_the_other_sensors(name: str, *, expected: bool) -> None:
    assert is_of_power(name) is expected


def test_a_program_that_prints_a_number_is_read_as_the_boards_input(machine: Machine, tmp_path: Path) -> None:
    machine.plant({"/proc/cpuinfo": "flags\t\t: hypervisor"})
    meter = tmp_path / "watts.sh"
    meter.write_text("#!/bin/sh\necho 6.5\n")
    meter.chmod(0o755)
    ran = machine.run("power", "--power-exec", str(meter))
    assert ran.code == 0
    assert "6.50 W  board input" in ran.stdout
    assert "plain numbers, taken as watts at the board's input" in ran.stdout


def test_a_source_of_ones_own_that_fails_says_why_and_not_that_this_is_a_virtual_machine(
    machine: Machine, tmp_path: Path
) -> None:
    machine.plant({"/proc/cpuinfo": "flags\t\t: hypervisor"})
    meter = tmp_path / "watts.sh"
    meter.write_text("#!/bin/sh\necho about six watts\n")
    meter.chmod(0o755)
    ran = machine.run("power", "--json", "--power-exec", str(meter))
    assert ran.code == 1
    missing = ran.json()["headline_missing"]
    assert missing["reason"] == "power.exec: the first line is 'about six watts', neither a number nor a header"
    assert "printf" in missing["hint"]


def test_a_named_source_that_is_there_and_gives_nothing_is_not_denied(machine: Machine) -> None:
    machine.plant({**JETSON, **below("/sys/class/hwmon/hwmon7", {"name": "ina226", "power1_input": 0})})
    ran = machine.run("power", "--json", "--power", "power.ina226")
    assert ran.code == 1
    assert ran.json()["headline_missing"]["reason"].startswith("power.ina226: ")
    assert "reads 0 W" in ran.json()["headline_missing"]["reason"]
    assert machine.run("power", "--power", "power.none-such").code == 1
    assert machine.run("power", "--power", "power.jetson").code == 0
