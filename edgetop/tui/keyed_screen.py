"""A screen whose keys come from a table: help and palette are made of the same one, as the person has changed it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.screen import Screen, ScreenResultType

from edgetop.tui.glyphs import GlyphLevel
from edgetop.tui.key_tables import TABLES
from edgetop.tui.keymap import ScreenKeys
from edgetop.tui.slash import SlashCommand
from edgetop.tui.widgets.key_bar import KeyBar


class KeyedScreen(Screen[ScreenResultType]):
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
        from edgetop.tui.help_screen import HelpScreen, help_parts  # noqa: PLC0415 - the help is such a screen, too

        self.app.push_screen(HelpScreen(self._level, help_parts(self.keys, self.SLASH_COMMANDS)))

    def action_palette(self) -> None:
        """Let the person find an action by typing, and do it."""
        from edgetop.tui.palette_screen import PaletteScreen  # noqa: PLC0415 - the palette is such a screen, too

        self.app.push_screen(PaletteScreen(self._level, self.keys, self.SLASH_COMMANDS), self._do)

    def run_command(self, command: SlashCommand) -> None:
        """Carry out one of `SLASH_COMMANDS`."""
        raise NotImplementedError(command.name)

    def _do(self, chosen: str | SlashCommand | None) -> None:
        if isinstance(chosen, SlashCommand):
            self.run_command(chosen)
        elif chosen is not None:
            self.call_next(self.run_action, chosen)
