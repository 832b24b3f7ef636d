"""The application around the live screen: the session's beginning and end."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from edgetop.tui.glyphs import GlyphLevel, detect_level, without_coerced_locale
from edgetop.tui.launch_screen import LaunchScreen
from edgetop.tui.remembered import Remembered, remembered_file
from edgetop.tui.themed_app import OWN, Controls, ThemedApp
from edgetop.tui.themes import DEFAULT_THEME, load_themes

if TYPE_CHECKING:
    from edgetop.inference.protocol import Report
    from edgetop.live.conversation import Notice
    from edgetop.live.live_session import LiveOptions, LiveSession
    from edgetop.session.store import Store
    from edgetop.settings.resolve import Settings
    from edgetop.tui.live_screen import LiveScreen


class EdgetopApp(ThemedApp[None]):
    """Shows the live screen over one session.

    A frame is drawn first: engine, sensors and session take as long to import and start as the screen library itself.
    """

    def __init__(
        self,
        prepare: Callable[[], tuple[LiveOptions, Store]],
        *,
        model: Path | None,
        level: GlyphLevel,
        theme: str = DEFAULT_THEME,
        delay_s: float = 1.0,
        price: tuple[float, str] | None = None,
        settings: Settings | None = None,
        controls: Controls = OWN,
        remembered: Remembered | None = None,
        goes_on_with: Path | None = None,
    ) -> None:
        """`goes_on_with` is the session whose conversation goes on; the rest is as for `run_screen`."""
        super().__init__(theme, controls)
        self._goes_on_with = goes_on_with
        self._remembered = remembered
        self.saved: Path | None = None
        """Where the session was saved, once it was."""
        self._prepare = prepare
        self._model = model
        self._level: GlyphLevel = level
        self._delay_s = delay_s
        self._price = price
        self._settings = settings
        self._live: LiveSession | None = None
        self._live_screen: LiveScreen | None = None

    def action_interrupt(self) -> None:
        """Ctrl+C on a page over the live screen does what it does below."""
        if self._live_screen is not None:
            self._live_screen.action_interrupt()

    def on_mount(self) -> None:
        """Draw the frame, then start what it is for."""
        self.push_screen(LaunchScreen())
        self.call_after_refresh(self._start)

    def close_session(self) -> Path | None:
        """End engine and sampler and save the session, once. Raises StoreError."""
        live, self._live = self._live, None
        if live is not None:
            self.saved = live.close()
        return self.saved

    def keep(self) -> str:
        """Save the session."""
        saved = self.close_session()
        return f"the session is in {saved}" if saved is not None else ""

    def _start(self) -> None:
        from edgetop.core.energy.supply import Price  # noqa: PLC0415 - after the first frame
        from edgetop.live.conversation import Notice  # noqa: PLC0415 - the same
        from edgetop.live.live_session import LiveSession  # noqa: PLC0415 - the same
        from edgetop.tui.first_run import welcome  # noqa: PLC0415 - the same
        from edgetop.tui.live_screen import LiveScreen  # noqa: PLC0415 - the same

        options, store = self._prepare()
        self._live = LiveSession(options, store, self._hear)
        price = None if self._price is None else Price(per_kwh=self._price[0], currency=self._price[1])
        self._live_screen = LiveScreen(
            self._live, level=self._level, delay_s=self._delay_s, price=price, remembered=self._remembered
        )
        self._live_screen.settings = self._settings
        self.switch_screen(self._live_screen)
        for theme in load_themes():
            self.register_theme(theme)
        if text := welcome(store, self._live_screen.keys):
            self._live_screen.call_after_refresh(self._live_screen.hear, Notice(text=text))
        if self._model is not None:
            settings = self._live.settings_for(self._model)
            self._live_screen.call_after_refresh(self._live_screen.load, self._model, settings)
        else:
            self._live_screen.call_after_refresh(self._live_screen.action_choose_model)
        if self._goes_on_with is not None:
            self._live_screen.call_after_refresh(self._live_screen.resume, self._goes_on_with)

    def _hear(self, said: Report | Notice) -> None:
        # While the session is closed its last reports come, and the widgets that would show them are gone.
        if not self.ending and self._live_screen is not None and self._live_screen.is_running:
            self._live_screen.hear(said)


def run_screen(
    prepare: Callable[[], tuple[LiveOptions, Store]],
    *,
    model: Path | None,
    theme: str | None = None,
    level: GlyphLevel | None = None,
    delay_s: float = 1.0,
    price: tuple[float, str] | None = None,
    settings: Settings | None = None,
    controls: Controls = OWN,
    goes_on_with: Path | None = None,
) -> Path | None:
    """Run the live screen until the person quits; the path of the saved session, if it is kept.

    Theme and glyphs that are not given are those that were chosen by key the last time.
    `prepare` gives the options and the store, and is called after the first frame. `model` of `None` opens the picker.
    `price` is that of a kilowatt-hour and its currency. `goes_on_with` is a session file. `settings` are
    what the settings page begins with. Raises StoreError when the session could be written nowhere, and EdgetopError
    when the screen ended by a defect of its own.
    """
    remembered = Remembered(remembered_file(), detect_level(without_coerced_locale(os.environ)))
    app = EdgetopApp(
        prepare,
        model=model,
        level=level or remembered.level,
        theme=theme or remembered.arrangement.theme or DEFAULT_THEME,
        delay_s=delay_s,
        price=price,
        settings=settings,
        controls=controls,
        remembered=remembered,
        goes_on_with=goes_on_with,
    )
    app.run_to_end()
    return app.saved
