"""Rows as text: llama-bench's formats, with edgetop's fields behind them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from edgetop.core.format import format_bytes
from edgetop.core.text import one_line

Format = Literal["table", "md", "csv", "json", "jsonl", "sql"]
FORMATS: tuple[Format, ...] = ("table", "md", "csv", "json", "jsonl", "sql")
TABLE = "edgetop_bench"
_TEXT_MEANS_FORMULA = ("=", "+", "-", "@")


def as_json(rows: Sequence[Mapping[str, Any]]) -> str:
    """One array."""
    return msgspec.json.format(msgspec.json.encode(list(rows)), indent=2).decode() + "\n"


def as_jsonl(rows: Iterable[Mapping[str, Any]]) -> str:
    """One object a line."""
    return "".join(msgspec.json.encode(row).decode() + "\n" for row in rows)


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line a row below their names. Intervals become three columns; lists are left to JSON."""
    flat = [_flat(row) for row in rows]
    text = io.StringIO()
    if flat:
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(flat[0])
        for row in flat:
            writer.writerow(["" if value is None else _csv_cell(value) for value in row.values()])
    return text.getvalue()


def as_sql(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table of SQLite and its rows."""
    flat = [_flat(row) for row in rows]
    if not flat:
        return ""
    columns = ", ".join(f"{name} {_sql_type([row[name] for row in flat])}" for name in flat[0])
    names = ", ".join(flat[0])
    lines = [f"CREATE TABLE IF NOT EXISTS {TABLE} ({columns});"]
    for row in flat:
        values = ", ".join(map(_sql_value, row.values()))
        lines.append(f"INSERT INTO {TABLE} ({names}) VALUES ({values});")  # noqa: S608 - the values are quoted
    return "".join(f"{line}\n" for line in lines)


def cells_of(row: Mapping[str, Any]) -> dict[str, str]:
    """A row as a person reads it, by heading."""
    cells = {
        "setting": row["setting"],
        "size": format_bytes(row["model_size"]),
        "bpw": "n/a" if row["bits_per_weight"] is None else f"{row['bits_per_weight']:.2f}",
        "threads": "" if row["n_threads"] is None else str(row["n_threads"]),
        "test": row["test"],
        "t/s": _plus_minus(row),
        "J/token": _joules(row["j_per_token"]),
    }
    cells["perplexity"] = "" if row["perplexity"] is None else f"{row['perplexity']:.2f}"
    cells["notes"] = "; ".join(row["flags"])
    return cells


def as_cells(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Headings and rows of a table; columns that say nothing anywhere are left out."""
    cells = [cells_of(row) for row in rows]
    told = [heading for heading in (cells[0] if cells else ()) if any(row[heading] for row in cells)]
    return [told, *([row[heading] for heading in told] for row in cells)]


def as_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table as llama-bench prints it."""
    if not rows:
        return ""
    headings, *body = as_cells(rows)
    lines = [headings, ["---:" if heading in {"t/s", "J/token", "size"} else "---" for heading in headings], *body]
    return "".join(f"| {' | '.join(one_line(cell).replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if name in {"j_per_token", "net_j_per_token"}:
            flat |= {
                f"{name}{suffix}": None if value is None else value[part]
                for suffix, part in (("", "value"), ("_low", "low"), ("_high", "high"))
            }
        elif name in {"flags", "problems"}:
            flat[name] = "; ".join(value)
        elif not isinstance(value, list):
            flat[name] = value
    return flat


def _csv_cell(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = one_line(value)
    # A spreadsheet takes a cell that begins so for a formula.
    return f"'{text}" if text.startswith(_TEXT_MEANS_FORMULA) else text


def _sql_type(values: Sequence[object]) -> str:
    kinds = {type(value) for value in values if value is not None}
    if kinds and kinds <= {int, bool}:
        return "INTEGER"
    return "REAL" if kinds and kinds <= {int, float} else "TEXT"


def _sql_value(value: object) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, int | float):
        return repr(int(value) if isinstance(value, bool) else value)
    return "'" + one_line(str(value)).replace("'", "''") + "'"


def _plus_minus(row: Mapping[str, Any]) -> str:
    """Mean and standard deviation, as llama-bench shows them."""
    if row["avg_ts"] is None:
        return "n/a"
    mean = f"{row['avg_ts']:.2f}"
    return f"{mean} ± {row['stddev_ts']:.2f}" if len(row["samples_ts"]) > 1 else mean


def _joules(figure: Mapping[str, float] | None) -> str:
    if figure is None:
        return "n/a"
    return f"{figure['value']:.3g} ± {(figure['high'] - figure['low']) / 2:.2g}"
