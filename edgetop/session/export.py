"""Turns, samples, tokens as CSV and Parquet.

Times are seconds since the session began. A unit stands in the heading, or, in the long table of samples, in a column.
A cell of `None` is missing; for a sample the reason stands beside it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, chain, islice, repeat
from math import isnan
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

from edgetop.core.clock import US_PER_S
from edgetop.core.errors import EdgetopError
from edgetop.core.figures import OF_TURN, Figure, value_of
from edgetop.core.format import CellKind, Column
from edgetop.core.records import LoadEntry
from edgetop.core.text import literal, spreadsheet_text
from edgetop.session.file import ReplySpan, SessionFile, TurnEntry, series_of
from edgetop.session.session import NO_REASON, Series
from edgetop.session.turn import US_PER_MS

Cell = str | int | float | None


class Table(NamedTuple):
    """A table. The rows can be gone through once."""

    name: str
    columns: Sequence[Column[Any]]
    rows: Iterable[tuple[Cell, ...]]


class _TurnIn(NamedTuple):
    """A turn and the model that gave it."""

    turn: TurnEntry
    load: LoadEntry | None


_TurnCell = Callable[[_TurnIn], Cell]


def _seconds(t_us: int | None) -> float | None:
    return None if t_us is None else t_us / US_PER_S


def _stamp_s(name: str) -> _TurnCell:
    return lambda each: _seconds(getattr(each.turn.stamps, name))


def _of_load(pick: Callable[[LoadEntry], Cell]) -> _TurnCell:
    return lambda each: None if each.load is None else pick(each.load)


def _reply_text(reply: tuple[ReplySpan, ...], part: str) -> str | None:
    return "".join(span.text for span in reply if span.part == part) or None


_KINDS: dict[str, CellKind] = {"count": "count", "text": "text", "reason": "text"}
"""Of the cells, by the kind of figure; of other figures they are numbers."""


def _figure_columns(figure: Figure) -> Iterator[Column[_TurnIn]]:
    """The columns of a figure; one with an interval, value ± 2u, has two more for its ends."""

    def cell(path: str) -> _TurnCell:
        return lambda each: None if (value := value_of(each.turn.figures, path)) == "" else value

    if figure.kind not in {"energy", "power"}:
        kind = _KINDS.get(figure.kind, "number")
        yield Column(figure.column, cell(figure.name), kind=kind, meaning=figure.label)
        return
    for ending, end in (("", "value"), ("_low", "low"), ("_high", "high")):
        yield Column(f"{figure.column}{ending}", cell(f"{figure.name}.{end}"), kind="number", meaning=figure.label)


_TURN_COLUMNS: Final[Sequence[Column[_TurnIn]]] = (
    Column("turn", lambda each: each.turn.turn, kind="count", meaning="its number in the session"),
    Column("retry_of", lambda each: each.turn.retry_of, kind="count", meaning="the turn it repeats"),
    Column("model", _of_load(lambda load: load.model.name)),
    Column("quantization", _of_load(lambda load: load.model.quantization)),
    Column("threads", _of_load(lambda load: load.settings.n_threads), kind="count", meaning="for decoding"),
    Column("context_tokens", _of_load(lambda load: load.settings.n_ctx), kind="count", meaning="length of the context"),
    Column("temperature", lambda each: each.turn.sampling.temperature, kind="number"),
    Column("seed", lambda each: None if each.turn.end is None else each.turn.end.seed, kind="count"),
    *(
        Column(name, _stamp_s(stamp), kind="number")
        for name, stamp in (
            ("submitted_s", "submitted_us"),
            ("prefill_began_s", "prefill_us"),
            ("first_token_at_s", "first_token_us"),
            ("last_token_at_s", "last_token_us"),
            ("finished_s", "finished_us"),
        )
    ),
    *(column for figure in OF_TURN if figure.exported for column in _figure_columns(figure)),
    Column("error", lambda each: None if each.turn.end is None else each.turn.end.error or None),
    Column("system", lambda each: each.turn.system, meaning="the system prompt"),
    Column("prompt", lambda each: each.turn.prompt),
    Column("reasoning", lambda each: _reply_text(each.turn.reply, "reasoning")),
    Column("answer", lambda each: _reply_text(each.turn.reply, "answer")),
)

# The rows of these two are made whole, not cell by cell: there may be millions.
_SAMPLE_COLUMNS: Final[Sequence[Column[Any]]] = (
    Column("t_s", kind="number", meaning="when it was read"),
    Column("source"),
    Column("channel", meaning="the quantity"),
    Column("unit", meaning="of the value"),
    Column("value", kind="number"),
    Column("missing", meaning="why there is no value"),
)

_TOKEN_COLUMNS: Final[Sequence[Column[Any]]] = (
    Column("turn", kind="count"),
    Column("index", kind="count", meaning="in the turn, from 0"),
    Column("t_s", kind="number", meaning="when it was decoded"),
    Column("gap_ms", kind="number", meaning="since the token before it"),
    Column("part", meaning="answer or reasoning"),
    Column("chars", kind="count", meaning="characters (code points) that it gave"),
)


def _turn_rows(file: SessionFile) -> Iterator[tuple[Cell, ...]]:
    for turn in file.turns:
        load = next((load for load in reversed(file.loads) if load.t_us <= turn.stamps.submitted_us), None)
        yield tuple(cast("Cell", column.value(_TurnIn(turn, load))) for column in _TURN_COLUMNS)


def _sample_rows(series: Series) -> Iterator[tuple[Cell, ...]]:
    for column in series.columns:
        channel = (series.info.name, column.channel.name, column.channel.unit)
        reasons = chain.from_iterable(repeat(run.reason, run.count) for run in column.runs)
        for t_us, value in zip(series.t_us, column.values, strict=True):
            if isnan(value):
                yield t_us / US_PER_S, *channel, None, next(reasons, NO_REASON) or NO_REASON
            else:
                yield t_us / US_PER_S, *channel, int(value) if value.is_integer() else value, None


def _token_rows(turn: TurnEntry) -> Iterator[tuple[Cell, ...]]:
    stamps_us = islice(accumulate(turn.tokens.dt_us, initial=turn.stamps.submitted_us), 1, None)
    parts = chain.from_iterable(repeat(span.part, span.tokens) for span in turn.reply)
    cells = zip(stamps_us, turn.tokens.dt_us, parts, turn.tokens.chars, strict=True)
    for index, (t_us, gap_us, part, chars) in enumerate(cells):
        yield turn.turn, index, t_us / US_PER_S, gap_us / US_PER_MS if index else None, part, chars


def tables_of(file: SessionFile, series: Iterable[Series] = ()) -> tuple[Table, ...]:
    """The tables of a session file whose parts fit together (`edgetop.session.file.structure_problems`).

    `series` are those that the file was read without.
    """
    series = (*map(series_of, file.series), *series)
    return (
        Table("turns", _TURN_COLUMNS, _turn_rows(file)),
        Table("samples", _SAMPLE_COLUMNS, chain.from_iterable(map(_sample_rows, series))),
        Table("tokens", _TOKEN_COLUMNS, chain.from_iterable(map(_token_rows, file.turns))),
    )


ROWS_AT_ONCE = 4096


def csv_pieces(table: Table) -> Iterator[bytes]:
    """The table as CSV in UTF-8, its headings first, in pieces of some thousand rows. A missing cell is empty."""
    rows = iter(table.rows)
    lines: list[tuple[Cell, ...]] = [tuple(column.name for column in table.columns)]
    while lines:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows([csv_cell(cell) for cell in line] for line in lines)
        yield text.getvalue().encode()
        lines = list(islice(rows, ROWS_AT_ONCE))


def csv_cell(cell: Cell) -> Cell:
    """A cell as it is written: text made harmless, for terminals and for spreadsheets."""
    if isinstance(cell, float):
        return int(cell) if cell.is_integer() else cell
    return spreadsheet_text(literal(cell)) if isinstance(cell, str) else cell


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
    types: dict[CellKind, Any] = {"text": pa.string(), "count": pa.int64(), "number": pa.float64()}
    schema = pa.schema([
        pa.field(column.name, types[column.kind], metadata={"meaning": column.meaning} if column.meaning else None)
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
