"""A list of all actions and commands, found by a few letters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen

from edgetop.tui.chat.slash_commands import SlashCommand
from edgetop.tui.glyphs import GlyphLevel
from edgetop.tui.keys import PALETTE, ScreenKeys, key_name
from edgetop.tui.screens.base import BaseScreen, bindings
from edgetop.tui.styled_text import Line, Span, fit, for_level, line_of, shortened, spread, width_of
from edgetop.tui.widgets import InputLine, LinesWidget

RUN, WORD_BEGIN, GAP = 3.0, 2.0, 0.1


def score(query: str, text: str) -> float | None:
    """How well every word of `query` fits `text`, the greater the better; `None` where one does not.

    A letter counts more right behind the one before it and at the beginning of a word, and each one that is skipped
    between two of them costs a little. Capitals do not matter.
    """
    total = 0.0
    lowered = text.lower()
    for word in query.lower().split():
        found = [_from(word, lowered, start) for start, letter in enumerate(lowered) if letter == word[0]]
        best = max((each for each in found if each is not None), default=None)
        if best is None:
            return None
        total += best
    return total


def _from(word: str, text: str, start: int) -> float | None:
    """The score of `word` with its first letter at `start`, each further one at the next place there is."""
    total = 0.0
    before = start - 1
    for letter in word:
        at = text.find(letter, before + 1)
        if at < 0:
            return None
        if at == before + 1 and at > start:
            total += RUN
        elif at == 0 or not text[at - 1].isalnum():
            total += WORD_BEGIN
        total -= GAP * (at - before - 1)
        before = at
    return total


class Entry(NamedTuple):
    """Something that can be done: what to run, its words, and the keys for it."""

    does: str | SlashCommand
    words: str
    keys: str
    sought: tuple[str, ...]
    """Texts that what is typed is held against."""


def entries(keys: ScreenKeys, commands: Sequence[SlashCommand]) -> list[Entry]:
    """All of a screen's, those of the key line first."""
    actions = [
        Entry(key.action, key.does, "  ".join(map(key_name, key.keys)), (key.label, key.does, key.name))
        for key in sorted(keys.keys, key=lambda each: not each.label)
        if key.name != "palette"
    ]
    typed = [
        Entry(each, f"{f'/{each.name} {each.argument}'.strip()}  {each.does}", "", (each.name, each.does))
        for each in commands
    ]
    labelled = sum(bool(key.label) for key in keys.keys)
    return [*actions[:labelled], *typed, *actions[labelled:]]


def found(all_entries: Sequence[Entry], query: str) -> list[Entry]:
    """Those that fit `query`, the best first; all of them for an empty one."""
    if not query.strip():
        return list(all_entries)
    scored = []
    for place, entry in enumerate(all_entries):
        # Of texts that fit alike the shorter one says less besides.
        scores = [(each, -len(text)) for text in entry.sought if (each := score(query, text)) is not None]
        if scores:
            best, length = max(scores)
            scored.append((-best, -length, place, entry))
    return [entry for *_, entry in sorted(scored, key=lambda each: each[:3])]


Chosen = str | SlashCommand | None
"""An action as Textual runs it, or a command."""


class PaletteScreen(BaseScreen[Chosen], ModalScreen[Chosen]):
    """Type to find, Enter does it, Esc goes back."""

    AUTO_FOCUS = ""
    TABLE = PALETTE
    BINDINGS: ClassVar[list[Binding]] = bindings(PALETTE, first=True)  # type: ignore[assignment]
    DEFAULT_CSS = """
    PaletteScreen { align: center middle; }
    PaletteScreen > Vertical { width: 72; max-width: 100%; height: 19; max-height: 100%; border: round $accent;
        background: $surface; padding: 0 1; }
    PaletteScreen.block > Vertical { border: solid $accent; }
    PaletteScreen.ascii > Vertical { border: ascii $accent; }
    PaletteScreen InputLine { padding: 0; }
    PaletteScreen #found { height: 1fr; width: 100%; }
    """

    def __init__(self, level: GlyphLevel, keys: ScreenKeys, commands: Sequence[SlashCommand]) -> None:
        """`keys` are those of the screen below."""
        super().__init__(classes=level)
        self._level: GlyphLevel = level
        self._all = entries(keys, commands)
        self._found = list(self._all)
        self._at = self._top = 0

    def compose(self) -> ComposeResult:
        """What is typed, and what it finds."""
        with Vertical() as box:
            box.border_title = f"do what? {self.keys.key_of('run')} does it, {self.keys.key_of('close')} closes"
            yield InputLine(self._level, id="query")
            yield LinesWidget(id="found")

    def on_mount(self) -> None:
        """Take the keyboard."""
        self.query_one(InputLine).ask(">")

    def on_resize(self, _event: events.Resize) -> None:
        """Draw for the room there is."""
        self.call_after_refresh(self._draw)

    @on(InputLine.Changed)
    def _typed(self, message: InputLine.Changed) -> None:
        self._found = found(self._all, message.text)
        self._at = 0
        self._draw()

    def _draw(self) -> None:
        rows = self.query_one("#found", LinesWidget)
        width, height = rows.size
        if not height:
            return
        self._top = max(min(self._top, self._at), self._at - height + 1)
        lines = [
            self._row(entry, width, chosen=index == self._at)
            for index, entry in enumerate(self._found[self._top : self._top + height], self._top)
        ]
        rows.show_lines(lines or [for_level(fit(line_of(Span("nothing of that kind", "dim")), width), self._level)])

    def _row(self, entry: Entry, width: int, *, chosen: bool) -> Line:
        keys = line_of(entry.keys)
        if width_of(keys) > width // 3:
            keys = line_of(entry.keys.split("  ")[0])
        mark = "> " if chosen else "  "
        words = shortened(entry.words, width - len(mark) - width_of(keys) - 1, self._level)
        line = spread(line_of(mark, words), [keys], width)
        if chosen:
            line = (Span("".join(span.text for span in line), "key"),)
        return for_level(fit(line, width), self._level)

    def on_click(self, event: events.Click) -> None:
        """Do what stands in the row under the pointer."""
        rows = self.query_one("#found", LinesWidget)
        index = self._top + event.screen_y - rows.region.y
        if rows.region.contains(event.screen_x, event.screen_y) and index < len(self._found):
            self.dismiss(self._found[index].does)

    def on_mouse_scroll_down(self, _event: events.MouseScrollDown) -> None:
        """Go down."""
        self.action_move(1)

    def on_mouse_scroll_up(self, _event: events.MouseScrollUp) -> None:
        """Go up."""
        self.action_move(-1)

    def action_move(self, rows: int) -> None:
        """Choose another row."""
        self._at = max(0, min(self._at + rows, len(self._found) - 1))
        self._draw()

    def action_page(self, pages: int) -> None:
        """Go on or back by what is in view."""
        self.action_move(pages * max(1, self.query_one("#found").size.height - 1))

    def action_run(self) -> None:
        """Do what is chosen."""
        if self._found:
            self.dismiss(self._found[self._at].does)

    def action_close(self) -> None:
        """Go back."""
        self.dismiss(None)
