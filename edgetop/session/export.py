"""Turns, samples, tokens as CSV and Parquet.

Times are seconds since the session began. A unit stands in the heading, or, in the long table of samples, in a column.
A cell of `None` is missing; for a sample the reason stands beside it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, chain, islice, repeat
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from edgetop.core.clock import US_PER_S
from edgetop.core.energy.tokens import Energy
from edgetop.core.errors import EdgetopError
from edgetop.core.figures import TokenGaps
from edgetop.core.quantity import Interval
from edgetop.core.text import literal
from edgetop.session.file import LoadEntry, ReplySpan, SeriesEntry, SessionFile, TurnEntry
from edgetop.session.session import NO_REASON
from edgetop.session.turn import US_PER_MS

Cell = str | int | float | None

Kind = Literal["text", "count", "number"]
"""What the cells of a column are: text, whole numbers, or numbers."""


class TableColumn(NamedTuple):
    """A column: its heading, and what its cells are."""

    heading: str
    kind: Kind
    meaning: str
    """In one line."""


class Table(NamedTuple):
    """A table. The rows can be gone through once."""

    name: str
    columns: tuple[TableColumn, ...]
    rows: Iterable[tuple[Cell, ...]]


def tables_of(file: SessionFile) -> tuple[Table, ...]:
    """The tables of a session file whose parts fit together (`edgetop.session.file.structure_problems`)."""
    return (
        Table("turns", tuple(column for column, _ in _TURN_COLUMNS), _turn_rows(file)),
        Table("samples", _SAMPLE_COLUMNS, chain.from_iterable(map(_sample_rows, file.series))),
        Table("tokens", _TOKEN_COLUMNS, chain.from_iterable(map(_token_rows, file.turns))),
    )


class _TurnIn(NamedTuple):
    """A turn and the model that gave it."""

    turn: TurnEntry
    load: LoadEntry | None


_TurnCell = Callable[[_TurnIn], Cell]


def _seconds(t_us: int | None) -> float | None:
    return None if t_us is None else t_us / US_PER_S


def _gap(pick: Callable[[TokenGaps], float]) -> _TurnCell:
    def cell(each: _TurnIn) -> Cell:
        gaps = each.turn.figures.token_gap_ms
        return None if gaps is None else pick(gaps)

    return cell


def _energy(pick: Callable[[Energy], Cell]) -> _TurnCell:
    def cell(each: _TurnIn) -> Cell:
        energy = each.turn.figures.energy
        return None if energy is None else pick(energy)

    return cell


def _of_load(pick: Callable[[LoadEntry], Cell]) -> _TurnCell:
    return lambda each: None if each.load is None else pick(each.load)


def _said(reply: tuple[ReplySpan, ...], part: str) -> str:
    return "".join(span.text for span in reply if span.part == part)


_ENERGY_FIGURES: Final[tuple[tuple[str, Callable[[Energy], Interval | None], str], ...]] = (
    ("gross_j", lambda energy: energy.gross_j, "all energy of the turn"),
    ("net_j", lambda energy: energy.net_j, "energy above idle"),
    ("mean_w", lambda energy: energy.mean_w, "mean power"),
    ("j_per_token", lambda energy: energy.j_per_token, "all energy of the turn over the tokens generated"),
    ("net_j_per_token", lambda energy: energy.net_j_per_token, "energy above idle over the tokens generated"),
    ("decode_j_per_token", lambda energy: energy.decode_j_per_token, "from the first to the last token"),
    ("prefill_j_per_token", lambda energy: energy.prefill_j_per_token, "until the first token, over the prompt tokens"),
)


def _energy_columns() -> Iterator[tuple[TableColumn, _TurnCell]]:
    """Each figure with the ends of its interval, value ± 2u."""
    for name, pick, meaning in _ENERGY_FIGURES:
        for ending, end in (("", "value"), ("_low", "low"), ("_high", "high")):

            def cell(energy: Energy, pick: Callable[[Energy], Interval | None] = pick, end: str = end) -> Cell:
                figure = pick(energy)
                return None if figure is None else float(getattr(figure, end))

            yield TableColumn(f"{name}{ending}", "number", meaning), _energy(cell)


_TURN_COLUMNS: Final[tuple[tuple[TableColumn, _TurnCell], ...]] = (
    (TableColumn("turn", "count", "its number in the session"), lambda each: each.turn.turn),
    (TableColumn("retry_of", "count", "the turn it repeats"), lambda each: each.turn.retry_of),
    (TableColumn("model", "text", ""), _of_load(lambda load: load.model.name)),
    (TableColumn("quantization", "text", ""), _of_load(lambda load: load.model.quantization)),
    (TableColumn("threads", "count", "for decoding"), _of_load(lambda load: load.settings.n_threads)),
    (TableColumn("context_tokens", "count", "length of the context"), _of_load(lambda load: load.settings.n_ctx)),
    (TableColumn("temperature", "number", ""), lambda each: each.turn.sampling.temperature),
    (TableColumn("seed", "count", ""), lambda each: None if each.turn.end is None else each.turn.end.seed),
    (TableColumn("submitted_s", "number", ""), lambda each: _seconds(each.turn.stamps.submitted_us)),
    (TableColumn("prefill_began_s", "number", ""), lambda each: _seconds(each.turn.stamps.prefill_us)),
    (TableColumn("first_token_at_s", "number", ""), lambda each: _seconds(each.turn.stamps.first_token_us)),
    (TableColumn("last_token_at_s", "number", ""), lambda each: _seconds(each.turn.stamps.last_token_us)),
    (TableColumn("finished_s", "number", ""), lambda each: _seconds(each.turn.stamps.finished_us)),
    (TableColumn("stop_reason", "text", ""), lambda each: each.turn.figures.stop_reason),
    (TableColumn("prompt_tokens", "count", "all of the prompt"), lambda each: each.turn.figures.prompt_tokens),
    (TableColumn("cached_tokens", "count", "of the prompt, reused"), lambda each: each.turn.figures.cached_tokens),
    (TableColumn("generated_tokens", "count", ""), lambda each: each.turn.figures.generated_tokens),
    (TableColumn("decode_tokens_per_s", "number", ""), lambda each: each.turn.figures.decode_tokens_per_s),
    (TableColumn("prefill_tokens_per_s", "number", ""), lambda each: each.turn.figures.prefill_tokens_per_s),
    (TableColumn("first_token_s", "number", "since it was submitted"), lambda each: each.turn.figures.first_token_s),
    (TableColumn("token_gap_p50_ms", "number", ""), _gap(lambda gaps: gaps.p50)),
    (TableColumn("token_gap_p95_ms", "number", ""), _gap(lambda gaps: gaps.p95)),
    (TableColumn("token_gap_p99_ms", "number", ""), _gap(lambda gaps: gaps.p99)),
    (TableColumn("token_gap_max_ms", "number", ""), _gap(lambda gaps: gaps.max)),
    (TableColumn("limited_by", "text", "what held the speed back"), lambda each: each.turn.figures.limited_by),
    (TableColumn("energy_scope", "text", "what the meter covers"), _energy(lambda energy: energy.scope)),
    (TableColumn("energy_source", "text", ""), _energy(lambda energy: energy.source)),
    (TableColumn("energy_grade", "text", "how far it can be trusted"), _energy(lambda energy: energy.grade)),
    *_energy_columns(),
    (TableColumn("energy_missing", "text", "why there is none"), lambda each: each.turn.figures.energy_missing or None),
    (TableColumn("error", "text", ""), lambda each: None if each.turn.end is None else each.turn.end.error or None),
    (TableColumn("system", "text", "the system prompt"), lambda each: each.turn.system),
    (TableColumn("prompt", "text", ""), lambda each: each.turn.prompt),
    (TableColumn("reasoning", "text", ""), lambda each: _said(each.turn.reply, "reasoning") or None),
    (TableColumn("answer", "text", ""), lambda each: _said(each.turn.reply, "answer") or None),
)

_SAMPLE_COLUMNS: Final = (
    TableColumn("t_s", "number", "when it was read"),
    TableColumn("source", "text", ""),
    TableColumn("channel", "text", "the quantity"),
    TableColumn("unit", "text", "of the value"),
    TableColumn("value", "number", ""),
    TableColumn("missing", "text", "why there is no value"),
)

_TOKEN_COLUMNS: Final = (
    TableColumn("turn", "count", ""),
    TableColumn("index", "count", "in the turn, from 0"),
    TableColumn("t_s", "number", "when it was decoded"),
    TableColumn("gap_ms", "number", "since the token before it"),
    TableColumn("part", "text", "answer or reasoning"),
    TableColumn("chars", "count", "characters (code points) that it gave"),
)


def _turn_rows(file: SessionFile) -> Iterator[tuple[Cell, ...]]:
    for turn in file.turns:
        load = next((load for load in reversed(file.loads) if load.t_us <= turn.stamps.submitted_us), None)
        yield tuple(cell(_TurnIn(turn, load)) for _, cell in _TURN_COLUMNS)


def _sample_rows(series: SeriesEntry) -> Iterator[tuple[Cell, ...]]:
    stamps_s = [t_us / US_PER_S for t_us in accumulate(series.dt_us)]
    for channel in series.source.channels:
        reasons = _reasons(series, channel.name)
        for t_s, value in zip(stamps_s, series.values[channel.name], strict=True):
            reason = (next(reasons, NO_REASON) or NO_REASON) if value is None else None
            yield t_s, series.source.name, channel.name, channel.unit, value, reason


def _reasons(series: SeriesEntry, channel: str) -> Iterator[str]:
    """Why readings of a channel are missing, one for each that is."""
    return chain.from_iterable(repeat(run.reason, run.count) for run in series.missing.get(channel, ()))


def _token_rows(turn: TurnEntry) -> Iterator[tuple[Cell, ...]]:
    stamps_us = islice(accumulate(turn.tokens.dt_us, initial=turn.stamps.submitted_us), 1, None)
    parts = chain.from_iterable(repeat(span.part, span.tokens) for span in turn.reply)
    cells = zip(stamps_us, turn.tokens.dt_us, parts, turn.tokens.chars, strict=True)
    for index, (t_us, gap_us, part, chars) in enumerate(cells):
        yield turn.turn, index, t_us / US_PER_S, gap_us / US_PER_MS if index else None, part, chars


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
