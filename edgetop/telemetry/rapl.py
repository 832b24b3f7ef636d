"""RAPL counters of Intel and AMD.

A zone is identified by its name and its parent's, never by its number: children lie beside their parents in
`/sys/class/powercap`, ids need not be decimal (`intel-rapl:a`), and `psys`, the platform, is a top-level zone like a
package.

The counters' raw values are passed on in joules, wraps and all; `wrap_j` says where each zone's starts again. The
accuracy of RAPL has no vendor's figure: the half-widths here are judgement. Packages of different sockets add up,
and on servers their memory; cores and graphics are parts of the package; `psys` is a source of its own and opt-in,
since what it covers differs between machines (on some it reads above the battery's output, on some below the package).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from edgetop.core.sources import (
    EXTERNAL_METER,
    PROCESSOR_DEVICE,
    Channel,
    PowerProperties,
    Scope,
    SensorFlag,
    SourceInfo,
    SourceProperties,
    Unavailable,
    to_properties,
)
from edgetop.telemetry.host import Host, SysfsFile, container, cpu_vendor, is_virtual_machine, number_of, text_of
from edgetop.telemetry.source import MeterSource, Scaled, Source, UnavailableSource

_INTERFACES = ("intel-rapl", "intel-rapl-tpmi", "intel-rapl-mmio")
"""Ways to the same counters, the one to prefer first. AMD's are found under `intel-rapl` too."""

_ZONE_NAME = re.compile(r"package-\d+(-die-\d+)?|psys|core|uncore|dram")

AGREEMENT = 1e-3
"""Two counters whose steps agree within this share, interval by interval, are one meter."""

_MIN_INTERVALS = 3
_SKEW_S = 0.003
"""Two zones are read one after the other, and a counter is renewed every millisecond or so."""

_DIE_MAX_W = 1000.0


class Zone(Struct, frozen=True, kw_only=True):
    """One energy counter of the powercap tree."""

    directory: Path
    interface: str
    name: str
    """As the kernel gives it: `package-0`, `core`, `dram`, `psys`."""
    package: str
    """The package it is part of, itself for a package; empty for a top-level zone that is none."""
    wrap_j: float | None
    """The counter starts again after this much; `None` when the kernel does not say."""

    @property
    def is_package(self) -> bool:
        """Whether it is a processor package (or a die that is listed as one)."""
        return self.name.startswith("package-")

    @property
    def channel(self) -> str:
        """Name of the zone's channel: `energy.package-0`, `energy.package-0.dram`, `energy.psys`."""
        return ".".join(["energy", *([self.package] if self.package not in ("", self.name) else []), self.name])

    @property
    def energy_file(self) -> Path:
        """The counter, in microjoules."""
        return self.directory / "energy_uj"


def find_zones(host: Host) -> tuple[Zone, ...]:
    """Find all zones, packages first; those of a preferred interface before the same ones through another.

    Whether their counters can be read is not asked here.
    """
    root = host.path("/sys/class/powercap")
    try:
        ids = [entry.name for entry in root.iterdir() if entry.name.startswith("intel-rapl")]
    except OSError:
        return ()
    names = {zone_id: text_of(root / zone_id / "name") for zone_id in ids}
    zones: list[Zone] = []
    for zone_id, name in names.items():
        if not _ZONE_NAME.fullmatch(name) or not (root / zone_id / "energy_uj").exists():
            continue
        wrap_uj = number_of(root / zone_id / "max_energy_range_uj")
        zones.append(
            Zone(
                directory=root / zone_id,
                interface=zone_id.partition(":")[0],
                name=name,
                package=name if name.startswith("package-") else names.get(zone_id.rpartition(":")[0], ""),
                wrap_j=wrap_uj * 1e-6 if wrap_uj is not None and wrap_uj > 0 else None,
            )
        )
    return tuple(sorted(zones, key=lambda zone: (not zone.is_package, zone.channel, _preference(zone))))


def without_duplicates(zones: Iterable[Zone]) -> list[Zone]:
    """Keep the first of the zones that are the same one through different interfaces."""
    kept: dict[str, Zone] = {}
    for zone in zones:
        kept.setdefault(zone.channel, zone)
    return list(kept.values())


def same_meter(a_j: Sequence[float], b_j: Sequence[float], wrap_j: float | None) -> bool:
    """Whether two counters, read side by side at the same moments, are one: a die that mirrors its socket's counter.

    They are when over at least three intervals in which both moved the steps agree within 0.1 %; or when, besides
    advancing alike, they stand at the same value as nearly as reading one after the other allows, which two meters
    that count since the machine was started do not.
    """
    steps = [
        (step(a_before, a_after, wrap_j), step(b_before, b_after, wrap_j))
        for a_before, a_after, b_before, b_after in zip(a_j, a_j[1:], b_j, b_j[1:], strict=False)
    ]
    moved = [(a, b) for a, b in steps if a > 0 and b > 0]
    if len(moved) < _MIN_INTERVALS or len(moved) < len(steps):
        return False
    if all(abs(a - b) <= AGREEMENT * max(a, b) for a, b in moved):
        return True
    skew_j = _SKEW_S * _DIE_MAX_W
    apart = (min(step(a, b, wrap_j), step(b, a, wrap_j)) for a, b in zip(a_j, b_j, strict=False))
    return all(distance <= skew_j for distance in apart)


def step(before_j: float, after_j: float, wrap_j: float | None) -> float:
    """Joules from one counter value to the next, one wrap allowed for; negative for one that went back."""
    ahead = after_j - before_j
    return ahead + wrap_j if ahead < 0 and wrap_j is not None else ahead


def without_mirrors(packages: Iterable[Zone], readings: dict[str, Sequence[float]]) -> tuple[list[Zone], list[Zone]]:
    """Split packages into one per meter and those that only mirror one. `readings` in J, by channel."""
    kept: list[Zone] = []
    mirrors: list[Zone] = []
    for zone in packages:
        mine = readings[zone.channel]
        mirrored = any(same_meter(readings[other.channel], mine, zone.wrap_j) for other in kept)
        (mirrors if mirrored else kept).append(zone)
    return kept, mirrors


def _preference(zone: Zone) -> tuple[int, str]:
    known = zone.interface in _INTERFACES
    return (_INTERFACES.index(zone.interface) if known else len(_INTERFACES), str(zone.directory))


SOURCE_NAME = "power.rapl"
PSYS_NAME = "power.psys"

PERMISSION_HINT = (
    "now: sudo chmod a+r /sys/class/powercap/intel-rapl*:*/energy_uj; for ever: "
    "printf 'z /sys/devices/virtual/powercap/intel-rapl*%s/energy_uj 0444 root root\\n' "
    "'/intel-rapl*:*' '/intel-rapl*:*/intel-rapl*:*' | sudo tee /etc/tmpfiles.d/edgetop-rapl.conf"
)
"""The kernel keeps the counters for root since 5.10, because fine readings leak secrets (CVE-2020-8694)."""

_SHOWN_BY = {
    "Docker": "start the container with --security-opt systempaths=unconfined",
    "Podman": "start the container with --security-opt unmask=/sys/devices/virtual/powercap",
}
_MOUNTED = "mount the host's /sys below a folder of the container and name that with --sysroot"

_GAIN_INTEL, _GAIN_AMD = 0.05, 0.10
_UPDATE_S = 0.001
_PERIOD_S = 0.05
_COUNTS = 2.0**32
"""The counter behind `energy_uj` has 32 bits, so a wrap is this many steps."""

_P_MAX_W = {"package": 1000.0, "core": 1000.0, "uncore": 500.0, "dram": 500.0, "psys": 2000.0}

_READINGS, _READ_EVERY_S = 25, 0.02
"""A counter that does not move in half a second is frozen: even an idle package takes a joule."""

_COMPARISONS, _COMPARE_EVERY_S = 4, 0.15


def probe(host: Host, *, pause: Callable[[float], None] = time.sleep) -> Iterator[Source | UnavailableSource]:
    """Yield the packages and their parts as one source and `psys` as another; nothing on a processor other than x86.

    Takes a few milliseconds; half a second when a counter stands still or there are several packages to be compared.
    """
    zones = find_zones(host)
    amd = cpu_vendor(host) == "AuthenticAMD"
    if amd:
        # On EPYC 7702 and others the core zone counts wrongly; the package does not.
        zones = tuple(zone for zone in zones if zone.name != "core")
    if not zones:
        if cpu_vendor(host):
            yield UnavailableSource(name=SOURCE_NAME, missing=_no_zones(host))
        return
    readable = [zone for zone in zones if not _is_denied(zone)]
    if {zone.channel for zone in zones if zone.is_package} - {zone.channel for zone in readable}:
        denied = next(zone for zone in zones if zone.is_package and zone not in readable)
        yield UnavailableSource(
            name=SOURCE_NAME, missing=Unavailable(f"{denied.energy_file} may not be read", PERMISSION_HINT)
        )
        readable = [zone for zone in readable if zone.name == "psys"]
    live = without_duplicates(_live(readable, pause))
    cpu = [zone for zone in live if zone.name != "psys"]
    if any(zone.is_package for zone in cpu):
        packages, mirrors = _without_mirrors([zone for zone in cpu if zone.is_package], pause)
        gone = {zone.package for zone in mirrors}
        cpu = packages + [zone for zone in cpu if not zone.is_package and zone.package not in gone]
        yield _source(SOURCE_NAME, cpu, host, gain=_GAIN_AMD if amd else _GAIN_INTEL, mirrors=mirrors)
    elif any(zone.is_package for zone in readable):
        yield UnavailableSource(name=SOURCE_NAME, missing=_frozen(host))
    psys = [zone for zone in live if zone.name == "psys"]
    if psys:
        yield _source(PSYS_NAME, psys, host, gain=_GAIN_AMD if amd else _GAIN_INTEL)


def _is_denied(zone: Zone) -> bool:
    file = SysfsFile(zone.energy_file)
    try:
        file.text()
    except PermissionError:
        return True
    except OSError:
        return False
    finally:
        file.close()
    return False


def _read_j(zone: Zone) -> float | None:
    meter = Scaled(zone.energy_file, 1e-6)
    try:
        return meter.read()
    except (OSError, ValueError):
        return None
    finally:
        meter.close()


def _live(zones: Sequence[Zone], pause: Callable[[float], None]) -> list[Zone]:
    """Zones whose counter counts. Parts of a package may stand still, as unused graphics do, but not at zero."""
    first = {zone.energy_file: _read_j(zone) for zone in zones}
    readable = [zone for zone in zones if first[zone.energy_file] is not None]
    waiting = list(readable)
    for _ in range(_READINGS):
        if not any(_must_move(zone) for zone in waiting):
            break
        pause(_READ_EVERY_S)
        waiting = [zone for zone in waiting if _read_j(zone) in (first[zone.energy_file], None)]
    return [
        zone
        for zone in readable
        if zone not in waiting or (not _must_move(zone) and (first[zone.energy_file] or 0.0) > 0)
    ]


def _must_move(zone: Zone) -> bool:
    return zone.is_package or zone.name in ("psys", "dram")


def _without_mirrors(packages: list[Zone], pause: Callable[[float], None]) -> tuple[list[Zone], list[Zone]]:
    """Find dies that mirror one socket's counter, as those of Zen 1 and Zen 2 do."""
    if len(packages) < 2:
        return packages, []
    readings: dict[str, list[float]] = {zone.channel: [] for zone in packages}
    for comparison in range(_COMPARISONS):
        if comparison:
            pause(_COMPARE_EVERY_S)
        for zone in packages:
            reading = _read_j(zone)
            readings[zone.channel].append(float("nan") if reading is None else reading)
    return without_mirrors(packages, dict(readings))


def _source(name: str, zones: Sequence[Zone], host: Host, *, gain: float, mirrors: Sequence[Zone] = ()) -> MeterSource:
    # Client processors have a zone for their graphics, or psys; servers have neither, and only there memory adds up.
    server = not any(zone.name in ("uncore", "psys") for zone in find_zones(host))
    alone = sum(zone.is_package or zone.name == "psys" for zone in zones) == 1
    virtual: tuple[SensorFlag, ...] = ("virtualised",) if is_virtual_machine(host) else ()
    known: dict[str, PowerProperties] = {}
    channels: list[Channel] = []
    for zone in zones:
        kind = "package" if zone.is_package else zone.name
        adds_up = zone.is_package or (zone.name == "dram" and server)
        known[zone.channel] = PowerProperties(
            update_s=_UPDATE_S,
            gain=gain,
            lsb_j=zone.wrap_j / _COUNTS if zone.wrap_j is not None else None,
            wrap_j=zone.wrap_j,
            p_max_w=_P_MAX_W[kind],
            flags=("opt-in", *virtual) if zone.name == "psys" else virtual,
            total=alone and kind in ("package", "psys"),
            adds_up_as="cpu" if adds_up else "",
            device=PROCESSOR_DEVICE if zone.is_package and sum(each.is_package for each in zones) == 1 else "",
        )
        scopes: dict[str, Scope] = {"package": "cpu_package", "psys": "platform"}
        channels.append(
            Channel(name=zone.channel, unit="J", digits=6, label=zone.name, scope=scopes.get(kind, "component"))
        )
    info = SourceInfo(
        name=name,
        driver=f"powercap {zones[0].interface}",
        path=str(zones[0].directory),
        kind="energy",
        period_s=_PERIOD_S,
        channels=tuple(channels),
        properties=to_properties(known, SourceProperties(mirrored=tuple(zone.name for zone in mirrors))),
    )
    meters = [Scaled(zone.energy_file, 1e-6) for zone in zones]
    return MeterSource(info, meters, blocking=False, permission_hint=PERMISSION_HINT)


def _no_zones(host: Host) -> Unavailable:
    if is_virtual_machine(host):
        return Unavailable(
            "virtual machine: the hypervisor passes no energy counters on", f"measure on the host, or {EXTERNAL_METER}"
        )
    inside = container(host)
    if inside:
        return Unavailable(
            f"{inside} hides /sys/class/powercap", f"run edgetop on the host, or {_SHOWN_BY.get(inside, _MOUNTED)}"
        )
    return Unavailable("no RAPL zones in /sys/class/powercap", "sudo modprobe intel_rapl_msr")


def _frozen(host: Host) -> Unavailable:
    if is_virtual_machine(host):
        return Unavailable(
            "virtual machine: its energy counters stand still", f"measure on the host, or {EXTERNAL_METER}"
        )
    return Unavailable("the energy counters stand still", f"restart the machine, or {EXTERNAL_METER}")
