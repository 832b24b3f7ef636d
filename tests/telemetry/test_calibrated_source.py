from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from edgetop.core.sources import Channel, PowerProperties, SourceInfo, Unavailable, of_channel, to_properties
from edgetop.telemetry.calibration import Calibration, CalibrationLine, calibratable, save
from edgetop.telemetry.host import Host
from edgetop.telemetry.jetson import probe
from edgetop.telemetry.registry import Inventory, take_inventory
from edgetop.telemetry.source import Source, Stamped, StampedSource
from tests.support.fake_sources import FakeSource
from tests.support.fake_sysfs import AGX_ORIN, ORIN_NANO, plant, readings
from tests.telemetry.test_registry import of

MACHINE = {"/etc/machine-id": "0123456789abcdef"}
LINE = CalibrationLine(slope=1.1, intercept_w=0.5, gain=0.06)
OWN = Calibration(
    device="0123456789abcdef", source="power.jetson", line=LINE, points=(), meter="USB meter", made_at="2026-10-12"
)


def take(host: Host, file: Path, *sources: Source) -> Inventory:
    probes = [("fakes", of(*sources))] if sources else [("jetson", probe)]
    return take_inventory(host, probes, calibration_file=file)


def meter(name: str, known: PowerProperties, *, unit: str = "W") -> FakeSource:
    """A source of one channel that reads 5.0."""
    fake = FakeSource(name, read=lambda: (5.0,))
    fake.info = SourceInfo(
        name=name,
        driver="fake",
        kind="power" if unit == "W" else "energy",
        period_s=1.0,
        channels=(Channel(name=f"{name}.value", unit=unit, scope="module"),),
        properties=to_properties({f"{name}.value": known}),
    )
    return fake


def test_the_total_is_corrected_and_its_rails_are_not(tmp_path: Path) -> None:
    file = tmp_path / "calibration.json"
    save(file, OWN)
    host = plant(tmp_path / "root", {**ORIN_NANO, **MACHINE})
    (source,) = take(host, file).sources
    values = readings(source)
    assert values["power.VDD_IN"] == pytest.approx(1.1 * 4.968 * 1.520 + 0.5)
    assert values["power.VDD_SOC"] == pytest.approx(4.960 * 0.496)
    source.close()


def test_what_is_known_of_the_total_is_of_what_it_shows_now(tmp_path: Path) -> None:
    file = tmp_path / "calibration.json"
    host = plant(tmp_path / "root", {**AGX_ORIN, **MACHINE})
    (plain,) = take(host, file).sources
    before = of_channel(plain.info, "power.total")
    save(file, OWN)
    (source,) = take(host, file).sources
    after = of_channel(source.info, "power.total")
    assert (before.sum_of, after.sum_of) == (
        ("power.VDD_GPU_SOC", "power.VDD_CPU_CV", "power.VIN_SYS_5V0"),
        (),
    )
    assert before.lsb_w is not None
    assert before.p_max_w is not None
    assert (after.gain, after.offset_w, after.calibration) == (0.06, 0.0, "own USB meter 2026-10-12")
    assert after.lsb_w == pytest.approx(1.1 * before.lsb_w)
    assert after.p_max_w == pytest.approx(1.1 * before.p_max_w + 0.5)
    assert (after.window_s, after.update_s, after.total) == (before.window_s, before.update_s, True)
    assert of_channel(source.info, "power.VDD_CPU_CV") == of_channel(plain.info, "power.VDD_CPU_CV")


def test_the_sensor_can_be_told_from_what_is_shown(tmp_path: Path) -> None:
    file = tmp_path / "calibration.json"
    save(file, OWN)
    (source,) = take(plant(tmp_path / "root", {**ORIN_NANO, **MACHINE}), file).sources
    total = calibratable(source.info)
    assert total is not None
    shown_w = readings(source)["power.VDD_IN"]
    assert isinstance(shown_w, float)
    assert total.sensor_w(shown_w) == pytest.approx(4.968 * 1.520)


@pytest.mark.parametrize(
    ("device", "source"), [("another-board", "power.jetson"), ("0123456789abcdef", "power.pi"), ("", "power.jetson")]
)
def test_a_calibration_of_another_device_or_source_changes_nothing(tmp_path: Path, device: str, source: str) -> None:
    file = tmp_path / "calibration.json"
    save(file, replace(OWN, device=device, source=source))
    tree = {**ORIN_NANO, **(MACHINE if device else {})}
    (found,) = take(plant(tmp_path / "root", tree), file).sources
    assert readings(found)["power.VDD_IN"] == pytest.approx(4.968 * 1.520)
    assert not [key for key in found.info.properties if key.startswith("calibration")]


def test_only_a_total_in_watts_that_stands_for_itself_can_be_calibrated() -> None:
    assert calibratable(meter("a", PowerProperties(total=True)).info) is not None
    assert calibratable(meter("a", PowerProperties()).info) is None
    assert calibratable(meter("a", PowerProperties(total=True), unit="J").info) is None
    assert calibratable(meter("a", PowerProperties(total=True, adds_up_as="gpu")).info) is None
    assert calibratable(FakeSource("gauge").info) is None


def test_a_source_that_corrects_itself_is_not_corrected_twice(tmp_path: Path) -> None:
    file = tmp_path / "calibration.json"
    save(file, replace(OWN, source="power.own"))
    source = meter("power.own", PowerProperties(total=True))
    source.info = replace(source.info, properties={**source.info.properties, "calibration_slope": 1.1})
    assert take(plant(tmp_path / "root", MACHINE), file, source).sources == (source,)


def test_missing_readings_stay_missing_and_closing_closes_the_sensor(tmp_path: Path) -> None:
    file = tmp_path / "calibration.json"
    save(file, replace(OWN, source="power.lost"))
    gone = Unavailable("on the charger")
    sensor = meter("power.lost", PowerProperties(total=True))
    sensor._read = lambda: (gone,)
    (source,) = take(plant(tmp_path / "root", MACHINE), file, sensor).sources
    assert source.read() == (gone,)
    source.close()
    assert sensor.closed == 1


def test_a_file_of_calibrations_that_cannot_be_read_is_told_and_the_sensor_read_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "calibration.json"
    file.write_text("{}[")
    (source,) = take(plant(tmp_path / "root", {**ORIN_NANO, **MACHINE}), file).sources
    assert readings(source)["power.VDD_IN"] == pytest.approx(4.968 * 1.520)
    note = source.info.properties["calibration_note"]
    assert isinstance(note, str)
    assert "calibrate again" in note


class StampedFake(FakeSource):
    """A source whose readings have times of their own."""

    def read_stamped(self) -> list[Stamped]:
        return [Stamped(7, (5.0,)), Stamped(9, (Unavailable("away"),))]


def test_readings_with_times_of_their_own_stay_so_when_they_are_corrected(tmp_path: Path) -> None:
    file = tmp_path / "calibration.json"
    host = plant(tmp_path / "root", {**MACHINE})
    save(file, replace(OWN, source="power.stream"))
    fake = StampedFake("power.stream", read=lambda: (5.0,))
    fake.info = meter("power.stream", PowerProperties(total=True)).info
    (source,) = take(host, file, fake).sources
    assert isinstance(source, StampedSource)
    read = source.read_stamped()
    assert [each.t_us for each in read] == [7, 9]
    assert [each.values[0] for each in read] == [pytest.approx(6.0), Unavailable("away")]
