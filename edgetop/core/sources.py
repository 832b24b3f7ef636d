"""Sources, channels and their names, what is known of a sensor, meters, and why a reading is unavailable.

What is known of a channel of power or energy is kept in the properties of its source, one convention for all families:

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
from typing import Final, Literal

import msgspec
from msgspec import Struct

Scope = Literal[
    "wall",
    "dc_in",
    "board_input",
    "module",
    "platform",
    "battery",
    "board_rails",
    "cpu_package",
    "gpu_board",
    "component",
]
"""What a power reading covers, widest first; the first available is the headline."""

SourceKind = Literal["gauge", "power", "energy"]


class Unavailable(Struct, frozen=True):
    """Why a reading is not there, and what would bring it."""

    reason: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.reason}: {self.hint}" if self.hint else self.reason


class Channel(Struct, frozen=True, kw_only=True):
    """One quantity that a source reads."""

    name: str
    """Dotted and unique in a session: `memory.available`, `cpu.0`, `power.VDD_IN`."""
    unit: str
    """`%`, `B`, `W`, `J`, `Cel`, `Hz`, `1/s` or `1`."""
    label: str = ""
    """As the device names it, where that differs."""
    digits: int = 0
    """Decimal places that mean anything; recorded values are rounded to them."""
    scope: Scope | None = None


class SourceInfo(Struct, frozen=True, kw_only=True):
    """Where readings come from."""

    name: str
    driver: str
    """The interface, such as `procfs` or `hwmon ina3221`."""
    path: str = ""
    kind: SourceKind = "gauge"
    period_s: float
    channels: tuple[Channel, ...]
    properties: dict[str, str | float | bool] = {}
    """What an estimator or a reader must know besides: window, gain, offset, calibration."""


MeterKind = Literal["power", "energy"]

US_PER_S = 1_000_000
P_MAX_W = 10_000.0
"""Believed of a meter that states no limit of its own. Mains plugs are known to report glitches above 10 kW, and a
false wrap of any RAPL counter within a second is above it too."""

GAIN_UNKNOWN = 0.15
"""Half-width of the gain of a meter that states none: that of an uncalibrated board (judgement; no vendor states
it)."""


class Meter(Struct, frozen=True, kw_only=True):
    """One channel of power in W or of cumulative energy in J; the scale to these units is already applied."""

    name: str
    """The channel's name, unique in a session."""
    kind: MeterKind
    scope: Scope
    poll_s: float
    """How often it is read."""
    source: str = ""
    host: str = ""
    """The machine that it measures; empty for this one."""
    window_s: float | None = None
    """Span that one reading averages over; 0 for a point reading, `None` when not known (then the update period)."""
    update_s: float | None = None
    """Time between two changes of the reading; `None` leaves it to be found online."""
    gain: float = GAIN_UNKNOWN
    """Relative error of scale, half-width of a uniform prior."""
    offset_w: float = 0.0
    """Error of zero, half-width of a uniform prior."""
    lsb: float = 0.0
    """Step of a reading, in W or J as `kind` says."""
    p_max_w: float = P_MAX_W
    """More than this is not believed, neither as a reading nor as the rise of a counter."""
    wrap_j: float | None = None
    """The counter starts again at 0 after this many joules."""
    stamp_s: float = 0.0
    """When within this long before or after its stamp a reading was taken is not known: reading takes time."""
    device: str = ""
    """What it measures, where several meters may measure the same; empty where only its source says."""
    calibration: str = ""
    flags: tuple[str, ...] = ()
    """What weakens a figure from this meter, such as `virtualised`, `opt-in`, `includes-cpu`."""
    total: bool = False
    """It covers all that its source covers; the source's other channels are parts of it or beside it."""
    adds_up_as: str = ""
    """Meters of one scope with the same word here are parts that may be added; empty: never added to anything."""

    @property
    def confirms_jumps(self) -> bool:
        """Whether a sudden zero or a sudden multiple must be seen again before it is believed: plugs glitch."""
        return self.kind == "power" and self.scope == "wall"


def meter_of(info: SourceInfo, channel: Channel) -> Meter | None:
    """The meter behind a channel in W or J with a scope; `None` for any other channel.

    `info.properties` holds a bare key (`gain`) for all channels, or the key, a dot and a channel's name for that one.
    A value of the wrong kind, as in a tampered file, counts as not stated.
    """
    if channel.scope is None or channel.unit not in {"W", "J"}:
        return None

    def stated(key: str) -> str | float | bool | None:
        return info.properties.get(f"{key}.{channel.name}", info.properties.get(key))

    def number(key: str) -> float | None:
        value = stated(key)
        return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0 else None

    def text(key: str) -> str:
        value = stated(key)
        return value if isinstance(value, str) else ""

    gain = number("gain")
    kind: MeterKind = "power" if channel.unit == "W" else "energy"
    return Meter(
        name=channel.name,
        kind=kind,
        scope=channel.scope,
        poll_s=number("poll_s") or info.period_s,
        source=info.name,
        host=text("host"),
        window_s=number("window_s"),
        update_s=number("update_s"),
        gain=GAIN_UNKNOWN if gain is None else gain,
        offset_w=number("offset_w") or 0.0,
        lsb=number("lsb_w" if kind == "power" else "lsb_j") or 0.0,
        p_max_w=number("p_max_w") or P_MAX_W,
        wrap_j=number("wrap_j") or None,
        stamp_s=number("stamp_s") or 0.0,
        device=text("device"),
        calibration=text("calibration"),
        flags=tuple(flag for flag in text("flags").split(",") if flag),
        total=stated("total") is True,
        adds_up_as=text("adds_up_as"),
    )


PROCESSOR_DEVICE = "processor"
"""The `device` of meters of the one processor that a machine has: its RAPL package, and an APU's own sensor."""

OUTSIDE = "use an outside meter: a smart plug, a USB-C meter, or any program with --power-exec"

Property = str | float | bool

SensorFlag = Literal[
    "opt-in",  # never a headline unless asked for by name: its meaning differs between machines (psys)
    "virtualised",  # a modelled share of the machine below, not a measurement
    "early-firmware",  # rails whose scale is known to be wrong were left out
    "partial",  # does not cover the whole of its scope
    "includes-cpu",  # a graphics sensor that covers the processor too; never added to the package
    "generic-calibration",  # corrected by a fit made on another board
    "assumed-scope",  # a program that does not say of what its watts are: they are taken as the board's input
    "slow",  # unfit for telling parts of a turn apart
    "untried",  # this way of reading was never run on such a machine by its makers
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
    stamp_s: float = 0.0
    """When within this long before or after its stamp a reading was taken is not known, in seconds."""
    device: str = ""
    """What is measured, where several sources may measure the same: `gpu.0`."""
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
        stated = {name: _to_property(value) for name, value in values.items() if value != field.default}
        if len(stated) == len(channels) and len(set(stated.values())) == 1:
            properties[field.name] = next(iter(stated.values()))
        else:
            properties.update({f"{field.name}.{name}": value for name, value in stated.items()})
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


OUTSIDE_METERS = (
    "use an outside meter: --power shelly:HOST (tasmota:, kasa:), a POWER-Z on USB, an INA chip on I2C, "
    "or --power-exec CMD"
)

CPU_OTHERS: Final = "cpu.others"
CPU_STEAL: Final = "cpu.steal"

CPU_QUOTA: Final = "cpu.quota_used_up"
"""The share of scheduling periods, in %, in which a control group's quota stopped us."""

ENGINE_RSS: Final = "engine.rss"
ENGINE_RSS_PEAK: Final = "engine.rss_peak"
ENGINE_MAPPED: Final = "engine.mapped"
ENGINE_ANONYMOUS: Final = "engine.anonymous"
ENGINE_SWAP: Final = "engine.swap"
ENGINE_MAJOR_FAULTS: Final = "engine.major_faults"
MEMORY_USED: Final = "memory.used"
MEMORY_AVAILABLE: Final = "memory.available"
SWAP_USED: Final = "swap.used"
GPU_PREFIX: Final = "gpu."
GPU_MEMORY_USED_SUFFIX: Final = ".memory_used"
"""`gpu.0.memory_used` and so on, one for each GPU."""

HOST_PREFIX: Final = "power.host."
"""The source that reads another machine's power, and what is absent where one gives nothing: `power.host.pi2`."""

HOST_STREAM: Final = "host."
"""What a host tells that is watched over SSH: `host.pi2.tokens_per_s`."""

CLOCK_PREFIX: Final = "clock."
"""`clock.pi2`: how far off the stamps of that machine's readings may be, half-width in s."""

BATTERY_ENERGY: Final = "battery.energy"
"""What is left in the batteries, in J."""

OWN_CPU: Final = "edgetop.cpu"
OWN_RSS: Final = "edgetop.rss"
THROTTLE_PREFIX: Final = "throttle."
"""Channels below this are above 0 while something holds the device back ..."""

SINCE_BOOT_SUFFIX: Final = "_since_boot"
"""... except those that only say that it once did."""

SERVED_TOKENS: Final = "servers.generated_tokens"
"""What all watched servers have generated since they were first polled; missing where that is not known."""

SERVED_PROMPT_TOKENS: Final = "servers.prompt_tokens"
SERVED_RUNNING: Final = "servers.requests_running"
SERVED_WAITING: Final = "servers.requests_waiting"
SERVED_UNSURE: Final = "servers.tokens_unsure"
"""Tokens that `SERVED_TOKENS` may be off by at its stamp, to either side."""
