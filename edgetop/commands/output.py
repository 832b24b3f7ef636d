"""Stdout and stderr: lines, progress, tables, JSON, CSV, Markdown.

Long work shows its progress on a terminal and stays silent in a pipe.
"""

from __future__ import annotations

import csv
import io
import os
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from edgetop.core.energy.duty import Price, battery_hours, cost_of
from edgetop.core.energy.tokens import Energy
from edgetop.core.figures import Summary
from edgetop.core.format import NOT_AVAILABLE, format_duration, format_significant
from edgetop.core.quantity import with_interval
from edgetop.core.text import literal, one_line


def print_status(text: str) -> None:
    """Write one line to stderr."""
    clear_progress()
    sys.stderr.write(f"{one_line(text)}\n")
    sys.stderr.flush()


def print_error(text: str, hint: str = "") -> None:
    """Write one line what, and one line how to fix it."""
    print_status(f"edgetop: {text}")
    if hint:
        sys.stderr.write(f"         {one_line(hint)}\n")


def show_progress(text: str) -> None:
    """Write over the line of progress."""
    if shows_progress():
        sys.stderr.write(f"\r{one_line(text)}\x1b[K")
        sys.stderr.flush()


def clear_progress() -> None:
    """Take the line of progress away."""
    if shows_progress():
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


def shows_progress() -> bool:
    """Whether stderr is a terminal on which a line can be written over."""
    return sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def write_reply(text: str) -> None:
    """Write a piece of a reply to stdout at once, harmless to a terminal."""
    sys.stdout.write(literal(text))
    sys.stdout.flush()


def write_data(text: str) -> None:
    """Write text that is data, and already harmless, to stdout."""
    sys.stdout.write(text)


def write_json(value: object) -> None:
    """Print one JSON value, indented."""
    # Text from a model may hold lone surrogates, which JSON in UTF-8 cannot.
    encoded = msgspec.json.encode(_encodable(msgspec.to_builtins(value)))
    write_data(msgspec.json.format(encoded, indent=2).decode() + "\n")


def write_rows(rows: Sequence[Mapping[str, Any]], chosen: str | None, shown: Mapping[str, str]) -> None:
    """Print rows.

    `rows` hold values by name, as JSON and CSV have them. For a person and for Markdown each row also holds, by the
    keys of `shown`, texts to be read, and `shown` gives the headings.
    """
    if chosen == "json":
        write_json([{name: value for name, value in row.items() if name not in shown} for row in rows])
    elif chosen == "csv":
        write_data(_csv(rows, shown))
    elif chosen == "md":
        write_data(_markdown(rows, shown))
    else:
        write_data(table([list(shown.values()), *([str(row[key]) for key in shown] for row in rows)]))


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns side by side, as wide as their widest cell; the last one is as long as it is."""
    harmless = [[one_line(cell) for cell in row] for row in rows]
    widths = [max(_width(cell) for cell in column) for column in zip(*harmless, strict=True)]
    lines = (
        "  ".join(cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in harmless
    )
    return "".join(f"{line}\n" for line in lines)


def _csv(rows: Sequence[Mapping[str, Any]], shown: Mapping[str, str]) -> str:
    names = [name for name in (rows[0] if rows else ()) if name not in shown]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow(["" if row[name] is None else _csv_cell(row[name]) for name in names])
    return text.getvalue()


def _csv_cell(value: object) -> object:
    if not isinstance(value, str):
        return value
    # A spreadsheet takes a cell that begins so for a formula.
    text = one_line(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def _markdown(rows: Sequence[Mapping[str, Any]], shown: Mapping[str, str]) -> str:
    lines = [list(shown.values()), ["---"] * len(shown), *([str(row[key]) for key in shown] for row in rows)]
    return "".join(f"| {' | '.join(one_line(cell).replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def _width(text: str) -> int:
    wide = sum(unicodedata.east_asian_width(character) in {"W", "F"} for character in text)
    marks = sum(unicodedata.category(character) in {"Mn", "Me", "Cf"} for character in text)
    return len(text) + wide - marks


def _encodable(value: Any) -> Any:  # noqa: ANN401 - any JSON
    match value:
        case str():
            return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")
        case dict():
            return {_encodable(key): _encodable(element) for key, element in value.items()}
        case list() | tuple():
            return [_encodable(element) for element in value]
    return value


def energy_text(summary: Summary) -> str:
    """Say what a session took and how sure that is, or why it is not known."""
    energy = summary.energy
    if energy is None:
        return f"{NOT_AVAILABLE}: {summary.energy_missing}"
    return (
        f"{with_interval(energy.j_per_token)} J/token gross, net {with_interval(energy.net_j_per_token)}, "
        f"in all {with_interval(energy.gross_j)} J ({energy.scope.replace('_', ' ')}, {energy.source}, "
        f"grade {energy.grade}: {energy.grade_reason}){hosts_text(energy)}"
    )


def hosts_text(energy: Energy) -> str:
    """Say what part each host had in the gross energy; empty where there is one machine."""
    parts = [f"{one_line(part.host)} {100 * part.share:.0f} %" for part in energy.hosts]
    return f", of which {', '.join(parts)}" if parts else ""


def cost_text(energy: Energy, price: Price) -> str:
    """Say what a session's energy cost, and what a million tokens cost at that rate."""
    cost = cost_of(energy, price)
    return (
        f"{with_interval(cost.total)} {cost.currency}, {with_interval(cost.per_million_tokens)} {cost.currency} per "
        f"million tokens, at {price.per_kwh:g} {price.currency}/kWh (gross, {energy.scope.replace('_', ' ')}, grade "
        f"{energy.grade})"
    )


def battery_text(energy: Energy | None, remaining_j: float | None) -> str:
    """Say how long the battery lasts at a session's mean power; empty where that is not known or not its energy."""
    hours = None if energy is None else battery_hours(energy, remaining_j)
    if energy is None or hours is None:
        return ""
    low, middle, high = (format_duration(each * 3600) for each in (hours.low, hours.value, hours.high))
    return f"{middle} left ({low} to {high}) at {format_significant(energy.mean_w.value)} W"
