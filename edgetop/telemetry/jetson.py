"""Power of a Jetson, from its own current sensors through sysfs: no root, no service.

Which rails make the total is in `jetson_rails`; power mode and L4T version are in `jetson_platform`.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from edgetop.core.records import Channel, Missing, SourceInfo
from edgetop.telemetry.jetson_rails import P_MAX_W, Rail, find_rails, sum_properties, total_of
from edgetop.telemetry.meter_source import Meter, MeterSource
from edgetop.telemetry.power_properties import PowerProperties, to_properties
from edgetop.telemetry.source import Absent, Host, Source
from edgetop.telemetry.surroundings import device_tree_compatible
from edgetop.telemetry.sysfs_file import why

SOURCE_NAME = "power.jetson"
TOTAL = "power.total"
"""The sum of rails, on boards that do not measure their total."""
_PERIOD_S = 0.04

_NO_SENSOR = Missing(
    "no current sensor is offered by this Jetson (the Nano 2GB has none)",
    "use an outside meter: --power shelly:HOST, a POWER-Z on USB, or --power-exec CMD",
)


def probe(host: Host) -> Iterator[Source | Absent]:
    """Yield one source with the total first and then every rail; nothing on a machine that is no Jetson."""
    readable: list[Rail] = []
    failed: list[Missing] = []
    powers: dict[str, float] = {}
    for rail in find_rails(host):
        meter = rail.meter()
        try:
            power_w = meter.read()
        except (OSError, ValueError) as error:
            failed.append(why(error, meter.path))
            continue
        finally:
            meter.close()
        if abs(power_w) > P_MAX_W:
            failed.append(Missing(f"{meter.path}: {power_w:.0f} W cannot be"))
            continue
        readable.append(rail)
        powers[rail.label] = power_w
    total = total_of(powers)
    if total is not None and sum(powers[label] for label in total.rails) <= 0:
        failed.append(Missing(f"{' + '.join(total.rails)}: 0 W cannot be"))
        readable = []
    if readable:
        yield _source(host, readable)
    elif failed:
        yield Absent(name=SOURCE_NAME, missing=failed[0])
    elif any(name.startswith("nvidia,tegra") for name in device_tree_compatible(host)):
        yield Absent(name=SOURCE_NAME, missing=_NO_SENSOR)


def _source(host: Host, rails: list[Rail]) -> MeterSource:
    total = total_of([rail.label for rail in rails])
    if total is not None:
        rails = sorted(rails, key=lambda rail: rail.label not in total.rails)
    known: dict[str, PowerProperties] = {}
    channels: list[Channel] = []
    own = {rail.label: rail.properties() for rail in rails}
    sum_of: tuple[int, ...] = ()
    if total is not None and len(total.rails) > 1:
        sum_of = tuple(place for place, rail in enumerate(rails) if rail.label in total.rails)
        names = tuple(f"power.{rails[place].label}" for place in sum_of)
        known[TOTAL] = sum_properties([own[label] for label in total.rails], names)
        channels.append(Channel(name=TOTAL, unit="W", digits=3, scope=total.scope, label=" + ".join(total.rails)))
    for rail in rails:
        is_total = total is not None and total.rails == (rail.label,)
        name = f"power.{rail.label}"
        known[name] = replace(own[rail.label], total=is_total)
        scope = total.scope if total is not None and is_total else "component"
        channels.append(Channel(name=name, unit="W", digits=3, scope=scope, label=rail.label))
    info = SourceInfo(
        name=SOURCE_NAME,
        driver="hwmon ina3221" if rails[0].chip is not None else "iio ina3221x",
        path=str(rails[0].directory),
        kind="power",
        period_s=_PERIOD_S,
        channels=tuple(channels),
        properties=to_properties(known),
    )

    def relocate() -> tuple[Meter, ...] | None:
        now = {rail.label: rail for rail in find_rails(host)}
        if any(rail.label not in now for rail in rails):
            return None
        return tuple(now[rail.label].meter() for rail in rails)

    # Each register of the sensor is read over I2C, which takes about half a millisecond.
    return MeterSource(info, [rail.meter() for rail in rails], blocking=True, sum_of=sum_of, relocate=relocate)
