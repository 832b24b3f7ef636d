"""Lists as tables for a person, or as JSON, CSV or Markdown."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from edgetop.commands.console import write_data
from edgetop.core.text import one_line


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
