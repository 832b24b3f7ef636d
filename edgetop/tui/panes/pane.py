"""Base class `Pane`: border, title, headline; abstract `headline`, `summary`, `render`, `render_zoomed`; row needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from edgetop.tui.glyphs import GlyphLevel
from edgetop.tui.panes.view import PaneContent, PaneDrawing, View
from edgetop.tui.styled_text import Line, Role, Span, fit, for_level, line_of, width_of
from edgetop.tui.widgets import LinesWidget


class PaneKind(NamedTuple):
    """How one pane is drawn, and how many rows it is worth, its border included."""

    title: str
    short: str
    """Its name where it is folded into a line."""
    draw: PaneDrawing
    all_of: PaneDrawing
    """Draws it with all of the room."""
    headline: Callable[[View], Line]
    beside: Callable[[View], list[Line]]
    """What stands beside the headline where it is folded, the longest first."""
    least: int
    good: int
    ample: int
    """Rows that it needs, that show all it has to say, and that give its graph room."""


_CORNERS: dict[GlyphLevel, str] = {"braille": "╭╮╰╯─│", "block": "┌┐└┘─│", "ascii": "++++-|"}

_FOCUSED_CORNERS: dict[GlyphLevel, str] = {"braille": "┏┓┗┛━┃", "block": "╔╗╚╝═║", "ascii": "####=#"}
"""Of the pane that the keys act upon, which is to be told without colour too."""

BORDER_COLUMNS, BORDER_ROWS = 4, 2
"""What a pane is wider and higher than the text in it."""


class Pane(LinesWidget):
    """Draws its own border, since a figure in it changes every second and Textual would repaint the whole of it."""

    DEFAULT_CSS = """
    Pane { height: 5; width: 100%; }
    """

    def __init__(self, kind: PaneKind) -> None:
        super().__init__(id=kind.title)
        self.title = kind.title
        self._kind = kind
        self._shown: View | None = None
        self._zoomed = False

    def show(self, view: View, *, zoomed: bool = False) -> None:
        """Draw `view` if the pane can be seen; `zoomed` with all that there is to say."""
        self._shown, self._zoomed = view, zoomed
        width, height = self.size
        if self.display and width > BORDER_COLUMNS and height > BORDER_ROWS:
            drawing = self._kind.all_of if zoomed else self._kind.draw
            self.show_lines(boxed(self.title, drawing, view, width, height), width)

    def on_resize(self) -> None:
        """Fill the new size with what was shown last."""
        if self._shown is not None:
            self.show(self._shown, zoomed=self._zoomed)


def boxed(title: str, drawing: PaneDrawing, view: View, width: int, height: int) -> list[Line]:
    """A pane in `width` by `height` cells, border included."""
    inner_width, inner_height = width - BORDER_COLUMNS, height - BORDER_ROWS
    text = drawing(view, inner_width, inner_height)
    lines = [*text.lines, *[()] * inner_height][:inner_height]
    focused = view.focus == title
    corners = (_FOCUSED_CORNERS if focused else _CORNERS)[view.level]
    role: Role = "accent" if focused else "border"
    side = Span(corners[5], role)
    return [
        for_level(line, view.level)
        for line in (
            _top(title, text, corners, role, width),
            *((side, Span(" "), *fit(line, inner_width), Span(" "), side) for line in lines),
            (Span(corners[2] + corners[4] * (width - 2) + corners[3], role),),
        )
    ]


def _top(title: str, text: PaneContent, corners: str, role: Role, width: int) -> Line:
    left = (Span(corners[0] + corners[4] + " ", role), *line_of(Span(title, "title")), Span(" "))
    corner = Span(corners[1], role)
    for headline in (text.headline, text.headline[:1]):
        right = (Span(" "), *headline, Span(" "), corner)
        rule = width - width_of(left) - width_of(right)
        if rule >= 0:
            return (*left, Span(corners[4] * rule, role), *right)
    return (*fit(left, width - 1), corner)
