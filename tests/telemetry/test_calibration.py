from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetop.telemetry.calibration import (
    LINEARITY,
    Calibration,
    CalibrationError,
    CalibrationLine,
    Point,
    device_key,
    fit,
    load,
    load_all,
    remove,
    save,
)
from edgetop.telemetry.host import Host


def points(*pairs: tuple[float, float]) -> list[Point]:
    return [Point(sensor_w=sensor_w, meter_w=meter_w) for sensor_w, meter_w in pairs]


def calibration(device: str, source: str = "power.pi", slope: float = 1.2) -> Calibration:
    pairs = points((2.0, 3.0), (10.0, 3.0 + 8.0 * slope))
    return Calibration(device=device, source=source, line=fit(pairs, meter_gain=0.01), points=tuple(pairs))


def test_two_points_give_the_line_through_them_and_the_prior_for_its_straightness() -> None:
    line = fit(points((1.7667, 2.6), (10.7999, 13.0)), meter_gain=0.01)
    assert line.corrected_w(1.7667) == pytest.approx(2.6)
    assert line.corrected_w(10.7999) == pytest.approx(13.0)
    assert line.gain == pytest.approx(0.01 + LINEARITY)


@given(
    slope=st.floats(0.6, 1.9),
    intercept_w=st.floats(0.0, 5.0),
    sensors=st.lists(st.floats(0.5, 30.0), min_size=2, max_size=12).filter(lambda w: max(w) - min(w) > 0.3 * max(w)),
)
def test_points_on_a_line_give_that_line(slope: float, intercept_w: float, sensors: list[float]) -> None:
    line = fit(points(*((w, slope * w + intercept_w) for w in sensors)), meter_gain=0.02)
    assert line.slope == pytest.approx(slope, rel=1e-6)
    assert line.intercept_w == pytest.approx(intercept_w, abs=1e-5)
    assert line.gain == pytest.approx(0.02 + (LINEARITY if len(sensors) < 4 else 0.0), abs=1e-6)


def test_scatter_about_the_line_widens_the_gain_by_its_uniform_half_width() -> None:
    # Residuals of +-0.1 W that are orthogonal to the line: s^2 = 4 * 0.01 / 2.
    line = fit(points((2.0, 2.1), (4.0, 3.9), (6.0, 5.9), (8.0, 8.1)), meter_gain=0.0)
    assert line.slope == pytest.approx(1.0)
    assert line.gain == pytest.approx(math.sqrt(3 * 0.02) / 5.0)


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        ([(3.0, 4.0)], "one point"),
        ([(3.0, 4.0), (3.3, 4.5)], "too close together"),
        ([(3.0, 4.0), (0.0, 9.0)], "no reading"),
        ([(3.0, 4.0), (math.nan, 9.0)], "no reading"),
        ([(2.0, 30.0), (10.0, 30.5)], "0.06 W for every watt"),
        ([(2.0, 3.0), (10.0, 60.0)], "for every watt"),
    ],
)
def test_points_that_no_line_can_be_trusted_through_are_refused(pairs: list[tuple[float, float]], said: str) -> None:
    with pytest.raises(CalibrationError, match=said) as refused:
        fit(points(*pairs), meter_gain=0.01)
    assert refused.value.hint


def test_a_calibration_is_found_again_by_device_and_source_only(tmp_path: Path) -> None:
    file = tmp_path / "edgetop" / "calibration.json"
    save(file, calibration("board-a"))
    save(file, calibration("board-b", slope=1.5))
    save(file, calibration("board-a", source="power.ina"))
    assert load(file, device="board-a", source="power.pi") == calibration("board-a")
    assert load(file, device="board-b", source="power.pi") == calibration("board-b", slope=1.5)
    assert load(file, device="board-b", source="power.ina") is None
    assert load(file, device="", source="power.pi") is None


def test_calibrating_again_replaces_the_earlier_fit(tmp_path: Path) -> None:
    file = tmp_path / "calibration.json"
    save(file, calibration("board"))
    save(file, calibration("board", slope=1.4))
    assert load_all(file) == (calibration("board", slope=1.4),)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"version":2}', b'{"calibrations":[{"device":1}]}', b"\xff"])
def test_a_damaged_file_is_told_of_and_not_overwritten(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "calibration.json"
    file.write_bytes(content)
    with pytest.raises(CalibrationError) as refused:
        load(file, device="board", source="power.pi")
    assert str(file) in refused.value.hint
    with pytest.raises(CalibrationError):
        save(file, calibration("board"))
    assert file.read_bytes() == content


def test_a_folder_that_cannot_be_made_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "edgetop").write_text("a file in the way")
    with pytest.raises(CalibrationError) as refused:
        save(tmp_path / "edgetop" / "calibration.json", calibration("board"))
    assert refused.value.hint


def test_a_device_is_known_by_its_serial_number_else_by_its_machine_id(tmp_path: Path) -> None:
    host = Host(sysroot=tmp_path)
    assert device_key(host) == ""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/machine-id").write_text("4f2c9a\n")
    assert device_key(host) == "4f2c9a"
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/serial-number").write_bytes(b"10000000ab12cd34\0")
    assert device_key(host) == "10000000ab12cd34"


def test_the_generic_form_of_a_line_is_slope_times_sensor_plus_intercept() -> None:
    assert CalibrationLine(slope=1.1451, intercept_w=0.5879, gain=0.15).corrected_w(10.7999) == pytest.approx(
        12.955, abs=5e-4
    )


def test_removing_takes_one_calibration_and_leaves_the_others(tmp_path: Path) -> None:
    file = tmp_path / "calibration.json"
    for each in (calibration("board-a"), calibration("board-a", source="power.jetson"), calibration("board-b")):
        save(file, each)
    remove(file, calibration("board-a"))
    assert [(each.device, each.source) for each in load_all(file)] == [
        ("board-a", "power.jetson"),
        ("board-b", "power.pi"),
    ]
