"""The table of `edgetop power`: every source of power with a reading now."""

from __future__ import annotations

from edgetop.commands.console import clear_progress, show_progress, write_data
from edgetop.commands.conversing import power_choice
from edgetop.commands.diagnosis import find_sensors
from edgetop.commands.listing import table, write_json
from edgetop.commands.power_findings import (
    ChannelFindings,
    PowerFindings,
    absent_rows,
    examine_power,
    headline_rows,
    reading_text,
    scope_text,
)
from edgetop.core.format import format_significant
from edgetop.settings import options
from edgetop.settings.resolve import Settings

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
    return 0


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
    if channel.sensor_w is not None:
        words.append(f"calibrated, {format_significant(channel.sensor_w)} W before")
    words += channel.flags
    return ", ".join(words)
