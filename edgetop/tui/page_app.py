"""One screen as an application of its own: what `edgetop replay` or `edgetop compare` opens without a live session."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import ClassVar, Generic, TypeVar

from textual.binding import Binding, BindingType
from textual.screen import Screen, ScreenResultType

from edgetop.tui.glyphs import GlyphLevel, detect_level, without_coerced_locale
from edgetop.tui.themed_app import OWN, Controls, ThemedApp
from edgetop.tui.themes import DEFAULT_THEME, load_themes

Result = TypeVar("Result")
MakeScreen = Callable[[GlyphLevel], Screen[Result]]
"""Makes the screen, and imports it: the level of the glyphs is known then, and so is NO_COLOR."""


class PageApp(ThemedApp[ScreenResultType], Generic[ScreenResultType]):
    """Shows one screen, and ends with what that screen is dismissed with."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+c", "interrupt", show=False),
        Binding("f10,q", "quit", show=False),
    ]

    def __init__(
        self,
        make_screen: MakeScreen[ScreenResultType],
        *,
        level: GlyphLevel,
        theme: str = DEFAULT_THEME,
        controls: Controls = OWN,
    ) -> None:
        super().__init__(theme, controls)
        self._make_screen = make_screen
        self._level: GlyphLevel = level

    def on_mount(self) -> None:
        """Open the screen."""
        self.push_screen(self._make_screen(self._level), self.exit)
        for theme in load_themes():
            self.register_theme(theme)

    def action_interrupt(self) -> None:
        """Ctrl+C has nothing to stop here, so it quits."""
        self.exit()


def run_page(
    make_screen: MakeScreen[Result],
    *,
    theme: str | None = None,
    level: GlyphLevel | None = None,
    controls: Controls = OWN,
) -> Result | None:
    """Run a screen until it is dismissed or the person quits; what it was dismissed with, or `None`.

    `level` of `None` is what the terminal can draw. Keys that the screen does not bind: Ctrl+C, F10 and q quit. Raises
    EdgetopError when the screen ended by a defect of its own.
    """
    app = PageApp(
        make_screen,
        level=level or detect_level(without_coerced_locale(os.environ)),
        theme=theme or DEFAULT_THEME,
        controls=controls,
    )
    app.run_to_end()
    return app.return_value
