"""Keys, commands and words of the screen, made from the tables that define them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from edgetop.tui.glyphs import GlyphLevel
from edgetop.tui.keymap import KEYS, PAGE_KEYS, PROMPT_KEYS, KeyAction, key_name
from edgetop.tui.slash import COMMANDS
from edgetop.tui.wrap import wrap

WORDS: tuple[tuple[str, str], ...] = (
    ("n/a", "cannot be had on this machine; edgetop doctor says why, and what would give it"),
    ("prefill, decode", "reading the prompt, writing the answer"),
    ("p50 p95 p99", "so many of 100 gaps between tokens were shorter"),
    ("weights, kv", "the model itself, and its memory of the conversation (key-value cache)"),
    ("compute, rest", "buffers to compute in, and all else the engine's process holds"),
    ("disk reads", "parts of the model that had to be read from the disk again (major page faults)"),
    ("gross, net", "all energy drawn, and what is left without the idle power"),
    ("A B C D", "beside joules: how far a figure of energy can be trusted"),
)
"""Words that the panes have no room to explain."""
Parts = Sequence[tuple[str, Sequence[tuple[str, str]]]]
"""Headings, and below each what is explained and how."""
KEY_COLUMNS = 20
NARROW_COLUMNS = 50
"""Below this the explanation stands below the key, not beside it."""


class HelpScreen(ModalScreen[None]):
    """A page over the live screen; any of its keys closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,f1,h,question_mark,enter", "close", "close"),
        *PAGE_KEYS,
        Binding("j,down", "scroll(1)", show=False),
        Binding("k,up", "scroll(-1)", show=False),
        Binding("pagedown,space", "page(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("end,G", "page(10000)", show=False),
        Binding("home,g", "page(-10000)", show=False),
    ]
    DEFAULT_CSS = """
    HelpScreen { align: center middle; }
    HelpScreen > VerticalScroll { width: 78; max-width: 100%; height: auto; max-height: 100%; border: round $accent;
        padding: 0 1; background: $surface; scrollbar-size: 1 1; }
    HelpScreen.block > VerticalScroll { border: solid $accent; }
    HelpScreen.ascii > VerticalScroll { border: ascii $accent; scrollbar-size: 0 0; }
    """

    def __init__(self, level: GlyphLevel, parts: Parts | None = None) -> None:
        """`parts` are those of another page than the live screen."""
        super().__init__(classes=level)
        self._parts = LIVE_PARTS if parts is None else parts

    def compose(self) -> ComposeResult:
        """The text, which scrolls where there is too little room."""
        with VerticalScroll(can_focus=False) as page:
            page.border_title = "help: Esc closes, j and k scroll"
            yield Static()

    def on_resize(self, event: events.Resize) -> None:
        """Write the text for the width there is: border, padding and scrollbar are not part of it."""
        self.query_one(Static).update(Content(help_text(min(78, event.size.width) - 5, self._parts)))

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


def help_text(width: int, parts: Parts) -> str:
    """Keys, commands and words as plain lines of `width` cells."""
    return "\n\n".join("\n".join([title, *_table(rows, width)]) for title, rows in parts)


def keys_in_words(keys: Iterable[KeyAction]) -> list[tuple[str, str]]:
    """Keys as they are printed, and what they do."""
    return [("  ".join(map(key_name, key.keys)), key.does) for key in keys]


def _table(rows: Iterable[Sequence[str]], width: int) -> list[str]:
    lines: list[str] = []
    for term, does in rows:
        if width < NARROW_COLUMNS:
            lines += [f"  {term}", *(f"      {row.rstrip()}" for row in wrap(does, width - 6))]
        else:
            first, *others = (row.rstrip() for row in wrap(does, width - KEY_COLUMNS - 3))
            lines += [f"  {term:<{KEY_COLUMNS}} {first}", *(" " * (KEY_COLUMNS + 3) + row for row in others)]
    return lines


LIVE_PARTS: Parts = (
    ("In the prompt", PROMPT_KEYS),
    ("Anywhere", keys_in_words(key for key in KEYS if key.mode == "always")),
    ("After Esc, until i or Enter", keys_in_words(key for key in KEYS if key.mode == "panes")),
    ("Commands, typed into the prompt", [(f"/{each.name} {each.argument}", each.does) for each in COMMANDS]),
    ("Words", WORDS),
)
