"""Which machine it is, from four fake ones."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from edgetop.telemetry.device import cpuinfo_of, describe, is_of_another_processor
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


@pytest.mark.parametrize(
    ("parts", "cpu"),
    [
        ([("0x41", "0xd85")] * 10 + [("0x41", "0xd87")] * 10, "10x Cortex-X925 + 10x Cortex-A725"),
        ([("0x61", "0x022")] * 4 + [("0x61", "0x023")] * 4, "4x Icestorm-M1 + 4x Firestorm-M1"),
        ([("0xc0", "0xac3")] * 2, "2x Ampere-1"),
        ([("0x41", "0xd40"), ("0x41", "0xd49")], "1x Neoverse-V1 + 1x Neoverse-N2"),
        ([("0x51", "0x804")] * 2, "2x Kryo-4XX-Gold"),
    ],
)
def test_current_arm_cores_have_names(tmp_path: Path, parts: list[tuple[str, str]], cpu: str) -> None:
    text = "".join(f"processor\t: {n}\nCPU implementer\t: {i}\nCPU part\t: {p}\n\n" for n, (i, p) in enumerate(parts))
    assert describe(plant(tmp_path, {"/proc/cpuinfo": text})).cpu == cpu


def test_an_emulated_core_is_named_by_its_register(tmp_path: Path) -> None:
    """What qemu-aarch64 -cpu cortex-a76 shows on an x86 machine: its cpuinfo, and the register of the Arm core."""
    x86 = "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC\n"
    assert is_of_another_processor(x86, "aarch64")
    assert not is_of_another_processor(x86, "x86_64")
    assert not is_of_another_processor(cpuinfo_of(0x414FD0B1, 2), "aarch64")
    plant(tmp_path, {"proc/cpuinfo": cpuinfo_of(0x414FD0B1, 2)})
    assert describe(Host(sysroot=tmp_path, system="linux")).cpu == "2x Cortex-A76"


def test_risc_v_cores_are_named_by_their_design(tmp_path: Path) -> None:
    text = "processor\t: 0\nhart\t\t: 1\nisa\t\t: rv64imafdc\nuarch\t\t: sifive,u74-mc\n"
    assert describe(plant(tmp_path, {"/proc/cpuinfo": text})).cpu == "sifive,u74-mc"


def test_kernel_firmware_and_microcode_are_recorded_where_they_are_told(tmp_path: Path) -> None:
    dmi = "/sys/class/dmi/id"
    laptop = describe(
        plant(
            tmp_path / "laptop",
            {
                **LAPTOP,
                "/proc/cpuinfo": f"{LAPTOP['/proc/cpuinfo']}\nmicrocode\t: 0x437\n",
                f"{dmi}/bios_vendor": "LENOVO",
                f"{dmi}/bios_version": "N3MET22W (1.21 )",
                f"{dmi}/bios_date": "01/14/2025",
            },
        )
    )
    assert laptop.kernel
    assert laptop.kernel in laptop.system
    assert (laptop.firmware, laptop.microcode) == ("LENOVO N3MET22W (1.21 ) 01/14/2025", "0x437")
    release = {"/etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic"}
    assert describe(plant(tmp_path / "jetson", {**JETSON, **release})).firmware == "L4T 36.4.3"
    built = "proc/device-tree/chosen/bootloader/build-timestamp"
    host = plant(tmp_path / "pi", PI_5)
    assert describe(host).firmware == ""
    file = tmp_path / "pi" / built
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes((1_735_000_000).to_bytes(4, "big"))
    assert describe(host).firmware == "EEPROM 2024-12-24"
