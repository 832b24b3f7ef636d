from __future__ import annotations

from pathlib import Path

import pytest

from edgetop.telemetry.registry import probe
from tests.support.fake_sysfs import absences, plant


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"/proc/device-tree/compatible": "radxa,rock-5b\0rockchip,rk3588\0"}, "RK3588"),
        ({"/proc/device-tree/compatible": "lenovo,t14s\0qcom,x1e78100\0"}, "Snapdragon X"),
        ({"/proc/cpuinfo": "vendor_id : GenuineIntel\nflags : fpu hypervisor"}, "virtual machine"),
        ({"/sys/class/dmi/id/sys_vendor": "QEMU"}, "virtual machine"),
        ({"/proc/1/cgroup": "0::/kubepods/pod1"}, "Kubernetes"),
    ],
)
def test_a_machine_known_to_have_no_sensor_says_why_and_names_meters(
    tmp_path: Path, files: dict[str, str | int], reason: str
) -> None:
    missing = absences(probe(plant(tmp_path, files)))["power"]
    assert reason in missing.reason
    assert "--power-exec" in missing.hint


def test_other_machines_are_left_to_the_probes(tmp_path: Path) -> None:
    files: dict[str, str | int] = {
        "/proc/cpuinfo": "vendor_id : GenuineIntel\nflags : fpu",
        "/sys/class/dmi/id/sys_vendor": "Dell Inc.",
        "/proc/1/cgroup": "0::/init.scope",
        "/proc/device-tree/compatible": "raspberrypi,5-model-b\0brcm,bcm2712\0",
    }
    assert not list(probe(plant(tmp_path, files)))
