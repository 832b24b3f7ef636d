"""The families of sensors and sensors of other packages; runs their probes; what is absent and why; --power choices."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path

from msgspec import Struct, convert, to_builtins
from msgspec.structs import replace

from edgetop.core.sources import EXTERNAL_METER, Channel, SourceInfo, Unavailable
from edgetop.io.extensions import FAILURES, SENSORS, installed, switch_off
from edgetop.io.log import log
from edgetop.telemetry.calibration import OwnCalibrations
from edgetop.telemetry.host import Host, container, device_tree_compatible, is_android, is_virtual_machine
from edgetop.telemetry.plugs import is_plug, plug
from edgetop.telemetry.power_stream import exec_source, probe_of
from edgetop.telemetry.source import PROBE_S, FamilyProbe, Probe, Source, SourceLost, UnavailableSource, Values

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


def remote_placeholders(missing: Unavailable, power: Unavailable) -> list[tuple[str, Probe]]:
    """Probes that say why processor and memory, and with `power` why power, are not known."""

    def probe(_host: Host) -> Iterator[Source | UnavailableSource]:
        for name in _CHANNELS:
            yield RemotePlaceholder(name, missing)
        yield UnavailableSource(name="thermal", missing=missing)
        yield UnavailableSource(name="power", missing=power)

    return [("remote", probe)]


SOURCE_NAME = "power"

_BOARDS = {
    "rockchip,rk3588": "RK3588",
    "rockchip,rk3588s": "RK3588S",
    "qcom,x1e80100": "Snapdragon X",
    "qcom,x1e78100": "Snapdragon X",
    "qcom,x1p42100": "Snapdragon X",
}
"""Processors on whose boards no current sensor was found, by what the device tree calls them."""


def probe(host: Host) -> Iterator[Source | UnavailableSource]:
    """Yield one UnavailableSource where it is known that there is nothing to read; never a source."""
    missing = _known_lack(host)
    if missing is not None:
        yield UnavailableSource(name=SOURCE_NAME, missing=missing)


def _known_lack(host: Host) -> Unavailable | None:
    if is_virtual_machine(host):
        return Unavailable(
            "virtual machine: power sensors stay with the host", f"measure on the host, or {EXTERNAL_METER}"
        )
    for name in device_tree_compatible(host):
        if name in _BOARDS:
            return Unavailable(f"{_BOARDS[name]} boards have no current sensor", EXTERNAL_METER)
    inside = container(host)
    if inside:
        return Unavailable(
            f"{inside} may hide the power sensors of its host", f"run edgetop on the host, or {EXTERNAL_METER}"
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
    gpu_sensors: bool = True
    """Whether graphics cards are read."""

    @property
    def families(self) -> list[tuple[str, Probe]]:
        """Probes for what this machine has, by family."""
        return probes_of(power=self.name != NO_POWER, gpus=self.gpu_sensors)

    @property
    def is_of_gpu(self) -> bool:
        """Whether the named meter is a graphics card's, which is then read as one that computes for us."""
        return (self.name or "").partition(".")[2].startswith(("gpu", "amdgpu", "xe", "i915"))

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
            yield UnavailableSource(name=name, missing=lost.missing, retry=True)
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
    "gpu": "gpu.probe",
}

POWER_FAMILIES = {
    "nvml_power": "nvidia.power_probe",
    "jetson": "jetson.probe",
    "jetson_stats": "jetson.jtop_probe",
    "raspberry_pi": "raspberry_pi.probe",
    "rapl": "rapl.probe",
    "hwmon": "hwmon.probe",
    "battery": "battery.probe",
    "mac": "macos.probe",
    "external": "registry.probe",
}
"""Module and function of each family of sensors, in the order in which `edgetop doctor` lists them."""


PROBE_AGAIN_S = (1.0, 2.0, 5.0, 10.0)
"""How long until a sensor that could not be read yet is probed again; the last one from then on."""


class Adoption:
    """Takes in what probes found: names are unique, and power is corrected with the user's calibrations."""

    def __init__(self, host: Host, calibration_file: Path | None = None) -> None:
        self._own = OwnCalibrations(host, calibration_file)
        self._android = is_android(host)
        self._taken: set[tuple[str, str]] = set()

    def adopt(self, found: Source | UnavailableSource) -> Source | UnavailableSource:
        """The source as it is to be read, or why it is not: it has the name or a channel of one found before."""
        if isinstance(found, UnavailableSource):
            if self._android and "sudo " in found.missing.hint:
                missing = Unavailable(f"{found.missing.reason}: Android keeps it from programs", EXTERNAL_METER)
                return replace(found, missing=missing)
            return found
        names = {("source", found.info.name), *(("channel", each.name) for each in found.info.channels)}
        twice = sorted(self._taken & names)
        if twice:
            found.close()
            reason = f"the {twice[0][0]} {twice[0][1]} is there already"
            return UnavailableSource(name=found.info.name, missing=Unavailable(reason))
        self._taken |= names
        return self._own.applied_to(found)

    def reads(self, name: str) -> bool:
        """Whether a source of that name was taken in."""
        return ("source", name) in self._taken


class Inventory(Struct, frozen=True):
    """What the probes found."""

    sources: tuple[Source, ...]
    absent: tuple[UnavailableSource, ...]
    late: tuple[FamilyProbe, ...] = ()
    """Probes that have not ended yet, and those that found a sensor which cannot be read yet."""
    adoption: Adoption | None = None
    """Takes in what those find."""

    def adopt(self, found: Source | UnavailableSource) -> Source | UnavailableSource:
        """See `Adoption`."""
        return found if self.adoption is None else self.adoption.adopt(found)

    def reads(self, found: Source | UnavailableSource) -> bool:
        """Whether a source of that name was taken in already."""
        name = found.name if isinstance(found, UnavailableSource) else found.info.name
        return self.adoption is not None and self.adoption.reads(name)

    def close(self) -> None:
        """Close all sources; for a caller that only wanted to know."""
        for source in self.sources:
            with suppress(*FAILURES):
                source.close()


GPU_FAMILIES = ("nvml", "gpu", "nvml_power")

WITHOUT_GPUS = {"hwmon": "hwmon.probe_without_cards"}
"""Families that read graphics cards among others, as they are probed without them."""


def probes_of(*, power: bool = True, gpus: bool = True) -> list[tuple[str, Probe]]:
    """The probes of all families, or of all but those of power or of graphics cards, by the family's name."""
    families = GAUGE_FAMILIES | POWER_FAMILIES if power else GAUGE_FAMILIES
    if not gpus:
        families = {
            family: WITHOUT_GPUS.get(family, place) for family, place in families.items() if family not in GPU_FAMILIES
        }
    extensions = [(f"{EXTENSION_PREFIX}{name}", _probe_of_extension(name)) for name in installed(SENSORS)]
    return [*((family, _probe_of(place)) for family, place in families.items()), *(extensions if power else ())]


LEAST_PERIOD_S, MOST_PERIOD_S = 0.001, 86_400.0
"""Of readings of an extension."""

EXTENSION_PREFIX = "extension "
"""Before the name of a sensor extension, in that of its family."""


def is_power_family(family: str) -> bool:
    """Whether it may read power."""
    return family in POWER_FAMILIES or family.startswith(EXTENSION_PREFIX)


def _probe_of_extension(name: str) -> Probe:
    """A probe of another package: what it raises is its absence, with its name."""

    def probe(host: Host) -> Iterator[Source | UnavailableSource]:
        try:
            for found in installed(SENSORS)[name].load()(host):
                if not isinstance(found, UnavailableSource):
                    _require_sensor(found)
                yield found
        except FAILURES as error:
            yield UnavailableSource(name=f"power.{name}", missing=Unavailable(switch_off(SENSORS, name, error)))

    return probe


def _require_sensor(found: object) -> None:
    """Raises what says why an extension's object is none."""
    info = getattr(found, "info", None)
    if not isinstance(info, SourceInfo):
        raise TypeError(f"{type(found).__name__} is no sensor")
    convert(to_builtins(info), SourceInfo)  # a Struct is made without a look at its types
    if not LEAST_PERIOD_S <= info.period_s <= MOST_PERIOD_S:
        raise ValueError(f"{info.name} cannot be read every {info.period_s} s")


def take_inventory(
    host: Host,
    probes: Sequence[tuple[str, Probe]] | None = None,
    *,
    calibration_file: Path | None = None,
    wait_s: float | None = None,
) -> Inventory:
    """Run the probes side by side: one that fails is absent with its error for a reason, and hinders no other.

    One that has not ended after `wait_s`, by default PROBE_S, is absent for now. Power is corrected with the user's
    calibrations in `calibration_file`, by default the one in the configuration folder.
    """
    adoption = Adoption(host, calibration_file)
    sources: list[Source] = []
    absent: list[UnavailableSource] = []
    late: list[FamilyProbe] = []
    running = [FamilyProbe(family, probe, host) for family, probe in (probes_of() if probes is None else probes)]
    wait_s = PROBE_S if wait_s is None else wait_s
    end_s = time.monotonic() + wait_s
    for probe in running:
        results = probe.found(max(0.0, end_s - time.monotonic()))
        if results is None:
            missing = Unavailable(f"no answer within {wait_s:g} s", "it is read as soon as it answers")
            results = [UnavailableSource(name=probe.family, missing=missing, retry=True)]
        else:
            probe.taken = True
        for found in map(adoption.adopt, results):
            if isinstance(found, UnavailableSource):
                absent.append(found)
            else:
                sources.append(found)
        if any(isinstance(found, UnavailableSource) and found.retry for found in results):
            late.append(probe)
    for source in sources:
        log(
            "sensors",
            f"{source.info.name} by {source.info.driver}: {', '.join(each.name for each in source.info.channels)}",
        )
    for each in absent:
        log("sensors", f"{each.name}: {each.missing.reason}")
    return Inventory(tuple(sources), tuple(absent), tuple(late), adoption)


def _probe_of(place: str) -> Probe:
    """A probe that imports its family when it is run, so that one that cannot be imported is only absent."""

    def probe(host: Host) -> Iterator[Source | UnavailableSource]:
        module, _, function = place.partition(".")
        yield from getattr(import_module(f"edgetop.telemetry.{module}"), function)(host)

    return probe


_REMOTE_FAMILIES = ("memory", "thermal", "jetson", "raspberry_pi", "rapl", "hwmon", "battery", "external")
"""Those that read nothing but files below a sysroot."""


def remote_probes() -> list[tuple[str, Probe]]:
    """The probes that can read the copied files of another machine."""
    return [(family, probe) for family, probe in probes_of(gpus=False) if family in _REMOTE_FAMILIES]
