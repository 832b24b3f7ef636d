"""What `edgetop run` says of energy, money and the battery, with a meter that a program stands in for."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import get_args

import pytest

from edgetop.core.energy.uncertainty import Letter
from edgetop.session.file_io import load_file
from tests.commands.machine import Machine
from tests.support.fake_sysfs import below

NAMES = {
    "scope", "source", "method", "grade", "flags", "gross_j", "net_j", "idle_w", "mean_w", "peak_w", "j_per_token",
    "net_j_per_token", "decode_j_per_token", "prefill_j_per_token", "tokens_per_wh",
}  # fmt: skip
"""Of the `energy` object, as the JSON output is documented."""
METER = """
import time
print("# edgetop-power/1 kind=power unit=W scope=battery update=0.05 window=0.05 gain=0.02", flush=True)
n = 0
while True:
    print(10 + 0.05 * (n % 3), flush=True)
    n += 1
    time.sleep(0.05)
"""
BATTERY: dict[str, str | int] = below(
    "/sys/class/power_supply/BAT0",
    {"type": "Battery", "status": "Discharging", "energy_now": 50_000_000, "voltage_now": 12_000_000, "capacity": 80},
)


@pytest.fixture
def metered(machine: Machine, tmp_path: Path) -> tuple[Machine, list[str]]:
    """A machine on its battery, and the arguments that bring its meter."""
    machine.plant(BATTERY)
    machine.script(replies=[{"text": "word " * 40}], tokens_per_s=12)
    program = tmp_path / "meter.py"
    program.write_text(METER)
    return machine, ["run", "-p", "x", "--power-stream", f"{sys.executable} {program}"]


def test_energy_cost_and_battery_are_told_with_their_intervals(metered: tuple[Machine, list[str]]) -> None:
    machine, arguments = metered
    ran = machine.run(*arguments, "--price", "0.30", "--currency", "CHF", "--no-record")
    told = {line.partition(" ")[0]: line for line in ran.stderr.splitlines()}
    assert "J/token gross" in told["energy"]
    assert "(battery, power.stream, grade " in told["energy"]
    assert " CHF per million tokens, at 0.3 CHF/kWh (gross, battery, grade " in told["cost"]
    assert told["battery"].startswith("battery 4 h 5")
    assert told["battery"].endswith(" W")
    assert ran.stdout.startswith("word word")


def test_the_object_has_the_energy_under_its_documented_names(metered: tuple[Machine, list[str]]) -> None:
    machine, arguments = metered
    printed = machine.run(*arguments, "--json").json()
    for energy in (printed["summary"]["energy"], printed["turns"][0]["energy"]):
        assert energy.keys() >= NAMES
        assert (energy["scope"], energy["source"]) == ("battery", "power.stream")
        assert energy["grade"] in get_args(Letter)
        assert energy["mean_w"]["low"] < 10.05 < energy["mean_w"]["high"]
        assert energy["j_per_token"].keys() >= {"value", "low", "high"}
    assert printed["summary"]["energy_missing"] == ""


def test_without_a_source_the_reason_stands_in_place_of_the_figure(machine: Machine) -> None:
    machine.plant({"/proc/cpuinfo": "flags\t\t: hypervisor"})
    machine.script(replies=[{"text": "a b c"}])
    ran = machine.run("run", "-p", "x", "--json", "--price", "0.3")
    assert ran.json()["summary"]["energy"] is None
    assert "virtual machine" in ran.json()["summary"]["energy_missing"]
    assert "energy n/a: virtual machine" in ran.stderr
    assert "cost" not in ran.stderr


def test_run_can_leave_the_model_idle_first_for_a_baseline(metered: tuple[Machine, list[str]]) -> None:
    machine, arguments = metered
    output = machine.root.parent / "idle.json"
    assert machine.run(*arguments, "--idle", "0.5", "-q", "-o", str(output)).code == 0
    file = load_file(output)
    assert file.turns[0].stamps.submitted_us - file.loads[0].t_us >= 500_000
    refused = machine.run(*arguments, "--idle", "soon")
    assert refused.code == 2
    assert "--idle" in refused.stderr
