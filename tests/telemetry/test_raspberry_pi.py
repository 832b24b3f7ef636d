from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetop.core.sources import Unavailable, of_channel
from edgetop.telemetry.calibration import Calibration, Point, fit, save
from edgetop.telemetry.host import Host
from edgetop.telemetry.raspberry_pi import FirmwareClient, FirmwareError, checked, parse_pmic, probe
from edgetop.telemetry.source import Source, SourceLost, UnavailableSource
from tests.support.fake_sysfs import absences, plant, readings, sources

NAMES = (
    "3V7_WL_SW 3V3_SYS 1V8_SYS DDR_VDD2 DDR_VDDQ 1V1_SYS 0V8_SW VDD_CORE 3V3_DAC 3V3_ADC 0V8_AON HDMI".split()  # noqa: SIM905
)
EARLY_NAMES = [*NAMES[:6], "0V8_SYS", "VDD_CORE", "3V3_DAC", "3V3_ADC", "1V1_SYS", "HDMI"]
CURRENTS = [*range(8), 17, 18, 16, 22]
VOLTAGES = [*range(8, 16), 20, 21, 19, 23]


def dump(names: list[str], amperes: str, volts: str) -> str:
    """An answer to `pmic_read_adc` in the firmware's layout, EXT5V and BATT last."""
    lines = [
        f"{name + '_A':>14} current({index})={value}A"
        for name, index, value in zip(names, CURRENTS, amperes.split(), strict=True)
    ]
    lines += [
        f"{name + '_V':>14} volt({index})={value}V"
        for name, index, value in zip([*names, "EXT5V", "BATT"], [*VOLTAGES, 24, 25], volts.split(), strict=True)
    ]
    return "\n".join(lines)


LOAD = dump(
    NAMES,
    "0.00000000 0.06245952 0.16102850 0.00780744 0.00000000 0.17566740 0.32791250 10.87674000"
    " 0.00036630 0.00042735 0.00579975 0.01367520",
    "3.79999600 3.30632200 1.79828900 1.10292900 0.60476130 1.10439400 0.80256330 0.89745940"
    " 3.30494200 3.30219400 0.79736190 5.07056000 5.06788000 3.01110800",
)
IDLE = dump(
    NAMES,
    "0.00195186 0.12687090 0.18835450 0.02147046 0.00000000 0.17957110 0.25959740 0.56259000"
    " 0.00000000 0.00000000 0.00293040 0.02551890",
    "3.70720000 3.32580900 1.80415000 1.11135400 0.60329610 1.11282000 0.80512740 0.76798460"
    " 3.32142500 3.32966700 0.80175740 5.11746000 5.14158000 3.28033900",
)
EARLY_FIRMWARE = dump(
    EARLY_NAMES,
    "0.00390372 0.05562801 0.16493220 0.02049453 0.00000000 0.18152300 0.32693650 0.71440000"
    " 0.48840000 0.42735000 5.55555000 0.02344320",
    "3.71462400 3.31096100 1.79926600 1.11355200 0.60842430 1.10622600 0.80476110 0.72097620"
    " 3.30768900 3.30494200 0.79765500 5.10004000 5.09602000 0.00683760",
)
NOT_REGISTERED = 'error=1 error_msg="Command not registered"'
PI_5 = "Raspberry Pi 5 Model B Rev 1.0\0"


class Firmware:
    """Answers from a table that a test may change in between; an error instead of a text is raised."""

    path = "/dev/vcio_gencmd"

    def __init__(self, pmic: str = IDLE, throttled: str = "throttled=0x0", *, in_process: bool = True) -> None:
        self.answers: dict[str, str | FirmwareError] = {"pmic_read_adc": pmic, "get_throttled": throttled}
        self.in_process = in_process
        self.closed = 0

    def ask(self, command: str) -> str:
        answer = self.answers[command]
        if isinstance(answer, FirmwareError):
            raise answer
        return checked(command, answer)

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def find(tmp_path: Path) -> Callable[..., tuple[dict[str, Source], dict[str, Unavailable]]]:
    """Probes a board of that model with that firmware."""

    def found(
        firmware: FirmwareClient | FirmwareError, model: str = PI_5, files: dict[str, str | int] | None = None
    ) -> tuple[dict[str, Source], dict[str, Unavailable]]:
        def connect(_: Host) -> FirmwareClient:
            if isinstance(firmware, FirmwareError):
                raise firmware
            return firmware

        tree: dict[str, str | int] = {"/proc/device-tree/model": model, "/proc/device-tree/serial-number": "b0a4d"}
        host = plant(tmp_path, tree | (files or {}))
        each = list(probe(host, connect=connect, calibration_file=tmp_path / "calibration.json"))
        return sources(each), absences(each)

    return found


Find = Callable[..., tuple[dict[str, Source], dict[str, Unavailable]]]


def test_the_rails_of_a_busy_pi_5_add_up(find: Find) -> None:
    values = readings(find(Firmware(LOAD))[0]["power.pi"])
    assert values["power.rails"] == pytest.approx(10.7999, abs=5e-5)
    assert values["power.board"] == pytest.approx(12.955, abs=5e-4)
    assert values["power.VDD_CORE"] == pytest.approx(10.87674 * 0.8974594)


def test_the_rails_of_an_idle_pi_5_add_up(find: Find) -> None:
    assert readings(find(Firmware(IDLE))[0]["power.pi"])["power.rails"] == pytest.approx(1.7667, abs=5e-5)


def test_the_total_says_that_its_calibration_is_another_boards(find: Find) -> None:
    source = find(Firmware(LOAD))[0]["power.pi"]
    assert [(channel.name, channel.scope) for channel in source.info.channels[:2]] == [
        ("power.board", "board_rails"),
        ("power.rails", "component"),
    ]
    total = of_channel(source.info, "power.board")
    assert (total.calibration, total.gain, total.total) == ("generic", 0.15, True)
    assert total.flags == ("generic-calibration",)
    rails = of_channel(source.info, "power.rails")
    assert (rails.calibration, rails.total, len(rails.sum_of)) == ("", False, 12)


def test_rails_of_early_firmware_are_left_out_and_flagged(find: Find) -> None:
    source = find(Firmware(EARLY_FIRMWARE))[0]["power.pi"]
    assert "early-firmware" in of_channel(source.info, "power.board").flags
    assert len(of_channel(source.info, "power.rails").sum_of) == 9
    values = readings(source)
    assert values["power.rails"] == pytest.approx(1.62, abs=5e-3)
    for rail in ("power.0V8_AON", "power.3V3_DAC", "power.3V3_ADC"):
        missing = values[rail]
        assert isinstance(missing, Unavailable)
        assert "early firmware" in missing.reason


def test_rails_of_early_firmware_stay_left_out_when_they_read_little_for_a_moment(find: Find) -> None:
    firmware = Firmware(EARLY_FIRMWARE)
    source = find(firmware)[0]["power.pi"]
    firmware.answers["pmic_read_adc"] = (
        EARLY_FIRMWARE.replace("=5.55555000A", "=0.09000000A")
        .replace("=0.48840000A", "=0.09000000A")
        .replace("=0.42735000A", "=0.09000000A")
    )
    assert readings(source)["power.rails"] == pytest.approx(1.62, abs=5e-3)


@given(st.randoms(use_true_random=False))
def test_current_and_voltage_are_paired_by_index_in_whatever_order_they_come(order: random.Random) -> None:
    lines = EARLY_FIRMWARE.splitlines()
    order.shuffle(lines)
    assert parse_pmic("\n".join(lines)).rails_w == pytest.approx(parse_pmic(EARLY_FIRMWARE).rails_w)
    assert parse_pmic("\n".join(lines)).rails_w[16] == pytest.approx(5.55555 * 0.797655)


def test_an_answer_of_nothing_but_blanks_is_read_in_no_time() -> None:
    assert parse_pmic(" \n" * 100_000).rails_w == {}


def test_the_users_own_calibration_replaces_the_generic_one(find: Find, tmp_path: Path) -> None:
    pair = (Point(sensor_w=1.7667, meter_w=2.9), Point(sensor_w=10.7999, meter_w=13.4))
    line = fit(pair, meter_gain=0.01)
    save(
        tmp_path / "calibration.json",
        Calibration(device="b0a4d", source="power.pi", line=line, points=pair, meter="FNB58", made_at="2026-01-02"),
    )
    source = find(Firmware(LOAD))[0]["power.pi"]
    assert readings(source)["power.board"] == pytest.approx(13.4, abs=1e-4)
    total = of_channel(source.info, "power.board")
    assert (total.calibration, total.gain, total.flags) == ("own FNB58 2026-01-02", line.gain, ())


def test_the_calibration_of_another_board_is_not_used(find: Find, tmp_path: Path) -> None:
    pair = (Point(sensor_w=2.0, meter_w=2.9), Point(sensor_w=10.0, meter_w=13.4))
    own = Calibration(device="another", source="power.pi", line=fit(pair, meter_gain=0.01), points=pair)
    save(tmp_path / "calibration.json", own)
    assert of_channel(find(Firmware(LOAD))[0]["power.pi"].info, "power.board").calibration == "generic"


def test_a_damaged_calibration_file_is_told_of_and_the_generic_one_used(find: Find, tmp_path: Path) -> None:
    (tmp_path / "calibration.json").write_text("{")
    info = find(Firmware(LOAD))[0]["power.pi"].info
    assert of_channel(info, "power.board").calibration == "generic"
    assert "calibration.json" in str(info.properties["calibration_note"])


def test_a_pi_4_says_that_it_has_no_sensor_and_names_outside_meters(find: Find) -> None:
    firmware = Firmware(NOT_REGISTERED)
    found, absent = find(firmware, "Raspberry Pi 4 Model B Rev 1.4\0")
    assert absent["power.pi"].reason == "Raspberry Pi 4 Model B Rev 1.4 has no power sensor"
    assert "shelly:HOST" in absent["power.pi"].hint
    assert list(found) == ["throttle"]
    assert firmware.closed == 1


def test_a_pi_5_whose_firmware_does_not_know_the_command_is_told_to_update(find: Find) -> None:
    _, absent = find(Firmware(NOT_REGISTERED))
    assert "rpi-eeprom-update" in absent["power.pi"].hint


def test_another_machine_has_nothing_to_say(find: Find, tmp_path: Path) -> None:
    assert find(Firmware(), "NVIDIA Jetson Orin Nano\0") == ({}, {})
    assert list(probe(Host(sysroot=tmp_path / "empty"))) == []


@pytest.mark.parametrize(
    "answer",
    [
        "nothing of the kind",
        IDLE.replace("=0.", "=nan"),
        "\n".join(line.partition("=")[0] + "=0.00000000" + line[-1] for line in IDLE.splitlines()),
        LOAD.replace("=10.87674000A", "=987.67400000A"),
    ],
)
def test_an_implausible_answer_is_no_source(find: Find, answer: str) -> None:
    found, absent = find(Firmware(answer))
    assert "power.pi" not in found
    assert "not plausible" in absent["power.pi"].reason


def test_an_answer_cut_short_gives_no_total(find: Find) -> None:
    firmware = Firmware(LOAD)
    source = find(firmware)[0]["power.pi"]
    firmware.answers["pmic_read_adc"] = LOAD[: LOAD.index("VDD_CORE_V")]
    values = readings(source)
    assert isinstance(values["power.board"], Unavailable)
    assert isinstance(values["power.rails"], Unavailable)
    assert values["power.1V8_SYS"] == pytest.approx(0.1610285 * 1.798289)


def test_a_firmware_that_dies_is_lost_and_comes_back(find: Find) -> None:
    firmware = Firmware(LOAD)
    source = find(firmware)[0]["power.pi"]
    firmware.answers["pmic_read_adc"] = FirmwareError("/dev/vcio_gencmd: Connection timed out")
    with pytest.raises(SourceLost, match="timed out"):
        source.read()
    firmware.answers["pmic_read_adc"] = LOAD
    assert readings(source)["power.rails"] == pytest.approx(10.7999, abs=5e-5)


def test_a_fork_for_every_reading_is_asked_for_less_often(find: Find) -> None:
    assert find(Firmware(in_process=True))[0]["power.pi"].info.period_s == pytest.approx(0.1)
    assert find(Firmware(in_process=False))[0]["power.pi"].info.period_s == pytest.approx(0.5)


def test_throttling_is_told_bit_by_bit_now_and_since_boot(find: Find) -> None:
    values = readings(find(Firmware(throttled="throttled=0x50005"))[0]["throttle"])
    assert {name for name, value in values.items() if value == 1.0} == {
        "throttle.undervoltage",
        "throttle.slowed_down",
        "throttle.undervoltage_since_boot",
        "throttle.slowed_down_since_boot",
    }
    assert len(values) == 8


def test_a_dip_of_the_supply_between_two_readings_is_not_missed(find: Find) -> None:
    firmware = Firmware(throttled="throttled=0x20000")
    source = find(firmware)[0]["throttle"]
    told = []
    for answer in ("throttled=0x20000", "throttled=0x30000", "throttled=0x30000"):
        firmware.answers["get_throttled"] = answer
        told.append((readings(source)["throttle.undervoltage"], readings(source)["throttle.frequency_capped"]))
    assert told == [(0.0, 0.0), (1.0, 0.0), (0.0, 0.0)]


@pytest.mark.parametrize("answer", ["throttled=0x", "throttled=0xfffffffff", "temp=45.0'C"])
def test_an_answer_that_is_no_mask_is_no_throttling(find: Find, answer: str) -> None:
    found, absent = find(Firmware(throttled=answer))
    assert "throttle" not in found
    assert "is not an answer" in absent["throttle"].reason


def test_without_the_firmware_the_kernel_still_tells_of_undervoltage(find: Find, tmp_path: Path) -> None:
    alarm = "/sys/class/hwmon/hwmon3/in0_lcrit_alarm"
    tree: dict[str, str | int] = {
        "/sys/class/hwmon/hwmon0/name": "cpu_thermal",
        "/sys/class/hwmon/hwmon3/name": "rpi_volt",
        alarm: 1,
    }
    found, absent = find(FirmwareError("/dev/vcio: Permission denied", "sudo usermod"), files=tree)
    assert absent["power.pi"] == Unavailable("/dev/vcio: Permission denied", "sudo usermod")
    assert readings(found["throttle"]) == {"throttle.undervoltage": 1.0}
    (tmp_path / alarm.lstrip("/")).unlink()
    with pytest.raises(SourceLost):
        found["throttle"].read()


def test_without_firmware_and_kernel_throttling_is_absent_with_the_firmwares_reason(find: Find) -> None:
    found, absent = find(FirmwareError("/dev/vcio: Permission denied", "sudo usermod"))
    assert found == {}
    assert absent["throttle"] == Unavailable("/dev/vcio: Permission denied", "sudo usermod")


@pytest.mark.parametrize("model", ["Raspberry Pi 4 Model B Rev 1.5", "Raspberry Pi Compute Module 4 Rev 1.1"])
def test_the_five_of_a_revision_makes_no_pi_5(find: Find, model: str) -> None:
    _, absent = find(FirmwareError(f"pmic_read_adc: {NOT_REGISTERED}"), model)
    assert absent["power.pi"].reason == f"{model} has no power sensor"


@pytest.mark.parametrize("model", ["Raspberry Pi 500+ Rev 1.0", "Raspberry Pi Compute Module 5 Lite Rev 1.0"])
def test_a_pi_5_by_any_name_has_a_power_chip(find: Find, model: str) -> None:
    _, absent = find(FirmwareError(f"pmic_read_adc: {NOT_REGISTERED}"), model)
    assert absent["power.pi"].reason == "this firmware cannot read the power chip"


def test_in_a_container_that_masks_the_device_tree_a_pi_5_is_read(tmp_path: Path) -> None:
    host = plant(
        tmp_path, {"/proc/cpuinfo": f"Revision\t: d04170\nModel\t\t: {PI_5.rstrip(chr(0))}", "/.dockerenv": ""}
    )
    found = sources(probe(host, connect=lambda _: Firmware(LOAD), calibration_file=tmp_path / "calibration.json"))
    assert readings(found["power.pi"])["power.board"] == pytest.approx(12.955, abs=5e-4)


def test_a_first_reading_that_comes_late_is_asked_for_again(tmp_path: Path) -> None:
    firmware = Firmware(FirmwareError("vcgencmd pmic_read_adc: no answer in 2 s", retry=True))  # type: ignore[arg-type]
    host = plant(tmp_path, {"/proc/device-tree/model": PI_5})
    (absent, _) = probe(host, connect=lambda _: firmware, calibration_file=tmp_path / "calibration.json")
    assert isinstance(absent, UnavailableSource)
    assert absent.retry
