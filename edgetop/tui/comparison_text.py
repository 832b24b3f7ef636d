"""A comparison as styled lines, printed by `edgetop compare` and shown by its screen.

Nothing here needs Textual, so that printing does not wait for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.cells import cell_len

from edgetop.core.figures import BY_NAME, DECODE, J_PER_TOKEN
from edgetop.core.format import format_duration, format_rate
from edgetop.core.text import one_line
from edgetop.session.compare.result import Cell, Comparison, Row, Verdict
from edgetop.session.compare.wording import cell_text, conclusion, flags_text, front_text, label_of, order_of
from edgetop.tui.charts import Point, capacity, downsampled, plot, scatter
from edgetop.tui.styled_text import Line, Role, Span, fit_text, paragraph, shortened, wrap
from edgetop.tui.themes import GlyphLevel

TITLE_MIN, TITLE_MAX = 12, 44

GAP = 2
BASE = " (base)"
SCATTER_ROWS = 14
SPEED_SIDE = 14
ROLE_OF: dict[Verdict, Role] = {"better": "good", "worse": "bad", "unlike": "warning"}


class TableLine(NamedTuple):
    """A line of the table, and the row of the comparison that it belongs to."""

    spans: Line
    row: int | None = None


class TableLayout(NamedTuple):
    """Which figures stand side by side, and how wide everything is."""

    label_columns: int
    title_columns: int
    figures: tuple[str, ...]
    widths: tuple[int, ...]


def layouts(comparison: Comparison, width: int, level: GlyphLevel) -> list[TableLayout]:
    """The figures broken into as many tables as `width` cells need; each has at least one figure."""
    labels = max(len(label_of(len(comparison.rows) - 1)), 1)
    widest_title = max((cell_len(one_line(row.title)) + len(BASE) * row.is_base for row in comparison.rows), default=0)
    widths = {name: _column_width(comparison, name, level) for name in comparison.figures}
    widest_figure = max(widths.values(), default=0)
    room = width - labels - 1 - widest_figure - GAP
    title = max(min(TITLE_MIN, room), min(widest_title, TITLE_MAX, max(room, 1), max(TITLE_MIN, width * 3 // 10)))
    title = max(1, title)
    blocks: list[TableLayout] = []
    names: list[str] = []
    used = start = labels + 1 + title
    for name in comparison.figures:
        if names and used + GAP + widths[name] > width:
            blocks.append(TableLayout(labels, title, tuple(names), tuple(widths[each] for each in names)))
            names, used = [], start
        names.append(name)
        used += GAP + widths[name]
    return [*blocks, TableLayout(labels, title, tuple(names), tuple(widths[each] for each in names))]


def table_lines(
    comparison: Comparison, layout: TableLayout, width: int, level: GlyphLevel, sort_by: str | None = None
) -> list[TableLine]:
    """One table: headings, groups, and each row in up to three lines: values, changes, flags."""
    margin = " " * (layout.label_columns + 1)
    headings = "".join(
        " " * GAP + fit_text(BY_NAME[name].heading_with_unit, cells)
        for name, cells in zip(layout.figures, layout.widths, strict=True)
    )
    lines = [TableLine((Span(margin + " " * layout.title_columns + headings, "dim"),))]
    for title, rows in order_of(comparison, sort_by):
        if title:
            lines.append(TableLine((Span(shortened(one_line(title), width, level), "title"),)))
        for index in rows:
            lines += _row_lines(comparison, index, layout, width, level)
    return lines


def _row_lines(
    comparison: Comparison, index: int, layout: TableLayout, width: int, level: GlyphLevel
) -> list[TableLine]:
    margin = " " * (layout.label_columns + 1)
    row = comparison.rows[index]
    values: list[Span] = [
        Span(f"{label_of(index):<{layout.label_columns}} ", "accent"),
        *_title_spans(row, layout.title_columns, level),
    ]
    changes: list[Span] = [Span(margin + " " * layout.title_columns)]
    for name, cells in zip(layout.figures, layout.widths, strict=True):
        cell = row.cells[name]
        text = cell_text(cell, name, ascii=level == "ascii")
        role: Role = "dim" if cell.value is None else "good" if cell.best else "text"
        values.append(Span(" " * GAP + fit_text(text.value, cells), role))
        changes.append(
            Span(" " * GAP + fit_text("" if row.is_base else text.change, cells), ROLE_OF.get(cell.verdict, "dim"))
        )
    lines = [TableLine(tuple(values), index)]
    if any(span.text.strip() for span in changes):
        lines.append(TableLine(tuple(changes), index))
    if row.flags:
        wrapped = wrap(f"! {flags_text(row)}", max(10, width - len(margin)))
        lines += [TableLine((Span(margin), Span(part.rstrip(), "warning")), index) for part in wrapped]
    return lines


def front_lines(comparison: Comparison, width: int, level: GlyphLevel) -> list[Line]:
    """Energy per token against tokens per second, and the front in words."""
    points = []
    on_front = set(comparison.front)
    for index, row in sorted(enumerate(comparison.rows), key=lambda each: each[0] not in on_front):
        speed, energy = (row.cells.get(name, Cell()) for name in (DECODE, J_PER_TOKEN))
        same_scope = not on_front or row.result.energy_scope == comparison.rows[comparison.front[0]].result.energy_scope
        if speed.value is not None and energy.value is not None and same_scope:
            few = len(comparison.rows) <= 26
            label = label_of(index) if few or index in on_front else ""
            points.append(
                Point(speed.value, energy.value, label, *(_ends(cell) if few else None for cell in (speed, energy)))
            )
    scope = (comparison.rows[comparison.front[0]].result.energy_scope or "").replace("_", " ") if on_front else ""
    lines: list[Line] = []
    if len(points) > 1:
        title = f"J/token{scope and f' ({scope})'} against decode tok/s: right and low is better"
        bars = "; bars are 95 % intervals"
        lines.append((Span(_fitted(title + bars * (cell_len(title + bars) <= width), width, level), "title"),))
        lines += [(Span(line, "graph"),) for line in scatter(points, min(width, 100), SCATTER_ROWS, level)]
    return [*lines, *paragraph(front_text(comparison), width)]


def _ends(cell: Cell) -> tuple[float, float] | None:
    return None if cell.low is None or cell.high is None else (cell.low, cell.high)


def conclusion_lines(comparison: Comparison, width: int) -> list[Line]:
    """What is faster, what takes less energy, what is not clear."""
    return paragraph(conclusion(comparison), width, "headline")


def speed_lines(comparison: Comparison, width: int, level: GlyphLevel, count_max: int | None = None) -> list[Line]:
    """Decode speed over time, a line for each session, all on one scale of speed and one of time."""
    speeds = [(index, row.result.speed) for index, row in enumerate(comparison.rows) if row.result.speed is not None]
    shown = speeds[:count_max]
    if not shown:
        return []
    lengths_s = {index: speed.step_s * len(speed.tokens_per_s) for index, speed in shown}
    longest_s = max(lengths_s.values())
    top = max((rate for _, speed in shown for rate in speed.tokens_per_s if rate is not None), default=0.0)
    labels = max(len(label_of(index)) for index, _ in shown)
    columns = max(1, width - labels - 1 - SPEED_SIDE)
    title = f"decode speed over {format_duration(longest_s)}, from 0 to {format_rate(top)}"
    lines: list[Line] = [(Span(_fitted(title, width, level), "title"),)]
    for index, speed in shown:
        own = max(1, round(columns * lengths_s[index] / longest_s))
        values = downsampled(speed.tokens_per_s, capacity(own, level))
        drawn = plot(_stretched(values, capacity(own, level)), own, 1, 0.0, top, level)[0]
        decode = comparison.rows[index].cells[DECODE].value if DECODE in comparison.rows[index].cells else None
        lines.append((
            Span(f"{label_of(index):<{labels}} ", "accent"),
            Span(fit_text(drawn, columns), "graph"),
            Span(f"{format_rate(decode):>{SPEED_SIDE}}", "dim"),
        ))  # fmt: skip
    if len(speeds) > len(shown):
        lines.append((Span(f"and {len(speeds) - len(shown)} more", "dim"),))
    return lines


def _stretched(values: Sequence[float | None], count: int) -> list[float | None]:
    """A series repeated step by step to fill `count` places."""
    return [values[index * len(values) // count] for index in range(count)]


def _title_spans(row: Row, width: int, level: GlyphLevel) -> list[Span]:
    """The title, and at the end of it, whatever else is cut, that this is the base."""
    if not row.is_base or width < TITLE_MIN:
        return [Span(_fitted(row.title, width, level))]
    shown = shortened(one_line(row.title), width - len(BASE), level)
    return [Span(shown, "title"), Span(fit_text(BASE, width - cell_len(shown)), "title")]


def _column_width(comparison: Comparison, name: str, level: GlyphLevel) -> int:
    texts = [BY_NAME[name].heading_with_unit]
    for row in comparison.rows:
        text = cell_text(row.cells[name], name, ascii=level == "ascii")
        texts += [text.value, "" if row.is_base else text.change]
    return max(map(cell_len, texts))


def _fitted(text: str, width: int, level: GlyphLevel) -> str:
    return fit_text(shortened(one_line(text), width, level), width)
