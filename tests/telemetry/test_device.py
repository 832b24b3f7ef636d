"""Which machine it is, from four fake ones."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from edgetop.telemetry.device import describe
from edgetop.telemetry.host import Host
from tests.support.fake_sysfs import BARE_VM, JETSON, LAPTOP, PI_5, plant


def test_a_raspberry_pi(tmp_path: Path) -> None:
    device = describe(plant(tmp_path, PI_5))
    assert device.model == "Raspberry Pi 5 Model B Rev 1.0"
    assert device.cpu == "4x Cortex-A76"
    assert (device.cores_physical, device.cores_logical) == (4, 4)
    assert device.memory_bytes == 8_256_000 * 1024
    assert device.governor == "ondemand"
    assert (device.power_mode, device.virtualised) == ("", "")
    assert device.system.startswith("Debian GNU/Linux 12 (bookworm), ")
    assert "6.12.25+rpt-rpi-2712" in device.system


def test_a_jetson_with_two_cores_switched_off(tmp_path: Path) -> None:
    device = describe(plant(tmp_path, JETSON))
    assert device.model == "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super"
    assert device.cpu == "4x Cortex-A78AE"
    assert (device.cores_physical, device.cores_logical) == (4, 4)
    assert device.power_mode == "MAXN_SUPER"
    assert device.system.startswith("Ubuntu 22.04.5 LTS, ")


def test_a_laptop_with_two_kinds_of_cores_on_an_older_kernel(tmp_path: Path) -> None:
    device = describe(plant(tmp_path, LAPTOP))
    assert device.model == "LENOVO 21AH00BSGE"
    assert device.cpu == "12th Gen Intel(R) Core(TM) i5-1240P"
    assert (device.cores_physical, device.cores_logical) == (6, 8)
    assert device.system.startswith("Fedora Linux 42, ")


def test_a_virtual_machine_in_a_container(tmp_path: Path) -> None:
    device = describe(plant(tmp_path, {**BARE_VM, "/.dockerenv": ""}))
    assert device.model == "QEMU"
    assert device.cpu == "AMD EPYC"
    assert device.cores_physical is None
    assert device.virtualised == "virtual machine, Docker"


def test_a_board_is_named_where_its_maker_left_the_product_out(tmp_path: Path) -> None:
    dmi = "/sys/class/dmi/id"
    tree: dict[str, str | int] = {
        f"{dmi}/sys_vendor": "To be filled by O.E.M.",
        f"{dmi}/product_name": "System Product Name",
        f"{dmi}/board_vendor": "ASUSTeK COMPUTER INC.",
        f"{dmi}/board_name": "PN64",
    }
    assert describe(plant(tmp_path, tree)).model == "ASUSTeK COMPUTER INC. PN64"


def test_cores_of_several_kinds_and_of_unknown_ones_are_counted(tmp_path: Path) -> None:
    cores = [("0x41", "0xd05")] * 4 + [("0x41", "0xd0b")] * 2 + [("0x99", "0xABC")]
    text = "\n".join(f"CPU implementer\t: {implementer}\nCPU part\t: {part}" for implementer, part in cores)
    device = describe(plant(tmp_path, {"/proc/cpuinfo": text}))
    assert device.cpu == "4x Cortex-A55 + 2x Cortex-A76 + 1x 0x99/0xABC"


def test_nothing_known_is_no_error_and_no_zero(tmp_path: Path) -> None:
    device = describe(plant(tmp_path, {"/proc/meminfo": "MemTotal: many kB", "/proc/stat": "", "/etc/os-release": "x"}))
    assert (device.model, device.governor, device.virtualised) == ("", "", "")
    assert (device.cores_physical, device.cores_logical, device.memory_bytes) == (None, None, None)


def test_names_from_firmware_are_one_line_without_control_characters(tmp_path: Path) -> None:
    tree: dict[str, str | int] = {"/proc/device-tree/model": "Board\x1b]0;x\x07\n two\x00" + "long" * 1000}
    model = describe(plant(tmp_path, tree)).model
    assert model.startswith("Board ]0;x two long")
    assert model.isprintable()
    assert len(model) <= 256


def test_elsewhere_than_on_linux_psutil_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "cpu_count", lambda logical: None if logical else 8)
    monkeypatch.setattr(os, "cpu_count", lambda: 10)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=17))
    device = describe(Host(sysroot=tmp_path, system="darwin"))
    assert (device.cores_physical, device.cores_logical, device.memory_bytes) == (8, 10, 17)
