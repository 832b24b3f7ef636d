"""Which sources this machine has, and why it lacks the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path

from msgspec import Struct

from edgetop.core.records import Missing
from edgetop.telemetry.calibrated_source import OwnCalibrations
from edgetop.telemetry.source import Absent, Host, Probe, Source

GAUGE_FAMILIES = ("processor", "memory", "processes", "thermal", "nvml")
POWER_FAMILIES = (
    "nvml_power",
    "jetson",
    "jetson_stats",
    "raspberry_pi",
    "rapl",
    "hwmon",
    "battery",
    "external",
)
"""Modules of this room that offer a `probe`, in the order in which `edgetop doctor` lists them."""


class Inventory(Struct, frozen=True):
    """What the probes found."""

    sources: tuple[Source, ...]
    absent: tuple[Absent, ...]

    def close(self) -> None:
        """Close all sources; for a caller that only wanted to know."""
        for source in self.sources:
            with suppress(Exception):
                source.close()


def probes_of(*, power: bool = True) -> list[tuple[str, Probe]]:
    """The probes of all families, or of all but those of power, by the family's name."""
    families = GAUGE_FAMILIES + POWER_FAMILIES if power else GAUGE_FAMILIES
    return [(family, _probe_of(family)) for family in families]


def take_inventory(
    host: Host, probes: Sequence[tuple[str, Probe]] | None = None, *, calibration_file: Path | None = None
) -> Inventory:
    """Run the probes, each by itself: one that fails is absent with its error for a reason, and hinders no other.

    A source is left out, with a reason, if it has the name or a channel of one that was found before. Power is
    corrected with the user's calibrations in `calibration_file`, by default the one in the configuration folder.
    """
    own = OwnCalibrations(host, calibration_file)
    sources: list[Source] = []
    absent: list[Absent] = []
    taken: set[tuple[str, str]] = set()
    for family, probe in probes_of() if probes is None else probes:
        try:
            for found in probe(host):
                if isinstance(found, Absent):
                    absent.append(found)
                    continue
                names = {("source", found.info.name), *(("channel", each.name) for each in found.info.channels)}
                twice = sorted(taken & names)
                if twice:
                    found.close()
                    reason = f"the {twice[0][0]} {twice[0][1]} is there already"
                    absent.append(Absent(name=found.info.name, missing=Missing(reason)))
                    continue
                taken |= names
                sources.append(own.applied_to(found))
        except Exception as error:  # noqa: BLE001 - a sensor of a kind nobody has seen must not end the program
            words = " ".join(f"{type(error).__name__}: {error}".split())
            absent.append(Absent(name=family, missing=Missing(f"looking for it failed: {words}", "please report this")))
    return Inventory(tuple(sources), tuple(absent))


def _probe_of(family: str) -> Probe:
    """A probe that imports its family when it is run, so that one that cannot be imported is only absent."""

    def probe(host: Host) -> Iterator[Source | Absent]:
        yield from import_module(f"edgetop.telemetry.{family}").probe(host)

    return probe
