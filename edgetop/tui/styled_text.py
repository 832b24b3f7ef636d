"""Spans with roles, lines, cell widths, wrapping, fitting, small tables; without Textual.

A line is a tuple of spans, and what makes one, `line_of`, makes its text harmless: nothing in it acts on the terminal.
`wrap` and `fit_text` expect text that `edgetop.core.text.literal` has made harmless: no line breaks, tabs or controls.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate, repeat, zip_longest
from typing import Literal, NamedTuple

from rich.cells import cell_len, split_graphemes

from edgetop.core.format import NOT_AVAILABLE, format_significant
from edgetop.core.text import literal
from edgetop.tui.themes import GlyphLevel

Role = Literal[
    "text", "dim", "title", "headline", "good", "warning", "bad", "graph", "prefill", "accent", "border", "key",
    "energy",
]  # fmt: skip
"""What a span means; each theme gives it a style."""

TAB = " " * 4

NAME_COLUMNS = 14
"""For the name in a row of name and value."""

SIDE_BY_SIDE_COLUMNS = 100
"""From this width on zoomed panes have room for figures and turns side by side."""

BLOCK_GAP = "  "
"""Between two blocks side by side."""

FIGURE_COLUMNS, FIGURE_NAME_COLUMNS, FIGURE_UNIT_COLUMNS = 22, 10, 5
"""For a figure with its name and unit, where they stand below each other."""

NEAR_CELLS = 6
"""Moving the cursor takes as many bytes as writing so many cells again."""

_ALL_NARROW = re.compile("[ -~\xa0-\xac\xae-\u02ff\u0370-\u0482\u2010-\u2015\u2018-\u2022\u2026\u20ac\u2500-\u25fc]*")
"""One cell each by Rich's width table, and never part of a wider cluster; lets most text be cut by counting."""

_ONE_CELL_EACH = re.compile(r"[ -~·°±−…←→●\u2500-\u259f\u2800-\u28ff]*").fullmatch
"""Text with one cell for each character: letters without accents, our own signs, boxes, blocks and braille."""

_JOINERS = "\u200c\u200d\ufe0e\ufe0f"
"""At an end of a span they would make one character of it and its neighbour, of another width."""

_IN_ASCII = str.maketrans({
    "·": "*", "●": "*", "…": "~", "─": "-", "−": "-", "←": "<", "→": ">", "\ufffd": "?",
    **{chr(code): "?" for code in range(0x2400, 0x2422)},
})  # fmt: skip


class Span(NamedTuple):
    """Some text of a line, and what it means."""

    text: str
    role: Role = "text"


Line = tuple[Span, ...]


def line_of(*parts: str | Span) -> Line:
    """A line from plain strings and spans; their text is made harmless."""
    spans = (part if isinstance(part, Span) else Span(part) for part in parts)
    return tuple(Span(_harmless(span.text), span.role) for span in spans if span.text)


def _harmless(text: str) -> str:
    return literal(text).replace("\n", " ").replace("\t", " ").strip(_JOINERS)


def for_level(line: Line, level: GlyphLevel) -> Line:
    """`line` with the characters of `level`, each as wide as before; letters of names stay as they are."""
    if level != "ascii":
        return line
    return tuple(Span(span.text.translate(_IN_ASCII), span.role) for span in line)


# Widths


def width_of(line: Line) -> int:
    """Cells that a line takes."""
    return sum(cell_len(span.text) for span in line)


def fit_text(text: str, width: int) -> str:
    """`text` cut or filled with blanks to exactly `width` cells; half a wide character becomes a blank."""
    length = cell_len(text)
    if length > width:
        text, length = _cut(text, width)
    return text + " " * (width - length)


def _cut(text: str, width: int) -> tuple[str, int]:
    end, cells = 0, 0
    for _, grapheme_end, grapheme_cells in split_graphemes(text)[0]:
        if cells + grapheme_cells > width:
            break
        end, cells = grapheme_end, cells + grapheme_cells
    return text[:end], cells


def fit(line: Line, width: int) -> Line:
    """`line` cut or padded to exactly `width` cells."""
    spans: list[Span] = []
    left = width
    for span in line:
        cells = cell_len(span.text)
        if cells > left:
            spans.append(Span(fit_text(span.text, left), span.role))
            return tuple(spans)
        spans.append(span)
        left -= cells
    if left:
        spans.append(Span(" " * left))
    return tuple(spans)


def shortened(text: str, width: int, level: GlyphLevel) -> str:
    """`text` in at most `width` cells, with a mark at its end if it was cut."""
    if cell_len(text) <= width:
        return text
    return fit_text(text, width - 1) + ("~" if level == "ascii" else "…") if width > 0 else ""


# Paragraphs


def wrap(text: str, width: int) -> list[str]:
    """The lines of one paragraph, each at most `width` cells besides the blanks at its end.

    Breaks after blanks, beside wide characters, and inside a word that is wider than a line. Nothing is dropped: the
    lines joined are `text`. Lines before the last do not change when text is appended, so a growing paragraph is
    wrapped again from its last line only. A character wider than `width` has a line of its own. An empty text is one
    empty line.
    """
    width = max(1, width)
    if len(text) * 2 <= width:
        return [text]
    if text.isascii() or _ALL_NARROW.fullmatch(text):
        return _wrap_narrow(text, width)
    return _wrap_graphemes(text, width)


def _wrap_narrow(text: str, width: int) -> list[str]:
    lines: list[str] = []
    start, length = 0, len(text)
    while length - start > width:
        end = text.rfind(" ", start, start + width + 1) + 1
        if end == 0 or text[start:end].isspace():
            end = start + width
        else:
            while end < length and text[end] == " ":
                end += 1
        lines.append(text[start:end])
        start = end
    if start < length or not lines:
        lines.append(text[start:])
    return lines


def _wrap_graphemes(text: str, width: int) -> list[str]:
    lines: list[str] = []
    start = cells = 0
    break_at = break_cells = 0
    inked = False
    for begin, end, grapheme_cells in split_graphemes(text)[0]:
        blank = text[begin:end] == " "
        if cells + grapheme_cells > width and begin > start and not (blank and inked):
            if grapheme_cells == 2 or break_at <= start:
                break_at, break_cells = begin, cells
            lines.append(text[start:break_at])
            start, cells = break_at, cells - break_cells
            break_at = break_cells = 0
            inked = bool(text[start:begin].strip(" "))
        cells += grapheme_cells
        inked = inked or not blank
        if (blank and inked) or grapheme_cells == 2:
            break_at, break_cells = end, cells
    lines.append(text[start:])
    return lines


def paragraph(text: str, width: int, role: Role = "text") -> list[Line]:
    """A text, made harmless, in as many lines as it takes; none for an empty one."""
    return [line_of(Span(row.rstrip(), role)) for row in wrap(_harmless(text), width)] if text else []


def sentence(text: str) -> str:
    """`text` with a capital letter and a full stop."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


# Parts of a line, and rows


def spread(left: Line, rights: Sequence[Line], width: int) -> Line:
    """`left` at the beginning of `width` cells, and at their end the first of `rights` that there is room for."""
    for right in rights:
        gap = width - width_of(left) - width_of(right)
        if gap >= 1:
            return (*left, Span(" " * gap), *right)
    return fit(left, width)


def joined(parts: Sequence[Line], width: int, gap: str = "  ") -> Line:
    """Those of `parts` that fit into `width` cells beside each other, the first ones before later ones."""
    line: Line = ()
    for part in parts:
        longer = (*line, Span(gap), *part) if line else part
        if part and width_of(longer) <= width:
            line = longer
    return line


def figure_text(value: float | None, digits: int = 3) -> str:
    """A figure without its unit; `n/a` for `None`."""
    return NOT_AVAILABLE if value is None else format_significant(value, digits)


def figure_span(value: float | None, digits: int = 3) -> Span:
    """The same, with its role."""
    return Span(figure_text(value, digits), "dim" if value is None else "accent")


def figure_row(name: str, *value: str | Span) -> Line:
    """A name and its value."""
    return line_of(Span(f"{name:<{NAME_COLUMNS}} ", "dim"), *value)


class Figure(NamedTuple):
    """A figure of a column of them."""

    name: str
    value: str
    unit: str = ""
    role: Role = "text"


def figure_of(name: str, text: str, role: Role = "text") -> Figure:
    """A figure whose unit stands behind it in `text`; a span in two units stays one text."""
    value, *unit = text.split(" ")
    return Figure(name, value, unit[0], role) if len(unit) == 1 else Figure(name, text, "", role)


def expected(figures: Sequence[Figure]) -> list[Figure]:
    """The same, where those that are not there will come: not yet, which is no failure."""
    return [Figure(each.name, "not yet", role="dim") if each.value == NOT_AVAILABLE else each for each in figures]


def figure_grid(figures: Sequence[Figure], width: int, rows: int = 0) -> list[Line]:
    """Aligned figures in one or two columns, the first ones on top; at most `rows` lines, unless that is 0."""
    columns = 2 if width >= 2 * FIGURE_COLUMNS + len(BLOCK_GAP) else 1
    lines = [
        tuple(
            span
            for column, figure in enumerate(figures[at : at + columns])
            for span in (Span(BLOCK_GAP if column else ""), *_figure_cells(figure))
            if span.text
        )
        for at in range(0, len(figures), columns)
    ]
    return lines[:rows] if rows else lines


def _figure_cells(figure: Figure) -> Line:
    room = FIGURE_COLUMNS - FIGURE_UNIT_COLUMNS - 1
    value = f"{figure.value:>{room - FIGURE_NAME_COLUMNS}}" if figure.value else ""
    return (
        *fit(line_of(Span(figure.name, "dim")), max(1, room - width_of(line_of(value)))),
        *line_of(Span(value, "dim" if figure.value == NOT_AVAILABLE else figure.role)),
        *fit(line_of(Span(f" {figure.unit}", "dim")), FIGURE_UNIT_COLUMNS + 1),
    )


def chart_width(width: int) -> int:
    """The columns of a graph beside figures, the same in every pane; all of them where that would be too few."""
    room = width - FIGURE_COLUMNS - len(BLOCK_GAP)
    return room if room >= FIGURE_COLUMNS else width


def beside_figures(
    chart: Callable[[int, int], list[Line]], figures: Sequence[Figure], width: int, height: int
) -> list[Line]:
    """What `chart` draws in a width and height, and beside it the first of some figures, one a line.

    Where that leaves too little for the graph it stands above the figures, or they alone.
    """
    room = chart_width(width)
    if room < width:
        block = figure_grid(figures, FIGURE_COLUMNS, height)
        drawn = chart(room, height)
        return [(*fit(one, room), Span(BLOCK_GAP), *other) for one, other in zip_longest(drawn, block, fillvalue=())][
            :height
        ]
    block = figure_grid(figures, width, height)
    return [*chart(width, height - len(block)), *block]


def wrapped_row(name: str, sentence: str, width: int) -> list[Line]:
    """A name and a sentence, in as many lines as it takes."""
    rows = wrap(sentence, max(10, width - NAME_COLUMNS - 1)) or [""]
    return [figure_row(name if not at else "", row.rstrip()) for at, row in enumerate(rows)]


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], width: int = 0, *, named: bool = False) -> list[Line]:
    """Columns as wide as their widest cell, flush right but for the last one; `named` rows begin with a name.

    Unless `width` is 0 there are as many of them as have room in it: of a cell that is cut, another figure is read.
    """
    widths = [max(map(cell_len, column)) for column in zip(headings, *rows, strict=True)]
    ends = accumulate(len(BLOCK_GAP) + each for each in widths)
    shown = sum(end - len(BLOCK_GAP) <= width for end in ends) if width else len(widths)

    def line(cells: Sequence[str]) -> str:
        blanks = [" " * (width - cell_len(cell)) for width, cell in zip(widths, cells, strict=True)]
        aligned = [
            f"{cell}{blank}" if at == len(cells) - 1 or (named and not at) else f"{blank}{cell}"
            for at, (cell, blank) in enumerate(zip(cells, blanks, strict=True))
        ]
        return BLOCK_GAP.join(aligned[: max(1, shown)])

    return [line_of(Span(line(headings), "title")), *(line_of(line(row)) for row in rows)]


def side_by_side(left: Sequence[Line], right: Sequence[Line], width: int) -> list[Line]:
    """Two blocks beside each other where there is room, otherwise the second one below the first."""
    columns = max(map(width_of, left), default=0)
    if columns + len(BLOCK_GAP) + max(map(width_of, right), default=0) > width:
        return [*left, *([()] if left and right else []), *right]
    return [(*fit(one, columns), Span(BLOCK_GAP), *other) for one, other in zip_longest(left, right, fillvalue=())]


# What to paint again


def changed_runs(before: Line, after: Line, width: int) -> list[tuple[int, int]]:
    """Where two lines of `width` cells differ, as cells from and to; runs that are near each other are one."""
    old, new = _cells(before), _cells(after)
    if len(old) != width or len(new) != width:
        # Characters that are of another width together than one by one.
        return [(0, width)]
    runs: list[tuple[int, int]] = []
    for column, (old_cell, new_cell) in enumerate(zip(old, new, strict=True)):
        if old_cell == new_cell:
            continue
        if runs and column - runs[-1][1] < NEAR_CELLS:
            runs[-1] = (runs[-1][0], column + 1)
        else:
            runs.append((column, column + 1))
    return runs


@lru_cache(maxsize=128)
def _cells(line: Line) -> Sequence[tuple[str, Role]]:
    """What each cell shows; a wide character in all of its cells, and in each what combines with it."""
    cells: list[tuple[str, Role]] = []
    for span in line:
        if _ONE_CELL_EACH(span.text):
            cells += zip(span.text, repeat(span.role))
            continue
        for character in span.text:
            width = cell_len(character)
            cells += [(character * (part + 1), span.role) for part in range(width)]
            if not width:
                # It may belong to a wide character, and then to both of its cells.
                cells[-2:] = [(shown + character, role) for shown, role in cells[-2:]]
    return cells
