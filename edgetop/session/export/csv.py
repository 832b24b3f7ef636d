"""Tables as CSV (RFC 4180, but for its line ends), safe to open in a spreadsheet and on a terminal."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from itertools import islice
from typing import Final

from edgetop.core.text import literal
from edgetop.session.export.tables import Cell, Table

FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""A spreadsheet takes a cell that begins so for a formula (OWASP, CSV injection); the last four are full-width."""
ROWS_AT_ONCE = 4096


def csv_pieces(table: Table) -> Iterator[bytes]:
    """The table as CSV in UTF-8, its headings first, in pieces of some thousand rows. A missing cell is empty."""
    rows = iter(table.rows)
    lines: list[tuple[Cell, ...]] = [tuple(column.heading for column in table.columns)]
    while lines:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows([csv_cell(cell) for cell in line] for line in lines)
        yield text.getvalue().encode()
        lines = list(islice(rows, ROWS_AT_ONCE))


def csv_cell(cell: Cell) -> Cell:
    """A cell as it is written: text made harmless, with an apostrophe before what would be taken for a formula."""
    if isinstance(cell, float):
        return int(cell) if cell.is_integer() else cell
    if not isinstance(cell, str):
        return cell
    text = literal(cell)
    # Some spreadsheets pass over blanks before they look for a formula.
    return f"'{text}" if text.startswith(FORMULA_STARTS) or text.lstrip().startswith(FORMULA_STARTS) else text
