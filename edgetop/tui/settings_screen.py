"""The settings: all of them by section, changed at once where that can be, and written where they are to stay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding

from edgetop.core.errors import EdgetopError
from edgetop.core.text import one_line
from edgetop.settings.option import Option
from edgetop.tui.bindings import bindings
from edgetop.tui.glyphs import GlyphLevel
from edgetop.tui.keyed_screen import KeyedScreen
from edgetop.tui.keymap import places
from edgetop.tui.page_keys import SETTINGS
from edgetop.tui.settings_desk import SettingsDesk
from edgetop.tui.settings_table import Row, about_lines, row_line, rows_of
from edgetop.tui.widgets.input_line import LONGEST, InputLine
from edgetop.tui.widgets.key_bar import KeyBar
from edgetop.tui.widgets.lines import Line, LinesWidget, Span, fit, for_level, joined, line_of, spread

Attempt = Callable[[], str]
"""Something that says what came of it, or raises EdgetopError."""
Asked = Literal["", "filter", "value"]
"""What the bottom line asks for."""
TALL_ROWS = 20
ABOUT_ROWS, ABOUT_ROWS_SMALL = 6, 3


class SettingsScreen(KeyedScreen[None]):
    """Esc goes back; what was changed stays as it is, and is gone at the end unless it was written."""

    AUTO_FOCUS = ""
    TABLE = SETTINGS
    BINDINGS: ClassVar[list[Binding]] = bindings(SETTINGS)  # type: ignore[assignment]
    DEFAULT_CSS = """
    SettingsScreen { layout: vertical; }
    SettingsScreen LinesWidget { height: 1; width: 100%; padding: 0 1; }
    SettingsScreen > #settings { height: 1fr; }
    SettingsScreen > #about { height: 3; }
    SettingsScreen.high > #about { height: 7; padding: 1 1 0 1; }
    SettingsScreen > InputLine { display: none; }
    SettingsScreen.asking > InputLine { display: block; }
    SettingsScreen.asking > #keys { display: none; }
    """

    def __init__(self, desk: SettingsDesk, level: GlyphLevel) -> None:
        super().__init__(classes=level)
        self._desk = desk
        self._level: GlyphLevel = level
        self._words: list[str] = []
        self._words_before: list[str] = []
        self._rows: list[Row] = rows_of(())
        self._at, self._top = 1, 0
        self._asked: Asked = ""
        self._said: Line = ()

    def compose(self) -> ComposeResult:
        """Title, list, what the chosen setting is, and keys or a question."""
        yield LinesWidget(id="title")
        yield LinesWidget(id="settings")
        yield LinesWidget(id="about")
        yield KeyBar(id="keys")
        yield InputLine(self._level, id="input")

    def on_resize(self, event: events.Resize) -> None:
        """Draw everything for the size there is."""
        self.set_class(event.size.height >= TALL_ROWS, "high")
        self.call_after_refresh(self._draw)

    # Drawing

    def _draw(self) -> None:
        if not self.is_mounted or not self._width:
            return
        self._scroll()
        self._show("title", [self._title()])
        shown = range(self._top, min(self._top + self._height, len(self._rows)))
        nothing = line_of(Span("no setting has this in its name or description", "dim"))
        rows = [
            row_line(self._rows[index], self._desk, self._width, chosen=index == self._at, level=self._level)
            for index in shown
        ]
        self._show("settings", rows or [nothing])
        height = ABOUT_ROWS if self.has_class("high") else ABOUT_ROWS_SMALL
        self._show("about", about_lines(self._row, self._desk, self._width, height))
        if self._said:
            self.query_one(KeyBar).say(self._said, self._level)
        else:
            self.query_one(KeyBar).show_keys(places(self.keys.keys), self._level)

    def _show(self, name: str, lines: Sequence[Line]) -> None:
        shown = [for_level(fit(line, self._width), self._level) for line in lines]
        self.query_one(f"#{name}", LinesWidget).show_lines(shown)

    def _title(self) -> Line:
        changed = len(self._desk.changed())
        parts = [
            line_of(Span("settings", "title")),
            line_of(Span(f"filter: {' '.join(self._words)}", "accent")) if self._words else (),
            line_of(Span(f"{changed} not written", "warning")) if changed else (),
        ]
        where = [line_of(Span(one_line(str(self._desk.file)), "dim"))]
        return spread(joined(parts, self._width), where, self._width)

    def _scroll(self) -> None:
        """Keep the chosen row in view, and the heading above the first one."""
        height = max(1, self._height)
        wanted = self._at - 1 if self._at == 1 else self._at
        self._top = min(max(self._top, self._at - height + 1, 0), wanted, max(0, len(self._rows) - height))
        self._top = max(0, self._top)

    @property
    def _width(self) -> int:
        return max(0, self.size.width - 2)

    @property
    def _height(self) -> int:
        return self.query_one("#settings", LinesWidget).size.height

    @property
    def _row(self) -> Row | None:
        return self._rows[self._at] if self._at < len(self._rows) else None

    @property
    def _chosen(self) -> Option[object] | None:
        return self._row if isinstance(self._row, Option) else None

    def _say(self, text: str, *, trouble: bool = False) -> None:
        """Say something in the place of the keys, until the next key."""
        self._said = line_of(Span(one_line(text), "warning" if trouble else "accent"))
        self._draw()

    # Keys

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
        """Choose a row; a double click changes it."""
        region = self.query_one("#settings", LinesWidget).region
        index = self._top + event.screen_y - region.y
        if not region.contains(event.screen_x, event.screen_y) or index >= len(self._rows):
            return
        if isinstance(self._rows[index], Option):
            self._at = index
            self._draw()
            if event.chain > 1:
                self.action_edit()

    def action_close(self) -> None:
        """Go back."""
        self.dismiss()

    def action_move(self, rows: int) -> None:
        """Choose another setting."""
        at = max(0, min(self._at + rows, len(self._rows) - 1))
        if self._rows and not isinstance(self._rows[at], Option):
            at += 1 if rows > 0 or at == 0 else -1
        self._at = at
        self._draw()

    def action_page(self, pages: int) -> None:
        """Go on or back by what is in view."""
        self.action_move(pages * max(1, self._height - 1))

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
            self._say(f"{option.name} has more than one line; change it in {self._desk.file}", trouble=True)
        else:
            self._ask("value", f"{option.name}:", text)

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
            self._say("nothing was changed")

    def action_filter(self) -> None:
        """Ask for words that a setting must have."""
        self._words_before = self._words
        self._ask("filter", "Filter:", " ".join(self._words))

    # Questions

    def _attempt(self, change: Attempt) -> None:
        try:
            said = change()
        except EdgetopError as error:
            self._say(f"{error.what}; {error.mend}", trouble=True)
        else:
            self._say(said)

    def _ask(self, asked: Asked, label: str, text: str) -> None:
        self._asked = asked
        self.add_class("asking")
        self.query_one(InputLine).ask(label, text)

    def _asked_no_more(self) -> Asked:
        asked, self._asked = self._asked, ""
        self.remove_class("asking")
        self.set_focus(None)
        return asked

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

    @on(InputLine.Changed)
    def _on_changed(self, message: InputLine.Changed) -> None:
        if self._asked == "filter" and type(message) is InputLine.Changed:
            self._filter(message.text.split())

    @on(InputLine.Cancelled)
    def _on_cancelled(self) -> None:
        if self._asked_no_more() == "filter":
            self._filter(self._words_before)

    @on(InputLine.Submitted)
    def _on_submitted(self, message: InputLine.Submitted) -> None:
        option = self._chosen
        match self._asked_no_more():
            case "filter":
                self._filter(message.text.split())
            case "value" if option is not None:
                self._attempt(lambda: self._desk.change(option, message.text))
