"""What a pane is, `Pane`, and the widget that draws one with its border."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from edgetop.tui.glyphs import GlyphLevel
from edgetop.tui.panes.view import View
from edgetop.tui.styled_text import Line, Role, Span, fit, for_level, line_of, width_of
from edgetop.tui.widgets import LinesWidget

BORDER_COLUMNS, BORDER_ROWS = 4, 2
"""What a pane is wider and higher than the text in it."""

_CORNERS: dict[GlyphLevel, str] = {"braille": "╭╮╰╯─│", "block": "┌┐└┘─│", "ascii": "++++-|"}
_FOCUSED_CORNERS: dict[GlyphLevel, str] = {"braille": "┏┓┗┛━┃", "block": "╔╗╚╝═║", "ascii": "####=#"}
"""The pane with the focus is recognizable without colour."""


class Pane(ABC):
    """What one pane shows of a `View`. It has no state: everything that changes is in the view."""

    title: ClassVar[str]
    short: ClassVar[str]
    """Three letters, for the pane folded into one line."""
    rows_min: ClassVar[int]
    """Rows that the pane needs, border included."""
    rows_full: ClassVar[int]
    """Rows that show all of its text."""
    rows_ample: ClassVar[int]
    """Rows with which its graph has room, too."""
    growth_order: ClassVar[int]
    """Panes with a smaller number get spare rows first."""
    has_graph: ClassVar[bool] = True
    """The pane can use any number of rows."""

    @abstractmethod
    def headline(self, view: View) -> Line:
        """The one figure that counts, with its unit, for the border and for the folded line."""

    @abstractmethod
    def summary(self, view: View) -> list[Line]:
        """What follows the headline where the pane is folded into one line: several choices, the longest first."""

    @abstractmethod
    def render(self, view: View, width: int, height: int) -> list[Line]:
        """The pane's text in `width` by `height` cells, without the border. Lines beyond `height` are cut off."""

    @abstractmethod
    def render_zoomed(self, view: View, width: int, height: int) -> list[Line]:
        """The same with the whole screen for it."""

    def boxed(self, view: View, width: int, height: int, *, zoomed: bool = False) -> list[Line]:
        """The pane in `width` by `height` cells, border included."""
        inner_width, inner_height = width - BORDER_COLUMNS, height - BORDER_ROWS
        text = (self.render_zoomed if zoomed else self.render)(view, inner_width, inner_height)
        lines = [*text, *[()] * inner_height][:inner_height]
        return framed(self.title, self.headline(view), lines, width, view.level, focused=view.focus == self.title)


def framed(
    title: str, headline: Line, lines: Sequence[Line], width: int, level: GlyphLevel, *, focused: bool = False
) -> list[Line]:
    """`lines` in a border `width` cells wide, with a title and as much of a headline as fits, its first span last."""
    corners = (_FOCUSED_CORNERS if focused else _CORNERS)[level]
    role: Role = "accent" if focused else "border"
    side = Span(corners[5], role)
    return [
        for_level(line, level)
        for line in (
            _top(title, headline, corners, role, width),
            *((side, Span(" "), *fit(line, width - BORDER_COLUMNS), Span(" "), side) for line in lines),
            (Span(corners[2] + corners[4] * (width - 2) + corners[3], role),),
        )
    ]


def _top(title: str, headline: Line, corners: str, role: Role, width: int) -> Line:
    left = (Span(corners[0] + corners[4] + " ", role), *line_of(Span(title, "title")), Span(" "))
    corner = Span(corners[1], role)
    for count in range(len(headline), 0, -1):
        right = (Span(" "), *headline[:count], Span(" "), corner)
        rule = width - width_of(left) - width_of(right)
        if rule >= 0:
            return (*left, Span(corners[4] * rule, role), *right)
    rule = width - width_of(left) - 1
    return (*left, Span(corners[4] * rule, role), corner) if rule >= 0 else (*fit(left, width - 1), corner)


class PaneWidget(LinesWidget):
    """Draws a pane and its border: Textual would repaint the whole border for a new figure in it."""

    DEFAULT_CSS = """
    PaneWidget { height: 5; width: 100%; }
    """

    def __init__(self, pane: Pane) -> None:
        super().__init__(id=pane.title)
        self.pane = pane
        self._view: View | None = None
        self._zoomed = False

    def show(self, view: View, *, zoomed: bool = False) -> None:
        """Draw `view` if the pane is visible."""
        self._view, self._zoomed = view, zoomed
        width, height = self.size
        if self.display and width > BORDER_COLUMNS and height > BORDER_ROWS:
            self.show_lines(self.pane.boxed(view, width, height, zoomed=zoomed), width)

    def on_resize(self) -> None:
        """Fill the new size with the last view."""
        if self._view is not None:
            self.show(self._view, zoomed=self._zoomed)
