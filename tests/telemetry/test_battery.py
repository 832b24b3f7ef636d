"""Batteries: the tree of the procfs project, and when its reading is the machine's power."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edgetop.core.sources import Unavailable, of_channel
from edgetop.telemetry.battery import ON_CHARGER, probe
from edgetop.telemetry.host import Host
from edgetop.telemetry.source import SourceLost
from tests.support.fake_sysfs import absences, below, deny, plant, readings, sources

SUPPLY = "/sys/class/power_supply"
UEVENT = """\
POWER_SUPPLY_NAME=BAT0
POWER_SUPPLY_STATUS=Discharging
POWER_SUPPLY_PRESENT=1
POWER_SUPPLY_VOLTAGE_NOW=11750000
POWER_SUPPLY_POWER_NOW=5064000
POWER_SUPPLY_ENERGY_FULL=47390000
POWER_SUPPLY_ENERGY_NOW=40730000
POWER_SUPPLY_CAPACITY=85
POWER_SUPPLY_MODEL_NAME=LNV-45N1
POWER_SUPPLY_SERIAL_NUMBER=38109"""
LAPTOP = {
    **below(
        f"{SUPPLY}/BAT0",
        {
            "type": "Battery",
            "status": "Discharging",
            "present": 1,
            "power_now": 4830000,
            "voltage_now": 12229000,
            "energy_now": 49450000,
            "capacity": 98,
            "uevent": UEVENT,
        },
    ),
    **below(f"{SUPPLY}/AC", {"type": "Mains", "online": 0}),
}


def put(root: Path, name: str, content: str) -> None:
    (root / f"{SUPPLY}/{name}".lstrip("/")).write_text(content)


def power(host: Host) -> float | Unavailable:
    return readings(sources(probe(host))["power.battery"])["power.battery"]


def test_a_discharging_battery_gives_the_power_of_its_attribute_files(tmp_path: Path) -> None:
    host = plant(tmp_path, LAPTOP)
    source = sources(probe(host))["power.battery"]
    # The uevent file of the same moment says 5.064 W: the two are of different instants, and one is used throughout.
    assert readings(source) == {"power.battery": pytest.approx(4.83)}
    properties = of_channel(source.info, "power.battery")
    assert (properties.window_s, properties.gain, properties.flags) == (1.0, 0.07, ("slow",))
    assert source.info.channels[0].scope == "battery"


def test_what_is_left_is_told_in_joules(tmp_path: Path) -> None:
    charge = sources(probe(plant(tmp_path, LAPTOP)))["battery"]
    assert readings(charge) == {"battery.energy": pytest.approx(49.45 * 3600), "battery.level": 98.0}
    assert charge.info.kind == "gauge"


def test_current_times_voltage_serves_where_there_is_no_power_and_the_sign_says_nothing(tmp_path: Path) -> None:
    battery: dict[str, str | int] = {
        "type": "Battery",
        "status": "Discharging",
        "current_now": -500_000,
        "voltage_now": 12_000_000,
    }
    host = plant(tmp_path, below(f"{SUPPLY}/BAT1", {**battery, "charge_now": 2_000_000, "capacity": 50}))
    assert power(host) == pytest.approx(6.0)
    assert readings(sources(probe(host))["battery"])["battery.energy"] == pytest.approx(2 * 12 * 3600)


@pytest.mark.parametrize(("file", "content"), [("AC/online", "1"), ("usb/online", "1")])
def test_on_the_charger_there_is_no_figure(tmp_path: Path, file: str, content: str) -> None:
    tree = {**LAPTOP, **below(f"{SUPPLY}/usb", {"type": "USB", "online": 0})}
    host = plant(tmp_path, tree)
    assert power(host) == pytest.approx(4.83)
    put(tmp_path, file, content)
    assert power(host) == ON_CHARGER


@pytest.mark.parametrize("status", ["Charging", "Full", "Not charging", "Unknown"])
def test_a_battery_that_does_not_discharge_gives_no_figure(tmp_path: Path, status: str) -> None:
    host = plant(tmp_path, {**LAPTOP, f"{SUPPLY}/BAT0/status": status})
    value = power(host)
    assert isinstance(value, Unavailable)
    assert "not discharging" in value.reason


def test_the_charger_may_come_and_go_while_the_source_lives(tmp_path: Path) -> None:
    source = sources(probe(plant(tmp_path, LAPTOP)))["power.battery"]
    put(tmp_path, "AC/online", "1")
    assert source.read() == (ON_CHARGER,)
    put(tmp_path, "AC/online", "0")
    assert readings(source) == {"power.battery": pytest.approx(4.83)}
    shutil.rmtree(tmp_path / f"{SUPPLY}/AC".lstrip("/"))
    assert readings(source) == {"power.battery": pytest.approx(4.83)}


def test_zero_while_discharging_is_missing(tmp_path: Path) -> None:
    value = power(plant(tmp_path, {**LAPTOP, f"{SUPPLY}/BAT0/power_now": 0}))
    assert isinstance(value, Unavailable)


def test_two_batteries_are_one_supply(tmp_path: Path) -> None:
    second: dict[str, str | int] = {
        "type": "Battery",
        "status": "Discharging",
        "power_now": 1_170_000,
        "energy_now": 10_000_000,
    }
    host = plant(tmp_path, {**LAPTOP, **below(f"{SUPPLY}/BAT1", second)})
    assert power(host) == pytest.approx(6.0)
    assert readings(sources(probe(host))["battery"]) == {"battery.energy": pytest.approx(59.45 * 3600)}
    put(tmp_path, "BAT1/status", "Not charging")
    assert power(host) == pytest.approx(4.83)


def test_the_battery_of_a_mouse_and_an_empty_bay_do_not_count(tmp_path: Path) -> None:
    mouse: dict[str, str | int] = {"type": "Battery", "scope": "Device", "status": "Discharging", "power_now": 5_000}
    bay: dict[str, str | int] = {"type": "Battery", "present": 0, "status": "Unknown"}
    tree = {**below(f"{SUPPLY}/hidpp_battery_0", mouse), **below(f"{SUPPLY}/BAT1", bay)}
    found = list(probe(plant(tmp_path, tree)))
    assert not sources(found)
    assert absences(found)["power.battery"].reason == "this machine has no battery"


def test_a_battery_taken_out_is_lost_and_put_back_is_read_again(tmp_path: Path) -> None:
    source = sources(probe(plant(tmp_path, LAPTOP)))["power.battery"]
    shutil.rmtree(tmp_path / "sys")
    with pytest.raises(SourceLost, match="no such file"):
        source.read()
    plant(tmp_path, LAPTOP)
    assert readings(source) == {"power.battery": pytest.approx(4.83)}


def test_permission_withdrawn_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = sources(probe(plant(tmp_path, LAPTOP)))["power.battery"]
    file = tmp_path / f"{SUPPLY}/BAT0/power_now".lstrip("/")
    file.unlink()  # what is held open stays readable, so the driver is loaded anew
    file.write_text("4830000")
    deny(monkeypatch, "power_now")
    with pytest.raises(SourceLost) as lost:
        source.read()
    assert lost.value.missing.hint.startswith("sudo chmod a+r ")


@pytest.mark.parametrize(("content", "says"), [("unknown", "current_now"), ("900000000", "cannot be")])
def test_an_implausible_gauge_is_no_source(tmp_path: Path, content: str, says: str) -> None:
    found = list(probe(plant(tmp_path, {**LAPTOP, f"{SUPPLY}/BAT0/power_now": content})))
    assert "power.battery" not in sources(found)
    assert says in absences(found)["power.battery"].reason
    assert "battery" in sources(found)


@pytest.mark.parametrize(
    ("current_ua", "is_believed"), [(-520_000, False), (5_400_000, True), (3_000_000, True), (0, True)]
)
def test_a_power_that_its_own_current_and_voltage_deny_is_not_believed(
    tmp_path: Path, current_ua: int, is_believed: bool
) -> None:
    # A handheld with a Snapdragon 8 Elite reads some 68 W while its current and voltage make 6.5.
    gauge = {"power_now": 67_800_000, "current_now": current_ua, "voltage_now": 12_500_000}
    found = list(probe(plant(tmp_path, {**LAPTOP, **below(f"{SUPPLY}/BAT0", gauge)})))
    assert ("power.battery" in sources(found)) is is_believed
    assert (
        is_believed or "67.8 W, and its current times its voltage are 6.5 W" in absences(found)["power.battery"].reason
    )
    charging = list(probe(plant(tmp_path, {f"{SUPPLY}/BAT0/status": "Charging"})))
    assert "power.battery" in sources(charging)


COUNTS_ONLY = {
    **below(f"{SUPPLY}/BAT0", {"type": "Battery", "status": "Discharging", "present": 1, "energy_now": 40_730_000}),
    **below(f"{SUPPLY}/AC", {"type": "Mains", "online": 0}),
}


def test_a_battery_that_tells_only_what_is_left_gives_joules(tmp_path: Path) -> None:
    source = sources(probe(plant(tmp_path, COUNTS_ONLY)))["energy.battery"]
    properties = of_channel(source.info, "energy.battery")
    assert properties.lsb_j == pytest.approx(36.0)
    assert (properties.total, properties.flags) == (True, ("slow",))
    assert readings(source) == {"energy.battery": 0.0}
    put(tmp_path, "BAT0/energy_now", "40700000")
    assert readings(source) == {"energy.battery": pytest.approx(108.0)}


def test_what_a_charger_gave_is_no_energy_of_the_machine(tmp_path: Path) -> None:
    source = sources(probe(plant(tmp_path, COUNTS_ONLY)))["energy.battery"]
    readings(source)
    put(tmp_path, "BAT0/energy_now", "40720000")
    assert readings(source) == {"energy.battery": pytest.approx(36.0)}
    put(tmp_path, "AC/online", "1")
    assert readings(source) == {"energy.battery": ON_CHARGER}
    put(tmp_path, "AC/online", "0")
    put(tmp_path, "BAT0/energy_now", "47000000")
    readings(source)
    put(tmp_path, "BAT0/energy_now", "46990000")
    assert readings(source) == {"energy.battery": pytest.approx(72.0)}


def test_a_charge_is_energy_at_the_present_voltage(tmp_path: Path) -> None:
    tree = {**COUNTS_ONLY, f"{SUPPLY}/BAT0/charge_now": 3_000_000, f"{SUPPLY}/BAT0/voltage_now": 11_750_000}
    del tree[f"{SUPPLY}/BAT0/energy_now"]
    source = sources(probe(plant(tmp_path, tree)))["energy.battery"]
    assert of_channel(source.info, "energy.battery").lsb_j == pytest.approx(42.3)
    readings(source)
    put(tmp_path, "BAT0/charge_now", "2999000")
    assert readings(source) == {"energy.battery": pytest.approx(42.3)}
