"""What the estimator must know of one channel of power or energy."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from edgetop.core.records import Channel, Scope, SourceInfo

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
        calibration=text("calibration"),
        flags=tuple(flag for flag in text("flags").split(",") if flag),
        total=stated("total") is True,
        adds_up_as=text("adds_up_as"),
    )
