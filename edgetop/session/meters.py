"""The meters of a session: which of its channels they are, which make the headline, and why there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgetop.core.energy.hosts import headline_over_hosts
from edgetop.core.energy.meter import Meter, meter_of
from edgetop.core.energy.scope import Headline
from edgetop.core.records import Missing
from edgetop.session.channels import HOST_PREFIX
from edgetop.session.session import Session

SWITCHED_OFF = Missing("power was switched off with --power none")


def meters_of(session: Session) -> list[Meter]:
    """The channels of the session that meter power or energy."""
    return [
        meter
        for series in session.series.values()
        for column in series.columns
        if (meter := meter_of(series.info, column.channel)) is not None
    ]


def headline_of(session: Session, meters: Sequence[Meter]) -> Headline | Missing:
    """The meters that stand for the device, as the person chose or by their scope; or the best reason for none."""
    chosen = session.header.power if session.header is not None else None
    if chosen == "none":
        return SWITCHED_OFF
    hosts = {
        name.removeprefix(HOST_PREFIX): missing
        for name, missing in session.absent.items()
        if name.startswith(HOST_PREFIX)
    }
    found = headline_over_hosts(meters, chosen, hosts)
    if isinstance(found, Missing) and chosen is None and not hosts and not any(meter.host for meter in meters):
        return best_reason(session.absent) or found
    return found


def cross_check_of(meters: Sequence[Meter], chosen: Sequence[Meter]) -> Meter | None:
    """Another view of the one headline meter: the power readings beside a board's counter."""
    if len(chosen) != 1:
        return None
    (main,) = chosen
    for meter in meters:
        if meter.source == main.source and meter.scope == main.scope and meter.kind != main.kind:
            return meter
    return None


def best_reason(absent: Mapping[str, Missing]) -> Missing | None:
    """Of all reasons why power is not known the one a person can do most about: a sensor that only lacks permission."""
    for name, missing in absent.items():
        if name.startswith("power.") and "sudo" in missing.mend:
            return missing
    return absent.get("power")
