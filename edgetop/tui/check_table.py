"""Rows of the check screen: what stands in each column, how wide it is, and how rows are ordered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from edgetop.core.energy.figure import Figure
from edgetop.core.format import NOT_AVAILABLE, format_bytes_short, format_significant
from edgetop.core.records import Missing
from edgetop.core.text import one_line
from edgetop.fit.assessment import Assessment
from edgetop.fit.verdict import FITS, PACES
from edgetop.live.survey import Surveyed
from edgetop.tui.glyphs import GlyphLevel
from edgetop.tui.widgets.lines import shortened
from edgetop.tui.wrap import fit

NAME_COLUMNS_LEAST = 14
NAME_COLUMNS_MOST = 40
Order = tuple[float | str, ...]
"""Ascending order puts first what is wanted first."""


class Column(NamedTuple):
    """One column."""

    name: str
    short: str
    """Its name in a sentence."""
    width: int
    """0 for the one that takes the rest."""
    importance: int
    """Those of the least importance go first where there is too little room."""
    cell: Callable[[Assessment], str] | None
    """`None` for the name that the model goes by on this machine."""
    order: Callable[[Assessment], Order]
    """Of equal rows the name decides."""
    right: bool = True


def _size(assessment: Assessment) -> str:
    return format_bytes_short(assessment.facts.size_bytes)


def _bits(assessment: Assessment) -> str:
    bits = assessment.facts.bits_per_weight
    return NOT_AVAILABLE if bits is None else f"{bits:.1f}"


def _memory(assessment: Assessment) -> str:
    return NOT_AVAILABLE if isinstance(assessment.need, Missing) else format_bytes_short(assessment.need.needed_bytes)


def _by_memory(assessment: Assessment) -> Order:
    return (float("inf") if isinstance(assessment.need, Missing) else float(assessment.need.needed_bytes),)


def _context(assessment: Assessment) -> str:
    return str(assessment.settings.n_ctx)


def _speed(assessment: Assessment) -> str:
    return _figure(assessment.decode)


def _by_speed(assessment: Assessment) -> Order:
    return (0.0 if assessment.decode is None else -assessment.decode.value,)


def _energy(assessment: Assessment) -> str:
    return _figure(None if isinstance(assessment.energy, Missing) else assessment.energy.decode_j_per_token)


def _by_energy(assessment: Assessment) -> Order:
    missing = isinstance(assessment.energy, Missing)
    return (
        float("inf") if isinstance(assessment.energy, Missing) else assessment.energy.decode_j_per_token.value,
        missing,
    )


def _fit(assessment: Assessment) -> str:
    return assessment.verdict.fit or NOT_AVAILABLE


def _by_fit(assessment: Assessment) -> Order:
    return (*map(float, assessment.verdict.rank), *_by_speed(assessment))


def _pace(assessment: Assessment) -> str:
    return (assessment.verdict.pace or NOT_AVAILABLE).removesuffix(" for reading")


def _by_pace(assessment: Assessment) -> Order:
    return (float(assessment.verdict.rank[1]), *_by_speed(assessment))


def _basis(assessment: Assessment) -> str:
    return NOT_AVAILABLE if isinstance(assessment.speed, Missing) else assessment.speed.basis


COLUMNS: tuple[Column, ...] = (
    Column("fits", "fit", max(map(len, FITS)), 9, _fit, _by_fit, right=False),
    Column("model", "name", 0, 10, None, lambda _each: (), right=False),
    Column("quant", "quant", 7, 3, lambda each: each.facts.file_type, lambda _each: (), right=False),
    Column("size", "size", 5, 2, _size, lambda each: (float(each.facts.size_bytes),)),
    Column("bits", "bits", 4, 1, _bits, lambda each: (each.facts.bits_per_weight or 0.0,)),
    Column("ctx", "context", 6, 5, _context, lambda each: (float(each.settings.n_ctx or 0),)),
    Column("memory", "memory", 6, 7, _memory, _by_memory),
    Column("tok/s", "decode", 5, 8, _speed, _by_speed),
    Column("J/tok", "energy", 5, 4, _energy, _by_energy),
    Column("reading", "reading", len(PACES[0]), 6, _pace, _by_pace, right=False),
    Column("basis", "basis", 12, 0, _basis, lambda _each: (), right=False),
)
"""From left to right, the first one being what rows are sorted by at first."""


def widths(width: int) -> dict[str, int]:
    """The columns that there is room for in `width` cells, and how wide each is."""
    shown = list(COLUMNS)
    while True:
        fixed = sum(column.width for column in shown) + len(shown) - 1
        left = width - fixed
        if left >= NAME_COLUMNS_LEAST or len(shown) <= 2:
            return {column.name: column.width or max(1, min(left, NAME_COLUMNS_MOST)) for column in shown}
        shown.remove(min(shown, key=lambda column: column.importance))


def heading(columns: dict[str, int], sorted_by: Column) -> str:
    """The names of the columns over them; that of the sorted one in capitals."""
    cells = []
    for column in COLUMNS:
        if column.name in columns:
            name = column.name.upper() if column is sorted_by else column.name
            cells.append(_placed(name, columns[column.name], right=column.right))
    return " ".join(cells)


def line_of_row(row: Surveyed, columns: dict[str, int], level: GlyphLevel) -> str:
    """One row as text."""
    ascii_only = level == "ascii"
    if row.assessment is None:
        text = one_line(f"cannot be read  {row.name}: {row.problem}", ascii=ascii_only)
        return shortened(text, sum(columns.values()) + len(columns) - 1, level)
    cells = []
    for column in COLUMNS:
        if column.name in columns:
            width = columns[column.name]
            text = one_line(row.name if column.cell is None else column.cell(row.assessment), ascii=ascii_only)
            cells.append(_placed(shortened(text, width, level), width, right=column.right))
    return " ".join(cells).rstrip()


def sorted_rows(rows: Sequence[Surveyed], by: Column, *, reverse: bool) -> list[Surveyed]:
    """Rows in the order of a column, those of equal value by name; what cannot be read comes last."""
    read = [(row, row.assessment) for row in rows if row.assessment is not None]
    named = sorted(read, key=lambda pair: (pair[0].name.lower(), pair[1].settings.n_ctx or 0))
    if by.cell is None:
        named = named[::-1] if reverse else named
    ordered = sorted(named, key=lambda pair: by.order(pair[1]), reverse=reverse and by.cell is not None)
    return [row for row, _ in ordered] + [row for row in rows if row.assessment is None]


def _placed(text: str, width: int, *, right: bool) -> str:
    padded = fit(text, width)
    return " " * (len(padded) - len(padded.rstrip())) + padded.rstrip() if right else padded


def _figure(figure: Figure | None) -> str:
    return NOT_AVAILABLE if figure is None else format_significant(figure.value, 3)
