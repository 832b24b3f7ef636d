"""What is known of a power or energy channel besides its readings, and how `SourceInfo.properties` carries it.

The convention, the same in every family of power source:

* a bare key (`gain`) holds for every channel of the source;
* a key followed by a dot and a channel's name (`wrap_j.energy.package-0`) holds for that channel only and wins over the
  bare one;
* an absent key means the default of `PowerProperties`, which is "not known" or "none" throughout;
* lists (`flags`, `sum_of`) are joined with commas.

A source writes them with `to_properties`, a reader gets a channel's back with `of_channel`; the keys are the field
names of `PowerProperties`. Channels in W are named `power.<meter or rail>`, counters in J `energy.<meter or zone>`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec
from msgspec import Struct

from edgetop.core.records import SourceInfo

Property = str | float | bool

SensorFlag = Literal[
    "opt-in",  # never a headline unless asked for by name: its meaning differs between machines (psys)
    "virtualised",  # a modelled share of the machine below, not a measurement
    "early-firmware",  # rails whose scale is known to be wrong were left out
    "partial",  # does not cover the whole of its scope
    "includes-cpu",  # a graphics sensor that covers the processor too; never added to the package
    "generic-calibration",  # corrected by a fit made on another board
    "slow",  # unfit for telling parts of a turn apart
]


class PowerProperties(Struct, frozen=True, kw_only=True):
    """What an estimator must know of one channel. Errors are half-widths of a uniform prior."""

    window_s: float | None = None
    """Span that one reading averages over, in seconds; 0 for a point reading, `None` when not known."""
    update_s: float | None = None
    """Time between two changes of the reading, in seconds; `None` leaves it to be found online."""
    gain: float | None = None
    """Relative error of scale: 0.05 means that the truth is within 5 % of the reading, after the offset."""
    offset_w: float = 0.0
    """Error of zero, in watts."""
    lsb_w: float | None = None
    """Step of a power reading, in watts."""
    lsb_j: float | None = None
    """Step of an energy counter, in joules."""
    wrap_j: float | None = None
    """The counter starts again at 0 after this many joules; `None` for one that does not wrap in practice."""
    p_max_w: float | None = None
    """More than this, in watts, is not believed: a reading above it is dropped, a step above it is a reset."""
    calibration: str = ""
    """What the readings were corrected with, such as `generic` or the name of the user's own fit."""
    flags: tuple[SensorFlag, ...] = ()
    """What weakens a figure derived from this channel."""
    total: bool = False
    """This channel is all that its source covers; the source's other channels are parts of it or lie beside it."""
    sum_of: tuple[str, ...] = ()
    """Channels of the same source that were added up to make this one; none when it was measured as such."""
    adds_up_as: str = ""
    """Channels with the same word here, in whichever source, are parts that may be added: the packages of several
    sockets and, on servers, their memory (`cpu`); several graphics boards (`gpu`). Empty: never added to anything."""


def to_properties(channels: Mapping[str, PowerProperties]) -> dict[str, Property]:
    """Write down what is known of each channel, by channel name, as the properties of their source."""
    properties: dict[str, Property] = {}
    for field in msgspec.structs.fields(PowerProperties):
        values = {name: getattr(known, field.name) for name, known in channels.items()}
        told = {name: _to_property(value) for name, value in values.items() if value != field.default}
        if len(told) == len(channels) and len(set(told.values())) == 1:
            properties[field.name] = next(iter(told.values()))
        else:
            properties.update({f"{field.name}.{name}": value for name, value in told.items()})
    return properties


def of_channel(info: SourceInfo, channel: str) -> PowerProperties:
    """Read back from `info.properties` what is known of the channel of that name.

    Raises `msgspec.ValidationError` when a value is not of its kind, as in a session file that was tampered with.
    """
    found: dict[str, Property | list[str]] = {}
    for field in msgspec.structs.fields(PowerProperties):
        value = info.properties.get(f"{field.name}.{channel}", info.properties.get(field.name))
        if value is None:
            continue
        is_list = isinstance(field.default, tuple)
        found[field.name] = value.split(",") if is_list and isinstance(value, str) else value
    return msgspec.convert(found, PowerProperties)


def _to_property(value: float | str | tuple[str, ...]) -> Property:
    return ",".join(value) if isinstance(value, tuple) else value
