"""The energy zones of the powercap tree: which there are, what they measure, and which of them are the same meter.

A zone is told by its name and its parent's, never by its number: children lie beside their parents in
`/sys/class/powercap`, ids need not be decimal (`intel-rapl:a`), and `psys`, the platform, is a top-level zone like a
package.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from msgspec import Struct

from edgetop.telemetry.source import Host
from edgetop.telemetry.sysfs_file import number_of, text_of

_INTERFACES = ("intel-rapl", "intel-rapl-tpmi", "intel-rapl-mmio")
"""Ways to the same counters, the one to prefer first. AMD's are found under `intel-rapl` too."""
_ZONE_NAME = re.compile(r"package-\d+(-die-\d+)?|psys|core|uncore|dram")

AGREEMENT = 1e-3
"""Two counters whose steps agree within this share, interval by interval, are one meter."""
_MIN_INTERVALS = 3
_SKEW_S = 0.003
"""Two zones are read one after the other, and a counter is renewed every millisecond or so."""
_P_MAX_W = 1000.0


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
    skew_j = _SKEW_S * _P_MAX_W
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
