"""Power modes, governors, clocks and fan of fake devices: set, read back, given back, after a crash as well."""

from __future__ import annotations

import errno
import getpass
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgetop.bench.device_settings import DeviceError, DeviceSettings
from edgetop.bench.plan import ModelFile, Setting
from edgetop.core.errors import UsageError
from edgetop.telemetry.host import Host
from tests.support.tunable_device import CPUFREQ, TUNABLE_ORIN, TUNABLE_PI, make_tunable

EMC = "/sys/kernel/debug/bpmp/debug/clk/emc"


def setting(**chosen: str) -> Setting:
    return Setting(model=ModelFile(path="a.gguf", label="a"), **chosen)  # type: ignore[arg-type]


class Device:
    """A tree, and what sets it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, tree: dict[str, Any]) -> None:
        self.folder = folder
        monkeypatch.setenv("PATH", f"{make_tunable(folder, tree)}:{os.environ['PATH']}")
        monkeypatch.setattr(os, "geteuid", lambda: 0)

    @property
    def state(self) -> Path:
        return self.folder / "benches/device.json"

    def settings(self, settle_s: float = 5.0) -> DeviceSettings:
        return DeviceSettings(self.state, Host(sysroot=self.folder / "root"), settle_s=settle_s)

    def read(self, name: str) -> str:
        return (self.folder / "root" / name.lstrip("/")).read_text().strip()

    def write(self, name: str, value: str) -> None:
        (self.folder / "root" / name.lstrip("/")).write_text(value)

    def files(self) -> dict[str, str]:
        """All that can be set."""
        names = (f"{CPUFREQ}/policy*/scaling_*", "/var/lib/nvpmodel/status", "/sys/class/hwmon/*/pwm1", f"{EMC}/*")
        root = self.folder / "root"
        return {str(file): file.read_text().strip() for name in names for file in sorted(root.glob(name.lstrip("/")))}


@pytest.fixture
def pi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Device:
    return Device(tmp_path, monkeypatch, TUNABLE_PI)


@pytest.fixture
def orin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Device:
    return Device(tmp_path, monkeypatch, TUNABLE_ORIN)


def test_governor_clocks_and_fan_are_set_and_given_back(pi: Device) -> None:
    before, device = pi.files(), pi.settings()
    wished = setting(governor="performance", cpu_clock="1.6GHz-2000MHz", fan="100%")
    device.require([wished])
    assert pi.files() == before, "asking changes nothing"
    device.apply(wished)
    policy = f"{CPUFREQ}/policy0"
    names = ("scaling_governor", "scaling_min_freq", "scaling_max_freq")
    assert [pi.read(f"{policy}/{name}") for name in names] == ["performance", "1600000", "2000000"]
    assert pi.read("/sys/class/hwmon/hwmon2/pwm1") == "255"
    assert pi.state.exists(), "what was before is on disk"
    device.apply(setting(fan="0%"))
    assert [pi.read(f"{policy}/{name}") for name in names] == ["ondemand", "1500000", "2400000"], "and nothing else"
    pi.write("/sys/class/hwmon/hwmon2/pwm1", "77")
    assert device.changed_by_others() == ["/sys/class/hwmon/hwmon2/pwm1 did not stay 0: it was 77"]
    device.restore()
    assert pi.files() == before
    assert not pi.state.exists()


def test_a_power_mode_with_its_highest_clocks(orin: Device) -> None:
    before, device = orin.files(), orin.settings()
    device.apply(setting(power_mode="maxn+jetson_clocks", memory_clock="665MHz"))
    assert orin.read("/var/lib/nvpmodel/status") == "pmode:0000"
    assert {orin.read(f"{CPUFREQ}/policy{number}/scaling_min_freq") for number in (0, 4)} == {"1728000"}
    assert (orin.read(f"{EMC}/rate"), orin.read(f"{EMC}/mrq_rate_locked")) == ("665000000", "1")
    device.apply(setting(power_mode="2"))
    assert orin.read("/var/lib/nvpmodel/status") == "pmode:0002"
    assert {orin.read(f"{CPUFREQ}/policy{number}/scaling_min_freq") for number in (0, 4)} == {"115200"}
    device.restore()
    assert orin.files() == before
    calls = (orin.folder / "calls").read_text().splitlines()
    assert [call.replace(str(orin.folder), "") for call in calls] == [
        "nvpmodel -m 0", "jetson_clocks --store /benches/device.clocks", "jetson_clocks ",
        "jetson_clocks --restore /benches/device.clocks", "nvpmodel -m 1", "nvpmodel -m 2", "nvpmodel -m 1",
    ]  # fmt: skip


def test_a_mode_that_is_not_reached_is_told_with_what_the_program_said(orin: Device) -> None:
    before, device = orin.files(), orin.settings(settle_s=0.2)
    with pytest.raises(DeviceError, match=r"nvpmodel is 15W and not 40W: .*Reboot required"):
        device.apply(setting(power_mode="40W", governor="performance"))
    assert orin.files() == before
    assert not orin.state.exists()


@pytest.mark.parametrize(
    ("chosen", "said", "hint"),
    [
        ({"power_mode": "7W"}, "'7W' is no mode of this device", "use MAXN, 15W, 25W, 40W"),
        ({"governor": "turbo"}, "'turbo' is not known here", "use conservative, ondemand"),
        ({"cpu_clock": "1GHz"}, "1GHz is no clock of policy0", "use 115.2MHz, 729.6MHz, 1728MHz"),
        ({"fan": "50%"}, "--fan: this device has no fan", "leave it out"),
    ],
)
def test_what_a_device_does_not_have_is_told_with_what_it_has(
    orin: Device, chosen: dict[str, str], said: str, hint: str
) -> None:
    with pytest.raises(UsageError) as told:
        orin.settings().require([setting(**chosen)])
    assert said in told.value.what
    assert hint in told.value.hint


def test_what_is_not_allowed_is_refused_with_the_line_that_allows_it(
    orin: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open

    def refuse(path: Any, flags: int, *more: Any, **named: Any) -> int:
        if flags & os.O_WRONLY and str(path).endswith("scaling_governor"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return opened(path, flags, *more, **named)

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(getpass, "getuser", lambda: "anna")
    with pytest.raises(UsageError) as told:
        orin.settings().require([setting(governor="performance")])
    assert told.value.hint == f"until the next start: sudo chown anna {CPUFREQ}/policy*/scaling_governor"
    programs = orin.folder / "programs"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    allows = (programs / "sudo").read_text()
    (programs / "sudo").write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(UsageError) as told:
        orin.settings().require([setting(power_mode="25W+jetson_clocks")])
    assert told.value.what == "jetson_clocks and nvpmodel may be used by root only"
    rule = f"anna ALL=(root) NOPASSWD: {programs}/jetson_clocks, {programs}/nvpmodel"
    assert told.value.hint == f"allow it: echo '{rule}' | sudo tee /etc/sudoers.d/edgetop"
    (programs / "sudo").write_text(allows)
    device = orin.settings()
    device.require([setting(power_mode="25W")])
    device.apply(setting(power_mode="25W"))
    assert orin.read("/var/lib/nvpmodel/status") == "pmode:0002", "sudo needs no password"
    device.restore()


def test_another_edgetop_that_has_set_the_device_is_left_alone(pi: Device) -> None:
    first, second = pi.settings(), pi.settings()
    first.apply(setting(governor="performance"))
    assert second.take_over() == []
    with pytest.raises(DeviceError, match="another edgetop"):
        second.apply(setting(governor="powersave"))
    assert pi.read(f"{CPUFREQ}/policy0/scaling_governor") == "performance"
    first.restore()
    assert pi.read(f"{CPUFREQ}/policy0/scaling_governor") == "ondemand"


KILLED = """
import os, signal, sys
from pathlib import Path
from edgetop.bench import device_settings
from edgetop.bench.plan import ModelFile, Setting
from edgetop.telemetry.host import Host

at = int(sys.argv[2])
write = device_settings.DeviceSettings._write
count = 0
def counted(self, change, value):
    global count
    count += 1
    if count == at:
        os.kill(os.getpid(), signal.SIGKILL)
    told = write(self, change, value)
    if count == -at:
        os.kill(os.getpid(), signal.SIGKILL)
    return told
device_settings.DeviceSettings._write = counted
folder = Path(sys.argv[1])
device = device_settings.DeviceSettings(folder / "benches/device.json", Host(sysroot=folder / "root"))
device.apply(Setting(model=ModelFile(path="a", label="a"), power_mode="MAXN+jetson_clocks", governor="performance"))
device.apply(Setting(model=ModelFile(path="a", label="a"), power_mode="25W"))
"""


@pytest.mark.parametrize("at", [1, -2, 3, -6, -9])
def test_after_kill_9_at_any_change_the_next_start_gives_all_back(orin: Device, at: int) -> None:
    before = orin.files()
    killed = subprocess.run([sys.executable, "-c", KILLED, str(orin.folder), str(at)], check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert orin.state.exists()
    orin.settings().take_over()
    assert orin.files() == before
    assert not orin.state.exists()


def test_after_a_restart_of_the_device_only_the_power_mode_is_given_back(orin: Device) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, str(orin.folder), "5"], check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    orin.write("/proc/sys/kernel/random/boot_id", "33333333")
    orin.write(f"{CPUFREQ}/policy0/scaling_governor", "powersave")
    assert [each.rpartition("/")[2] for each in orin.settings().take_over()] == ["nvpmodel: 15W"]
    assert orin.read("/var/lib/nvpmodel/status") == "pmode:0001"
    assert orin.read(f"{CPUFREQ}/policy0/scaling_governor") == "powersave", "what somebody set since then stays"


def test_what_cannot_be_given_back_is_told_with_the_line_that_does_it(
    pi: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = pi.settings(settle_s=0.1)
    device.apply(setting(governor="performance"))
    write: Callable[..., str] = DeviceSettings._write

    def fail(self: DeviceSettings, change: Any, value: str) -> str:
        raise DeviceError("refused")

    monkeypatch.setattr(DeviceSettings, "_write", fail)
    file = f"{CPUFREQ}/policy0/scaling_governor"
    with pytest.raises(DeviceError) as told:
        device.restore()
    assert told.value.hint == f"sudo sh -c 'echo ondemand > {file}'"
    assert pi.state.exists(), "the next start tries it again"
    monkeypatch.setattr(DeviceSettings, "_write", write)
    assert pi.settings().take_over() == [f"{file}: ondemand"]
    assert pi.read(file) == "ondemand"
