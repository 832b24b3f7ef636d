"""RAPL through powercap: the energy counters of Intel and AMD processors.

The counters' raw values are passed on in joules, wraps and all; `wrap_j` says where each zone's starts again. The
accuracy of RAPL has no vendor's figure: the half-widths here are judgement. Packages of different sockets add up,
and on servers their memory; cores and graphics are parts of the package; `psys` is a source of its own and opt-in,
since what it covers differs between machines (on some it reads above the battery's output, on some below the package).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from edgetop.core.records import Channel, Missing, Scope, SourceInfo
from edgetop.telemetry.meter_source import MeterSource, Scaled
from edgetop.telemetry.power_properties import PowerProperties, SensorFlag, to_properties
from edgetop.telemetry.rapl_zones import Zone, find_zones, without_duplicates, without_mirrors
from edgetop.telemetry.source import Absent, Host, Source
from edgetop.telemetry.surroundings import container, cpu_vendor, is_virtual_machine
from edgetop.telemetry.sysfs_file import SysfsFile

SOURCE_NAME = "power.rapl"
PSYS_NAME = "power.psys"

PERMISSION_MEND = (
    "now: sudo chmod a+r /sys/class/powercap/intel-rapl*:*/energy_uj; for ever: "
    "echo 'z /sys/devices/virtual/powercap/intel-rapl*/intel-rapl*:*/energy_uj 0444 root root' "
    "| sudo tee /etc/tmpfiles.d/edgetop-rapl.conf"
)
"""The kernel keeps the counters for root since 5.10, because fine readings leak secrets (CVE-2020-8694)."""
_OUTSIDE = "use an outside meter (--power shelly:HOST, or --power-exec CMD)"

_GAIN_INTEL, _GAIN_AMD = 0.05, 0.10
_UPDATE_S = 0.001
_PERIOD_S = 0.05
_COUNTS = 2.0**32
"""The counter behind `energy_uj` has 32 bits, so a wrap is this many steps."""
_P_MAX_W = {"package": 1000.0, "core": 1000.0, "uncore": 500.0, "dram": 500.0, "psys": 2000.0}

_LOOKS, _LOOK_EVERY_S = 25, 0.02
"""A counter that does not move in half a second is frozen: even an idle package takes a joule."""
_COMPARISONS, _COMPARE_EVERY_S = 4, 0.15


def probe(host: Host, *, pause: Callable[[float], None] = time.sleep) -> Iterator[Source | Absent]:
    """Yield the packages and their parts as one source and `psys` as another; nothing on a processor other than x86.

    Takes a few milliseconds; half a second when a counter stands still or there are several packages to be told apart.
    """
    zones = find_zones(host)
    amd = cpu_vendor(host) == "AuthenticAMD"
    if amd:
        # On EPYC 7702 and others the core zone counts wrongly; the package does not.
        zones = tuple(zone for zone in zones if zone.name != "core")
    if not zones:
        if cpu_vendor(host):
            yield Absent(name=SOURCE_NAME, missing=_no_zones(host))
        return
    readable = [zone for zone in zones if not _is_denied(zone)]
    if {zone.channel for zone in zones if zone.is_package} - {zone.channel for zone in readable}:
        denied = next(zone for zone in zones if zone.is_package and zone not in readable)
        yield Absent(name=SOURCE_NAME, missing=Missing(f"{denied.energy_file} may not be read", PERMISSION_MEND))
        readable = [zone for zone in readable if zone.name == "psys"]
    live = without_duplicates(_live(readable, pause))
    cpu = [zone for zone in live if zone.name != "psys"]
    if any(zone.is_package for zone in cpu):
        packages, mirrors = _tell_apart([zone for zone in cpu if zone.is_package], pause)
        gone = {zone.package for zone in mirrors}
        cpu = packages + [zone for zone in cpu if not zone.is_package and zone.package not in gone]
        yield _source(SOURCE_NAME, cpu, host, gain=_GAIN_AMD if amd else _GAIN_INTEL, mirrors=mirrors)
    elif any(zone.is_package for zone in readable):
        yield Absent(name=SOURCE_NAME, missing=_frozen(host))
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
    for _ in range(_LOOKS):
        if not any(_must_move(zone) for zone in waiting):
            break
        pause(_LOOK_EVERY_S)
        waiting = [zone for zone in waiting if _read_j(zone) in (first[zone.energy_file], None)]
    return [
        zone
        for zone in readable
        if zone not in waiting or (not _must_move(zone) and (first[zone.energy_file] or 0.0) > 0)
    ]


def _must_move(zone: Zone) -> bool:
    return zone.is_package or zone.name in ("psys", "dram")


def _tell_apart(packages: list[Zone], pause: Callable[[float], None]) -> tuple[list[Zone], list[Zone]]:
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
        )
        scopes: dict[str, Scope] = {"package": "cpu_package", "psys": "platform"}
        channels.append(
            Channel(name=zone.channel, unit="J", digits=6, label=zone.name, scope=scopes.get(kind, "component"))
        )
    properties = to_properties(known)
    if mirrors:
        properties["mirrored"] = ",".join(zone.name for zone in mirrors)
    info = SourceInfo(
        name=name,
        driver=f"powercap {zones[0].interface}",
        path=str(zones[0].directory),
        kind="energy",
        period_s=_PERIOD_S,
        channels=tuple(channels),
        properties=properties,
    )
    meters = [Scaled(zone.energy_file, 1e-6) for zone in zones]
    return MeterSource(info, meters, blocking=False, permission_mend=PERMISSION_MEND)


def _no_zones(host: Host) -> Missing:
    if is_virtual_machine(host):
        return Missing(
            "virtual machine: the hypervisor passes no energy counters on", f"measure on the host, or {_OUTSIDE}"
        )
    inside = container(host)
    if inside:
        return Missing(
            f"{inside} hides /sys/class/powercap",
            "run edgetop on the host, or start the container with --security-opt systempaths=unconfined",
        )
    return Missing("no RAPL zones in /sys/class/powercap", "sudo modprobe intel_rapl_msr")


def _frozen(host: Host) -> Missing:
    if is_virtual_machine(host):
        return Missing("virtual machine: its energy counters stand still", f"measure on the host, or {_OUTSIDE}")
    return Missing("the energy counters stand still", f"restart the machine, or {_OUTSIDE}")
