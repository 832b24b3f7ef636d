"""Text broken into lines of a given width in terminal cells.

Works on one paragraph that `edgetop.core.text.literal` has made harmless: without line breaks, tabs and controls.
"""

from __future__ import annotations

import re

from rich.cells import cell_len, split_graphemes

TAB = " " * 4

_ALL_NARROW = re.compile("[ -~\xa0-\xac\xae-\u02ff\u0370-\u0482\u2010-\u2015\u2018-\u2022\u2026\u20ac\u2500-\u25fc]*")
"""One cell each by Rich's width table, and never part of a wider cluster; lets most text be cut by counting."""


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


def fit(text: str, width: int) -> str:
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
