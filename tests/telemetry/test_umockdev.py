"""One run from end to end on devices that the kernel seems to have: umockdev gives the process another `/sys`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from edgetop.inference.scripted import Reply, Script
from edgetop.session.file_io import load_file

DEVICES = r"""P: /devices/platform/bus@0/c240000.i2c/i2c-1/1-0040/hwmon/hwmon3
E: SUBSYSTEM=hwmon
A: name=ina3221\n
A: in1_label=VDD_IN\n
A: in1_input=5032\n
A: curr1_input=1000\n
A: shunt1_resistor=5000\n

P: /devices/virtual/powercap/intel-rapl/intel-rapl:0
E: SUBSYSTEM=powercap
A: name=package-0\n
A: energy_uj=123456789\n
A: max_energy_range_uj=262143328850\n
"""
"""The sensor of an Orin Nano, and a counter that stands still, as that of a virtual machine may."""
POWER_W = 5.032


@pytest.mark.skipif(shutil.which("umockdev-run") is None, reason="umockdev is not installed")
def test_a_run_reads_the_kernel_s_own_tree_and_says_what_stands_still(
    tmp_path: Path,
) -> None:
    devices, script = tmp_path / "board.umockdev", tmp_path / "script.json"
    devices.write_text(DEVICES)
    script.write_bytes(msgspec.json.encode(Script(replies=(Reply(text="abcd" * 60),), tokens_per_s=20.0)))
    edgetop = [sys.executable, "-m", "edgetop", "run", "-p", "Go.", "--json", "--data-dir", str(tmp_path / "data")]
    ran = subprocess.run(
        ["umockdev-run", "--device", str(devices), "--", *edgetop],
        env={**os.environ, "EDGETOP_ENGINE": f"scripted:{script}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout)
    (turn,) = said["turns"]
    assert turn["energy"] is None
    assert "one and the same reading" in turn["energy_missing"]
    session = load_file(Path(said["session"]))
    assert "stand still" in session.absent["power.rapl"].reason
    (series,) = (each for each in session.series if each.source.name == "power.jetson")
    read = [value for values in series.values.values() for value in values if value is not None]
    assert read
    assert max(read) == pytest.approx(POWER_W, rel=1e-6)
