"""What each power source reads now, for power, doctor, calibrate, bench."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from edgetop.commands.inputs import power_choice
from edgetop.commands.output import clear_progress, show_progress, table, write_data, write_json
from edgetop.core.energy.scopes import LOCAL, Headline, hosts_of, other_views
from edgetop.core.energy.uncertainty import disagreement_j
from edgetop.core.format import format_significant
from edgetop.core.sources import HOST_PREFIX, Meter, Scope, SourceInfo, SourceKind, Unavailable, of_source
from edgetop.live.energy_meter import SensorSession, Span
from edgetop.settings import options
from edgetop.settings.resolve import Settings
from edgetop.telemetry.calibration import AS_READ, calibratable
from edgetop.telemetry.host import Host
from edgetop.telemetry.registry import NO_POWER, POWER_FAMILIES, Inventory, PowerChoice, take_inventory

LEAST_S, MOST_S = 1.0, 6.0
"""Readings are taken for a second, and on until plugs and slow counters have answered, but no longer than this."""


class ChannelFindings(Struct, frozen=True, kw_only=True):
    """One channel of power or energy, what is known of it, and what it shows."""

    name: str
    label: str
    scope: Scope
    unit: str
    """Of its readings: W, or J for a counter, whose rate `power_w` is."""
    power_w: float | None
    missing: Unavailable | None = None
    """Why `power_w` is null."""
    sensor_w: float | None = None
    """What the sensor reads without the calibration; null where there is none."""
    is_headline: bool = False
    window_s: float | None = None
    update_s: float | None = None
    gain: float = 0.0
    offset_w: float = 0.0
    lsb: float = 0.0
    calibration: str = ""
    flags: tuple[str, ...] = ()


class PowerSourceFindings(Struct, frozen=True, kw_only=True):
    """One source of power and its channels."""

    name: str
    driver: str
    path: str
    kind: SourceKind
    period_s: float
    channels: tuple[ChannelFindings, ...]
    note: str = ""
    """Why the user's own calibration is not applied."""


class HeadlineFindings(Struct, frozen=True, kw_only=True):
    """What a session's figures go by."""

    scope: Scope
    channels: tuple[str, ...]
    power_w: float | None
    """All channels together; null when one of them has no reading now."""
    why: str
    left_out: tuple[str, ...] = ()
    """What takes power, is known of, and is not in it."""


class PowerFindings(Struct, frozen=True, kw_only=True):
    """All that there is, and what is missing."""

    sources: tuple[PowerSourceFindings, ...]
    headline: HeadlineFindings | None
    headline_missing: Unavailable | None
    """Why there is no headline, and what would give one."""
    absent: dict[str, Unavailable]


def examine_power(inventory: Inventory, choice: PowerChoice) -> PowerFindings:
    """Read the inventory's sources for a moment and close them."""
    watch = SensorSession(inventory, choice.headline)
    try:
        span = watch.wait_for_readings(LEAST_S, MOST_S)
        headline = watch.headline
        chosen = [meter.name for meter in headline.meters] if isinstance(headline, Headline) else []
        disagreeing = _disagreeing(watch, span)
        by_source: dict[str, list[Meter]] = {}
        for meter in watch.meters:
            by_source.setdefault(meter.source, []).append(meter)
        sources = tuple(
            _source(watch, span, watch.session.series[name].info, meters, headline=chosen, disagreeing=disagreeing)
            for name, meters in by_source.items()
        )
    finally:
        watch.close()
    return PowerFindings(
        sources=sources,
        headline=None if isinstance(headline, Unavailable) else _headline(headline, sources, choice),
        headline_missing=headline if isinstance(headline, Unavailable) else None,
        absent={each.name: each.missing for each in inventory.absent if is_of_power(each.name)},
    )


def is_of_power(name: str) -> bool:
    """Whether what is absent under this name is a source of power."""
    return name in {"power", *POWER_FAMILIES} or name.startswith(("power.", "energy."))


def reading_text(channel: ChannelFindings) -> str:
    """A channel's reading now, or why it has none."""
    if channel.power_w is None:
        return f"n/a: {channel.missing.reason}" if channel.missing is not None else "n/a"
    return f"{format_significant(channel.power_w)} W"


def source_rows(source: PowerSourceFindings) -> list[list[str]]:
    """A source for a person: itself, and each channel with all that is known of it."""
    driver = f"{source.driver} {source.path}".rstrip()
    rows = [["ok", source.name, f"{driver}, {source.kind}, read every {source.period_s:g} s"]]
    parts = []
    for channel in source.channels:
        if channel.scope == "component" and not channel.is_headline:
            parts.append(f"{channel.label or channel.name} {reading_text(channel)}")
        else:
            rows += [["", "", line] for line in _channel_lines(channel)]
    if parts:
        rows.append(["", "", f"parts: {', '.join(parts)}"])
    if source.note:
        rows.append(["!", "", f"your calibration is not applied: {source.note}"])
    return rows


def absent_rows(absent: Mapping[str, Unavailable]) -> list[list[str]]:
    """What is not there, for a person: why, and what would fix it."""
    rows = []
    for name, missing in absent.items():
        rows.append(["no", name, missing.reason])
        if missing.hint:
            rows.append(["", "", f"-> {missing.hint}"])
    return rows


def headline_rows(found: PowerFindings) -> list[list[str]]:
    """The headline for a person, or why there is none."""
    if found.headline is None:
        missing = found.headline_missing or Unavailable("there is no power reading")
        return absent_rows({"headline": missing})
    headline = found.headline
    power = "no reading now" if headline.power_w is None else f"{format_significant(headline.power_w)} W"
    channels = " + ".join(headline.channels)
    return [["ok", "headline", f"{channels}, {scope_text(headline.scope)}, {power}: {headline.why}"]]


def scope_text(scope: Scope) -> str:
    """A scope as people read it."""
    return scope.replace("_", " ")


def _disagreeing(watch: SensorSession, span: Span) -> set[str]:
    """The channels that measure the same thing, and differ by more than both can be believed."""
    found: set[str] = set()
    for meter, other in zip(watch.meters, other_views(watch.meters, watch.meters), strict=True):
        if other is not None:
            powers = [watch.power(each, span) for each in (meter, other)]
            one, two = (0.0 if isinstance(power, Unavailable) else power.mean_w for power in powers)
            if one and two and disagreement_j(one, two):
                found |= {meter.name, other.name}
    return found


def _source(
    watch: SensorSession,
    span: Span,
    info: SourceInfo,
    meters: Sequence[Meter],
    *,
    headline: Sequence[str],
    disagreeing: Collection[str],
) -> PowerSourceFindings:
    return PowerSourceFindings(
        name=info.name,
        driver=info.driver,
        path=info.path,
        kind=info.kind,
        period_s=info.period_s,
        channels=tuple(
            _channel(
                watch,
                span,
                info,
                meter,
                is_headline=meter.name in headline,
                flags=(*meter.flags, *(["disagreement"] if meter.name in disagreeing else [])),
            )
            for meter in meters
        ),
        note=of_source(info).calibration_note,
    )


def _channel(
    watch: SensorSession,
    span: Span,
    info: SourceInfo,
    meter: Meter,
    *,
    is_headline: bool,
    flags: tuple[str, ...],
) -> ChannelFindings:
    power = watch.power(meter, span)
    power_w = None if isinstance(power, Unavailable) else power.mean_w
    total = calibratable(info)
    corrected = total is not None and total.channel.name == meter.name and total.line is not AS_READ
    channel = watch.session.channel(meter.name)
    return ChannelFindings(
        name=meter.name,
        label=channel.label if channel is not None else "",
        scope=meter.scope,
        unit="J" if meter.kind == "energy" else "W",
        power_w=power_w,
        missing=power if isinstance(power, Unavailable) else None,
        sensor_w=total.sensor_w(power_w) if total is not None and corrected and power_w is not None else None,
        is_headline=is_headline,
        window_s=meter.window_s,
        update_s=meter.update_s,
        gain=meter.gain,
        offset_w=meter.offset_w,
        lsb=meter.lsb,
        calibration=meter.calibration,
        flags=flags,
    )


def _headline(headline: Headline, sources: Sequence[PowerSourceFindings], choice: PowerChoice) -> HeadlineFindings:
    names = tuple(meter.name for meter in headline.meters)
    channels = [channel for source in sources for channel in source.channels]
    powers = [channel.power_w for channel in channels if channel.name in names]
    known = [power_w for power_w in powers if power_w is not None]
    hosts = hosts_of(headline)
    scopes = {channel.scope for channel in channels if channel.scope != "component" and "opt-in" not in channel.flags}
    left_out = f"; without {' and '.join(headline.left_out)}" if headline.left_out else ""
    if len(hosts) > 1:
        why = f"the sum of {len(hosts)} hosts: {', '.join(hosts)}{'' if LOCAL in hosts else '; not this machine'}"
    elif choice.headline is not None:
        why = "chosen with --power"
    elif len(scopes) > 1:
        why = "the widest scope that reads now"
    else:
        why = "the only scope that reads now"
    return HeadlineFindings(
        scope=headline.scope,
        channels=names,
        power_w=sum(known) if len(known) == len(names) else None,
        why=f"{why}{left_out}",
        left_out=headline.left_out,
    )


def _channel_lines(channel: ChannelFindings) -> list[str]:
    shown = [reading_text(channel), scope_text(channel.scope), *(["headline"] if channel.is_headline else [])]
    known = []
    if channel.window_s is not None and channel.unit == "W":
        known.append(f"averaged over {_span_text(channel.window_s)}" if channel.window_s > 0 else "point readings")
    if channel.update_s is not None:
        known.append(f"new every {_span_text(channel.update_s)}")
    known.append(f"scale ±{channel.gain * 100:.2g} %")
    if channel.offset_w:
        known.append(f"zero ±{format_significant(channel.offset_w, 2)} W")
    if channel.lsb:
        known.append(f"step {format_significant(channel.lsb, 2)} {channel.unit}")
    if channel.flags:
        known.append(f"flags {' '.join(channel.flags)}")
    lines = [f"{channel.name}: {', '.join(shown)}", ", ".join(known)]
    if channel.calibration:
        before = f"; {format_significant(channel.sensor_w)} W before" if channel.sensor_w is not None else ""
        lines.append(f"calibration {channel.calibration}{before}")
    return lines


def _span_text(span_s: float) -> str:
    return f"{format_significant(span_s * 1000, 2)} ms" if span_s < 0.1 else f"{format_significant(span_s, 2)} s"


def power_headline(settings: Settings) -> Headline | Unavailable:
    """The meters that would stand for the device, or why there are none and what would give one."""
    choice = power_choice(settings)
    probes = [*choice.probes, *choice.families]
    watch = SensorSession(take_inventory(Host(sysroot=settings[options.SYSROOT]), probes), choice.headline)
    try:
        return watch.headline
    finally:
        watch.close()


class SensorFindings(Struct, frozen=True, kw_only=True):
    """What can be read here, and what not."""

    sources: tuple[SourceInfo, ...]
    absent: dict[str, Unavailable]
    power: PowerFindings
    """Of the same sources and absences those of power, with readings."""


def find_sensors(sysroot: Path, power: PowerChoice) -> Inventory:
    """Probe every kind of sensor once, as a live session would."""
    return take_inventory(Host(sysroot=sysroot), [*power.probes, *power.families])


def examine_sensors(sysroot: Path, power: PowerChoice) -> SensorFindings:
    """Find all sensors, and read those of power for a moment."""
    inventory = find_sensors(sysroot, power)
    return SensorFindings(
        sources=tuple(source.info for source in inventory.sources),
        absent={absent.name: absent.missing for absent in inventory.absent},
        power=examine_power(inventory, power),
    )


HEADINGS = ["SOURCE", "CHANNEL", "POWER", "SCOPE", ""]


def print_power(settings: Settings, *, as_json: bool) -> int:
    """Read all sources for a second or so and print one table."""
    choice = power_choice(settings)
    show_progress("reading power")
    found = examine_power(find_sensors(settings[options.SYSROOT], choice), choice)
    clear_progress()
    if as_json:
        write_json(found)
    else:
        _print(found)
    return 1 if _lacks_what_was_asked_for(found, choice) else 0


def _lacks_what_was_asked_for(found: PowerFindings, choice: PowerChoice) -> bool:
    """Whether a source that the person named, or brought along, gives no reading."""
    if choice.headline not in (None, NO_POWER) and (found.headline is None or found.headline.power_w is None):
        return True
    brought = {name for name, _ in choice.probes}
    return any(name in brought or name.startswith(HOST_PREFIX) for name in found.absent)


def _print(found: PowerFindings) -> None:
    if found.sources:
        rows = [
            [source.name, channel.name, reading_text(channel), scope_text(channel.scope), _remark(channel)]
            for source in found.sources
            for channel in source.channels
        ]
        write_data(table([HEADINGS, *rows]) + "\n")
    write_data(table([*absent_rows(found.absent), *headline_rows(found)]))


def _remark(channel: ChannelFindings) -> str:
    words = ["headline"] if channel.is_headline else []
    if channel.unit == "J":
        words.append("rate of a counter")
    if "assumed-scope" in channel.flags:
        words.append("plain numbers, taken as watts at the board's input")
    if channel.sensor_w is not None:
        words.append(f"calibrated, {format_significant(channel.sensor_w)} W before")
    words += channel.flags
    return ", ".join(words)
