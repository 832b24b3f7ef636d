"""The application around the watch screen: the session's beginning and end."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from edgetop.core.energy.supply import Price
from edgetop.core.text import one_line
from edgetop.live.watch_session import WatchSession
from edgetop.tui.glyphs import GlyphLevel, detect_level, without_coerced_locale
from edgetop.tui.themed_app import OWN, Controls, ThemedApp
from edgetop.tui.themes import DEFAULT_THEME, load_themes
from edgetop.tui.watch_screen import WatchScreen

TOLD_S = 10.0
Start = Callable[[Callable[[str], None]], WatchSession]
"""Starts the session; it tells of trouble with the recording through what it is given."""


class WatchApp(ThemedApp[None]):
    """Shows the watch screen over one session."""

    def __init__(
        self,
        start: Start,
        *,
        level: GlyphLevel,
        theme: str = DEFAULT_THEME,
        delay_s: float = 1.0,
        price: Price | None = None,
        controls: Controls = OWN,
    ) -> None:
        super().__init__(theme, controls)
        self.saved: Path | None = None
        """Where the session was saved, once it was."""
        self._watch: WatchSession | None = start(self._tell)
        self._watch_screen = WatchScreen(self._watch, level=level, delay_s=delay_s, price=price)

    def on_mount(self) -> None:
        """Open the screen."""
        self.push_screen(self._watch_screen)
        for theme in load_themes():
            self.register_theme(theme)

    def action_interrupt(self) -> None:
        """Ctrl+C has nothing to stop here, so it quits."""
        self.exit()

    def keep(self) -> str:
        """Save the session, once."""
        watch, self._watch = self._watch, None
        if watch is not None:
            self.saved = watch.close()
        return f"the session is in {self.saved}" if self.saved is not None else ""

    def _tell(self, text: str) -> None:
        if self.is_running and not self.ending:
            self.notify(one_line(text), severity="warning", timeout=TOLD_S, markup=False)


def run_watch(
    start: Start,
    *,
    theme: str | None = None,
    level: GlyphLevel | None = None,
    delay_s: float = 1.0,
    price: Price | None = None,
    controls: Controls = OWN,
) -> Path | None:
    """Run the watch screen until the person quits; the path of the saved session, if it is kept.

    Raises StoreError when the session could be written nowhere, and EdgetopError when the screen ended by a defect.
    """
    app = WatchApp(
        start,
        level=level or detect_level(without_coerced_locale(os.environ)),
        theme=theme or DEFAULT_THEME,
        delay_s=delay_s,
        price=price,
        controls=controls,
    )
    app.run_to_end()
    return app.saved
