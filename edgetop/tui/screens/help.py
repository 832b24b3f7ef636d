"""Keys, commands and words of the screen below, from its tables: as help, and as a palette found by a few letters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from edgetop.live.chat_commands import SlashCommand
from edgetop.tui.keys import HELP, PALETTE, PROMPT_KEYS, KeyAction, ScreenKeys, key_name, prompt_takes
from edgetop.tui.screens.list import MARKS, ListScreen
from edgetop.tui.styled_text import Line, Span, fit, line_of, shortened, spread, width_of, wrap
from edgetop.tui.themes import GlyphLevel
from edgetop.tui.widgets import BaseScreen, InputLine, LinesWidget

WORDS: tuple[tuple[str, str], ...] = (
    ("n/a", "not available on this machine; edgetop doctor says why, and how to get it"),
    ("prefill, decode", "reading the prompt, writing the answer"),
    ("p50 p95 p99", "percentiles of the gaps between tokens"),
    ("weights, kv", "the model itself, and the key-value cache of the conversation"),
    ("compute, rest", "compute buffers, and everything else in the engine's process"),
    ("disk reads", "parts of the model that were read from the disk again (major page faults)"),
    ("gross, net", "all energy drawn, and what is left without the idle power"),
    ("A B C D", "next to joules: how far an energy figure can be trusted"),
)
"""Words that the panes have no room to explain."""

REPLAY_WORDS: tuple[tuple[str, str], ...] = (
    ("time", "all sessions begin together and run by their own clocks"),
    ("turn", "the same turns of all begin together; the one that is done first waits"),
    ("token", "each session at the moment when it had that many tokens"),
    ("B−A", "at the play head, how much more or less the second has than the first"),
)
"""Words of the playback line."""

MOUSE: tuple[tuple[str, str], ...] = (
    ("click", "on a key in the bottom line, a row or a pane: as the key for it; the wheel scrolls"),
    ("Shift and drag", "selects text, as the terminal does; with --no-mouse the terminal has the mouse"),
)

Parts = Sequence[tuple[str, Sequence[tuple[str, str]]]]
"""Headings, and below each the terms and what they mean."""

KEY_COLUMNS = 20
NARROW_COLUMNS = 50
"""Below this width the description stands below the key, not next to it."""


class HelpScreen(BaseScreen[None], ModalScreen[None]):
    """Lies over another screen; a slash searches it."""

    AUTO_FOCUS = ""
    TABLE = HELP
    DEFAULT_CSS = """
    HelpScreen { align: center middle; }
    HelpScreen > Vertical { width: 78; max-width: 100%; height: auto; max-height: 100%; border: round $accent;
        padding: 0 1; background: $surface; }
    HelpScreen VerticalScroll { height: auto; max-height: 100%; scrollbar-size: 1 1; }
    HelpScreen.block > Vertical { border: solid $accent; }
    HelpScreen.ascii > Vertical { border: ascii $accent; }
    HelpScreen.ascii VerticalScroll { scrollbar-size: 0 0; }
    HelpScreen InputLine { display: none; dock: bottom; padding: 0; background: $surface; }
    HelpScreen.asking InputLine { display: block; }
    """

    def __init__(self, level: GlyphLevel, parts: Parts) -> None:
        """`parts` are those of the screen below."""
        super().__init__(classes=level)
        self._level = level
        self._parts = parts
        self._words = ""

    def compose(self) -> ComposeResult:
        """The text, which scrolls where there is too little room."""
        keys = self.keys
        with Vertical() as box:
            box.border_title = (
                f"help: {keys.key_of('close')} closes, {keys.key_of('down')} and {keys.key_of('up')} scroll, "
                f"{keys.key_of('search')} searches"
            )
            with VerticalScroll(can_focus=False):
                yield Static()
            yield InputLine(self._level)

    def on_resize(self, _event: events.Resize) -> None:
        """Write the text for the width there is."""
        self._write()

    def _write(self) -> None:
        # Border, padding and scrollbar are not part of the width.
        text = help_text(min(78, self.size.width) - 5, with_words(self._parts, self._words))
        self.query_one(Static).update(Content(text or "No match"))

    @on(InputLine.Changed)
    def _typed(self, message: InputLine.Changed) -> None:
        self._words = message.text
        self._write()
        self.action_page(-10000)
        if type(message) is InputLine.Submitted:
            self._end_search()

    @on(InputLine.Cancelled)
    def _on_cancelled(self) -> None:
        self._words = ""
        self._write()
        self._end_search()

    def _end_search(self) -> None:
        self.remove_class("asking")
        self.set_focus(None)

    def action_search(self) -> None:
        """Show only what has certain words."""
        self.add_class("asking")
        self.query_one(InputLine).ask("Search:", self._words)

    def action_close(self) -> None:
        """Go back."""
        self.dismiss()

    def action_scroll(self, lines: int) -> None:
        """Scroll by lines, at once: a key that follows before the next frame starts from where this one led."""
        page = self.query_one(VerticalScroll)
        page.scroll_to(y=page.scroll_y + lines, animate=False, immediate=True, force=True)

    def action_page(self, pages: int) -> None:
        """Scroll by pages."""
        self.action_scroll(pages * max(1, self.query_one(VerticalScroll).size.height - 1))


def help_parts(screen: ScreenKeys, commands: Sequence[SlashCommand] = ()) -> Parts:
    """Keys, commands, mouse and words of a screen."""
    parts: list[tuple[str, Sequence[tuple[str, str]]]] = []
    if screen.has_prompt:
        parts += [
            ("In the prompt", PROMPT_KEYS),
            ("Anywhere", keys_in_words(screen.keys, typed=False)),
            (f"After {screen.key_of('leave_prompt')}, until {screen.key_of('enter_prompt')}",
             keys_in_words(screen.keys, typed=True)),
        ]  # fmt: skip
    else:
        parts.append((screen.title, keys_in_words(screen.keys)))
    if commands:
        parts.append(
            (
                "Commands, typed into the prompt",
                [(each.usage, each.description) for each in commands],
            )
        )
    parts.append(("Mouse", MOUSE))
    if screen.name == "replay":
        parts.append(("Words", REPLAY_WORDS))
    elif screen.name in WITH_PANES:
        parts.append(("Words", WORDS))
    return parts


WITH_PANES = frozenset({"live", "watch"})
"""Screens whose panes use those words."""


def with_words(parts: Parts, words: str) -> Parts:
    """What of `parts` has all of `words` in it; all of it for none."""
    wanted = words.lower().split()
    kept = (
        (title, [row for row in rows if all(word in " ".join(row).lower() for word in wanted)]) for title, rows in parts
    )
    return [(title, rows) for title, rows in kept if rows]


def help_text(width: int, parts: Parts) -> str:
    """Keys, commands and words as plain lines of `width` cells."""
    return "\n\n".join("\n".join([title, *_table(rows, width)]) for title, rows in parts)


def keys_in_words(keys: Iterable[KeyAction], *, typed: bool | None = None) -> list[tuple[str, str]]:
    """Keys as they are printed, and what they do; with `typed` only those that a prompt takes, or only the others."""
    rows = []
    for key in keys:
        named = [key_name(each) for each in key.keys if typed is None or prompt_takes(each) is typed]
        if named:
            rows.append(("  ".join(named), key.description))
    return rows


def _table(rows: Iterable[Sequence[str]], width: int) -> list[str]:
    lines: list[str] = []
    for term, does in rows:
        if width < NARROW_COLUMNS:
            lines += [f"  {term}", *(f"      {row.rstrip()}" for row in wrap(does, width - 6))]
        else:
            first, *others = (row.rstrip() for row in wrap(does, width - KEY_COLUMNS - 3))
            lines += [f"  {term:<{KEY_COLUMNS}} {first}", *(" " * (KEY_COLUMNS + 3) + row for row in others)]
    return lines


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
