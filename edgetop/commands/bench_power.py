"""Whether power can be measured here, found out before anything is measured."""

from __future__ import annotations

from edgetop.commands.conversing import power_choice
from edgetop.core.energy.scope import Headline
from edgetop.core.records import Missing
from edgetop.live.sensor_watch import SensorWatch
from edgetop.settings import options
from edgetop.settings.resolve import Settings
from edgetop.telemetry.power_choice import NO_POWER
from edgetop.telemetry.registry import probes_of, take_inventory
from edgetop.telemetry.source import Host


def power_headline(settings: Settings) -> Headline | Missing:
    """The meters that would stand for the device, or why there are none and what would give one."""
    choice = power_choice(settings)
    probes = [*choice.probes, *probes_of(power=choice.name != NO_POWER)]
    watch = SensorWatch(take_inventory(Host(sysroot=settings[options.SYSROOT]), probes), choice.headline)
    try:
        return watch.headline
    finally:
        watch.close()
