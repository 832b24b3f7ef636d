"""Sources, channels and their names, what is known of a sensor, meters, and why a reading is unavailable.

What is known of a source is `SourceProperties`, and of each of its channels of power or energy `PowerProperties`. A
session file keeps both as one flat object, which `to_properties` writes and `of_source` and `of_channel` read:

* the keys are the names of the fields; an absent key means the default, which is "not known" or "none" throughout;
* a bare key (`gain`) holds for every channel of the source;
* a key followed by a dot and a channel's name (`wrap_j.energy.package-0`) holds for that channel only and wins over the
  bare one;
* lists (`flags`, `sum_of`) are joined with commas;
* a value of the wrong kind, as in a tampered file, counts as not stated.

Channels in W are named `power.<meter or rail>`, counters in J `energy.<meter or zone>`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from typing import Annotated, Any, Final, Literal, TypeVar

from msgspec import Meta, Struct, ValidationError, convert
from msgspec.structs import asdict, fields, replace

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
    properties: dict[str, Property] = {}
    """What an estimator or a reader must know besides, as `to_properties` writes it."""


Property = str | float | bool
MeterKind = Literal["power", "energy"]
NotNegative = Annotated[float, Meta(ge=0)]
Positive = Annotated[float, Meta(gt=0)]
Period = Annotated[float, Meta(ge=1e-6)]
"""In seconds: stamps count microseconds."""

P_MAX_W = 10_000.0
"""Believed of a meter that states no limit of its own. Mains plugs are known to report glitches above 10 kW, and a
false wrap of any RAPL counter within a second is above it too."""

GAIN_UNKNOWN = 0.15
"""Half-width of the gain of a meter that states none: that of an uncalibrated board (judgement; no vendor states
it)."""


PROCESSOR_DEVICE = "processor"
"""The `device` of meters of the one processor that a machine has: its RAPL package, and an APU's own sensor."""

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

    window_s: NotNegative | None = None
    """Span that one reading averages over; 0 for a point reading, `None` when not known (then the update period)."""
    update_s: Period | None = None
    """Time between two changes of the reading; `None` leaves it to be found online."""
    gain: NotNegative | None = None
    """Relative error of scale: 0.05 means that the truth is within 5 % of the reading, after the offset."""
    offset_w: NotNegative = 0.0
    """Error of zero."""
    lsb_w: NotNegative | None = None
    """Step of a power reading."""
    lsb_j: NotNegative | None = None
    """Step of an energy counter."""
    wrap_j: Positive | None = None
    """The counter starts again at 0 after this many joules; `None` for one that does not wrap in practice."""
    p_max_w: Positive | None = None
    """More than this is not believed: a reading above it is dropped, a step of a counter above it is a reset."""
    stamp_s: NotNegative = 0.0
    """When within this long before or after its stamp a reading was taken is not known: reading takes time."""
    device: str = ""
    """What is measured, where several sources may measure the same: `gpu.0`. Empty where only its source says."""
    calibration: str = ""
    """What the readings were corrected with, such as `generic` or the name of the user's own fit."""
    flags: tuple[SensorFlag, ...] = ()
    """What weakens a figure derived from this channel; of a file of a newer edgetop also flags that are not known."""
    total: bool = False
    """This channel is all that its source covers; the source's other channels are parts of it or lie beside it."""
    sum_of: tuple[str, ...] = ()
    """Channels of the same source that were added up to make this one; none when it was measured as such."""
    adds_up_as: str = ""
    """Channels with the same word here, in whichever source, are parts that may be added: the packages of several
    sockets and, on servers, their memory (`cpu`); several graphics boards (`gpu`). Empty: never added to anything."""


class SourceProperties(Struct, frozen=True, kw_only=True):
    """What is known of a source as a whole."""

    host: str = ""
    """The machine that it measures; empty for this one."""
    poll_s: Positive | None = None
    """How often that machine reads it; `None` where that is the source's own period."""
    told_source: str = ""
    told_channels: str = ""
    """What that machine calls its source and its channels."""
    simulated: bool = False
    """Its power is computed, not measured."""
    mirrored: tuple[str, ...] = ()
    """Counters that only repeat one of its own, and are left out."""
    calibration_slope: float | None = None
    calibration_intercept_w: float | None = None
    """The line that is applied to its total."""
    calibration_note: str = ""
    """Why the user's own calibration is not applied."""


class Meter(PowerProperties, frozen=True, kw_only=True):
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
    gain: float = GAIN_UNKNOWN
    p_max_w: float = P_MAX_W

    @property
    def lsb(self) -> float:
        """Step of a reading, in W or J as `kind` says; 0 where it is not known."""
        return (self.lsb_w if self.kind == "power" else self.lsb_j) or 0.0

    @property
    def confirms_jumps(self) -> bool:
        """Whether a sudden zero or a sudden multiple must be seen again before it is believed: plugs glitch."""
        return self.kind == "power" and self.scope == "wall"


def meter_of(info: SourceInfo, channel: Channel) -> Meter | None:
    """The meter behind a channel in W or J with a scope; `None` for any other channel."""
    if channel.scope is None or channel.unit not in {"W", "J"}:
        return None
    known, source = of_channel(info, channel.name), of_source(info)
    return Meter(
        name=channel.name,
        kind="power" if channel.unit == "W" else "energy",
        scope=channel.scope,
        poll_s=source.poll_s or info.period_s,
        source=info.name,
        host=source.host,
        **{name: value for name, value in asdict(known).items() if value is not None},
    )


def of_channel(info: SourceInfo, channel: str) -> PowerProperties:
    """What is known of the channel of that name."""
    stated = info.properties
    return _read(PowerProperties, lambda key: stated.get(f"{key}.{channel}", stated.get(key)))


def of_source(info: SourceInfo) -> SourceProperties:
    """What is known of the source as a whole."""
    return _read(SourceProperties, info.properties.get)


def to_properties(
    channels: Mapping[str, PowerProperties],
    source: SourceProperties = SourceProperties(),  # noqa: B008 - frozen
) -> dict[str, Property]:
    """What is known of each channel, by its name, and of their source, as session files keep it."""
    properties: dict[str, Property] = {}
    for key, default, _ in _fields(PowerProperties):
        values = {name: getattr(known, key) for name, known in channels.items()}
        stated = {name: _to_property(value) for name, value in values.items() if value != default}
        if len(stated) == len(channels) and len(set(stated.values())) == 1:
            properties[key] = next(iter(stated.values()))
        else:
            properties.update({f"{key}.{name}": value for name, value in stated.items()})
    for key, default, _ in _fields(SourceProperties):
        if (value := getattr(source, key)) != default:
            properties[key] = _to_property(value)
    return properties


def with_properties(info: SourceInfo, channels: Mapping[str, PowerProperties], source: SourceProperties) -> SourceInfo:
    """The source with these properties; those of an extension, which edgetop does not know, stay."""
    ours = {name for kind in (PowerProperties, SourceProperties) for name, _, _ in _fields(kind)}
    others = {key: value for key, value in info.properties.items() if key.partition(".")[0] not in ours}
    return replace(info, properties={**others, **to_properties(channels, source)})


def with_stamp(info: SourceInfo, stamp_s: float) -> SourceInfo:
    """The source, its readings taken within so long before or after their stamps."""
    return replace(info, properties={**info.properties, "stamp_s": round(stamp_s, 4)})


PropertiesT = TypeVar("PropertiesT", bound=Struct)


def _read(kind: type[PropertiesT], stated: Callable[[str], Property | None]) -> PropertiesT:
    found: dict[str, Any] = {}
    for name, default, _ in _fields(kind):
        value = stated(name)
        if value is not None:
            is_list = isinstance(default, tuple)
            found[name] = tuple(filter(None, value.split(","))) if is_list and isinstance(value, str) else value
    try:
        return convert(found, kind)
    except ValidationError:
        return kind(**dict(_believed(kind, found)))


def _believed(kind: type[Struct], found: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What is of its kind; flags that are not known here are kept."""
    for name, default, expected in _fields(kind):
        if isinstance(default, tuple) and isinstance(found.get(name), tuple):
            yield name, found[name]
        elif name in found:
            with suppress(ValidationError):
                yield name, convert(found[name], expected)


@cache
def _fields(kind: type[Struct]) -> tuple[tuple[str, Any, Any], ...]:
    """Name, default and type of each field."""
    return tuple((field.name, field.default, field.type) for field in fields(kind))


def _to_property(value: Any) -> Property:  # noqa: ANN401 - a field of either kind of properties
    return ",".join(value) if isinstance(value, tuple) else value


EXTERNAL_METER = (
    "use an external meter: --power shelly:HOST (tasmota:, kasa:), a POWER-Z on USB, an INA chip on I2C, "
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
