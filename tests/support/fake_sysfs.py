"""Fake `/sys`, `/proc` and `/etc` trees: how to write them, what a probe says of them, and four whole devices."""

from __future__ import annotations

import errno
import itertools
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgetop.core.sources import Unavailable
from edgetop.telemetry import host
from edgetop.telemetry.host import Host
from edgetop.telemetry.source import Source, UnavailableSource


def plant(root: Path, files: Mapping[str, str | int]) -> Host:
    """Write files, given by absolute path, below `root`; a host that reads them."""
    for absolute, content in files.items():
        path = root / absolute.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return Host(sysroot=root)


def below(folder: str, files: Mapping[str, str | int]) -> dict[str, str | int]:
    """The same files in a folder."""
    return {f"{folder}/{name}": content for name, content in files.items()}


def sources(found: Iterable[Source | UnavailableSource]) -> dict[str, Source]:
    """The sources among what a probe yields, by name."""
    return {each.info.name: each for each in found if not isinstance(each, UnavailableSource)}


def absences(found: Iterable[Source | UnavailableSource]) -> dict[str, Unavailable]:
    """What a probe says that it cannot read, by name."""
    return {each.name: each.missing for each in found if isinstance(each, UnavailableSource)}


def readings(source: Source) -> dict[str, float | Unavailable]:
    """One reading by channel name."""
    return dict(zip((channel.name for channel in source.info.channels), source.read(), strict=True))


def no_pause(_seconds: float) -> None:
    """Let no time pass."""


def adding(root: Path, steps: Mapping[str, int], wrap: int | None = None) -> Callable[[float], None]:
    """A pause during which counters advance by their steps, wrapping at `wrap`."""

    def pause(_seconds: float) -> None:
        for absolute, step in steps.items():
            path = root / absolute.lstrip("/")
            value = int(path.read_text()) + step
            path.write_text(f"{value % wrap if wrap else value}\n")

    return pause


def deny(monkeypatch: pytest.MonkeyPatch, *parts: str) -> None:
    """Refuse to open paths that contain one of `parts`. Tests may run as root, whom no mode bits stop."""
    really_open = host.open_file

    def refuse(path: Path) -> int:
        if any(part in str(path) for part in parts):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return really_open(path)

    monkeypatch.setattr(host, "open_file", refuse)


Tree = dict[str, str | int]


def proc_stat(cores: Mapping[int, tuple[int, ...]]) -> str:
    """The text of `/proc/stat`: by core user, nice, system, idle, iowait, irq, softirq, steal, in ticks."""
    total = tuple(map(sum, zip(*cores.values(), strict=True)))
    lines = [f"{name} {' '.join(map(str, times))} 0 0" for name, times in (("cpu ", total), *_named(cores))]
    return "\n".join([*lines, "intr 886652 0 0 1", "ctxt 1", "btime 1760000000", "softirq 1 2 3"])


def meminfo(total_kib: int, available_kib: int, swap_kib: int = 0, swap_free_kib: int = 0) -> str:
    """The text of `/proc/meminfo`, shortened."""
    return "\n".join(
        [
            f"MemTotal:       {total_kib:>8} kB",
            f"MemFree:        {available_kib // 2:>8} kB",
            f"MemAvailable:   {available_kib:>8} kB",
            f"SwapTotal:      {swap_kib:>8} kB",
            f"SwapFree:       {swap_free_kib:>8} kB",
            "HugePages_Total:       0",
            "Hugepagesize:       2048 kB",
        ]
    )


def zone(number: int, kind: str, millidegrees: int | str) -> Tree:
    """A thermal zone."""
    return below(f"/sys/class/thermal/thermal_zone{number}", {"type": kind, "temp": millidegrees})


def cooler(number: int, kind: str, state: int) -> Tree:
    """A cooling device."""
    return below(f"/sys/class/thermal/cooling_device{number}", {"type": kind, "cur_state": state})


def policy(number: int, now_khz: int | str, most_khz: int) -> Tree:
    """Cores that share a clock, the first of them being `number`."""
    files: Tree = {"scaling_cur_freq": now_khz, "cpuinfo_max_freq": most_khz}
    return below(f"/sys/devices/system/cpu/cpufreq/policy{number}", files)


def topology(groups: Mapping[int, str], name: str = "core_cpus_list") -> Tree:
    """By core the list of cores that are hyperthreads of the same."""
    return {f"/sys/devices/system/cpu/cpu{core}/topology/{name}": group for core, group in groups.items()}


IDLE = (0, 0, 0, 1000, 0, 0, 0, 0)


def _arm_cores(count: int, part: str) -> str:
    core = f"BogoMIPS\t: 108.00\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU part\t: {part}\nCPU revision\t: 1\n"
    return "\n".join(
        f"processor\t: {number}\nmodel name\t: ARMv8 Processor rev 1 (v8l)\n{core}" for number in range(count)
    )


def _named(cores: Mapping[int, tuple[int, ...]]) -> list[tuple[str, tuple[int, ...]]]:
    return [(f"cpu{core}", times) for core, times in cores.items()]


PI_5: Tree = {
    "/proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
    "/proc/cpuinfo": _arm_cores(4, "0xd0b") + "\nRevision\t: d04170\nModel\t\t: Raspberry Pi 5 Model B Rev 1.0",
    "/proc/stat": proc_stat(dict.fromkeys(range(4), IDLE)),
    "/proc/meminfo": meminfo(8_256_000, 7_400_000, 204_784, 204_784),
    "/proc/sys/kernel/osrelease": "6.12.25+rpt-rpi-2712",
    "/etc/os-release": 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian',
    "/sys/devices/system/cpu/present": "0-3",
    "/sys/devices/system/cpu/offline": "",
    "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand",
    **topology({core: str(core) for core in range(4)}),
    **policy(0, 2_400_000, 2_400_000),
    **zone(0, "cpu-thermal", 58_450),
    **cooler(0, "pwm-fan", 3),
    "/sys/class/hwmon/hwmon0/name": "cpu_thermal",
    "/sys/class/hwmon/hwmon0/temp1_input": 58_450,
    "/sys/class/hwmon/hwmon1/name": "rpi_volt",
    "/sys/class/hwmon/hwmon1/in0_lcrit_alarm": 1,
}

JETSON: Tree = {
    "/proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
    "/proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005-super\0nvidia,tegra234\0",
    "/proc/cpuinfo": _arm_cores(4, "0xd42"),
    "/proc/stat": proc_stat(dict.fromkeys(range(4), IDLE)),
    "/proc/meminfo": meminfo(7_800_000, 5_000_000, 3_900_000, 3_800_000),
    "/etc/os-release": "PRETTY_NAME='Ubuntu 22.04.5 LTS'",
    "/etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >",
    "/var/lib/nvpmodel/status": "pmode:0002",
    "/sys/devices/system/cpu/present": "0-5",
    "/sys/devices/system/cpu/offline": "4-5",
    "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "schedutil",
    **topology({core: str(core) for core in range(4)}),
    **policy(0, 1_344_000, 1_728_000),
    **policy(4, "<unknown>", 1_728_000),
    **zone(0, "cpu-thermal", 51_312),
    **zone(1, "gpu-thermal", 49_656),
    **zone(2, "cv0-thermal", -256_000),
    **zone(8, "tj-thermal", 51_312),
    **cooler(0, "pwm-fan", 2),
    **cooler(1, "cpufreq-cpu0", 0),
    **cooler(2, "devfreq-17000000.gpu", 0),
    **cooler(3, "cpu-throttle-alert", 0),
    **below(
        "/sys/class/hwmon/hwmon2",
        {"name": "soctherm_oc", "oc1_event_cnt": 0, "oc2_event_cnt": 12, "oc3_event_cnt": 27_390},
    ),
}

LAPTOP: Tree = {
    "/sys/class/dmi/id/sys_vendor": "LENOVO",
    "/sys/class/dmi/id/product_name": "21AH00BSGE",
    "/proc/cpuinfo": "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: 12th Gen Intel(R) Core(TM)  i5-1240P\n"
    "flags\t\t: fpu vme",
    "/proc/stat": proc_stat(dict.fromkeys(range(8), IDLE)),
    "/proc/meminfo": meminfo(16_000_000, 9_000_000, 8_000_000, 7_000_000),
    "/usr/lib/os-release": 'PRETTY_NAME="Fedora Linux 42"',
    "/sys/devices/system/cpu/present": "0-7",
    "/sys/devices/system/cpu/offline": "",
    "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave",
    **topology(
        {core: f"{core & ~1}-{core | 1}" if core < 4 else str(core) for core in range(8)}, "thread_siblings_list"
    ),
    **{path: khz for number in range(8) for path, khz in policy(number, 400_000 + number, 3_300_000).items()},
    **policy(2, 4_390_000, 4_400_000),
    **zone(0, "acpitz", 0),
    **zone(3, "x86_pkg_temp", 71_000),
    **zone(10, "iwlwifi_1", 45_000),
    **cooler(0, "Processor", 0),
    **cooler(8, "intel_powerclamp", -1),
    **below("/sys/class/hwmon/hwmon4", {"name": "coretemp", "temp1_input": 72_000, "temp2_input": 70_000}),
    **{
        f"/sys/devices/system/cpu/cpu{core}/thermal_throttle/{kind}_throttle_count": 7
        for core in range(8)
        for kind in ("core", "package")
    },
}

BARE_VM: Tree = {
    "/sys/class/dmi/id/sys_vendor": "QEMU",
    "/sys/class/dmi/id/product_name": "To Be Filled By O.E.M.",
    "/proc/cpuinfo": "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC\nflags\t\t: fpu hypervisor",
    "/proc/stat": proc_stat(dict.fromkeys(range(2), IDLE)),
    "/proc/meminfo": meminfo(2_000_000, 1_500_000),
    "/sys/devices/system/cpu/present": "0-1",
    "/sys/devices/system/cpu/offline": "2-127",
}


CHIP_40 = "/sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"

CHIP_41 = "/sys/bus/i2c/drivers/ina3221/1-0041/hwmon/hwmon4"


def rail(number: int, label: str, millivolts: int, milliamperes: int) -> dict[str, str | int]:
    return {f"in{number}_label": label, f"in{number}_input": millivolts, f"curr{number}_input": milliamperes}


AGX_ORIN = {
    **below(
        CHIP_40,
        {
            "name": "ina3221",
            **rail(1, "VDD_GPU_SOC", 12008, 280),
            **rail(2, "VDD_CPU_CV", 12008, 40),
            **rail(3, "VIN_SYS_5V0", 4968, 980),
            "in7_label": "sum of shunt voltages",
            "in7_input": 760,
            "curr4_input": 360,
        },
    ),
    **below(CHIP_41, {"name": "ina3221", **rail(1, "NC", 0, 0), **rail(2, "VDDQ_VDD2_1V8AO", 4968, 80)}),
}

ORIN_NANO = below(
    "/sys/class/hwmon/hwmon1",
    {
        "name": "ina3221",
        **rail(1, "VDD_IN", 4968, 1520),
        **rail(2, "VDD_CPU_GPU_CV", 4960, 1784),
        **rail(3, "VDD_SOC", 4960, 496),
        "shunt1_resistor": 5000,
        "shunt2_resistor": 5000,
        "shunt3_resistor": 5000,
        "update_interval": 7,
        "samples": 1,
    },
)


@contextmanager
def flickering(root: Path) -> Iterator[None]:
    """Let the current sensors change by a step and back for so long: one that stands still is no measurement."""
    files = [path for path in root.glob("sys/class/hwmon/hwmon*/curr*_input") if len(path.read_text()) > 2]
    stop = threading.Event()

    def flicker() -> None:
        texts = {path: path.read_text() for path in files}
        opened = {path: os.open(path, os.O_WRONLY) for path in files}
        for up in itertools.cycle((True, False)):
            for path, file in opened.items():
                # Of the same length, so that no reader sees half of it.
                os.pwrite(file, (texts[path].strip()[:-1] + ("8" if up else "0")).encode(), 0)
            if stop.wait(0.03):
                break
        for file in opened.values():
            os.close(file)

    thread = threading.Thread(target=flicker, daemon=True)
    thread.start()
    yield
    stop.set()
    thread.join()
