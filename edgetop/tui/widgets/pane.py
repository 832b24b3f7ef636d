"""A bordered pane: a title, a headline figure in the border, and lines that a drawing function gives."""

from __future__ import annotations

from edgetop.tui.glyphs import GlyphLevel
from edgetop.tui.view import PaneDrawing, PaneText, View
from edgetop.tui.widgets.lines import Line, LinesWidget, Span, fit, for_level, line_of, width_of

_CORNERS: dict[GlyphLevel, str] = {"braille": "╭╮╰╯─│", "block": "┌┐└┘─│", "ascii": "++++-|"}
BORDER_COLUMNS, BORDER_ROWS = 4, 2
"""What a pane is wider and higher than the text in it."""


class Pane(LinesWidget):
    """Draws its own border, since a figure in it changes every second and Textual would repaint the whole of it."""

    DEFAULT_CSS = """
    Pane { height: 5; width: 100%; }
    """

    def __init__(self, title: str, drawing: PaneDrawing, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id, classes=title)
        self.title = title
        self._drawing = drawing

    def show(self, view: View) -> None:
        """Draw `view` if the pane can be seen."""
        if self.display and self.size.width > BORDER_COLUMNS and self.size.height > BORDER_ROWS:
            self.show_lines(boxed(self.title, self._drawing, view, self.size.width, self.size.height))


def boxed(title: str, drawing: PaneDrawing, view: View, width: int, height: int) -> list[Line]:
    """A pane in `width` by `height` cells, border included."""
    inner_width, inner_height = width - BORDER_COLUMNS, height - BORDER_ROWS
    text = drawing(view, inner_width, inner_height)
    lines = [*text.lines, *[()] * inner_height][:inner_height]
    corners = _CORNERS[view.level]
    side = Span(corners[5], "border")
    return [
        for_level(line, view.level)
        for line in (
            _top(title, text, corners, width),
            *((side, Span(" "), *fit(line, inner_width), Span(" "), side) for line in lines),
            (Span(corners[2] + corners[4] * (width - 2) + corners[3], "border"),),
        )
    ]


def _top(title: str, text: PaneText, corners: str, width: int) -> Line:
    left = (Span(corners[0] + corners[4] + " ", "border"), *line_of(Span(title, "title")), Span(" "))
    corner = Span(corners[1], "border")
    for headline in (text.headline, text.headline[:1]):
        right = (Span(" "), *headline, Span(" "), corner)
        rule = width - width_of(left) - width_of(right)
        if rule >= 0:
            return (*left, Span(corners[4] * rule, "border"), *right)
    return (*fit(left, width - 1), corner)
