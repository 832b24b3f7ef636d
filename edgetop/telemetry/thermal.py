"""Temperatures and kernel throttling; what the firmware of a Raspberry Pi says is in `raspberry_pi`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from edgetop.core.sources import Channel, SourceInfo, Unavailable
from edgetop.telemetry.host import Host, SysfsFile, is_transient, text_of, why
from edgetop.telemetry.source import Source, SourceLost, UnavailableSource, Values, find_chips, plain_name

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

    def read(self) -> float | Unavailable:
        """Read once; missing when none of the files can be read."""

    def close(self) -> None:
        """Close all files."""


class ThrottleCount:
    """How often the device was held back since the reading before, over several counters."""

    def __init__(self, channel: Channel, paths: Sequence[Path]) -> None:
        self.channel = channel
        self._files = [SysfsFile(path) for path in paths]
        self._before: dict[Path, int] = {}

    def read(self) -> float | Unavailable:
        """Read once; 0 the first time. A counter that goes with its core, or comes with it, is left out."""
        now = _numbers(self._files)
        if isinstance(now, Unavailable):
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

    def read(self) -> float | Unavailable:
        """Read once."""
        states = _numbers(self._files)
        return states if isinstance(states, Unavailable) else float(max(states.values()))

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


def _numbers(files: Sequence[SysfsFile]) -> dict[Path, int] | Unavailable:
    """What can be read, by path; why nothing can, if so."""
    numbers: dict[Path, int] = {}
    problem = Unavailable("there is nothing to read")
    for file in files:
        try:
            numbers[file.path] = file.number()
        except (OSError, ValueError) as error:
            problem = why(error, file.path)
    return numbers or problem


PERIOD_S = 2.0
QUICK_US = 2000
SWITCHED_OFF = Unavailable("the sensor is switched off")
NO_SENSOR = Unavailable("this machine shows no temperature sensor")
_CPU_CHIPS = ("coretemp", "k10temp", "zenpower")
"""hwmon drivers whose first sensor is that of the whole processor; other chips repeat a zone or are something else."""

_CPU_LABELS = (
    *_CPU_CHIPS,
    "x86_pkg_temp",
    "cpu-thermal", "cpu_thermal", "CPU-therm", "package-thermal", "soc-thermal", "soc_thermal", "cpu0-thermal",
    "bigcore0-thermal", "acpitz",
)  # fmt: skip
"""Names under which the processor's temperature goes, best first."""

_CPU_ZONE = re.compile(r"(cpu|cpuss|apc|cluster)[-_]?\d")
"""Zones of cores and clusters, as on a Snapdragon, which has none of the whole processor."""

_LOWEST_C, _HIGHEST_C = -40.0, 150.0
"""A sensor that is switched off reads -256 °C (Jetson) or 0 K, one that is not there 0 °C."""


class Zone(Struct, frozen=True):
    """A place whose temperature is measured."""

    channel: str
    label: str
    path: Path
    """In thousandths of a degree Celsius."""
    is_slow: bool = False
    """ACPI asks the embedded controller for it, or a chip on a slow bus: the kernel does not say, so it was tried."""


class Thermals:
    """One channel a zone in °C, `temperature.cpu` first, then the ways to be held back."""

    def __init__(
        self, name: str, zones: Sequence[Zone], throttles: Sequence[Throttle], host: Host, *, blocking: bool = False
    ) -> None:
        """Take a first reading of what is quick. Raises SourceLost when there is none."""
        self.blocking = blocking
        self._zones = [SysfsFile(zone.path) for zone in zones]
        self._throttles = throttles
        self.info = SourceInfo(
            name=name,
            driver="sysfs",
            path=str(host.path("/sys/class/thermal")),
            period_s=PERIOD_S,
            channels=(
                *(Channel(name=zone.channel, unit="Cel", digits=1, label=zone.label) for zone in zones),
                *(throttle.channel for throttle in throttles),
            ),
        )
        if not blocking:
            self.read()

    def read(self) -> Values:
        """Read all channels once. Raises SourceLost when nothing answers any more."""
        values = (*(_celsius(file) for file in self._zones), *(throttle.read() for throttle in self._throttles))
        if all(isinstance(value, Unavailable) for value in values):
            self.close()
            raise SourceLost("no temperature sensor answers")
        return values

    def close(self) -> None:
        """Close all files."""
        for file in self._zones:
            file.close()
        for throttle in self._throttles:
            throttle.close()


def probe(host: Host) -> Iterator[Source | UnavailableSource]:
    """The temperature sensors of this machine, and what its kernel says of throttling."""
    zones, throttles = find_zones(host), list(find_throttles(host))
    slow = [zone for zone in zones if zone.is_slow]
    quick = [zone for zone in zones if not zone.is_slow]
    if quick or throttles or not slow:
        try:
            yield Thermals("thermal", quick, throttles, host)
        except SourceLost:
            yield UnavailableSource(name="thermal", missing=NO_SENSOR)
    for zone in slow:
        yield Thermals(f"thermal.{zone.channel.partition('.')[2]}", [zone], (), host, blocking=True)


def find_zones(host: Host) -> list[Zone]:
    """The zones that read a temperature now, that of the processor first."""
    folders = sorted(host.path("/sys/class/thermal").glob("thermal_zone*"), key=_number)
    chips = [chip for chip in find_chips(host) if chip.name in _CPU_CHIPS]
    everything = [
        *((plain_name(text_of(folder / "type")) or folder.name, folder / "temp") for folder in folders),
        *((chip.name, chip.directory / "temp1_input") for chip in chips),
    ]
    found: list[tuple[str, Path, bool]] = []
    for label, path in everything:
        begin_us = host.clock()
        if _plausible(path):
            found.append((label, path, host.clock() - begin_us > QUICK_US and _is_slow(host, path)))
    named = (each for cpu in _CPU_LABELS for each in found if each[0] == cpu)
    headline = next(named, None) or next((each for each in found if _CPU_ZONE.match(each[0])), None)
    zones: list[Zone] = []
    taken = {"cpu"}
    if headline is not None:
        found.remove(headline)
        zones.append(Zone("temperature.cpu", *headline))
    for label, path, is_slow in found:
        name = unique = re.sub(r"[^a-z0-9]+", "_", label.lower()).strip("_") or "zone"
        count = 1
        while unique in taken:
            count += 1
            unique = f"{name}_{count}"
        taken.add(unique)
        zones.append(Zone(f"temperature.{unique}", label, path, is_slow))
    return zones


def _is_slow(host: Host, path: Path) -> bool:
    """Whether a second reading takes long as well: the first one may have waited for the processor."""
    begin_us = host.clock()
    _plausible(path)
    return host.clock() - begin_us > QUICK_US


def _plausible(path: Path) -> bool:
    """Whether a zone reads a temperature, or may do so later."""
    file = SysfsFile(path)
    try:
        millidegrees = file.number()
    except (OSError, ValueError) as error:
        return is_transient(error)
    finally:
        file.close()
    return millidegrees != 0 and _LOWEST_C <= millidegrees / 1000 <= _HIGHEST_C


def _celsius(file: SysfsFile) -> float | Unavailable:
    try:
        celsius = file.number() / 1000
    except (OSError, ValueError) as error:
        return why(error, file.path)
    return celsius if _LOWEST_C <= celsius <= _HIGHEST_C else SWITCHED_OFF


def _number(path: Path) -> int:
    digits = re.search(r"\d{1,6}$", path.name)
    return int(digits[0]) if digits else 0
