"""A comparison as styled lines, printed by `edgetop compare` and shown by its screen; without Textual.

Nothing here needs Textual, so that printing does not wait for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from rich.cells import cell_len

from edgetop.core.figures import DECODE, J_PER_TOKEN
from edgetop.core.format import format_duration, format_rate
from edgetop.core.text import one_line
from edgetop.session.compare.result import Comparison, Row, Verdict
from edgetop.session.compare.wording import cell_text, flags_text, front_text, heading, label_of, order_of
from edgetop.tui.charts import Point, capacity, plot, scatter, shortened
from edgetop.tui.glyphs import GlyphLevel
from edgetop.tui.styled_text import fit_text, wrap

Role = Literal["text", "dim", "title", "good", "bad", "warning", "graph", "accent"]

TITLE_LEAST, TITLE_MOST = 12, 44

GAP = 2

BASE = " (base)"

SCATTER_ROWS = 14

SPEED_SIDE = 14

ROLE_OF: dict[Verdict, Role] = {"better": "good", "worse": "bad", "unlike": "warning"}


class TextPiece(NamedTuple):
    """Text of a line and what it means."""

    text: str
    role: Role = "text"


class TableLine(NamedTuple):
    """A line of the table, and the row of the comparison that it belongs to."""

    pieces: tuple[TextPiece, ...]
    row: int | None = None


class Layout(NamedTuple):
    """Which figures stand side by side, and how wide everything is."""

    label_columns: int
    title_columns: int
    figures: tuple[str, ...]
    widths: tuple[int, ...]


def layouts(comparison: Comparison, width: int, level: GlyphLevel) -> list[Layout]:
    """The figures broken into as many tables as `width` cells need; each has at least one figure."""
    labels = max(len(label_of(len(comparison.rows) - 1)), 1)
    widest_title = max((cell_len(_harmless(row.title)) + len(BASE) * row.is_base for row in comparison.rows), default=0)
    widths = {name: _column_width(comparison, name, level) for name in comparison.figures}
    widest_figure = max(widths.values(), default=0)
    room = width - labels - 1 - widest_figure - GAP
    title = max(min(TITLE_LEAST, room), min(widest_title, TITLE_MOST, max(room, 1), max(TITLE_LEAST, width * 3 // 10)))
    title = max(1, title)
    blocks: list[Layout] = []
    names: list[str] = []
    used = start = labels + 1 + title
    for name in comparison.figures:
        if names and used + GAP + widths[name] > width:
            blocks.append(Layout(labels, title, tuple(names), tuple(widths[each] for each in names)))
            names, used = [], start
        names.append(name)
        used += GAP + widths[name]
    return [*blocks, Layout(labels, title, tuple(names), tuple(widths[each] for each in names))]


def table_lines(
    comparison: Comparison, layout: Layout, width: int, level: GlyphLevel, sort_by: str | None = None
) -> list[TableLine]:
    """One table: headings, groups, and each row in up to three lines: values, changes, flags."""
    margin = " " * (layout.label_columns + 1)
    headings = "".join(
        " " * GAP + fit_text(heading(name), cells) for name, cells in zip(layout.figures, layout.widths, strict=True)
    )
    lines = [TableLine((TextPiece(margin + " " * layout.title_columns + headings, "dim"),))]
    for title, rows in order_of(comparison, sort_by):
        if title:
            lines.append(
                TableLine((TextPiece(fit_text(_harmless(title), min(width, cell_len(_harmless(title)))), "title"),))
            )
        for index in rows:
            lines += _row_lines(comparison, index, layout, width, level)
    return lines


def _row_lines(comparison: Comparison, index: int, layout: Layout, width: int, level: GlyphLevel) -> list[TableLine]:
    margin = " " * (layout.label_columns + 1)
    row = comparison.rows[index]
    values: list[TextPiece] = [
        TextPiece(f"{label_of(index):<{layout.label_columns}} ", "accent"),
        *_title_pieces(row, layout.title_columns),
    ]
    changes: list[TextPiece] = [TextPiece(margin + " " * layout.title_columns)]
    for name, cells in zip(layout.figures, layout.widths, strict=True):
        cell = row.cells[name]
        said = cell_text(cell, name, ascii=level == "ascii")
        role: Role = "dim" if cell.value is None else "good" if cell.best else "text"
        values.append(TextPiece(" " * GAP + fit_text(said.value, cells), role))
        changes.append(
            TextPiece(" " * GAP + fit_text("" if row.is_base else said.change, cells), ROLE_OF.get(cell.verdict, "dim"))
        )
    lines = [TableLine(tuple(values), index)]
    if any(piece.text.strip() for piece in changes):
        lines.append(TableLine(tuple(changes), index))
    if row.flags:
        wrapped = wrap(f"! {flags_text(row)}", max(10, width - len(margin)))
        lines += [TableLine((TextPiece(margin), TextPiece(part.rstrip(), "warning")), index) for part in wrapped]
    return lines


def front_lines(comparison: Comparison, width: int, level: GlyphLevel) -> list[tuple[TextPiece, ...]]:
    """Energy per token against tokens per second, and the front in words."""
    points = []
    on_front = set(comparison.front)
    for index, row in sorted(enumerate(comparison.rows), key=lambda each: each[0] not in on_front):
        speed, energy = (row.cells[name].value if name in row.cells else None for name in (DECODE, J_PER_TOKEN))
        same_scope = not on_front or row.result.energy_scope == comparison.rows[comparison.front[0]].result.energy_scope
        if speed is not None and energy is not None and same_scope:
            few = len(comparison.rows) <= 26
            points.append(Point(speed, energy, label_of(index) if few or index in on_front else ""))
    scope = (comparison.rows[comparison.front[0]].result.energy_scope or "").replace("_", " ") if on_front else ""
    lines: list[tuple[TextPiece, ...]] = []
    if len(points) > 1:
        title = f"J/token ({scope}) against decode tok/s: right and low is better"
        lines.append((TextPiece(_shortened(title, width), "title"),))
        lines += [(TextPiece(line, "graph"),) for line in scatter(points, min(width, 100), SCATTER_ROWS, level)]
    return [*lines, *paragraph(front_text(comparison), width)]


def speed_lines(
    comparison: Comparison, width: int, level: GlyphLevel, most: int | None = None
) -> list[tuple[TextPiece, ...]]:
    """Decode speed over time, a line for each session, all on one scale of speed and one of time."""
    shown = [(index, row.result.speed) for index, row in enumerate(comparison.rows) if row.result.speed is not None]
    kept = shown[:most]
    if not kept:
        return []
    lengths = {index: speed.step_s * len(speed.tokens_per_s) for index, speed in kept if speed is not None}
    longest_s = max(lengths.values())
    top = max((rate for _, speed in kept if speed for rate in speed.tokens_per_s if rate is not None), default=0.0)
    labels = max(len(label_of(index)) for index, _ in kept)
    columns = max(1, width - labels - 1 - SPEED_SIDE)
    said = f"decode speed over {format_duration(longest_s)}, from 0 to {format_rate(top)}"
    lines: list[tuple[TextPiece, ...]] = [(TextPiece(_shortened(said, width), "title"),)]
    for index, speed in kept:
        assert speed is not None  # noqa: S101 - chosen so
        own = max(1, round(columns * lengths[index] / longest_s))
        values = shortened(speed.tokens_per_s, capacity(own, level))
        drawn = plot(_stretched(values, capacity(own, level)), own, 1, 0.0, top, level)[0]
        decode = comparison.rows[index].cells[DECODE].value if DECODE in comparison.rows[index].cells else None
        lines.append(
            (
                TextPiece(f"{label_of(index):<{labels}} ", "accent"),
                TextPiece(fit_text(drawn, columns), "graph"),
                TextPiece(f"{format_rate(decode):>{SPEED_SIDE}}", "dim"),
            )
        )
    if len(shown) > len(kept):
        lines.append((TextPiece(f"and {len(shown) - len(kept)} more", "dim"),))
    return lines


def paragraph(text: str, width: int, role: Role = "text") -> list[tuple[TextPiece, ...]]:
    """A text, made harmless, in as many lines as it needs; none for an empty one."""
    return [(TextPiece(part.rstrip(), role),) for part in wrap(_harmless(text), width)] if text else []


def _stretched(values: Sequence[float | None], count: int) -> list[float | None]:
    """A series repeated step by step to fill `count` places."""
    return [values[place * len(values) // count] for place in range(count)]


def _title_pieces(row: Row, width: int) -> list[TextPiece]:
    """The title, and at the end of it, whatever else is cut, that this is the base."""
    if not row.is_base or width < TITLE_LEAST:
        return [TextPiece(_shortened(row.title, width))]
    shown = _shortened(row.title, min(width - len(BASE), cell_len(_harmless(row.title))))
    return [TextPiece(shown, "title"), TextPiece(fit_text(BASE, width - cell_len(shown)), "title")]


def _column_width(comparison: Comparison, name: str, level: GlyphLevel) -> int:
    texts = [heading(name)]
    for row in comparison.rows:
        said = cell_text(row.cells[name], name, ascii=level == "ascii")
        texts += [said.value, "" if row.is_base else said.change]
    return max(map(cell_len, texts))


def _shortened(text: str, width: int) -> str:
    text = _harmless(text)
    return fit_text(text, width) if cell_len(text) <= width else fit_text(text, width - 1) + "~"


def _harmless(text: str) -> str:
    return one_line(text)
