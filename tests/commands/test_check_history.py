"""`edgetop check --history` over sessions of this machine and of another one."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from msgspec.structs import replace

from edgetop.core.records import DeviceInfo, SessionStarted
from edgetop.session.file_io import save
from edgetop.telemetry.device import describe
from edgetop.telemetry.host import Host
from tests.commands.machine import JETSON, Machine
from tests.support.recorded_sessions import ENGINE, HEAD, MS, PREDICTED, S, figure_around, fold, sample, turn


@pytest.fixture
def recorded(machine: Machine, tmp_path: Path) -> Machine:
    """Two sessions of this machine that decoded ten tokens a second, and one of another that did so, too."""
    machine.plant(JETSON)
    here = describe(Host(sysroot=machine.root))
    folder = tmp_path / "data/sessions"
    other = DeviceInfo(hostname="pi", model="Raspberry Pi 5")
    for name, device, rate in (("1", here, 11.0), ("2", here, 14.0), ("3", other, 30.0)):
        write(folder / f"2026101{name}-120000-tiny-{name}.json", device, rate)
    return machine


def write(path: Path, device: DeviceInfo, rate: float) -> None:
    started = HEAD[0]
    assert isinstance(started, SessionStarted)
    prediction = replace(PREDICTED.prediction, decode_tokens_per_s=figure_around(rate), decode_s_per_position=0.0)
    records = [
        replace(started, device=device, session_id=path.stem[-1] * 12), *HEAD[1:],
        replace(PREDICTED, prediction=prediction), *turn(gaps_us=(100 * MS,) * 40),
        sample(ENGINE, 2 * S, 400_000_000.0, 0.0, 0.0),
    ]  # fmt: skip
    save(path, fold(records))


def test_predictions_stand_beside_what_was_measured_the_newest_first(recorded: Machine) -> None:
    ran = recorded.run("check", "--history")
    assert ran.code == 0
    rows = [line.split("  ") for line in ran.stdout.split("\n\n")[0].splitlines()[1:]]
    decodes = [" ".join(row) for row in rows if "decode" in row]
    assert len(decodes) == 2
    assert "14.0 tok/s" in decodes[0]
    assert "+40.0%" in decodes[0]
    assert "outside" in decodes[0]
    assert "+10.0%" in decodes[1]
    assert "inside" in decodes[1]
    summary = ran.stdout.split("\n\n")[1].splitlines()
    assert summary[0].split()[:2] == ["FIGURE", "PREDICTIONS"]
    assert [line.split() for line in summary if line.startswith("decode")] == [
        ["decode", "2", "25.0%", "+25.0%", "1", "of", "2"]
    ]
    assert [line.split()[:4] for line in summary if line.startswith("memory")] == [["memory", "2", "25.0%", "+25.0%"]]


def test_json_and_csv_hold_the_same_figures(recorded: Machine) -> None:
    told = recorded.run("check", "--history", "--json").json()
    assert [session["session"] for session in told["sessions"]] == ["2" * 12, "1" * 12]
    (decode,) = [record for record in told["records"] if record["quantity"] == "decode"]
    assert decode == {
        "quantity": "decode", "count": 2, "median_error": pytest.approx(0.25), "median_bias": pytest.approx(0.25),
        "inside": 1,
    }  # fmt: skip
    rows = list(csv.DictReader(io.StringIO(recorded.run("check", "--history", "--csv").stdout)))
    assert [float(row["error"]) for row in rows if row["figure"] == "decode"] == pytest.approx([0.4, 0.1])
    assert {row["session"] for row in rows} == {"2" * 12, "1" * 12}


def test_in_another_power_mode_it_is_another_machine(recorded: Machine) -> None:
    recorded.plant({"/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave"})
    ran = recorded.run("check", "--history")
    assert (ran.code, ran.stdout) == (0, "")
    assert "edgetop bench" in ran.stderr


def test_what_is_no_session_is_passed_over(recorded: Machine, tmp_path: Path) -> None:
    (tmp_path / "data/sessions/20261019-broken.json").write_text('{"format":"edgetop-session"')
    assert len(recorded.run("check", "--history", "--json").json()["sessions"]) == 2
