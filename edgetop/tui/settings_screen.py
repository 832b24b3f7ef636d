"""The settings: all of them by section, changed at once where that can be, and written where they are to stay."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding

from edgetop.core.errors import EdgetopError
from edgetop.settings.option import Option
from edgetop.tui.bindings import bindings
from edgetop.tui.glyphs import GlyphLevel
from edgetop.tui.list_page import ListPage
from edgetop.tui.page_keys import SETTINGS
from edgetop.tui.settings_desk import SettingsDesk
from edgetop.tui.settings_table import Row, about_lines, row_line, rows_of
from edgetop.tui.widgets.input_line import LONGEST, InputLine
from edgetop.tui.widgets.key_bar import KeyBar
from edgetop.tui.widgets.lines import LinesWidget, Span, line_of

Attempt = Callable[[], str]
"""Something that says what came of it, or raises EdgetopError."""
VALUE = "value"
"""What the bottom line asks for besides a filter."""
TALL_ROWS = 20
ABOUT_ROWS, ABOUT_ROWS_SMALL = 6, 3


class SettingsScreen(ListPage):
    """Esc goes back; what was changed stays as it is, and is gone at the end unless it was written."""

    TABLE = SETTINGS
    BINDINGS: ClassVar[list[Binding]] = bindings(SETTINGS)  # type: ignore[assignment]
    DEFAULT_CSS = """
    SettingsScreen > #about { height: 3; }
    SettingsScreen.high > #about { height: 7; padding: 1 1 0 1; }
    """

    def __init__(self, desk: SettingsDesk, level: GlyphLevel) -> None:
        super().__init__(level, at=1)
        self._desk = desk
        self._rows: list[Row] = rows_of(())

    def compose(self) -> ComposeResult:
        """Title, list, what the chosen setting is, and keys or a question."""
        yield LinesWidget(id="title")
        yield LinesWidget(id="list")
        yield LinesWidget(id="about")
        yield KeyBar(id="keys")
        yield InputLine(self._level, id="input")

    def on_resize(self, event: events.Resize) -> None:
        """Draw everything for the size there is."""
        self.set_class(event.size.height >= TALL_ROWS, "high")
        self.call_after_refresh(self._draw)

    # Drawing

    def _draw(self) -> None:
        if not self.is_whole:
            return
        self._scroll()
        changed = len(self._desk.changed())
        unwritten = line_of(Span(f"{changed} not written", "warning")) if changed else ()
        title = self._title(line_of(Span("settings", "title")), unwritten, where=str(self._desk.file))
        self._show("title", [title])
        shown = range(self._top, min(self._top + self._height, len(self._rows)))
        nothing = line_of(Span("no setting has this in its name or description", "dim"))
        rows = [
            row_line(self._rows[index], self._desk, self._width, chosen=index == self._at, level=self._level)
            for index in shown
        ]
        self._show("list", rows or [nothing])
        height = ABOUT_ROWS if self.has_class("high") else ABOUT_ROWS_SMALL
        self._show("about", about_lines(self._row, self._desk, self._width, height))
        self._show_keys()

    def _scroll(self) -> None:
        """Keep the chosen row in view, and the heading above the first one."""
        height = max(1, self._height)
        wanted = self._at - 1 if self._at == 1 else self._at
        self._top = min(max(self._top, self._at - height + 1, 0), wanted, max(0, len(self._rows) - height))
        self._top = max(0, self._top)

    @property
    def _row_count(self) -> int:
        return len(self._rows)

    @property
    def _row(self) -> Row | None:
        return self._rows[self._at] if self._at < len(self._rows) else None

    @property
    def _chosen(self) -> Option[object] | None:
        return self._row if isinstance(self._row, Option) else None

    # Keys

    def _open_row(self, index: int, *, twice: bool) -> None:
        if isinstance(self._rows[index], Option):
            self._at = index
            self._draw()
            if twice:
                self.action_edit()

    def action_move(self, rows: int) -> None:
        """Choose another setting."""
        at = max(0, min(self._at + rows, len(self._rows) - 1))
        if self._rows and not isinstance(self._rows[at], Option):
            at += 1 if rows > 0 or at == 0 else -1
        self._at = at
        self._draw()

    def action_step(self) -> None:
        """Switch the chosen setting, or go on to the next of its values."""
        option = self._chosen
        if option is not None and self._desk.choices(option):
            self._attempt(lambda: self._desk.step(option))

    def action_edit(self) -> None:
        """Change the chosen setting: the next of its values, or a line to type into."""
        option = self._chosen
        if option is None:
            return
        if self._desk.choices(option):
            self._attempt(lambda: self._desk.step(option))
            return
        text = self._desk.text(option)
        if text is None or len(text) > LONGEST:
            self._say(f"{option.name} has more than one line; change it in {self._desk.file}")
        else:
            self._ask(VALUE, f"{option.name}:", text)

    def action_reset(self) -> None:
        """Go back to the default."""
        option = self._chosen
        if option is not None:
            self._attempt(lambda: self._desk.change(option, ""))

    def action_write(self) -> None:
        """Write the chosen setting into the configuration file."""
        option = self._chosen
        if option is not None:
            self._attempt(lambda: self._desk.write([option]))

    def action_write_all(self) -> None:
        """Write all settings that were changed."""
        changed = self._desk.changed()
        if changed:
            self._attempt(lambda: self._desk.write(changed))
        else:
            self._say("nothing was changed", "accent")

    # Questions

    def _attempt(self, change: Attempt) -> None:
        try:
            said = change()
        except EdgetopError as error:
            self._say(f"{error.what}; {error.mend}")
        else:
            self._say(said, "accent")

    def _filter(self, words: list[str]) -> None:
        """Show the settings with these words; the one that is called so is chosen, else the one that was, if it can."""
        chosen = self._chosen
        self._words = words
        self._rows = rows_of(words)
        named = [index for index, row in enumerate(self._rows) if isinstance(row, Option) and [row.name] == words]
        kept = [index for index, row in enumerate(self._rows) if row is chosen]
        self._at = (named or kept or [1])[0]
        self._top = 0
        self._draw()

    def _answer(self, asked: str, text: str) -> None:
        option = self._chosen
        if asked == VALUE and option is not None:
            self._attempt(lambda: self._desk.change(option, text))
