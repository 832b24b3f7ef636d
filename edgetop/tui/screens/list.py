"""`ListScreen`: columns with importance, sorting, filter by typing, marks, questions in the bottom line."""

from __future__ import annotations

from collections.abc import Sequence

from textual import events, on

from edgetop.core.text import one_line
from edgetop.tui.glyphs import GlyphLevel
from edgetop.tui.keys import key_slots
from edgetop.tui.screens.base import BaseScreen
from edgetop.tui.styled_text import Line, Role, Span, fit, for_level, joined, line_of, spread
from edgetop.tui.widgets import InputLine, KeyBar, LinesWidget

FILTER = "filter"
"""What is asked for words that a row must have."""


class ListScreen(BaseScreen[None]):
    """Composed are to be widgets called `title`, `list`, `keys` and an InputLine. Esc goes back."""

    AUTO_FOCUS = ""
    DEFAULT_CSS = """
    ListPage { layout: vertical; }
    ListPage LinesWidget { height: 1; width: 100%; padding: 0 1; }
    ListPage > #list { height: 1fr; }
    ListPage > InputLine { display: none; }
    ListPage.asking > InputLine { display: block; }
    ListPage.asking > #keys { display: none; }
    """

    def __init__(self, level: GlyphLevel, *, at: int = 0) -> None:
        super().__init__(classes=level)
        self._level: GlyphLevel = level
        self._words: list[str] = []
        """Of the filter."""
        self._words_before: list[str] = []
        self._at, self._top = at, 0
        """The chosen row, and the first one in view."""
        self._asked = ""
        """What the bottom line asks for; empty where it shows keys."""
        self._said: Line = ()

    # What a list brings

    def _draw(self) -> None:
        """Draw everything."""
        raise NotImplementedError

    def _filter(self, words: list[str]) -> None:
        """Show the rows that have these words."""
        raise NotImplementedError

    def _answer(self, asked: str, text: str) -> None:
        """Act upon the answer to a question other than the filter's."""
        raise NotImplementedError

    def _open_row(self, index: int, *, twice: bool) -> None:
        """A row was clicked upon, once or twice."""
        raise NotImplementedError

    @property
    def _row_count(self) -> int:
        raise NotImplementedError

    def action_move(self, rows: int) -> None:
        """Choose another row."""
        raise NotImplementedError

    # Drawing

    def _show(self, name: str, lines: Sequence[Line]) -> None:
        shown = [for_level(fit(line, self._width), self._level) for line in lines]
        self.query_one(f"#{name}", LinesWidget).show_lines(shown)

    def _show_keys(self) -> None:
        if self._said:
            self.query_one(KeyBar).say(self._said, self._level)
        else:
            self.query_one(KeyBar).show_keys(key_slots(self.keys.keys), self._level)

    def _title(self, title: Line, *parts: Line, where: str) -> Line:
        """The title with the filter and other parts, and at the end of the line where all this is kept."""
        words = line_of(Span(f"filter: {' '.join(self._words)}", "accent")) if self._words else ()
        kept = line_of(Span(one_line(where), "dim"))
        return spread(joined([title, words, *parts], self._width), [kept], self._width)

    @property
    def _width(self) -> int:
        return max(0, self.size.width - 2)

    @property
    def _height(self) -> int:
        return self.query_one("#list", LinesWidget).size.height

    def _say(self, text: str, role: Role = "warning") -> None:
        """Say something in the place of the keys, until the next key."""
        self._said = line_of(Span(one_line(text), role))
        self._draw()

    # Keys and mouse

    def on_key(self, _event: events.Key) -> None:
        """What was said has been read."""
        if self._said:
            self._said = ()
            self._draw()

    def on_mouse_scroll_down(self, _event: events.MouseScrollDown) -> None:
        """Go down."""
        self.action_move(3)

    def on_mouse_scroll_up(self, _event: events.MouseScrollUp) -> None:
        """Go up."""
        self.action_move(-3)

    def on_click(self, event: events.Click) -> None:
        """Choose a row, or act upon it."""
        region = self.query_one("#list", LinesWidget).region
        index = self._top + event.screen_y - region.y
        if region.contains(event.screen_x, event.screen_y) and index < self._row_count:
            self._open_row(index, twice=event.chain > 1)

    def action_close(self) -> None:
        """Go back."""
        self.dismiss()

    def action_page(self, pages: int) -> None:
        """Go on or back by what is in view."""
        self.action_move(pages * max(1, self._height - 1))

    # Questions

    def action_filter(self) -> None:
        """Ask for words that a row must have."""
        self._words_before = self._words
        self._ask(FILTER, "Filter:", " ".join(self._words))

    def _ask(self, asked: str, label: str, text: str = "") -> None:
        self._asked = asked
        self.add_class("asking")
        self.query_one(InputLine).ask(label, text)

    def _asked_no_more(self) -> str:
        asked, self._asked = self._asked, ""
        self.remove_class("asking")
        self.set_focus(None)
        return asked

    @on(InputLine.Changed)
    def _on_changed(self, message: InputLine.Changed) -> None:
        if self._asked == FILTER and type(message) is InputLine.Changed:
            self._filter(message.text.split())

    @on(InputLine.Cancelled)
    def _on_cancelled(self) -> None:
        if self._asked_no_more() == FILTER:
            self._filter(self._words_before)

    @on(InputLine.Submitted)
    def _on_submitted(self, message: InputLine.Submitted) -> None:
        asked = self._asked_no_more()
        if asked == FILTER:
            self._filter(message.text.split())
        else:
            self._answer(asked, message.text)
