"""The rails of the Jetson boards: sysfs text of real boards with the total that each must give."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edgetop.core.sources import Unavailable, of_channel
from edgetop.telemetry import hwmon
from edgetop.telemetry.host import Host
from edgetop.telemetry.jetson import l4t_version, power_mode, probe
from edgetop.telemetry.source import SourceLost
from tests.support.fake_sysfs import (
    AGX_ORIN,
    CHIP_40,
    CHIP_41,
    ORIN_NANO,
    absences,
    below,
    deny,
    no_pause,
    plant,
    rail,
    readings,
    sources,
)

THOR = {
    **below(
        "/sys/class/hwmon/hwmon2",
        {
            "name": "ina3221",
            **rail(1, "VDD_GPU", 19600, -20),
            **rail(2, "VDD_CPU_SOC_MSS", 19600, 200),
            **rail(3, "VIN_SYS_5V0", 5064, 1000),
        },
    ),
    **below("/sys/class/hwmon/hwmon5", {"name": "ina238", "power1_input": 15_004_000, "in1_input": 19600}),
}


def test_agx_orin_is_the_sum_of_three_rails_and_counts_the_memory_once(tmp_path: Path) -> None:
    source = sources(probe(plant(tmp_path, AGX_ORIN)))["power.jetson"]
    values = readings(source)
    assert values["power.total"] == pytest.approx(8.7112, abs=0.002)
    assert values == {
        "power.total": pytest.approx(12.008 * 0.28 + 12.008 * 0.04 + 4.968 * 0.98),
        "power.VDD_GPU_SOC": pytest.approx(3.36224),
        "power.VDD_CPU_CV": pytest.approx(0.48032),
        "power.VIN_SYS_5V0": pytest.approx(4.86864),
        "power.VDDQ_VDD2_1V8AO": pytest.approx(0.39744),
    }
    total = of_channel(source.info, "power.total")
    assert total.total
    assert total.sum_of == ("power.VDD_GPU_SOC", "power.VDD_CPU_CV", "power.VIN_SYS_5V0")
    assert source.info.channels[0].scope == "module"
    assert {channel.scope for channel in source.info.channels[1:]} == {"component"}


def test_steps_and_offsets_of_agx_orin_come_from_its_table_of_shunts(tmp_path: Path) -> None:
    info = sources(probe(plant(tmp_path, AGX_ORIN)))["power.jetson"].info
    gpu = of_channel(info, "power.VDD_GPU_SOC")
    assert gpu.lsb_w == pytest.approx(0.240, rel=0.01)  # 20 mA at 12 V
    assert gpu.offset_w == pytest.approx(0.480, rel=0.01)
    total = of_channel(info, "power.total")
    assert total.offset_w == pytest.approx(2 * 0.4803 + 0.1987, rel=0.01)
    assert (total.gain, total.update_s) == (0.01, 0.0066)


def test_orin_nano_measures_its_module_and_a_rail_may_stand_above_it(tmp_path: Path) -> None:
    source = sources(probe(plant(tmp_path, ORIN_NANO)))["power.jetson"]
    values = readings(source)
    assert values == {
        "power.VDD_IN": pytest.approx(7.55136),
        "power.VDD_CPU_GPU_CV": pytest.approx(8.84864),
        "power.VDD_SOC": pytest.approx(2.46016),
    }
    module = of_channel(source.info, "power.VDD_IN")
    assert module.total
    assert not module.sum_of
    assert module.lsb_w == pytest.approx(0.040, rel=0.01)  # 8 mA at 5 V
    assert module.offset_w == pytest.approx(0.080, rel=0.01)
    assert (module.update_s, module.window_s) == (0.007, 0.0011)
    assert not of_channel(source.info, "power.VDD_CPU_GPU_CV").total
    assert source.blocking


def test_averaged_samples_make_the_window_as_long_as_the_update(tmp_path: Path) -> None:
    tree = {**ORIN_NANO, "/sys/class/hwmon/hwmon1/samples": 64, "/sys/class/hwmon/hwmon1/update_interval": 422}
    info = sources(probe(plant(tmp_path, tree)))["power.jetson"].info
    assert of_channel(info, "power.VDD_IN").window_s == pytest.approx(0.422)


def test_thor_takes_its_input_and_keeps_a_rail_one_step_below_zero(tmp_path: Path) -> None:
    source = sources(probe(plant(tmp_path, THOR)))["power.jetson"]
    values = readings(source)
    assert source.info.channels[0].name == "power.VIN"
    assert source.info.channels[0].scope == "board_input"
    assert values["power.VIN"] == pytest.approx(15.004)
    assert values["power.VDD_GPU"] == pytest.approx(-0.392)
    assert of_channel(source.info, "power.VDD_GPU").lsb_w == pytest.approx(0.392)


def test_the_older_tree_of_jetpack_4_is_read(tmp_path: Path) -> None:
    folder = "/sys/bus/i2c/drivers/ina3221x/1-0040/iio:device1"
    tree = below(
        folder,
        {
            "rail_name_0": "VDD_IN", "in_power0_input": 4321, "in_voltage0_input": 5000, "in_current0_input": 864,
            "rail_name_1": "VDD_CPU_GPU_CV", "in_voltage1_input": 5000, "in_current1_input": 100,
            "rail_name_2": "NC", "in_power2_input": 0,
        },
    )  # fmt: skip
    source = sources(probe(plant(tmp_path, tree)))["power.jetson"]
    assert readings(source) == {"power.VDD_IN": pytest.approx(4.321), "power.VDD_CPU_GPU_CV": pytest.approx(0.5)}
    assert of_channel(source.info, "power.VDD_IN").total


def test_a_nano_measures_its_5_volt_input(tmp_path: Path) -> None:
    chip = {"name": "ina3221", **rail(1, "POM_5V_IN", 5000, 600), **rail(2, "POM_5V_GPU", 5000, 10)}
    source = sources(probe(plant(tmp_path, below("/sys/class/hwmon/hwmon0", chip))))["power.jetson"]
    assert source.info.channels[0].name == "power.POM_5V_IN"
    assert readings(source)["power.POM_5V_IN"] == pytest.approx(3.0)


def test_agx_xavier_is_the_sum_of_six(tmp_path: Path) -> None:
    rails = ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V")
    tree: dict[str, str | int] = {"/proc/device-tree/compatible": "nvidia,p2972-0000\0nvidia,tegra194\0"}
    for place in (0, 1):
        chip: dict[str, str | int] = {"name": "ina3221"}
        for number in (1, 2, 3):
            chip |= rail(number, rails[place * 3 + number - 1], 19000, 100)
        tree |= below(f"/sys/class/hwmon/hwmon{place}", chip)
    source = sources(probe(plant(tmp_path, tree)))["power.jetson"]
    assert readings(source)["power.total"] == pytest.approx(6 * 1.9)


def test_rails_of_an_unknown_board_are_shown_without_a_total(tmp_path: Path) -> None:
    tree = {
        **below("/sys/class/hwmon/hwmon0", {"name": "ina3221", **rail(1, "VDD_NEW", 5000, 600)}),
        "/proc/device-tree/compatible": "nvidia,tegra999\0",
    }
    info = sources(probe(plant(tmp_path, tree)))["power.jetson"].info
    assert [(channel.name, channel.scope) for channel in info.channels] == [("power.VDD_NEW", "component")]


@pytest.mark.parametrize("tree", [AGX_ORIN, ORIN_NANO, THOR])
def test_the_general_reader_leaves_the_boards_own_sensors_alone(tmp_path: Path, tree: dict[str, str | int]) -> None:
    host = plant(tmp_path, {**tree, **below("/sys/class/hwmon/hwmon9", {"name": "ina226", "power1_input": 9_000_000})})
    assert list(sources(hwmon.probe(host, pause=no_pause))) == ["power.ina226"]


def test_a_lost_part_makes_the_sum_missing_not_smaller(tmp_path: Path) -> None:
    source = sources(probe(plant(tmp_path, AGX_ORIN)))["power.jetson"]
    (tmp_path / f"{CHIP_40}/curr2_input".lstrip("/")).unlink()
    values = readings(source)
    assert isinstance(values["power.total"], Unavailable)
    assert isinstance(values["power.VDD_CPU_CV"], Unavailable)
    assert values["power.VDD_GPU_SOC"] == pytest.approx(3.36224)


def test_memory_that_cannot_be_read_does_not_touch_the_sum(tmp_path: Path) -> None:
    source = sources(probe(plant(tmp_path, AGX_ORIN)))["power.jetson"]
    (tmp_path / f"{CHIP_41}/curr2_input".lstrip("/")).unlink()
    assert readings(source)["power.total"] == pytest.approx(8.7112, abs=0.002)


def test_sensors_that_vanish_are_found_again_under_other_numbers(tmp_path: Path) -> None:
    source = sources(probe(plant(tmp_path, AGX_ORIN)))["power.jetson"]
    source.read()
    shutil.rmtree(tmp_path / "sys")
    with pytest.raises(SourceLost):
        source.read()
    moved = {path.replace("hwmon4", "hwmon8").replace("hwmon3", "hwmon7"): text for path, text in AGX_ORIN.items()}
    plant(tmp_path, moved)
    assert readings(source)["power.total"] == pytest.approx(8.7112, abs=0.002)


def test_an_unreadable_total_is_no_smaller_total(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = plant(tmp_path, AGX_ORIN)
    deny(monkeypatch, "curr3_input")
    info = sources(probe(host))["power.jetson"].info
    assert {channel.scope for channel in info.channels} == {"component"}


def test_malformed_readings_are_no_source(tmp_path: Path) -> None:
    chip = {"name": "ina3221", "in1_label": "VDD_IN", "in1_input": "5V", "curr1_input": "x"}
    found = list(probe(plant(tmp_path, below("/sys/class/hwmon/hwmon0", chip))))
    assert "no number" in absences(found)["power.jetson"].reason


def test_a_total_of_zero_is_no_source(tmp_path: Path) -> None:
    chip = {"name": "ina3221", **rail(1, "VDD_IN", 5000, 0)}
    found = list(probe(plant(tmp_path, below("/sys/class/hwmon/hwmon0", chip))))
    assert "0 W" in absences(found)["power.jetson"].reason


def test_a_jetson_without_sensors_says_so_and_another_machine_says_nothing(tmp_path: Path) -> None:
    nano = plant(tmp_path / "nano", {"/proc/device-tree/compatible": "nvidia,p3541-0000\0nvidia,tegra210\0"})
    assert "external meter" in absences(probe(nano))["power.jetson"].hint
    assert not list(probe(Host(sysroot=tmp_path / "other")))


MODES = """\
# < POWER_MODEL ID=9 NAME=COMMENT >
< POWER_MODEL ID=0 NAME=15W >
CPU_ONLINE CORE_0 1
< POWER_MODEL ID=2 NAME=MAXN_SUPER >
# default
< PM_CONFIG DEFAULT=0 >
"""


@pytest.mark.parametrize(
    ("files", "mode"),
    [
        ({"/var/lib/nvpmodel/status": "pmode:0002 fmode:quiet", "/etc/nvpmodel.conf": MODES}, "MAXN_SUPER"),
        ({"/var/lib/nvpmodel/status": "pmode:0000", "/etc/nvpmodel.conf": MODES}, "15W"),
        ({"/var/lib/nvpmodel/status": "pmode:0009", "/etc/nvpmodel.conf": MODES}, "mode 9"),
        ({"/var/lib/nvpmodel/status": "pmode:0001"}, "mode 1"),
        ({"/etc/nvpmodel.conf": MODES}, "15W"),
        ({"/var/lib/nvpmodel/status": "garbage"}, ""),
        ({}, ""),
    ],
)
def test_the_power_mode_is_named(tmp_path: Path, files: dict[str, str | int], mode: str) -> None:
    assert power_mode(plant(tmp_path, files)) == mode


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64", "36.4.3"),
        ("# R32 (release), REVISION: 7.1, GCID: 29818004, BOARD: t210ref", "32.7.1"),
        ("something else", ""),
    ],
)
def test_the_l4t_version_is_read(tmp_path: Path, text: str, version: str) -> None:
    assert l4t_version(plant(tmp_path, {"/etc/nv_tegra_release": text})) == version


def test_both_chips_of_an_agx_xavier_whose_device_tree_is_masked_are_the_boards_own(tmp_path: Path) -> None:
    first = {"name": "ina3221", **rail(1, "GPU", 19000, 40), **rail(2, "CPU", 19000, 60), **rail(3, "SOC", 19000, 80)}
    second = {
        "name": "ina3221",
        **rail(1, "CV", 19000, 0),
        **rail(2, "VDDRQ", 19000, 30),
        **rail(3, "SYS5V", 4900, 400),
    }
    host = plant(tmp_path, {**below("/sys/class/hwmon/hwmon4", first), **below("/sys/class/hwmon/hwmon5", second)})
    source = sources(probe(host))["power.jetson"]
    assert readings(source)["power.total"] == pytest.approx(19 * (0.04 + 0.06 + 0.08 + 0.03) + 4.9 * 0.4)
    assert source.info.channels[0].scope == "module"
    assert not list(hwmon.probe(host, pause=no_pause))
