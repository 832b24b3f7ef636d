"""Sessions export, import, recompute, attach-power."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from edgetop.commands.output import energy_text, print_status, write_data, write_json
from edgetop.core.errors import EdgetopError
from edgetop.core.figures import DECODE
from edgetop.core.format import NOT_AVAILABLE, format_significant
from edgetop.core.text import one_line
from edgetop.io import json
from edgetop.io.files import replacement, write_atomically
from edgetop.session.compare.reading import is_session, read_results
from edgetop.session.export import Table, csv_pieces, require_parquet, tables_of, write_parquet
from edgetop.session.file import SessionFile, structure_problems
from edgetop.session.file_io import Change, SessionFileError, changes, load_file, read_bytes, recomputed, rewrite
from edgetop.session.store import Store
from edgetop.settings.option import parse_value, real


def export(path: Path, form: str, output: str | None) -> int:
    """Write a session as `csv`, `parquet`, `json` or `html`, and print the path of each file that was written.

    Raises SessionFileError for a session that cannot be read, NoParquetError, and EdgetopError where nothing can be
    written.
    """
    file = _sound(path)
    try:
        if form == "html":
            from edgetop.commands.report import report_of  # noqa: PLC0415 - with the plotting library

            target = Path(output or f"{path.stem}.html")
            write_atomically(target, [report_of([path]).encode()])
            written = [target]
        elif form == "json":
            written = [_write_json(path, Path(output or f"{path.stem}.export.json"))]
        else:
            folder = Path(output or path.stem)
            written = _write_tables(file, folder, form)
    except OSError as error:
        raise EdgetopError(f"{error.filename or output}: {error.strerror}", "choose another place with -o") from None
    for each in written:
        write_data(f"{one_line(str(each))}\n")
    return 0


def _sound(path: Path) -> SessionFile:
    file = load_file(path)
    for problem in structure_problems(file):
        raise SessionFileError(f"{path}: {one_line(problem)}", "`edgetop sessions validate` tells all that is wrong")
    return file


def _write_json(path: Path, target: Path) -> Path:
    """The file as it is, fields of a newer edgetop among it, indented for a person to read."""
    if target.exists() and target.samefile(path):
        raise EdgetopError(f"{target} is the session itself", "choose another file with -o")
    write_atomically(target, [msgspec.json.format(read_bytes(path), indent=2), b"\n"])
    return target


def _write_tables(file: SessionFile, folder: Path, form: str) -> list[Path]:
    if form == "parquet":
        require_parquet()
    folder.mkdir(parents=True, exist_ok=True)
    write: Callable[[Path, Table], None] = _write_parquet if form == "parquet" else _write_csv
    written = []
    for table in tables_of(file):
        target = folder / f"{table.name}.{form}"
        write(target, table)
        written.append(target)
    if not file.text_recorded:
        print_status("this session was recorded without text: prompts and answers are empty")
    return written


def _write_csv(target: Path, table: Table) -> None:
    write_atomically(target, csv_pieces(table))


def _write_parquet(target: Path, table: Table) -> None:
    with replacement(target) as part:
        write_parquet(part, table)


IMPORTED_FOLDER = "imported"
NAMES_MOST = 1000


def import_results(files: Sequence[str], store: Store, *, as_json: bool = False) -> int:
    """Copy files into the store's folder for imported results, after reading them. Raises EdgetopError."""
    imported = []
    for text in files:
        source = Path(text)
        results = read_results(source)
        data = read_bytes(source)
        # A session belongs among the sessions, where every verb finds it.
        folder = store.folder if is_session(data) else store.folder / IMPORTED_FOLDER
        path = _free_path(folder, source, data)
        try:
            write_atomically(path, [data])
        except OSError as error:
            raise EdgetopError(f"{path}: {error.strerror or error}", "make the folder writable") from None
        imported.append({"from": text, "path": str(path), "kind": results[0].kind, "results": len(results)})
        measured = sum(DECODE in result.figures for result in results)
        summary = (
            f"{len(results)} result{'s' if len(results) > 1 else ''} of {results[0].kind}, {measured} with decode speed"
        )
        print_status(f"{source.name}: {summary}; compare with: edgetop compare {path.stem} ...")
    if as_json:
        write_json(imported)
    else:
        for each in imported:
            write_data(f"{one_line(str(each['path']))}\n")
    return 0


def _free_path(folder: Path, source: Path, data: bytes) -> Path:
    """A path that is free, or has the same bytes already. Names are made safe: they may come from anywhere."""
    stem = re.sub(r"[^\w.-]+", "-", source.stem).strip(".-")[:80] or "result"
    suffix = source.suffix if re.fullmatch(r"\.\w{1,8}", source.suffix) else ".txt"
    if is_session(data):
        suffix = ".json"
    for number in range(1, NAMES_MOST):
        path = folder / f"{stem}{'' if number == 1 else f'-{number}'}{suffix}"
        if not os.path.lexists(path) or (path.is_file() and path.read_bytes() == data):
            return path
    raise EdgetopError(f"{folder}: there are {NAMES_MOST} files named {stem}", "remove some of them")


DIGITS = 6
"""Significant digits of what is told; figures that differ only behind them are told in full."""


def recompute(path: Path, *, power: str | None, dry_run: bool, as_json: bool) -> int:
    """Compute the figures of a session file again, say what is different, and write them into it.

    Raises SessionFileError or EdgetopError.
    """
    file = load_file(path)
    try:
        again = recomputed(file, power)
    except ValueError as error:
        raise SessionFileError(f"{path}: {error}", "`edgetop sessions validate` tells all that is wrong") from None
    found = changes(file, again)
    if found and not dry_run:
        try:
            rewrite(path, lambda now: replace(again, tags=now.tags, notes=now.notes))
        except OSError as error:
            raise EdgetopError(f"{path}: {error.strerror}", "make the file and its folder writable") from None
    if as_json:
        write_json({"path": str(path), "written": bool(found) and not dry_run, "changes": found})
        return 0
    for change in found:
        write_data(f"{one_line(_change_text(change))}\n")
    if not found:
        print_status(f"nothing changed: all figures of {path} are what was recorded gives")
    else:
        end = "; nothing is written, for --dry-run" if dry_run else "; the file is written"
        print_status(f"{len(found)} figure{'' if len(found) == 1 else 's'} of {path} changed{end}")
    return 0


def _change_text(change: Change) -> str:
    old, new = _value_text(change.old), _value_text(change.new)
    if old == new:
        old, new = _in_full(change.old), _in_full(change.new)
    return f"{change.place}: {old} -> {new}"


def _value_text(value: Any) -> str:  # noqa: ANN401 - any JSON
    match value:
        case None:
            return NOT_AVAILABLE
        case float():
            return format_significant(value, DIGITS)
        case {"value": float(middle), "low": float(low), "high": float(high)}:
            return " ".join(
                [format_significant(middle, DIGITS), f"({format_significant(low, 3)} to {format_significant(high, 3)})"]
            )
        case {"gross_j": dict(gross), "source": str(source), "grade": str(grade)}:
            return f"{_value_text(gross)} J by {source}, grade {grade}"
        case str():
            return value or "nothing"
    return _in_full(value)


def _in_full(value: Any) -> str:  # noqa: ANN401 - any JSON
    return json.encode(value).decode()


ORIGINAL = ".orig"
"""Behind the name of the session as it was recorded."""


def attach_power(path: Path, given: argparse.Namespace) -> int:
    """Join a meter's log to a session file, keep the file as it was beside it, and say what came of it.

    Raises SessionFileError or EdgetopError.
    """
    from edgetop.session import attached_power  # noqa: PLC0415 - numpy
    from edgetop.session.meter_log import read_log  # noqa: PLC0415 - the same

    source = Path(given.log)
    gain = None if given.meter_gain is None else parse_value("--meter-gain", given.meter_gain, real(0, 100)) / 100
    volts = None if given.voltage is None else parse_value("--voltage", given.voltage, real(0, 1000))
    file = _sound(path)
    log = read_log(source, time_column=given.time_column, column=given.column, unit=given.unit, volts=volts)
    began = datetime.fromisoformat(file.started_at).timestamp()
    found = attached_power.align(log, attached_power.session_of(file), began)
    changed = attached_power.with_log(file, log, found, path=source.name, scope=given.scope, gain=gain)
    kept = path.with_name(path.name + ORIGINAL)
    try:
        if not kept.exists():
            write_atomically(kept, [path.read_bytes()])
        rewrite(path, lambda now: replace(changed, tags=now.tags, notes=now.notes))
    except OSError as error:
        raise EdgetopError(f"{path}: {error.strerror}", "make the file and its folder writable") from None
    if given.json:
        write_json(
            {
                "path": str(path),
                "original": str(kept),
                "rows": log.rows,
                "unread": log.unread,
                "period_s": log.period_s,
                "columns": log.columns,
                **{name: getattr(found, name) for name in found.__struct_fields__},
                "energy": changed.summary.energy,
                "energy_missing": changed.summary.energy_missing,
            }
        )
        return 0
    unread = f", {log.unread} lines were no readings" if log.unread else ""
    print_status(f"{source.name}: {log.rows} readings of {' and '.join(map(one_line, log.columns[1:]))}{unread}")
    print_status(attached_power.words(found, source.name))
    print_status(f"energy {energy_text(changed.summary)}")
    print_status(f"session: {path}; as it was recorded: {kept}")
    return 0
