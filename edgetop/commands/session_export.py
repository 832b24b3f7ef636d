"""`edgetop sessions export`: a session as files that other programs read."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec

from edgetop.commands.console import say, write_data
from edgetop.core.errors import EdgetopError
from edgetop.core.text import one_line
from edgetop.session.codec import SessionFileError
from edgetop.session.conversion import structure_problems
from edgetop.session.disk import load_file, read_bytes, write_atomically
from edgetop.session.export.csv import csv_pieces
from edgetop.session.export.parquet import require_parquet, write_parquet
from edgetop.session.export.tables import Table, tables_of
from edgetop.session.file import SessionFile


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
        say("this session was recorded without text: prompts and answers are empty")
    return written


def _write_csv(target: Path, table: Table) -> None:
    write_atomically(target, csv_pieces(table))


def _write_parquet(target: Path, table: Table) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as folder:
        part = Path(folder) / target.name
        write_parquet(part, table)
        part.replace(target)
