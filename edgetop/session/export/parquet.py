"""Tables as Parquet, with pyarrow, which the `parquet` extra brings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

from edgetop.core.errors import EdgetopError
from edgetop.session.export.tables import Cell, Kind, Table

ROWS_IN_GROUP = 65_536
"""So many rows are in memory at once."""
_INSTALL: Final = "type: pip install 'edgetop[parquet]'; or export to csv"


class NoParquetError(EdgetopError):
    """pyarrow is not installed."""


def require_parquet() -> None:
    """Raise NoParquetError, with what to install, where tables cannot be written as Parquet."""
    _pyarrow()


def write_parquet(path: Path, table: Table) -> None:
    """Write a table to a file, with what its columns mean in their metadata. Raises NoParquetError and OSError."""
    pa, pq = _pyarrow()
    types: dict[Kind, Any] = {"text": pa.string(), "count": pa.int64(), "number": pa.float64()}
    schema = pa.schema([
        pa.field(column.heading, types[column.kind], metadata={"meaning": column.meaning} if column.meaning else None)
        for column in table.columns
    ])  # fmt: skip
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for rows in _groups(table):
            columns = [list(cells) for cells in zip(*rows, strict=True)]
            arrays = [
                pa.array([_parquet_cell(cell) for cell in cells], field.type)
                for cells, field in zip(columns, schema, strict=True)
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def _groups(table: Table) -> Iterator[Sequence[tuple[Cell, ...]]]:
    rows = iter(table.rows)
    while group := list(islice(rows, ROWS_IN_GROUP)):
        yield group


def _parquet_cell(cell: Cell) -> Cell:
    """Lone surrogates, which UTF-8 cannot hold, become question marks."""
    return cell.encode("utf-8", "replace").decode() if isinstance(cell, str) and not cell.isascii() else cell


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa  # noqa: PLC0415 - large, and not everybody's
        import pyarrow.parquet as pq  # noqa: PLC0415 - the same
    except ImportError:
        raise NoParquetError("Parquet needs pyarrow, which is not installed", _INSTALL) from None
    return pa, pq
