"""The text format of a meter program, parsed and described.

# edgetop-power/1 kind=power unit=W scope=wall update=1.0 window=1.0 gain=0.01 offset=0.2
    12.34
    {"t": 1782936360.25, "w": 12.34}

`kind` is `power` (unit W or mW) or `energy` (J or Wh, a counter that only grows); `scope` is one of `Scope`. `update`,
the seconds between two readings, `window`, `gain`, `offset` (in watts), `lsb` (a step, in the header's unit) and `max`
(in watts) may be left out. In a reading written as JSON, `w` is in watts, `j` in joules and `t` in seconds of Unix
time, whatever the header's unit.

Another machine, as `edgetop power --stream` speaks for it, says more:

    # edgetop-power/1 kind=energy unit=J scope=cpu_package update=0.1 gain=0.05 host=pi2 source=power.rapl
      channels=energy.package-0 clock=monotonic                                               (all in one line)
    {"n": 1, "m": 5021.250413, "age": 0.000021, "j": 120.5}
    {"n": 2, "m": 5021.350418, "missing": "energy_uj may not be read"}
    {"n": 3, "m": 5022.350421}

`n` counts its lines, `m` is its own monotonic clock in seconds when it said so and `age` how long before that it had
measured; the third line is a sign of life. With `clock=monotonic` it answers a line `ping N` on its input with
`pong N M`, M being its clock. A host without power says `# edgetop-power/1 host=pi2 absent=REASON -> HINT` and ends.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from edgetop.core.sources import (
    CLOCK_PREFIX,
    Channel,
    PowerProperties,
    Scope,
    SensorFlag,
    SourceInfo,
    SourceProperties,
    to_properties,
)
from edgetop.telemetry.source import SourceLost

MAGIC = "# edgetop-power/1"
EXAMPLE = f"{MAGIC} kind=power unit=W scope=wall update=1.0"

WHOLE_EXAMPLE = f"printf '{EXAMPLE}\\n12.34\\n'"
"""A meter program that prints all that is needed."""

HOW_TO_WRITE = f"print watts, one number a line, or a header first, such as: {WHOLE_EXAMPLE}"

MONOTONIC = "monotonic"
HOST_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII)
"""What a host may be called."""

_UNITS = {"power": {"W": 1.0, "mW": 1e-3}, "energy": {"J": 1.0, "Wh": 3600.0}}
_NUMBERS = {"update": 86_400.0, "window": 86_400.0, "gain": 1.0, "offset": 1e4, "max": 1e6, "lsb": 1e6}
"""What a header may state, each with the most that is believed."""

_TEXTS = ("host", "source", "channels", "calibration", "flags", "clock")
_ABSENT = " absent="

_HINT = " -> "

_TEXT_CHARACTERS = 200
_NUMBER = re.compile(r"[+-]?\d{1,20}(\.\d{0,20})?([eE][+-]?\d{1,2})?", re.ASCII)
_P_MAX_W = 10_000.0
_SLOW_S = 0.5
_CLOCK_AT_MOST_S = 1e10
"""No clock has run for 300 years, nor does any show a year that far from 1970."""

Lines = Annotated[int, Meta(ge=0, lt=2**53)]
"""How many lines a host has sent."""


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
    lsb: float | None = None
    """In watts or joules."""
    host: str = ""
    """The machine it speaks for; empty for a meter of this one."""
    source: str = ""
    channels: str = ""
    calibration: str = ""
    flags: tuple[SensorFlag, ...] = ()
    answers_pings: bool = False


BARE_NUMBERS = Header(kind="power", factor=1.0, scope="board_input", flags=("assumed-scope",))
"""What a program measures that prints numbers without a header: it is taken so, and the source says so."""


class MeterReading(Struct, frozen=True):
    """One line, in watts or joules."""

    value: float
    unix_s: float | None = None
    """When it was measured, if the program says."""


class HostLine(Struct, frozen=True, kw_only=True):
    """One line of a host: a reading, why there is none, or a sign of life."""

    number: int | None = None
    sent_s: float | None = None
    """The host's monotonic clock when it was sent; `None` where it does not say."""
    age_s: float = 0.0
    value: float | None = None
    missing: str = ""


class Pong(Struct, frozen=True):
    """The answer to a ping."""

    number: int
    told_s: float


class _JsonReading(Struct, frozen=True):
    t: float | None = None
    w: float | None = None
    j: float | None = None


class _JsonHostLine(Struct, frozen=True):
    n: Lines | None = None
    m: float | None = None
    age: float = 0.0
    missing: str = ""
    w: float | None = None
    j: float | None = None


def parse_header(line: str) -> Header:
    """Read a header line; a number stands for `BARE_NUMBERS`, and is the first reading.

    Raises SourceLost, with what to write instead, when it is neither or is nonsense.
    Of a host that says that it has no power, SourceLost has that host's own reason.
    """
    if _NUMBER.fullmatch(line.strip()):
        return BARE_NUMBERS
    if not line.startswith(MAGIC + " "):
        raise SourceLost(f"the first line is {line[:60]!r}, neither a number nor a header", HOW_TO_WRITE)
    line, absent, why = line.partition(_ABSENT)
    if absent:
        reason, _, hint = why[: 2 * _TEXT_CHARACTERS].partition(_HINT)
        raise SourceLost(f"that host has no power reading: {reason}", hint)
    words: dict[str, str] = {}
    for word in line[len(MAGIC) :].split():
        key, _, value = word.partition("=")
        if key not in {"kind", "unit", "scope", *_NUMBERS, *_TEXTS} or key in words:
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
    texts = {key: words.get(key, "")[:_TEXT_CHARACTERS] for key in _TEXTS}
    if texts["host"] and not HOST_NAME.fullmatch(texts["host"]):
        raise _wrong(f"host={texts['host'][:20]} is no name of a host")
    factor = _UNITS[kind][unit]
    return Header(
        kind="power" if kind == "power" else "energy",
        factor=factor,
        scope=msgspec.convert(scope, Scope),
        update_s=numbers.get("update", 1.0),
        window_s=numbers.get("window"),
        gain=numbers.get("gain"),
        offset_w=numbers.get("offset", 0.0),
        p_max_w=numbers.get("max", _P_MAX_W),
        lsb=numbers["lsb"] * factor if "lsb" in numbers else None,
        host=texts["host"],
        source=texts["source"],
        channels=texts["channels"],
        calibration=texts["calibration"],
        flags=tuple(msgspec.convert(flag, SensorFlag) for flag in texts["flags"].split(",") if flag in _FLAGS),
        answers_pings=texts["clock"] == MONOTONIC,
    )


_FLAGS = frozenset(get_args(SensorFlag))


def parse_reading(line: str, header: Header) -> MeterReading:
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
        if unix_s is not None:
            _clock_s(unix_s)
    elif _NUMBER.fullmatch(text):
        value, unix_s = float(text) * header.factor, None
    else:
        raise ValueError(f"{text[:40]!r} is not a reading")
    _require_plausible(value, header)
    return MeterReading(value, unix_s)


def parse_host_line(line: str, header: Header) -> HostLine | Pong:
    """Read a host's line after the header; a plain number is a reading without a clock.

    Raises ValueError, with a reason, for one that cannot be any.
    """
    text = line.strip()
    word, *words = text.split(" ")
    if word == "pong":
        if len(words) != 2 or not words[0].isdecimal() or not _NUMBER.fullmatch(words[1]):
            raise ValueError(f"{text[:40]!r} answers no ping")
        return Pong(int(words[0][:18]), _clock_s(float(words[1])))
    if not text.startswith("{"):
        return HostLine(value=parse_reading(text, header).value)
    try:
        record = msgspec.json.decode(text, type=_JsonHostLine)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"{text[:40]!r} is not a reading") from error
    value = record.w if header.kind == "power" else record.j
    if value is not None:
        _require_plausible(value, header)
    if not 0 <= record.age <= _CLOCK_AT_MOST_S:
        raise ValueError(f"{text[:40]!r} has an age that cannot be")
    return HostLine(
        number=record.n,
        sent_s=None if record.m is None else _clock_s(record.m),
        age_s=record.age,
        value=value,
        missing=record.missing[:_TEXT_CHARACTERS],
    )


def describe(
    header: Header, *, name: str, driver: str, path: str, period_s: float, averaged: bool = False
) -> SourceInfo:
    """The source that a header describes; `averaged`: a meter faster than `period_s` is handed on as means over it."""
    channel = f"{header.kind}.{driver}"
    known = _properties(header)
    if averaged and header.update_s < period_s:
        window_s = max(header.window_s or 0.0, period_s) if header.kind == "power" else None
        known = replace(known, window_s=window_s, update_s=period_s)
    return SourceInfo(
        name=name,
        driver=driver,
        path=path,
        kind=header.kind,
        period_s=period_s,
        channels=(_channel(header, channel, label=driver, digits=3),),
        properties=to_properties({channel: known}),
    )


def describe_host(header: Header, *, host: str, path: str, period_s: float) -> SourceInfo:
    """The source that a host's header describes, by the name it has here, and handed over every `period_s`."""
    channel = f"{header.kind}.{host}"
    told = SourceProperties(host=host, poll_s=header.update_s, told_source=header.source, told_channels=header.channels)
    return SourceInfo(
        name=f"power.host.{host}",
        driver="stream of a host",
        path=path,
        kind=header.kind,
        period_s=period_s,
        channels=(
            _channel(header, channel, label=host, digits=6),
            Channel(name=f"{CLOCK_PREFIX}{host}", unit="s", digits=4, label=f"clock of {host}, ±"),
        ),
        properties=to_properties({channel: _properties(header)}, told),
    )


def _channel(header: Header, name: str, *, label: str, digits: int) -> Channel:
    unit = "W" if header.kind == "power" else "J"
    return Channel(name=name, unit=unit, digits=digits, scope=header.scope, label=label)


def _properties(header: Header) -> PowerProperties:
    is_power = header.kind == "power"
    slow: tuple[SensorFlag, ...] = ("slow",) if header.update_s > _SLOW_S else ()
    return PowerProperties(
        window_s=header.window_s if is_power else None,
        update_s=header.update_s,
        gain=header.gain,
        offset_w=header.offset_w,
        lsb_w=header.lsb if is_power else None,
        lsb_j=None if is_power else header.lsb,
        p_max_w=header.p_max_w,
        calibration=header.calibration,
        flags=tuple(dict.fromkeys((*header.flags, *slow))),
        total=True,
    )


def _require_plausible(value: float, header: Header) -> None:
    if not math.isfinite(value) or value < -(header.offset_w if header.kind == "power" else 0.0):
        raise ValueError(f"{value:g} is not a reading")
    if header.kind == "power" and value > header.p_max_w:
        raise ValueError(f"{value:g} W is more than the {header.p_max_w:g} W that can be")


def _clock_s(value: float) -> float:
    if not 0 <= value <= _CLOCK_AT_MOST_S:
        raise ValueError(f"{value:g} s is not a time of a clock")
    return value


def _header_number(key: str, text: str) -> float:
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not 0 <= value <= _NUMBERS[key]:
        raise _wrong(f"{key}={text[:20]} is not a number that can be: 0 to {_NUMBERS[key]:g}")
    return value


def _wrong(reason: str) -> SourceLost:
    return SourceLost(reason, f"a program that is right: {WHOLE_EXAMPLE}")
