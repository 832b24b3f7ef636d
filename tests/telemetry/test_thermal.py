"""Temperatures and throttling of four kinds of machine."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from msgspec.structs import replace

from edgetop.core.sources import SINCE_BOOT_SUFFIX, THROTTLE_PREFIX, Unavailable
from edgetop.telemetry import host as telemetry_host
from edgetop.telemetry.source import SourceLost
from edgetop.telemetry.thermal import probe
from tests.support.fake_sysfs import (
    BARE_VM,
    JETSON,
    LAPTOP,
    PI_5,
    Tree,
    absences,
    below,
    cooler,
    deny,
    plant,
    readings,
    sources,
    zone,
)

OFF = Unavailable("the sensor is switched off")


def test_a_pi_shows_its_one_sensor_once_and_leaves_undervoltage_to_its_own_family(tmp_path: Path) -> None:
    source = sources(probe(plant(tmp_path, PI_5)))["thermal"]
    assert readings(source) == {"temperature.cpu": 58.45}
    assert source.info.channels[0].label == "cpu-thermal"


def test_a_jetson_shows_what_is_switched_on_and_every_way_to_be_held_back(tmp_path: Path) -> None:
    host = plant(tmp_path, JETSON)
    source = sources(probe(host))["thermal"]
    assert readings(source) == {
        "temperature.cpu": 51.312,
        "temperature.gpu_thermal": 49.656,
        "temperature.tj_thermal": 51.312,
        "throttle.passive_cooling": 0.0,
        "throttle.undervoltage": 0.0,
        "throttle.average_overcurrent": 0.0,
        "throttle.peak_overcurrent": 0.0,
    }
    host.path("/sys/class/hwmon/hwmon2/oc3_event_cnt").write_text("27405")
    host.path("/sys/class/thermal/cooling_device1/cur_state").write_text("4")
    host.path("/sys/class/thermal/cooling_device0/cur_state").write_text("9")  # the fan
    values = readings(source)
    assert (values["throttle.peak_overcurrent"], values["throttle.passive_cooling"]) == (15.0, 4.0)
    held = {name for name, value in readings(source).items() if name.startswith(THROTTLE_PREFIX) and value}
    assert held == {"throttle.passive_cooling"}
    assert not any(channel.name.endswith(SINCE_BOOT_SUFFIX) for channel in source.info.channels)


def test_a_laptop_counts_the_throttling_since_the_reading_before(tmp_path: Path) -> None:
    host = plant(tmp_path, LAPTOP)
    source = sources(probe(host))["thermal"]
    values = readings(source)
    assert values == {
        "temperature.cpu": 72.0,
        "temperature.x86_pkg_temp": 71.0,
        "temperature.iwlwifi_1": 45.0,
        "throttle.processor_heat": 0.0,
        "throttle.passive_cooling": 0.0,
    }
    counter = host.path("/sys/devices/system/cpu/cpu3/thermal_throttle/core_throttle_count")
    counter.write_text("12")
    # A core is switched off, and comes back with a count of its own.
    other = host.path("/sys/devices/system/cpu/cpu5/thermal_throttle/core_throttle_count")
    other.unlink()
    assert readings(source)["throttle.processor_heat"] == 5.0
    other.write_text("4000")
    assert readings(source)["throttle.processor_heat"] == 0.0
    counter.write_text("3")  # backwards
    other.write_text("4001")
    assert readings(source)["throttle.processor_heat"] == 1.0


def test_a_bare_machine_has_no_sensor(tmp_path: Path) -> None:
    missing = absences(probe(plant(tmp_path, BARE_VM)))["thermal"]
    assert missing == Unavailable("this machine shows no temperature sensor")


def test_a_sensor_that_is_switched_off_later_is_missing_alone(tmp_path: Path) -> None:
    host = plant(tmp_path, JETSON)
    source = sources(probe(host))["thermal"]
    host.path("/sys/class/thermal/thermal_zone1/temp").write_text("-256000")
    host.path("/sys/class/thermal/thermal_zone8/temp").write_text("hot")
    values = readings(source)
    assert values["temperature.gpu_thermal"] == OFF
    assert values["temperature.tj_thermal"] == Unavailable(
        f"{tmp_path}/sys/class/thermal/thermal_zone8/temp holds no number"
    )
    assert values["temperature.cpu"] == 51.312


def test_when_nothing_answers_any_more_the_source_is_lost(tmp_path: Path) -> None:
    host = plant(tmp_path, {**zone(0, "cpu-thermal", 50_000), **cooler(0, "Processor", 0)})
    source = sources(probe(host))["thermal"]
    for path in ("thermal_zone0/temp", "cooling_device0/cur_state"):
        host.path(f"/sys/class/thermal/{path}").unlink()
    with pytest.raises(SourceLost, match="no temperature sensor answers"):
        source.read()
    plant(tmp_path, {**zone(0, "cpu-thermal", 40_000), **cooler(0, "Processor", 1)})
    assert readings(source) == {"temperature.cpu": 40.0, "throttle.passive_cooling": 1.0}


def test_throttling_that_may_not_be_read_is_missing_with_a_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = plant(tmp_path, LAPTOP)
    deny(monkeypatch, "throttle_count")
    missing = readings(sources(probe(host))["thermal"])["throttle.processor_heat"]
    assert isinstance(missing, Unavailable)
    assert missing.hint.startswith("sudo chmod a+r ")


def test_names_are_unique_and_hostile_ones_harmless(tmp_path: Path) -> None:
    tree: Tree = {
        **zone(0, "\x1b[2Jcpu", 30_000),
        **zone(2, "cpu", 31_000),
        **zone(10, "cpu", 32_000),
        **zone(11, "---", 33_000),
        **zone(12, "", 34_000),
    }
    source = sources(probe(plant(tmp_path, tree)))["thermal"]
    assert readings(source) == {
        "temperature.2jcpu": 30.0,
        "temperature.cpu_2": 31.0,  # plain `cpu` is for a sensor known to be the processor's
        "temperature.cpu_3": 32.0,
        "temperature.zone": 33.0,
        "temperature.thermal_zone12": 34.0,
    }
    assert all(channel.label.isprintable() for channel in source.info.channels)


def test_a_slow_zone_has_a_thread_of_its_own_and_hides_no_other(tmp_path: Path) -> None:
    tree = {**zone(0, "acpitz", 41_000), **zone(1, "x86_pkg_temp", 52_000), **zone(2, "pch", 44_000)}
    # The second zone takes long only once: something else ran meanwhile.
    stamps_us = iter([0, 1_200_000, 0, 1_200_000, 0, 900_000, 0, 300, 0, 300])
    found = sources(probe(replace(plant(tmp_path, tree), clock=lambda: next(stamps_us))))
    assert list(found) == ["thermal", "thermal.acpitz"]
    assert [source.blocking for source in found.values()] == [False, True]
    assert readings(found["thermal"]) == {"temperature.cpu": 52.0, "temperature.pch": 44.0}
    assert readings(found["thermal.acpitz"]) == {"temperature.acpitz": 41.0}


def test_a_zone_that_fails_at_the_first_look_is_read_when_it_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = plant(tmp_path, {**zone(0, "x86_pkg_temp", 52_000), **zone(1, "iwlwifi_1", 44_000)})
    really_open, asleep = telemetry_host.open_file, [True]

    def refuse(path: Path) -> int:
        if asleep[0] and path.parent.name == "thermal_zone1" and path.name == "temp":
            raise OSError(errno.ENODATA, "No data available", str(path))
        return really_open(path)

    monkeypatch.setattr(telemetry_host, "open_file", refuse)
    source = sources(probe(host))["thermal"]
    assert isinstance(readings(source)["temperature.iwlwifi_1"], Unavailable)
    asleep.clear()
    asleep.append(False)
    assert readings(source)["temperature.iwlwifi_1"] == 44.0


def test_nothing_is_left_open(tmp_path: Path) -> None:
    before = len(list(Path("/dev/fd").iterdir()))
    dead = plant(tmp_path / "dead", below("/sys/class/thermal/cooling_device0", {"type": "Processor", "cur_state": ""}))
    assert not sources(probe(dead))
    source = sources(probe(plant(tmp_path, JETSON)))["thermal"]
    source.close()
    assert len(list(Path("/dev/fd").iterdir())) == before


def test_a_snapdragon_laptops_first_core_is_its_processor(tmp_path: Path) -> None:
    """Zones as x1e80100.dtsi of Linux 6.8 names them."""
    names = ("aoss0-thermal", "cpu0-0-top-thermal", "cpu0-0-btm-thermal", "cpuss0-top-thermal", "gpuss-0-thermal")
    tree: dict[str, str | int] = {}
    for number, name in enumerate(names):
        tree |= below(f"/sys/class/thermal/thermal_zone{number}", {"type": name, "temp": 40_000 + 1000 * number})
    found = readings(sources(probe(plant(tmp_path, tree)))["thermal"])
    assert found == {
        "temperature.cpu": 41,
        "temperature.aoss0_thermal": 40,
        "temperature.cpu0_0_btm_thermal": 42,
        "temperature.cpuss0_top_thermal": 43,
        "temperature.gpuss_0_thermal": 44,
    }
