"""What the kernel says of the device being held back: for heat or, on a Jetson, for its supply.

What the firmware of a Raspberry Pi says is in `pi_throttle`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from edgetop.core.records import Channel, Missing
from edgetop.telemetry.hwmon_chip import find_chips
from edgetop.telemetry.source import Host
from edgetop.telemetry.sysfs_file import SysfsFile, text_of, why

_COOLING = re.compile(r"(thermal-)?(cpufreq|devfreq)\b.*|Processor|.*-throttle-alert")
"""Cooling devices that make a processor, a GPU or a memory slower; the others are fans and chargers."""
_OVERCURRENT = {
    "oc1_event_cnt": ("throttle.undervoltage", "supply below its least voltage"),
    "oc2_event_cnt": ("throttle.average_overcurrent", "average current above its limit"),
    "oc3_event_cnt": ("throttle.peak_overcurrent", "current above its limit"),
}
"""Counters of the chip `soctherm_oc` (Jetson Linux Developer Guide, Jetson Orin, "Overcurrent Throttling")."""


class Throttle(Protocol):
    """One way to be held back: above 0 while, or if since the reading before, it was."""

    @property
    def channel(self) -> Channel:
        """Named `throttle.` and then in words that go behind "The device was throttled:"."""

    def read(self) -> float | Missing:
        """Read once; missing when none of the files can be read."""

    def close(self) -> None:
        """Close all files."""


class ThrottleCount:
    """How often the device was held back since the reading before, over several counters."""

    def __init__(self, channel: Channel, paths: Sequence[Path]) -> None:
        self.channel = channel
        self._files = [SysfsFile(path) for path in paths]
        self._before: dict[Path, int] = {}

    def read(self) -> float | Missing:
        """Read once; 0 the first time. A counter that goes with its core, or comes with it, is left out."""
        now = _numbers(self._files)
        if isinstance(now, Missing):
            self._before = {}
            return now
        before, self._before = self._before, now
        return float(sum(max(0, count - before[path]) for path, count in now.items() if path in before))

    def close(self) -> None:
        """Close all files."""
        for file in self._files:
            file.close()


class CoolingState:
    """The highest state of several cooling devices; 0 while all run as fast as they can."""

    channel = Channel(name="throttle.passive_cooling", unit="1", label="highest cooling state")

    def __init__(self, paths: Sequence[Path]) -> None:
        self._files = [SysfsFile(path) for path in paths]

    def read(self) -> float | Missing:
        """Read once."""
        states = _numbers(self._files)
        return states if isinstance(states, Missing) else float(max(states.values()))

    def close(self) -> None:
        """Close all files."""
        for file in self._files:
            file.close()


def find_throttles(host: Host) -> Iterator[Throttle]:
    """Every way to be held back that the kernel of this host can tell."""
    counts = sorted(host.path("/sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/*_throttle_count"))
    if counts:
        label = "thermal throttle events"
        yield ThrottleCount(Channel(name="throttle.processor_heat", unit="1", label=label), counts)
    coolers = sorted(host.path("/sys/class/thermal").glob("cooling_device[0-9]*"))
    states = [cooler / "cur_state" for cooler in coolers if _COOLING.fullmatch(text_of(cooler / "type"))]
    if states:
        yield CoolingState(states)
    for chip in find_chips(host):
        if chip.name == "soctherm_oc":
            for file, (name, label) in _OVERCURRENT.items():
                if chip.has(file):
                    yield ThrottleCount(Channel(name=name, unit="1", label=label), [chip.directory / file])
            return


def _numbers(files: Sequence[SysfsFile]) -> dict[Path, int] | Missing:
    """What can be read, by path; why nothing can, if so."""
    numbers: dict[Path, int] = {}
    problem = Missing("there is nothing to read")
    for file in files:
        try:
            numbers[file.path] = file.number()
        except (OSError, ValueError) as error:
            problem = why(error, file.path)
    return numbers or problem
