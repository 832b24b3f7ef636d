"""Runs the probes; what is absent and why; --power choices; plug-ins."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path

from msgspec import Struct

from edgetop.core.sources import OUTSIDE_METERS, Channel, SourceInfo, Unavailable
from edgetop.telemetry.calibration import OwnCalibrations
from edgetop.telemetry.host import Host, container, device_tree_compatible, is_virtual_machine
from edgetop.telemetry.plugs import is_plug, plug
from edgetop.telemetry.power_stream import exec_source, probe_of
from edgetop.telemetry.source import Probe, Source, SourceLost, UnavailableSource, Values

PERIOD_S = 10.0

_CHANNELS = {
    "cpu": (("cpu.total", "%"), ("cpu.steal", "%"), ("cpu.others", "%"), ("cpu.frequency", "Hz")),
    "memory": (
        ("memory.total", "B"), ("memory.available", "B"), ("memory.used", "B"), ("swap.total", "B"), ("swap.used", "B"),
    ),
}  # fmt: skip
"""The channels of `processor` and `memory` that panes ask for, by source."""


class RemotePlaceholder:
    """A source whose readings are all missing, for one reason."""

    blocking = False

    def __init__(self, name: str, missing: Unavailable) -> None:
        self._missing = missing
        self.info = SourceInfo(
            name=name,
            driver="none",
            period_s=PERIOD_S,
            channels=tuple(Channel(name=channel, unit=unit) for channel, unit in _CHANNELS[name]),
        )

    def read(self) -> Values:
        """Say why there is nothing to read."""
        return (self._missing,) * len(self.info.channels)

    def close(self) -> None:
        """Nothing is held open."""


def elsewhere(missing: Unavailable, power: Unavailable) -> list[tuple[str, Probe]]:
    """Probes that say why processor and memory, and with `power` why power, are not known."""

    def probe(_host: Host) -> Iterator[Source | UnavailableSource]:
        for name in _CHANNELS:
            yield RemotePlaceholder(name, missing)
        yield UnavailableSource(name="thermal", missing=missing)
        yield UnavailableSource(name="power", missing=power)

    return [("elsewhere", probe)]


SOURCE_NAME = "power"

_BOARDS = {
    "rockchip,rk3588": "RK3588",
    "rockchip,rk3588s": "RK3588S",
    "qcom,x1e80100": "Snapdragon X",
    "qcom,x1e78100": "Snapdragon X",
    "qcom,x1p42100": "Snapdragon X",
}
"""Processors on whose boards no current sensor was found, by what the device tree calls them."""


def probe(host: Host, *, system: str = sys.platform) -> Iterator[Source | UnavailableSource]:
    """Yield one Absent where it is known that there is nothing to read; never a source."""
    missing = _known_lack(host, system)
    if missing is not None:
        yield UnavailableSource(name=SOURCE_NAME, missing=missing)


def _known_lack(host: Host, system: str) -> Unavailable | None:
    if system == "darwin":
        return Unavailable("macOS shows its power sensors to private interfaces only", OUTSIDE_METERS)
    if is_virtual_machine(host):
        return Unavailable(
            "virtual machine: power sensors stay with the host", f"measure on the host, or {OUTSIDE_METERS}"
        )
    for name in device_tree_compatible(host):
        if name in _BOARDS:
            return Unavailable(f"{_BOARDS[name]} boards have no current sensor", OUTSIDE_METERS)
    inside = container(host)
    if inside:
        return Unavailable(
            f"{inside} may hide the power sensors of its host", f"run edgetop on the host, or {OUTSIDE_METERS}"
        )
    return None


NO_POWER = "none"


class PowerChoice(Struct, frozen=True, kw_only=True):
    """What `--power`, `--power-exec` and `--power-stream` say."""

    name: str | None = None
    """A source or channel by name, a plug's address such as `shelly:HOST`, hosts such as `local+pi2`, or `none`."""
    command: str | None = None
    """A program that prints one reading each time it is run."""
    streams: tuple[str, ...] = ()
    """Programs that go on printing readings, or `tcp:HOST:PORT`, or `unix:PATH`; `pi2=` before one names its host."""

    @property
    def headline(self) -> str | None:
        """The name that the session records as chosen: a plug's source rather than its address."""
        if self.name is not None and is_plug(self.name):
            return f"power.{self.name.partition(':')[0].lower()}"
        return self.name

    @property
    def probes(self) -> list[tuple[str, Probe]]:
        """Probes for what the person brought along, by the name of the source."""
        if self.name == NO_POWER:
            return []
        wanted: list[tuple[str, Callable[[Host], Source]]] = []
        name, command = self.name, self.command
        if name is not None and is_plug(name):
            wanted.append((self.headline or name, lambda _host: plug(name)))
        if command is not None:
            wanted.append(("power.exec", lambda host: exec_source(command, host)))
        probes = [(source, _probe(source, opened)) for source, opened in wanted]
        return [*probes, ("power.stream", probe_of(self.streams))] if self.streams else probes


def _probe(name: str, opened: Callable[[Host], Source]) -> Probe:
    def probe(host: Host) -> Iterator[Source | UnavailableSource]:
        try:
            source = opened(host)
        except SourceLost as lost:
            yield UnavailableSource(name=name, missing=lost.missing)
        except ValueError as error:
            yield UnavailableSource(name=name, missing=Unavailable(str(error)))
        else:
            yield source

    return probe


GAUGE_FAMILIES = {
    "processor": "cpu.probe",
    "memory": "memory.probe",
    "processes": "processes.probe",
    "thermal": "thermal.probe",
    "nvml": "nvidia.probe",
}

POWER_FAMILIES = {
    "nvml_power": "nvidia.power_probe",
    "jetson": "jetson.probe",
    "jetson_stats": "jetson.jtop_probe",
    "raspberry_pi": "raspberry_pi.probe",
    "rapl": "rapl.probe",
    "hwmon": "hwmon.probe",
    "battery": "battery.probe",
    "external": "registry.probe",
}
"""Module and function of each family of sensors, in the order in which `edgetop doctor` lists them."""


class Inventory(Struct, frozen=True):
    """What the probes found."""

    sources: tuple[Source, ...]
    absent: tuple[UnavailableSource, ...]

    def close(self) -> None:
        """Close all sources; for a caller that only wanted to know."""
        for source in self.sources:
            with suppress(Exception):
                source.close()


def probes_of(*, power: bool = True) -> list[tuple[str, Probe]]:
    """The probes of all families, or of all but those of power, by the family's name."""
    families = GAUGE_FAMILIES | POWER_FAMILIES if power else GAUGE_FAMILIES
    return [(family, _probe_of(place)) for family, place in families.items()]


def take_inventory(
    host: Host, probes: Sequence[tuple[str, Probe]] | None = None, *, calibration_file: Path | None = None
) -> Inventory:
    """Run the probes, each by itself: one that fails is absent with its error for a reason, and hinders no other.

    A source is left out, with a reason, if it has the name or a channel of one that was found before. Power is
    corrected with the user's calibrations in `calibration_file`, by default the one in the configuration folder.
    """
    own = OwnCalibrations(host, calibration_file)
    sources: list[Source] = []
    absent: list[UnavailableSource] = []
    taken: set[tuple[str, str]] = set()
    for family, probe in probes_of() if probes is None else probes:
        try:
            for found in probe(host):
                if isinstance(found, UnavailableSource):
                    absent.append(found)
                    continue
                names = {("source", found.info.name), *(("channel", each.name) for each in found.info.channels)}
                twice = sorted(taken & names)
                if twice:
                    found.close()
                    reason = f"the {twice[0][0]} {twice[0][1]} is there already"
                    absent.append(UnavailableSource(name=found.info.name, missing=Unavailable(reason)))
                    continue
                taken |= names
                sources.append(own.applied_to(found))
        except Exception as error:  # noqa: BLE001 - a sensor of a kind nobody has seen must not end the program
            words = " ".join(f"{type(error).__name__}: {error}".split())
            absent.append(
                UnavailableSource(
                    name=family, missing=Unavailable(f"looking for it failed: {words}", "please report this")
                )
            )
    return Inventory(tuple(sources), tuple(absent))


def _probe_of(place: str) -> Probe:
    """A probe that imports its family when it is run, so that one that cannot be imported is only absent."""

    def probe(host: Host) -> Iterator[Source | UnavailableSource]:
        module, _, function = place.partition(".")
        yield from getattr(import_module(f"edgetop.telemetry.{module}"), function)(host)

    return probe
