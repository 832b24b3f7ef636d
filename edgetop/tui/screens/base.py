"""`BaseScreen`: bindings made from its key table, theme, glyphs, screenshot."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual.binding import Binding
from textual.screen import Screen, ScreenResultType

from edgetop.tui.chat.slash_commands import SlashCommand
from edgetop.tui.glyphs import GlyphLevel
from edgetop.tui.keys import TABLES, ScreenKeys
from edgetop.tui.widgets import KeyBar


class BaseScreen(Screen[ScreenResultType]):
    """Name the table in the class; `BINDINGS` are to be `bindings` of the same."""

    TABLE: ClassVar[ScreenKeys]
    SLASH_COMMANDS: ClassVar[Sequence[SlashCommand]] = ()
    """What can be typed behind a slash here."""
    _level: GlyphLevel

    @property
    def keys(self) -> ScreenKeys:
        """The table with the keys that the person has chosen."""
        tables = getattr(self.app, "key_tables", TABLES)
        keys: ScreenKeys = tables.get(self.TABLE.name, self.TABLE)
        return keys

    @property
    def is_whole(self) -> bool:
        """Whether everything is there to be drawn on: a screen is taken apart from its last line up while it closes."""
        return self.is_mounted and any(isinstance(child, KeyBar) for child in self.children) and self.size.width > 0

    def action_help(self) -> None:
        """Show what the keys do."""
        from edgetop.tui.screens.help import HelpScreen, help_parts  # noqa: PLC0415 - the help is such a screen, too

        self.app.push_screen(HelpScreen(self._level, help_parts(self.keys, self.SLASH_COMMANDS)))

    def action_palette(self) -> None:
        """Let the person find an action by typing, and do it."""
        from edgetop.tui.screens.palette import PaletteScreen  # noqa: PLC0415 - the palette is such a screen, too

        self.app.push_screen(PaletteScreen(self._level, self.keys, self.SLASH_COMMANDS), self._do)

    def run_command(self, command: SlashCommand) -> None:
        """Carry out one of `SLASH_COMMANDS`."""
        raise NotImplementedError(command.name)

    def _do(self, chosen: str | SlashCommand | None) -> None:
        if isinstance(chosen, SlashCommand):
            self.run_command(chosen)
        elif chosen is not None:
            self.call_next(self.run_action, chosen)


NO_KEY = "no_key"
"""A key that no terminal sends. Every action has it, too: Textual leaves out keys that the prompt would type before it
looks for what is to get another key, and would not find an action that had only such keys."""


def bindings(screen: ScreenKeys, *, first: bool = False) -> list[Binding]:
    """A screen's table for its `BINDINGS`.

    A widget that has the keyboard, such as the prompt, has each key before them; with `first` it has what they leave.
    """
    return [
        Binding(",".join((*key.keys, NO_KEY)), key.action, show=False, priority=first, id=_identity(screen, key.name))
        for key in screen.keys
    ]


def keymap(screens: Iterable[ScreenKeys]) -> dict[str, str]:
    """The same tables for `App.set_keymap`, where they are other ones than the screens were made with."""
    return {_identity(screen, key.name): ",".join(key.keys) or NO_KEY for screen in screens for key in screen.keys}


def _identity(screen: ScreenKeys, name: str) -> str:
    return f"{screen.name}.{name}"
