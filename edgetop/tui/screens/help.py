"""Keys, commands and words of the screen below, from its tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from edgetop.live.chat_commands import SlashCommand
from edgetop.tui.glyphs import GlyphLevel
from edgetop.tui.keys import HELP, PROMPT_KEYS, KeyAction, ScreenKeys, key_name, prompt_takes
from edgetop.tui.screens.base import BaseScreen
from edgetop.tui.styled_text import wrap
from edgetop.tui.widgets import InputLine

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
