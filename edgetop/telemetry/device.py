"""What machine this is."""

from __future__ import annotations

import os
import platform
import re
from datetime import datetime, timezone
from pathlib import Path

from edgetop.core.records import DeviceInfo
from edgetop.io.cpus import cpu_quota
from edgetop.telemetry.host import CPUINFO_BYTES, FILE_BYTES, Host, board_model, container, is_virtual_machine, text_of
from edgetop.telemetry.jetson import l4t_version, power_mode
from edgetop.telemetry.memory import parse_meminfo

_ARM_CORES = {
    "0x41": {
        "0xd02": "Cortex-A34", "0xd03": "Cortex-A53", "0xd04": "Cortex-A35", "0xd05": "Cortex-A55",
        "0xd06": "Cortex-A65", "0xd07": "Cortex-A57", "0xd08": "Cortex-A72", "0xd09": "Cortex-A73",
        "0xd0a": "Cortex-A75", "0xd0b": "Cortex-A76", "0xd0c": "Neoverse-N1", "0xd0d": "Cortex-A77",
        "0xd0e": "Cortex-A76AE", "0xd40": "Neoverse-V1", "0xd41": "Cortex-A78", "0xd42": "Cortex-A78AE",
        "0xd43": "Cortex-A65AE", "0xd44": "Cortex-X1", "0xd46": "Cortex-A510", "0xd47": "Cortex-A710",
        "0xd48": "Cortex-X2", "0xd49": "Neoverse-N2", "0xd4a": "Neoverse-E1", "0xd4b": "Cortex-A78C",
        "0xd4c": "Cortex-X1C", "0xd4d": "Cortex-A715", "0xd4e": "Cortex-X3", "0xd4f": "Neoverse-V2",
        "0xd80": "Cortex-A520", "0xd81": "Cortex-A720", "0xd82": "Cortex-X4", "0xd83": "Neoverse-V3AE",
        "0xd84": "Neoverse-V3", "0xd85": "Cortex-X925", "0xd87": "Cortex-A725", "0xd88": "Cortex-A520AE",
        "0xd89": "Cortex-A720AE", "0xd8e": "Neoverse-N3",
    },
    "0x43": {
        "0x0af": "ThunderX2",
    },
    "0x46": {
        "0x001": "A64FX",
    },
    "0x48": {
        "0xd01": "TaiShan-v110", "0xd02": "TaiShan-v120",
    },
    "0x4e": {
        "0x003": "Denver-2", "0x004": "Carmel", "0x010": "Olympus",
    },
    "0x51": {
        "0x001": "Oryon", "0x800": "Kryo-2XX-Gold", "0x801": "Kryo-2XX-Silver", "0x802": "Kryo-3XX-Gold",
        "0x803": "Kryo-3XX-Silver", "0x804": "Kryo-4XX-Gold", "0x805": "Kryo-4XX-Silver", "0xc00": "Falkor",
        "0xc01": "Saphira",
    },
    "0x61": {
        "0x020": "Icestorm-A14", "0x021": "Firestorm-A14", "0x022": "Icestorm-M1", "0x023": "Firestorm-M1",
        "0x024": "Icestorm-M1-Pro", "0x025": "Firestorm-M1-Pro", "0x028": "Icestorm-M1-Max",
        "0x029": "Firestorm-M1-Max", "0x032": "Blizzard-M2", "0x033": "Avalanche-M2", "0x034": "Blizzard-M2-Pro",
        "0x035": "Avalanche-M2-Pro", "0x038": "Blizzard-M2-Max", "0x039": "Avalanche-M2-Max",
    },
    "0xc0": {
        "0xac3": "Ampere-1", "0xac4": "Ampere-1a", "0xac5": "Ampere-1b",
    },
}  # fmt: skip
"""Implementer and part of `/proc/cpuinfo` (Arm's Main ID Register; names as in lscpu)."""

_EMPTY_DMI = {"", "None", "O.E.M.", "To Be Filled By O.E.M.", "To be filled by O.E.M.", "System manufacturer",
              "System Product Name", "Default string", "Not Specified", "Not Applicable"}  # fmt: skip

_NAME_BYTES = 256


def describe(host: Host) -> DeviceInfo:
    """Everything that identifies the machine a session was recorded on; what is not known is empty or `None`."""
    cpuinfo = text_of(host.path("/proc/cpuinfo"), CPUINFO_BYTES)
    if host.sysroot == Path("/") and is_of_another_processor(cpuinfo, platform.machine()):
        cpuinfo = cpuinfo_of(_main_id(), os.cpu_count() or 1)
    virtual = ("virtual machine" if is_virtual_machine(host) else "", container(host))
    return DeviceInfo(
        hostname=platform.node(),
        model=_model(host),
        cpu=_cpu(cpuinfo) or platform.processor(),
        cores_physical=_physical_cores(host),
        cores_logical=_logical_cores(host),
        memory_bytes=_memory_bytes(host),
        system=_system(host),
        kernel=_short(host, "/proc/sys/kernel/osrelease") or platform.release(),
        firmware=_firmware(host),
        microcode=_microcode(cpuinfo),
        governor=_short(host, "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        power_mode=power_mode(host),
        cpu_quota=cpu_quota(host.sysroot) if host.system == "linux" else None,
        virtualised=", ".join(part for part in virtual if part),
    )


def is_of_another_processor(cpuinfo: str, machine: str) -> bool:
    """Whether an emulator of programs shows the `/proc/cpuinfo` of an x86 machine to a program for Arm."""
    return machine == "aarch64" and re.search(r"^vendor_id\s*:", cpuinfo, re.MULTILINE) is not None


def cpuinfo_of(main_id: int, count: int) -> str:
    """What `/proc/cpuinfo` says of cores with this Main ID Register (Arm ARM, MIDR_EL1)."""
    return f"CPU implementer\t: {main_id >> 24 & 0xFF:#04x}\nCPU part\t: {main_id >> 4 & 0xFFF:#05x}\n" * count


def _main_id() -> int:
    """MIDR_EL1, which emulators and the kernel let every program read: `mrs x0, midr_el1` and `ret`."""
    import ctypes  # noqa: PLC0415 - only below an emulator
    import mmap  # noqa: PLC0415 - the same
    import struct  # noqa: PLC0415 - the same

    code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(struct.pack("<2I", 0xD5380000, 0xD65F03C0))
    return int(ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(ctypes.c_char.from_buffer(code)))())


def _model(host: Host) -> str:
    board = board_model(host)
    if board:
        return board
    # The board's name stands in where the maker of a computer left its own out.
    vendor = _dmi(host, "sys_vendor") or _dmi(host, "board_vendor")
    return " ".join(name for name in (vendor, _dmi(host, "product_name") or _dmi(host, "board_name")) if name)


def _dmi(host: Host, name: str) -> str:
    value = _short(host, f"/sys/class/dmi/id/{name}")
    return "" if value in _EMPTY_DMI else value


def _cpu(cpuinfo: str) -> str:
    """`4x Cortex-A76` for Arm cores, whose "model name" says only that they are Arm; else the model's name."""
    implementers = re.findall(r"^CPU implementer\s*:\s*(\S+)$", cpuinfo, re.MULTILINE)
    parts = re.findall(r"^CPU part\s*:\s*(\S+)$", cpuinfo, re.MULTILINE)
    counts: dict[str, int] = {}
    for implementer, part in zip(implementers, parts, strict=False):
        name = _ARM_CORES.get(implementer.lower(), {}).get(part.lower(), f"{implementer}/{part}")
        counts[name] = counts.get(name, 0) + 1
    if counts:
        return " + ".join(f"{count}x {name}" for name, count in counts.items())
    # A RISC-V kernel names the design of the cores.
    named = re.search(r"^(?:model name|uarch)\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return " ".join(named[1].split()) if named else ""


def _physical_cores(host: Host) -> int | None:
    """Cores that are online, hyperthreads of one core counted once; `None` where the kernel does not report."""
    if host.system != "linux":
        import psutil  # noqa: PLC0415 - Linux does without it, and it is slow to import

        return psutil.cpu_count(logical=False)
    cpus = list(host.path("/sys/devices/system/cpu").glob("cpu[0-9]*/topology"))
    # Before Linux 5.3 the list has the other name.
    cores = {
        text_of(cpu / "core_cpus_list", FILE_BYTES) or text_of(cpu / "thread_siblings_list", FILE_BYTES) for cpu in cpus
    }
    return len(cores - {""}) or None


def _logical_cores(host: Host) -> int | None:
    if host.system != "linux":
        return os.cpu_count()
    return len(re.findall(r"^cpu\d", text_of(host.path("/proc/stat"), CPUINFO_BYTES), re.MULTILINE)) or None


def _memory_bytes(host: Host) -> int | None:
    if host.system != "linux":
        import psutil  # noqa: PLC0415 - the same

        return int(psutil.virtual_memory().total)
    try:
        size_bytes = parse_meminfo(text_of(host.path("/proc/meminfo"), FILE_BYTES)).get("MemTotal")
    except ValueError:
        return None
    return None if size_bytes is None else int(size_bytes)


def _system(host: Host) -> str:
    release = text_of(host.path("/etc/os-release"), FILE_BYTES) or text_of(host.path("/usr/lib/os-release"), FILE_BYTES)
    pretty = re.search(r"""^PRETTY_NAME=(["']?)([^"'\n]*)\1$""", release, re.MULTILINE)
    name = f"{pretty[2]}, " if pretty else ""
    kernel = _short(host, "/proc/sys/kernel/osrelease") or platform.release()
    return f"{name}{platform.system()} {kernel} {platform.machine()}"


def _firmware(host: Host) -> str:
    """Versions of what runs below the system: Jetson Linux, a Raspberry Pi's bootloader, the BIOS."""
    l4t = l4t_version(host)
    bios = " ".join(
        part for part in (_dmi(host, "bios_vendor"), _dmi(host, "bios_version"), _dmi(host, "bios_date")) if part
    )
    # A Raspberry Pi's bootloader writes its build time, in seconds since 1970, into the device tree.
    built = host.path("/proc/device-tree/chosen/bootloader/build-timestamp")
    try:
        seconds = int.from_bytes(built.read_bytes()[:4], "big")
    except OSError:
        seconds = 0
    eeprom = f"EEPROM {datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%d}" if seconds else ""
    return ", ".join(part for part in (f"L4T {l4t}" if l4t else "", eeprom, bios) if part)


def _microcode(cpuinfo: str) -> str:
    named = re.search(r"^microcode\s*:\s*(\S+)$", cpuinfo, re.MULTILINE)
    return named[1] if named else ""


def _short(host: Host, path: str) -> str:
    """One line, with blanks for what is not printable: firmware fills these in."""
    text = text_of(host.path(path), _NAME_BYTES)
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
