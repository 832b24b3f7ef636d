"""Chips of the kernel's hardware monitoring: which are asked, for what, and what it is taken to cover."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import pytest
from msgspec.structs import replace

from edgetop.core.energy.scopes import Headline, headline, other_views
from edgetop.core.sources import Unavailable, meter_of, of_channel
from edgetop.telemetry import host as telemetry_host
from edgetop.telemetry import rapl
from edgetop.telemetry.hwmon import probe
from edgetop.telemetry.source import SourceLost, UnavailableSource
from tests.support.fake_sysfs import absences, adding, below, deny, no_pause, plant, readings, sources

HWMON = "/sys/class/hwmon"


def chip(number: int, **files: str | int) -> dict[str, str | int]:
    return below(f"{HWMON}/hwmon{number}", files)


def test_only_chips_on_the_list_are_asked(tmp_path: Path) -> None:
    tree = {
        **chip(0, name="nvme", power1_input=5_000_000),
        **chip(1, name="coretemp", temp1_input=45_000),
        **chip(2, name="rpi_volt", in0_lcrit_alarm=0),
    }
    found = list(probe(plant(tmp_path, tree), pause=no_pause))
    assert not sources(found)
    assert list(absences(found)) == ["power.nvme"]
    assert "(nvme) are of is not known" in absences(found)["power.nvme"].reason


def test_an_energy_counter_goes_before_an_average_before_a_point_before_volts_times_amperes(tmp_path: Path) -> None:
    files: dict[str, str | int] = {
        "name": "ina228",
        "energy1_input": 1_000_000,
        "power1_average": 4_000_000,
        "power1_input": 5_000_000,
        "in1_input": 12_000,
        "curr1_input": 500,
    }
    folder = tmp_path / HWMON.lstrip("/") / "hwmon3"
    host = plant(tmp_path, chip(3, **files))
    pause = adding(tmp_path, {f"{HWMON}/hwmon3/energy1_input": 250_000})
    counted = sources(probe(host, pause=pause))["power.ina228"]
    assert counted.info.kind == "energy"
    assert readings(counted) == {"energy.ina228": pytest.approx(1.25)}
    for gone, watts in (("energy1_input", 4.0), ("power1_average", 5.0), ("power1_input", 6.0)):
        (folder / gone).unlink()
        found = sources(probe(host, pause=no_pause))["power.ina228"]
        assert found.info.kind == "power"
        assert readings(found) == {"power.ina228": pytest.approx(watts)}
        assert [channel.scope for channel in found.info.channels] == ["dc_in"]


def test_a_frozen_counter_is_passed_over_for_the_power_beside_it(tmp_path: Path) -> None:
    tree = chip(0, name="ina228", energy1_input=77, power1_input=5_000_000)
    assert sources(probe(plant(tmp_path, tree), pause=no_pause))["power.ina228"].info.kind == "power"


def test_the_interval_of_an_average_is_its_window(tmp_path: Path) -> None:
    tree = chip(4, name="power_meter", power1_average=42_000_000, power1_average_interval=1000)
    source = sources(probe(plant(tmp_path, tree), pause=no_pause))["power.power_meter"]
    properties = of_channel(source.info, "power.power_meter")
    assert (properties.window_s, properties.update_s) == (1.0, 1.0)
    assert source.info.channels[0].scope == "platform"
    assert source.blocking


def test_an_apu_is_the_processor_and_a_board_is_a_board(tmp_path: Path) -> None:
    apu = chip(0, name="amdgpu", power1_average=85_043_000, in0_label="vddgfx", in1_label="vddnb", power1_cap=0)
    board = chip(0, name="amdgpu", power1_average=85_043_000, in0_label="vddgfx", power1_cap=200_000_000)
    unknown = chip(0, name="amdgpu", power1_average=85_043_000)
    expected = {"apu": "cpu_package", "board": "gpu_board", "unknown": "cpu_package"}
    for name, tree in (("apu", apu), ("board", board), ("unknown", unknown)):
        source = sources(probe(plant(tmp_path / name, tree), pause=no_pause))["power.amdgpu"]
        assert readings(source) == {"power.amdgpu": pytest.approx(85.043)}
        assert source.info.channels[0].scope == expected[name]
        properties = of_channel(source.info, "power.amdgpu")
        # Never added to the package's own counter.
        assert properties.adds_up_as == ("gpu" if name == "board" else "")
        assert ("includes-cpu" in properties.flags) == (name != "board")


def test_the_first_counter_of_an_intel_card_is_the_card_and_the_second_a_part_of_it(tmp_path: Path) -> None:
    tree = chip(5, name="xe", energy1_input=10**9, energy1_label="card", energy2_input=6 * 10**8, energy2_label="pkg")
    pause = adding(tmp_path, {f"{HWMON}/hwmon5/energy{n}_input": 10**6 for n in (1, 2)})
    source = sources(probe(plant(tmp_path, tree), pause=pause))["power.xe"]
    assert {channel.name: channel.scope for channel in source.info.channels} == {
        "energy.xe.card": "gpu_board",
        "energy.xe.pkg": "component",
    }
    assert of_channel(source.info, "energy.xe.card").total
    assert not of_channel(source.info, "energy.xe.pkg").total


def test_a_usb_meter_multiplies_its_bus_voltage_and_current_in_either_direction(tmp_path: Path) -> None:
    tree = chip(2, name="powerz", in0_input=5100, in0_label="VBUS", in1_input=1650, in1_label="VCC1", curr1_input=-1500)
    source = sources(probe(plant(tmp_path, tree), pause=no_pause))["power.powerz"]
    assert readings(source) == {"power.powerz": pytest.approx(7.65)}
    assert source.info.channels[0].scope == "dc_in"
    assert source.blocking


def test_the_offset_of_an_ina_follows_from_its_shunt_and_voltage(tmp_path: Path) -> None:
    tree = chip(
        2, name="ina226", power1_input=9_000_000, in1_input=12_000, curr1_input=750, shunt_resistor=2000,
        update_interval=35,
    )  # fmt: skip
    source = sources(probe(plant(tmp_path, tree), pause=no_pause))["power.ina226"]
    properties = of_channel(source.info, "power.ina226")
    assert properties.offset_w == pytest.approx(0.6)  # 100 uV / 2 mOhm * 12 V
    assert properties.window_s == pytest.approx(0.035)


def test_the_inputs_of_one_chip_with_several_are_only_components(tmp_path: Path) -> None:
    tree = chip(
        1, name="ina3221", in1_label="MOTOR", in1_input=12_000, curr1_input=100, in2_label="NC", in2_input=0,
        curr2_input=0, in3_label="PI", in3_input=5000, curr3_input=900, in7_input=760, curr4_input=1000,
    )  # fmt: skip
    source = sources(probe(plant(tmp_path, tree), pause=no_pause))["power.ina3221"]
    assert readings(source) == {"power.ina3221.MOTOR": pytest.approx(1.2), "power.ina3221.PI": pytest.approx(4.5)}
    assert {channel.scope for channel in source.info.channels} == {"component"}


def test_two_chips_of_one_name_keep_their_names_apart_by_device(tmp_path: Path) -> None:
    tree = {**chip(1, name="ina219", power1_input=5_000_000), **chip(2, name="ina219", power1_input=3_000_000)}
    host = plant(tmp_path, tree)
    for number, device in ((1, "1-0040"), (2, "1-0041")):
        at = tmp_path / "sys/devices/i2c" / device
        at.mkdir(parents=True)
        (tmp_path / HWMON.lstrip("/") / f"hwmon{number}" / "device").symlink_to(at)
    found = sources(probe(host, pause=no_pause))
    assert list(found) == ["power.ina219.1-0040", "power.ina219.1-0041"]
    assert readings(found["power.ina219.1-0041"]) == {"power.ina219.1-0041": pytest.approx(3.0)}


@pytest.mark.parametrize(
    ("content", "says"), [("0", "0 W"), ("999000000000", "cannot be"), ("N/A", "no number"), ("", "no number")]
)
def test_an_implausible_reading_is_no_source(tmp_path: Path, content: str, says: str) -> None:
    host = plant(tmp_path, chip(0, name="ina219", power1_input=content))
    found = list(probe(host, pause=no_pause))
    assert not sources(found)
    assert says in absences(found)["power.ina219"].reason


def test_a_file_that_may_not_be_read_gives_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = plant(tmp_path, chip(0, name="power_meter", power1_average=42_000_000))
    deny(monkeypatch, "power1_average")
    missing = absences(probe(host, pause=no_pause))["power.power_meter"]
    assert "may not be read" in missing.reason
    assert missing.hint.startswith("sudo chmod a+r ")


def test_a_meter_unplugged_is_lost_and_plugged_in_again_is_found_under_another_number(tmp_path: Path) -> None:
    files: dict[str, str | int] = {"name": "powerz", "in0_input": 5000, "curr1_input": 1000}
    host = plant(tmp_path, chip(2, **files))
    source = sources(probe(host, pause=no_pause))["power.powerz"]
    assert readings(source) == {"power.powerz": pytest.approx(5.0)}
    shutil.rmtree(tmp_path / HWMON.lstrip("/") / "hwmon2")
    with pytest.raises(SourceLost, match="no such device"):
        source.read()
    plant(tmp_path, chip(7, **{**files, "curr1_input": 2000}))
    assert readings(source) == {"power.powerz": pytest.approx(10.0)}


def test_a_file_replaced_while_it_is_open_is_read_anew(tmp_path: Path) -> None:
    host = plant(tmp_path, chip(2, name="ina219", power1_input=1_000_000))
    source = sources(probe(host, pause=no_pause))["power.ina219"]
    assert readings(source) == {"power.ina219": pytest.approx(1.0)}
    folder = tmp_path / HWMON.lstrip("/") / "hwmon2"
    (folder / "new").write_text("2000000\n")
    (folder / "new").replace(folder / "power1_input")
    assert readings(source) == {"power.ina219": pytest.approx(2.0)}


def test_a_label_cannot_carry_control_characters_into_a_channel_name(tmp_path: Path) -> None:
    tree = chip(
        1, name="ina3221", in1_label="\x1b[2J rail.one", in1_input=12_000, curr1_input=100, in2_label="B",
        in2_input=1000, curr2_input=50,
    )  # fmt: skip
    source = sources(probe(plant(tmp_path, tree), pause=no_pause))["power.ina3221"]
    assert list(readings(source)) == ["power.ina3221.2J_rail_one", "power.ina3221.B"]


def test_one_bad_input_leaves_the_others(tmp_path: Path) -> None:
    tree = chip(
        1, name="ina3221", in1_label="A", in1_input=12_000, curr1_input=100, in2_label="B", in2_input=5000,
        curr2_input=10,
    )  # fmt: skip
    source = sources(probe(plant(tmp_path, tree), pause=no_pause))["power.ina3221"]
    (tmp_path / HWMON.lstrip("/") / "hwmon1/curr1_input").write_text("")
    values = readings(source)
    assert isinstance(values["power.ina3221.A"], Unavailable)
    assert values["power.ina3221.B"] == pytest.approx(0.05)


def test_each_channel_of_a_chip_is_judged_for_itself(tmp_path: Path) -> None:
    open_first = chip(3, name="ina3221", in1_label="CH1", in1_input=0, curr1_input=0, in2_label="CH2", in2_input=5100,
                      curr2_input=900, in3_label="CH3", in3_input=0, curr3_input=0)  # fmt: skip
    source = sources(probe(plant(tmp_path, open_first), pause=no_pause))["power.ina3221"]
    assert readings(source) == {"power.ina3221": pytest.approx(4.59)}
    assert [(channel.label, channel.scope) for channel in source.info.channels] == [("CH2", "dc_in")]


def test_a_frozen_counter_of_a_card_does_not_hide_that_of_its_package(tmp_path: Path) -> None:
    tree = chip(1, name="xe", energy1_label="card", energy1_input=5_000_000, energy2_label="pkg", energy2_input=77)
    host = plant(tmp_path, tree)
    pause = adding(tmp_path, {f"{HWMON}/hwmon1/energy2_input": 100_000})
    assert list(readings(sources(probe(host, pause=pause))["power.xe"])) == ["energy.xe"]


@pytest.mark.parametrize(
    "files",
    [{"power1_input": 4_920_000, "in1_input": 4100, "curr1_input": -1200}, {"in1_input": 4100, "curr1_input": -1200}],
)
def test_what_charges_a_battery_is_no_consumption(tmp_path: Path, files: dict[str, int]) -> None:
    host = plant(tmp_path, chip(3, name="ina219", **files))
    (absent,) = probe(host, pause=no_pause)
    assert isinstance(absent, UnavailableSource)
    assert absent.missing.reason.endswith("4.9 W flow the other way, as in or out of a battery")
    assert absent.retry
    plant(tmp_path, chip(3, name="ina219", **{**files, "curr1_input": 1200}))
    assert readings(sources(probe(host, pause=no_pause))["power.ina219"]) == {"power.ina219": pytest.approx(4.92)}


def test_an_apus_own_sensor_and_the_package_counter_are_two_views_of_one_processor(tmp_path: Path) -> None:
    zone = below(
        "/sys/class/powercap/intel-rapl:0",
        {"name": "package-0", "energy_uj": 1_000_000, "max_energy_range_uj": 65_532_610_987},
    )
    tree = {**chip(2, name="amdgpu", in1_label="vddnb", in1_input=993, power1_average=22_000_000), **zone}
    pause = adding(tmp_path, {"/sys/class/powercap/intel-rapl:0/energy_uj": 250_000})
    host = plant(tmp_path, tree)
    found = [*rapl.probe(host, pause=pause), *probe(host, pause=no_pause)]
    meters = [
        meter
        for source in sources(found).values()
        for channel in source.info.channels
        if (meter := meter_of(source.info, channel)) is not None
    ]
    shown = headline(meters)
    assert isinstance(shown, Headline)
    assert [meter.name for meter in shown.meters] == ["energy.package-0"]
    (other,) = other_views(meters, shown.meters)
    assert other is not None
    assert other.name == "power.amdgpu"


def test_a_milliwatt_is_no_power_of_a_processor_in_use(tmp_path: Path) -> None:
    tree = chip(2, name="amdgpu", in1_label="vddnb", in1_input=993, power1_average=1000)
    (absent,) = probe(plant(tmp_path, tree), pause=no_pause)
    assert isinstance(absent, UnavailableSource)
    assert "0.001 W, which no such device in use draws" in absent.missing.reason


def test_a_card_that_sleeps_is_no_matter_of_permission_and_is_looked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = plant(tmp_path, chip(3, name="amdgpu", power1_average=60_000_000, power1_cap=100_000_000))
    really_open = telemetry_host.open_file

    def refuse(path: Path) -> int:
        if path.name == "power1_average":
            raise PermissionError(errno.EPERM, "Operation not permitted", str(path))
        return really_open(path)

    monkeypatch.setattr(telemetry_host, "open_file", refuse)
    (absent,) = probe(host, pause=no_pause)
    assert isinstance(absent, UnavailableSource)
    assert absent.missing.reason.endswith("not readable now, as while its device sleeps")
    assert not absent.missing.hint
    assert absent.retry


def test_a_number_that_another_chip_took_is_not_read_as_the_old_one(tmp_path: Path) -> None:
    host = plant(tmp_path, chip(2, name="ina226", power1_input=5_000_000))
    source = sources(probe(host, pause=no_pause))["power.ina226"]
    assert readings(source) == {"power.ina226": pytest.approx(5.0)}
    shutil.rmtree(tmp_path / HWMON.lstrip("/") / "hwmon2")
    plant(tmp_path, chip(2, name="ina219", power1_input=44_000_000))
    for _ in range(2):
        with pytest.raises(SourceLost, match="no such device"):
            source.read()
    plant(tmp_path, chip(5, name="ina226", power1_input=6_000_000))
    assert readings(source) == {"power.ina226": pytest.approx(6.0)}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            {"name": "macsmc_hwmon", "power1_label": "Total System Power", "power1_input": 8_460_000,
             "power2_label": "AC Input Power", "power2_input": 9_100_000},
            {"Total_System_Power": ("platform", 8.46), "AC_Input_Power": ("component", 9.1)},
        ),
        (
            {"name": "apm_xgene", "power1_label": "CPU power", "power1_input": 16_280_000,
             "power2_label": "IO power", "power2_input": 31_900_000},
            {"CPU_power": ("cpu_package", 16.28), "IO_power": ("cpu_package", 31.9)},
        ),
        (
            {"name": "corsairpsu", "power1_label": "power total", "power1_input": 120_000_000,
             "power2_label": "power +12v", "power2_input": 96_000_000},
            {"power_total": ("platform", 120.0), "power_+12v": ("component", 96.0)},
        ),
    ],
)  # fmt: skip
def test_chips_of_whole_machines_are_read_by_their_labels(
    tmp_path: Path, files: dict[str, str | int], expected: dict[str, tuple[str, float]]
) -> None:
    (source,) = sources(probe(plant(tmp_path, chip(0, **files)), pause=no_pause)).values()
    read = dict(zip((channel.label for channel in source.info.channels), readings(source).values(), strict=True))
    scopes = {channel.label: channel.scope for channel in source.info.channels}
    assert scopes == {label: scope for label, (scope, _) in expected.items()}
    assert read == {label: pytest.approx(watts) for label, (_, watts) in expected.items()}


def test_both_parts_of_an_altra_make_its_headline(tmp_path: Path) -> None:
    files: dict[str, str | int] = {
        "power1_label": "CPU power",
        "power1_input": 16_280_000,
        "power2_label": "IO power",
        "power2_input": 9_000_000,
    }
    (source,) = sources(probe(plant(tmp_path, chip(0, name="apm_xgene", **files)), pause=no_pause)).values()
    found = headline([meter for channel in source.info.channels if (meter := meter_of(source.info, channel))])
    assert isinstance(found, Headline)
    assert len(found.meters) == 2


def test_sockets_are_counted_and_their_cores_are_not(tmp_path: Path) -> None:
    files: dict[str, str | int] = {"name": "amd_energy", "energy1_label": "Ecore000", "energy1_input": 10,
                                   "energy2_label": "Esocket0", "energy2_input": 10_000_000}  # fmt: skip
    host = plant(tmp_path, chip(4, **files))
    pause = adding(tmp_path, {f"{HWMON}/hwmon4/energy2_input": 500_000})
    (source,) = sources(probe(host, pause=pause)).values()
    assert [(channel.name, channel.scope) for channel in source.info.channels] == [("energy.amd_energy", "cpu_package")]


def test_a_sleeping_graphics_card_is_not_woken(tmp_path: Path) -> None:
    tree = chip(3, name="amdgpu", power1_average=60_000_000, power1_cap=100_000_000)
    tree |= below(f"{HWMON}/hwmon3/device/power", {"runtime_status": "active", "control": "auto"})
    host = plant(tmp_path, tree)
    computing = [True]
    source = sources(probe(replace(host, uses_gpu=lambda: computing[0]), pause=no_pause))["power.amdgpu"]
    assert readings(source) == {"power.amdgpu": pytest.approx(60.0)}
    computing[0] = False
    with pytest.raises(SourceLost, match="left alone so that it can sleep"):
        source.read()
    plant(tmp_path, below(f"{HWMON}/hwmon3/device/power", {"runtime_status": "suspended"}))
    computing[0] = True
    with pytest.raises(SourceLost, match="asleep"):
        source.read()
    (absent,) = probe(host, pause=no_pause)
    assert isinstance(absent, UnavailableSource)
    assert absent.missing.reason == "asleep"
    assert absent.retry


def older_chips(root: Path, number: int, device: str, **files: str | int) -> None:
    """A chip whose driver puts name and readings beside its device, as ACPI's power meter did until 2024."""
    plant(root, below(f"/sys/devices/LNXSYSTM:00/{device}", files))
    folder = root / f"{HWMON}/hwmon{number}".lstrip("/")
    folder.mkdir(parents=True)
    (folder / "device").symlink_to(root / f"sys/devices/LNXSYSTM:00/{device}")


@pytest.mark.parametrize("has_name", [False, True])
def test_an_acpi_meter_that_lies_at_its_device_is_read(tmp_path: Path, has_name: bool) -> None:
    older_chips(
        tmp_path, 0, "ACPI000D:00", name="power_meter", power1_average=112_000_000, power1_average_interval=300_000
    )
    host = plant(tmp_path, chip(0, name="power_meter") if has_name else {})
    source = sources(probe(host, pause=no_pause))["power.power_meter"]
    assert readings(source) == {"power.power_meter": pytest.approx(112.0)}
    assert of_channel(source.info, "power.power_meter").window_s == pytest.approx(300.0)
    assert source.info.channels[0].scope == "platform"


GRACE_W = {"Module": (302, 288), "Grace": (103, 99), "CPU": (61, 58), "SysIO": (14, 15)}
"""What the meters of two GH200 modules read, by the first word of their names."""


def test_the_modules_of_a_grace_hopper_add_up_and_its_parts_do_not(tmp_path: Path) -> None:
    number = 0
    for socket in (0, 1):
        for word, watts in GRACE_W.items():
            files: dict[str, str | int] = {
                "name": "power_meter",
                "power1_oem_info": f"{word} Power Socket {socket}",
                "power1_average": watts[socket] * 1_000_000,
                "power1_average_interval": 50,
            }
            older_chips(tmp_path, number, f"ACPI000D:0{number}", **files)
            number += 1
    scope, power_w = headline_and_power_w(plant(tmp_path, {}))
    assert scope == "module"
    assert power_w == pytest.approx(302 + 288)
    (tmp_path / f"{HWMON}/hwmon0/device/power1_average".lstrip("/")).unlink()
    (tmp_path / f"{HWMON}/hwmon4/device/power1_average".lstrip("/")).unlink()
    scope, power_w = headline_and_power_w(plant(tmp_path, {}))
    assert scope == "cpu_package"
    assert power_w == pytest.approx(103 + 99)


def headline_and_power_w(host: telemetry_host.Host) -> tuple[str, float]:
    """The scope of the headline of what the probe finds, and what its meters read together."""
    found = sources(probe(host, pause=no_pause)).values()
    powers_w = {name: value for source in found for name, value in readings(source).items()}
    meters = [
        meter for source in found for channel in source.info.channels if (meter := meter_of(source.info, channel))
    ]
    shown = headline(meters)
    assert isinstance(shown, Headline)
    values = [powers_w[meter.name] for meter in shown.meters]
    return shown.scope, sum(value for value in values if isinstance(value, float))


def test_the_sockets_of_an_epyc_add_up(tmp_path: Path) -> None:
    tree = {**chip(5, name="amd_hsmp_hwmon", power1_input=181_000_000, power1_cap=400_000_000),
            **chip(6, name="amd_hsmp_hwmon", power1_input=94_000_000, power1_cap=400_000_000)}  # fmt: skip
    scope, power_w = headline_and_power_w(plant(tmp_path, tree))
    assert scope == "cpu_package"
    assert power_w == pytest.approx(275.0)


POWER9 = {"Chip 0 ": 157, "Chip 0 Vdd": 113, "Chip 0 Vdn": 12, "Chip 8 ": 99, "Chip 8 Vdd": 62, "System": 426,
          "APSS 1 ": 127}  # fmt: skip
"""What `sensors` shows of a POWER9 server with two processors, W by label (open-power, "Hwmon sensors in P9")."""


@pytest.mark.parametrize(
    ("left_out", "expected"), [((), ("platform", 426)), (("System", "APSS 1 "), ("cpu_package", 256))]
)
def test_a_power_server_is_its_system_or_else_its_processors(
    tmp_path: Path, left_out: tuple[str, ...], expected: tuple[str, float]
) -> None:
    files: dict[str, str | int] = {"name": "ibmpowernv"}
    for number, (label, watts) in enumerate(POWER9.items(), 1):
        if label not in left_out:
            files |= {f"power{number}_label": label, f"power{number}_input": watts * 1_000_000}
    scope, power_w = headline_and_power_w(plant(tmp_path, chip(0, **files)))
    assert scope == expected[0]
    assert power_w == pytest.approx(expected[1])


@pytest.mark.parametrize(
    ("volts_mv", "is_headline"), [(4100, False), (7800, False), (5100, True), (9000, True), (12_100, True)]
)
def test_a_chip_at_a_battery_is_no_headline_since_boards_count_its_current_either_way(
    tmp_path: Path, volts_mv: int, is_headline: bool
) -> None:
    tree = chip(3, name="ina219", in1_input=volts_mv, curr1_input=1200, power1_input=volts_mv * 1200)
    (source,) = sources(probe(plant(tmp_path, tree), pause=no_pause)).values()
    assert (source.info.channels[0].scope == "dc_in") is is_headline
    meter = meter_of(source.info, source.info.channels[0])
    assert meter is not None
    shown = headline([meter])
    assert isinstance(shown, Headline) is is_headline
    if isinstance(shown, Unavailable):
        assert "no meter is known to measure the whole device: power.ina219" in shown.reason


def test_a_steam_deck_is_read_where_one_of_its_two_limits_has_no_power(tmp_path: Path) -> None:
    tree = chip(4, name="amdgpu", in0_label="vddgfx", in0_input=655, in1_label="vddnb", in1_input=669,
                power1_label="slowPPT", power1_average=4_090_000, power1_input=5_030_000, power1_cap=15_000_000,
                power2_label="fastPPT", power2_cap=15_000_000, power2_average="", freq1_input=200_000_000)  # fmt: skip
    scope, power_w = headline_and_power_w(plant(tmp_path, tree))
    assert scope == "cpu_package"
    assert power_w == pytest.approx(4.09)
