"""A list of all actions and commands, found by a few letters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.screen import ModalScreen

from edgetop.live.chat_commands import SlashCommand
from edgetop.tui.glyphs import GlyphLevel
from edgetop.tui.keys import PALETTE, ScreenKeys, key_name
from edgetop.tui.screens.list import MARKS, ListScreen
from edgetop.tui.styled_text import Line, Span, fit, line_of, shortened, spread, width_of
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


Chosen = str | SlashCommand | None
"""An action as Textual runs it, or a command."""


class Entry(NamedTuple):
    """An action or a command: what to run, its description, and the keys for it."""

    action: str | SlashCommand
    description: str
    keys: str
    texts: tuple[str, ...]
    """What a query is matched with."""


def entries(keys: ScreenKeys, commands: Sequence[SlashCommand]) -> list[Entry]:
    """All of a screen's, those of the key line first."""
    actions = [
        Entry(key.action, key.description, "  ".join(map(key_name, key.keys)), (key.label, key.description, key.name))
        for key in sorted(keys.keys, key=lambda each: not each.label)
        if key.name != "palette"
    ]
    typed = [Entry(each, f"{each.usage}  {each.description}", "", (each.name, each.description)) for each in commands]
    labelled = sum(bool(key.label) for key in keys.keys)
    return [*actions[:labelled], *typed, *actions[labelled:]]


def found(all_entries: Sequence[Entry], query: str) -> list[Entry]:
    """Those that match `query`, the best first; all of them for an empty one."""
    if not query.strip():
        return list(all_entries)
    scored = []
    for at, entry in enumerate(all_entries):
        # Of texts that match equally well the shorter one says less besides.
        scores = [(each, -len(text)) for text in entry.texts if (each := score(query, text)) is not None]
        if scores:
            best, length = max(scores)
            scored.append((-best, -length, at, entry))
    return [entry for *_, entry in sorted(scored, key=lambda each: each[:3])]


class PaletteScreen(ListScreen[Entry, Chosen], ModalScreen[Chosen]):
    """Type to find, Enter runs, Esc goes back."""

    TABLE = PALETTE
    KEYS_FIRST = True
    CLICKS_TO_OPEN = 1
    DEFAULT_CSS = """
    PaletteScreen { align: center middle; }
    PaletteScreen > Vertical { width: 72; max-width: 100%; height: 19; max-height: 100%; border: round $accent;
        background: $surface; padding: 0 1; }
    PaletteScreen.block > Vertical { border: solid $accent; }
    PaletteScreen.ascii > Vertical { border: ascii $accent; }
    PaletteScreen LinesWidget { padding: 0; }
    """

    def __init__(self, level: GlyphLevel, keys: ScreenKeys, commands: Sequence[SlashCommand]) -> None:
        """`keys` are those of the screen below."""
        super().__init__(level, (), entries(keys, commands))

    @property
    def can_draw(self) -> bool:
        """Whether the list is there, and has a size."""
        return bool(self.query("#list")) and self._height > 0

    def compose(self) -> ComposeResult:
        """What is typed, and what it finds."""
        with Vertical() as box:
            box.border_title = f"Commands: {self.keys.key_of('run')} runs, {self.keys.key_of('close')} closes"
            yield InputLine(self._level)
            yield LinesWidget(id="list")

    def on_mount(self) -> None:
        """Take the keyboard."""
        self.query_one(InputLine).ask(">")

    def _matching(self) -> list[Entry]:
        return found(self._all, " ".join(self._words))

    @on(InputLine.Changed)
    def _on_changed(self, message: InputLine.Changed) -> None:
        self._words = message.text.split()
        self._at = 0
        self._arrange(follow=False)

    def _empty_text(self) -> str:
        return "No match"

    def _draw_around(self) -> None:
        """There is only the list."""

    def _row_line(self, at: int) -> Line:
        entry, width = self._rows[at], self._width
        keys = line_of(entry.keys)
        if width_of(keys) > width // 3:
            keys = line_of(entry.keys.split("  ")[0])
        text = shortened(entry.description, width - MARKS - width_of(keys) - 1, self._level)
        line = fit(spread(line_of("> " if at == self._at else "  ", text), [keys], width), width)
        return (Span("".join(span.text for span in line), "key"),) if at == self._at else line

    def _open_row(self) -> None:
        self.action_run()

    def action_run(self) -> None:
        """Run the chosen one."""
        if self._chosen is not None:
            self.dismiss(self._chosen.action)
