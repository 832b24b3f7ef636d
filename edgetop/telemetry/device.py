"""What machine this is."""

from __future__ import annotations

import os
import platform
import re

from edgetop.core.records import DeviceInfo
from edgetop.telemetry.host import Host, container, is_virtual_machine, text_of
from edgetop.telemetry.jetson import power_mode
from edgetop.telemetry.memory import parse_meminfo

_ARM_CORES = {
    ("0x41", "0xd03"): "Cortex-A53",
    ("0x41", "0xd04"): "Cortex-A35",
    ("0x41", "0xd05"): "Cortex-A55",
    ("0x41", "0xd07"): "Cortex-A57",
    ("0x41", "0xd08"): "Cortex-A72",
    ("0x41", "0xd09"): "Cortex-A73",
    ("0x41", "0xd0a"): "Cortex-A75",
    ("0x41", "0xd0b"): "Cortex-A76",
    ("0x41", "0xd0c"): "Neoverse-N1",
    ("0x41", "0xd0d"): "Cortex-A77",
    ("0x41", "0xd41"): "Cortex-A78",
    ("0x41", "0xd42"): "Cortex-A78AE",
    ("0x41", "0xd44"): "Cortex-X1",
    ("0x41", "0xd46"): "Cortex-A510",
    ("0x41", "0xd47"): "Cortex-A710",
    ("0x41", "0xd4b"): "Cortex-A78C",
    ("0x41", "0xd4c"): "Cortex-X1C",
    ("0x41", "0xd4f"): "Neoverse-V2",
    ("0x41", "0xd80"): "Cortex-A520",
    ("0x41", "0xd81"): "Cortex-A720",
    ("0x41", "0xd83"): "Neoverse-V3AE",
    ("0x4e", "0x004"): "Carmel",
    ("0x51", "0x001"): "Oryon",
}
"""Implementer and part of `/proc/cpuinfo` (Arm's Main ID Register; names as in lscpu)."""

_EMPTY_DMI = {"", "None", "O.E.M.", "To Be Filled By O.E.M.", "To be filled by O.E.M.", "System manufacturer",
              "System Product Name", "Default string", "Not Specified", "Not Applicable"}  # fmt: skip

_FILE_BYTES, _CPUINFO_BYTES = 4096, 1 << 20

_NAME_BYTES = 256


def describe(host: Host) -> DeviceInfo:
    """Everything that identifies the machine a session was recorded on; what is not known is empty or `None`."""
    cpuinfo = _text(host, "/proc/cpuinfo", _CPUINFO_BYTES)
    virtual = ("virtual machine" if is_virtual_machine(host) else "", container(host))
    return DeviceInfo(
        hostname=platform.node(),
        model=_model(host),
        cpu=_cpu(cpuinfo) or platform.processor(),
        cores_physical=_physical_cores(host),
        cores_logical=_logical_cores(host),
        memory_bytes=_memory_bytes(host),
        system=_system(host),
        governor=_short(host, "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        power_mode=power_mode(host),
        virtualised=", ".join(part for part in virtual if part),
    )


def _model(host: Host) -> str:
    tree = _short(host, "/proc/device-tree/model")
    if tree:
        return tree
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
        name = _ARM_CORES.get((implementer.lower(), part.lower()), f"{implementer}/{part}")
        counts[name] = counts.get(name, 0) + 1
    if counts:
        return " + ".join(f"{count}x {name}" for name, count in counts.items())
    named = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return " ".join(named[1].split()) if named else ""


def _physical_cores(host: Host) -> int | None:
    """Cores that are online, hyperthreads of one core counted once; `None` where the kernel does not tell."""
    if host.system != "linux":
        import psutil  # noqa: PLC0415 - Linux does without it, and it is slow to import

        return psutil.cpu_count(logical=False)
    cpus = list(host.path("/sys/devices/system/cpu").glob("cpu[0-9]*/topology"))
    # Before Linux 5.3 the list has the other name.
    cores = {
        text_of(cpu / "core_cpus_list", _FILE_BYTES) or text_of(cpu / "thread_siblings_list", _FILE_BYTES)
        for cpu in cpus
    }
    return len(cores - {""}) or None


def _logical_cores(host: Host) -> int | None:
    if host.system != "linux":
        return os.cpu_count()
    return len(re.findall(r"^cpu\d", _text(host, "/proc/stat", _CPUINFO_BYTES), re.MULTILINE)) or None


def _memory_bytes(host: Host) -> int | None:
    if host.system != "linux":
        import psutil  # noqa: PLC0415 - the same

        return int(psutil.virtual_memory().total)
    try:
        size_bytes = parse_meminfo(_text(host, "/proc/meminfo", _FILE_BYTES)).get("MemTotal")
    except ValueError:
        return None
    return None if size_bytes is None else int(size_bytes)


def _system(host: Host) -> str:
    release = _text(host, "/etc/os-release", _FILE_BYTES) or _text(host, "/usr/lib/os-release", _FILE_BYTES)
    pretty = re.search(r"""^PRETTY_NAME=(["']?)([^"'\n]*)\1$""", release, re.MULTILINE)
    name = f"{pretty[2]}, " if pretty else ""
    kernel = _short(host, "/proc/sys/kernel/osrelease") or platform.release()
    return f"{name}{platform.system()} {kernel} {platform.machine()}"


def _short(host: Host, path: str) -> str:
    """One line, with blanks for what is not printable: firmware fills these in."""
    text = _text(host, path, _NAME_BYTES)
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def _text(host: Host, path: str, size_bytes: int) -> str:
    try:
        with host.path(path).open("rb") as file:
            return file.read(size_bytes).decode("utf-8", "replace")
    except OSError:
        return ""
