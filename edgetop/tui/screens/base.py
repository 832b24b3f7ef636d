"""`BaseScreen`: bindings made from its key table, theme, glyphs, screenshot."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding
from textual.screen import Screen, ScreenResultType

from edgetop.tui.keys import TABLES, ScreenKeys
from edgetop.tui.themes import LEVELS, GlyphLevel, next_theme
from edgetop.tui.widgets import KeyBar

if TYPE_CHECKING:
    from edgetop.live.chat_commands import SlashCommand


class BaseScreen(Screen[ScreenResultType]):
    """A screen names its key table in `TABLE`; its bindings are made from that."""

    TABLE: ClassVar[ScreenKeys]
    KEYS_FIRST: ClassVar[bool] = False
    """The screen has its keys before the widget that has the focus, and not after it."""
    SLASH_COMMANDS: ClassVar[Sequence[SlashCommand]] = ()
    """What can be typed behind a slash here."""
    _level: GlyphLevel

    def __init_subclass__(cls, **options: bool) -> None:
        if "TABLE" in vars(cls):
            cls.BINDINGS = [*bindings(cls.TABLE, first=cls.KEYS_FIRST)]
        super().__init_subclass__(**options)

    @property
    def keys(self) -> ScreenKeys:
        """The table with the keys that the user has chosen."""
        tables = getattr(self.app, "key_tables", TABLES)
        keys: ScreenKeys = tables.get(self.TABLE.name, self.TABLE)
        return keys

    @property
    def level(self) -> GlyphLevel:
        """The glyphs that it is drawn with."""
        return self._level

    @property
    def can_draw(self) -> bool:
        """Whether every widget is there: a screen that closes loses them from its last line up."""
        return self.is_mounted and any(isinstance(child, KeyBar) for child in self.children) and self.size.width > 0

    @property
    def help_notes(self) -> Sequence[tuple[str, Sequence[tuple[str, str]]]]:
        """What stands above the keys in the help: headings, and below each the terms and what they mean."""
        return ()

    def run_command(self, command: SlashCommand) -> None:
        """Run one of `SLASH_COMMANDS`."""
        raise NotImplementedError(command.name)

    def set_level(self, level: GlyphLevel) -> None:
        """Draw with other glyphs."""
        self._level = level
        self.remove_class(*LEVELS).add_class(level)

    def clear_draft(self) -> bool:
        """Clear what was typed and not sent; whether there was anything."""
        return False

    def notify_text(self, text: str) -> None:
        """Show a message that goes away by itself."""
        self.app.notify(text, timeout=NOTICE_S, markup=False)

    def action_next_theme(self) -> None:
        """Change to the next theme."""
        next_theme(self.app)

    def action_next_glyphs(self) -> None:
        """Change between braille, block and ASCII."""
        self.set_level(LEVELS[(LEVELS.index(self._level) + 1) % len(LEVELS)])

    def action_screenshot(self) -> None:
        """Save what is on the screen as SVG in the working folder."""
        try:
            self.notify_text(f"The screen is saved as {self.app.save_screenshot()}.")
        except OSError as error:
            self.notify_text(f"The picture could not be saved: {error.strerror}.")


NOTICE_S = 6.0

NO_KEY = "no_key"
"""A key that no terminal sends. Every action has it, too: Textual leaves out keys that the prompt would type before it
looks for what is to get another key, and would not find an action that had only such keys."""


def bindings(screen: ScreenKeys, *, first: bool = False) -> list[Binding]:
    """The bindings of a screen's table.

    A widget that has the focus, such as the prompt, gets each key before them; with `first` it gets what they leave.
    """
    return [
        Binding(",".join((*key.keys, NO_KEY)), key.action, show=False, priority=first, id=_identity(screen, key.name))
        for key in screen.keys
    ]


def keymap(screens: Iterable[ScreenKeys]) -> dict[str, str]:
    """The tables for `App.set_keymap`, where they differ from those that the screens were made with."""
    return {_identity(screen, key.name): ",".join(key.keys) or NO_KEY for screen in screens for key in screen.keys}


def _identity(screen: ScreenKeys, name: str) -> str:
    return f"{screen.name}.{name}"
