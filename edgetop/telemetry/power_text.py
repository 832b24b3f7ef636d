"""The text by which any program can be a power meter: a header line that says what it measures, then a reading a line.

    # edgetop-power/1 kind=power unit=W scope=wall update=1.0 window=1.0 gain=0.01 offset=0.2
    12.34
    {"t": 1782936360.25, "w": 12.34}

`kind` is `power` (unit W or mW) or `energy` (J or Wh, a counter that only grows); `scope` is one of `Scope`. `update`,
the seconds between two readings, `window`, `gain`, `offset` (in watts) and `max` (in watts) may be left out. In a
reading written as JSON, `w` is in watts, `j` in joules and `t` in seconds of Unix time, whatever the header's unit.
"""

from __future__ import annotations

import math
import re
from typing import Literal, get_args

import msgspec
from msgspec import Struct

from edgetop.core.records import Channel, Scope, SourceInfo
from edgetop.telemetry.power_properties import PowerProperties, SensorFlag, to_properties
from edgetop.telemetry.source import SourceLost

MAGIC = "# edgetop-power/1"
EXAMPLE = f"{MAGIC} kind=power unit=W scope=wall update=1.0"
_UNITS = {"power": {"W": 1.0, "mW": 1e-3}, "energy": {"J": 1.0, "Wh": 3600.0}}
_NUMBERS = ("update", "window", "gain", "offset", "max")
_NUMBER = re.compile(r"[+-]?\d{1,20}(\.\d{0,20})?([eE][+-]?\d{1,2})?", re.ASCII)
_P_MAX_W = 10_000.0
_SLOW_S = 0.5


class Header(Struct, frozen=True, kw_only=True):
    """What the program says that it measures."""

    kind: Literal["power", "energy"]
    factor: float
    """Watts or joules per unit of a plain number."""
    scope: Scope
    update_s: float = 1.0
    window_s: float | None = None
    gain: float | None = None
    offset_w: float = 0.0
    p_max_w: float = _P_MAX_W


class Reading(Struct, frozen=True):
    """One line, in watts or joules."""

    value: float
    unix_s: float | None = None
    """When it was measured, if the program says."""


class _JsonReading(Struct, frozen=True):
    t: float | None = None
    w: float | None = None
    j: float | None = None


def parse_header(line: str) -> Header:
    """Read a header line. Raises SourceLost, with what to write instead, when it is none or tells nonsense."""
    if not line.startswith(MAGIC + " "):
        raise SourceLost(f"the first line is {line[:60]!r}, not a header", f"let the program print first: {EXAMPLE}")
    words: dict[str, str] = {}
    for word in line[len(MAGIC) :].split():
        key, _, value = word.partition("=")
        if key not in {"kind", "unit", "scope", *_NUMBERS} or key in words:
            raise _wrong(f"{word[:40]!r} in the header is not understood")
        words[key] = value
    kind, unit, scope = (words.get(key, "") for key in ("kind", "unit", "scope"))
    if kind not in _UNITS:
        raise _wrong(f"kind={kind[:20]} is neither power nor energy")
    if unit not in _UNITS[kind]:
        raise _wrong(f"unit={unit[:20]} is not one of {' '.join(_UNITS[kind])}, which kind={kind} can have")
    if scope not in get_args(Scope):
        raise _wrong(f"scope={scope[:20]} is not one of {' '.join(get_args(Scope))}")
    numbers = {key: _header_number(key, words[key]) for key in _NUMBERS if key in words}
    if numbers.get("update", 1.0) == 0 or numbers.get("max", 1.0) == 0:
        raise _wrong("update=0 or max=0 cannot be")
    return Header(
        kind="power" if kind == "power" else "energy",
        factor=_UNITS[kind][unit],
        scope=msgspec.convert(scope, Scope),
        update_s=numbers.get("update", 1.0),
        window_s=numbers.get("window"),
        gain=numbers.get("gain"),
        offset_w=numbers.get("offset", 0.0),
        p_max_w=numbers.get("max", _P_MAX_W),
    )


def parse_reading(line: str, header: Header) -> Reading:
    """Read a line after the header. Raises ValueError, with a reason, for one that cannot be a reading."""
    text = line.strip()
    if text.startswith("{"):
        try:
            record = msgspec.json.decode(text, type=_JsonReading)
        except (msgspec.DecodeError, RecursionError) as error:
            raise ValueError(f"{text[:40]!r} is not a reading") from error
        value, unix_s = (record.w if header.kind == "power" else record.j), record.t
        if value is None:
            raise ValueError(f"{text[:40]!r} has no {'w' if header.kind == 'power' else 'j'}")
    elif _NUMBER.fullmatch(text):
        value, unix_s = float(text) * header.factor, None
    else:
        raise ValueError(f"{text[:40]!r} is not a reading")
    if not math.isfinite(value) or value < -(header.offset_w if header.kind == "power" else 0.0):
        raise ValueError(f"{value:g} is not a reading")
    if header.kind == "power" and value > header.p_max_w:
        raise ValueError(f"{value:g} W is more than the {header.p_max_w:g} W that can be")
    return Reading(value, unix_s)


def describe(header: Header, *, name: str, driver: str, path: str, period_s: float) -> SourceInfo:
    """The source that a header describes. A meter faster than `period_s` is averaged over that period."""
    channel = f"{header.kind}.{driver}"
    window_s = header.window_s
    if header.update_s < period_s:
        window_s = max(window_s or 0.0, period_s)
    slow: tuple[SensorFlag, ...] = ("slow",) if header.update_s > _SLOW_S else ()
    known = PowerProperties(
        window_s=window_s if header.kind == "power" else None,
        update_s=max(header.update_s, period_s),
        gain=header.gain,
        offset_w=header.offset_w,
        p_max_w=header.p_max_w,
        flags=slow,
        total=True,
    )
    unit = "W" if header.kind == "power" else "J"
    return SourceInfo(
        name=name,
        driver=driver,
        path=path,
        kind=header.kind,
        period_s=period_s,
        channels=(Channel(name=channel, unit=unit, digits=3, scope=header.scope, label=driver),),
        properties=to_properties({channel: known}),
    )


def _header_number(key: str, text: str) -> float:
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not 0 <= value <= 1e6:
        raise _wrong(f"{key}={text[:20]} is not a number that can be")
    return value


def _wrong(reason: str) -> SourceLost:
    return SourceLost(reason, f"a header that is right: {EXAMPLE}")
