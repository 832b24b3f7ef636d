"""`edgetop bench --power-mode` and its like on fake devices: what it finds, and what it leaves behind."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.commands.machine import Machine
from tests.support.eventually import eventually
from tests.support.isolated_home import IsolatedHome
from tests.support.tunable_device import CPUFREQ, TUNABLE_ORIN, TUNABLE_PI, make_tunable

QUICK = ("-p", "0", "-n", "64", "-r", "3", "--idle", "0", "--cool-down-limit", "0", "--no-warmup")
STATUS = "var/lib/nvpmodel/status"


def test_25_w_beats_maxn_and_is_said_first(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake nvpmodel makes the engine four times as fast in 25 W as in MAXN, which shows on a busy machine too."""
    machine.script(tokens_per_s=50.0)
    folder = machine.root.parent
    monkeypatch.setenv("PATH", f"{make_tunable(folder, TUNABLE_ORIN)}:{os.environ['PATH']}")
    ran = machine.run("bench", *QUICK, "-r", "4", "-n", "16", "--order", "blocks", "--power", "none",
                      "--power-mode", "MAXN,15W,25W")  # fmt: skip
    assert ran.code == 0, ran.stderr
    first, *rest = [line for line in ran.stdout.splitlines() if line.endswith(".")]
    assert first.startswith("scripted: power mode 25W beats MAXN: "), ran.stdout
    assert first.endswith("% faster.")
    assert not any("beats" in line for line in rest)
    assert "the power mode was" not in ran.stderr
    assert (machine.root / STATUS).read_text() == "pmode:0001", "as before"
    assert not list(folder.glob("data/benches/device.json"))
    modes = [row["power_mode"] for row in machine.run("bench", "--resume", "-o", "json").json()]
    assert sorted(set(modes)) == ["15W", "25W", "MAXN"]


def test_what_a_device_does_not_have_is_told_before_anything_is_measured(machine: Machine) -> None:
    machine.script(tokens_per_s=500.0)
    make_tunable(machine.root.parent, TUNABLE_PI)
    for arguments, code, said in (
        (("--power-mode", "25W"), 2, "--power-mode: this device has none to set"),
        (("--governor", "turbo"), 2, "use conservative, ondemand, userspace, powersave, performance, schedutil"),
        (("--cpu-clock", "3GHz-1GHz"), 2, "the lowest and the highest such as 600MHz-1.5GHz"),
        (("--fan", "150%"), 2, "from 0% to 100%"),
    ):
        ran = machine.run("bench", *QUICK, *arguments)
        assert (ran.code, ran.stdout) == (code, ""), ran
        assert said in ran.stderr
        assert not list(machine.root.parent.glob("data/sessions/*.json"))
        assert not list(machine.root.parent.glob("data/benches/*/plan.json")), "no empty plan is left"


def test_a_benchmark_that_was_killed_is_given_back_by_the_next_start(tmp_path: Path) -> None:
    home = IsolatedHome(tmp_path)
    home.environment["PATH"] = f"{make_tunable(tmp_path, TUNABLE_PI)}:{home.environment['PATH']}"
    home.environment["EDGETOP_SYSROOT"] = str(tmp_path / "root")
    governor = tmp_path / "root" / f"{CPUFREQ}/policy0/scaling_governor".lstrip("/")
    arguments = ("bench", *QUICK, "-n", "400", "--governor", "performance,powersave", "--power", "none")
    try:
        running = subprocess.Popen([*home.scripted(tokens_per_s=20.0), *arguments], env=home.environment, cwd=tmp_path,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)  # fmt: skip
        eventually(lambda: home.journal_paths and governor.read_text() == "performance", "a run is under way")
        running.send_signal(signal.SIGKILL)
        running.wait()
        home.everyone_gone()
        assert governor.read_text() == "performance"
        listed = home.run("sessions")
        assert "given back after a benchmark that was killed: " in listed.stderr
        assert governor.read_text() == "ondemand"
        assert "given back" not in home.run("sessions").stderr

        running = subprocess.Popen([*home.scripted(tokens_per_s=20.0), *arguments], env=home.environment, cwd=tmp_path,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)  # fmt: skip
        eventually(lambda: home.journal_paths and governor.read_text() == "performance", "a run is under way")
        running.send_signal(signal.SIGTERM)
        assert running.wait() == 130
        assert governor.read_text() == "ondemand"
    finally:
        home.end()
