"""The application around the screens: themes, signals, and the session's beginning and end."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.app import App
from textual.binding import Binding, BindingType

from edgetop.core.errors import EdgetopError
from edgetop.tui.glyphs import GlyphLevel, detect_level, without_coerced_locale
from edgetop.tui.launch_screen import LaunchScreen
from edgetop.tui.themes import DEFAULT_THEME, QUIET, load_theme, load_themes

if TYPE_CHECKING:
    from edgetop.inference.protocol import Report
    from edgetop.live.conversation import Notice
    from edgetop.live.live_session import LiveOptions, LiveSession
    from edgetop.session.store import Store
    from edgetop.tui.live_screen import LiveScreen

HANGUP_GRACE_S = 3.0
"""After a hangup the terminal may not take the last bytes of the screen; the session is safe by then."""
COLOURLESS_MARKS = {"input-cursor-text-style": "reverse", "block-cursor-text-style": "reverse"}
"""How the cursor and the chosen row are told from the rest where there are no colours."""


class EdgetopApp(App[None]):
    """Shows the live screen over one session.

    A frame is drawn first: engine, sensors and session take as long to import and start as the screen library itself.
    """

    TITLE = "edgetop"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+q", "quit", show=False)]

    def __init__(
        self,
        prepare: Callable[[], tuple[LiveOptions, Store]],
        *,
        model: Path | None,
        level: GlyphLevel,
        theme: str = DEFAULT_THEME,
        delay_s: float = 1.0,
        price: tuple[float, str] | None = None,
    ) -> None:
        # Otherwise Textual understands NO_COLOR as shades of grey, and writes them as colours.
        super().__init__(ansi_color=True if os.environ.get("NO_COLOR") else None)
        chosen = load_theme(theme) or load_theme(DEFAULT_THEME)
        if chosen is not None:
            self.register_theme(chosen)
            self.theme = chosen.name
        self.saved: Path | None = None
        """Where the session was saved, once it was."""
        self._prepare = prepare
        self._model = model
        self._level: GlyphLevel = level
        self._delay_s = delay_s
        self._price = price
        self._live: LiveSession | None = None
        self._live_screen: LiveScreen | None = None

    def action_interrupt(self) -> None:
        """Ctrl+C on a page over the live screen does what it does below."""
        if self._live_screen is not None:
            self._live_screen.action_interrupt()

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Colours of our own for themes that are not ours."""
        return {QUIET: "#808080"}

    def get_css_variables(self) -> dict[str, str]:
        """The theme's, with what stands in for colours where there are none."""
        variables = super().get_css_variables()
        return {**variables, **COLOURLESS_MARKS} if self.no_color else variables

    def on_mount(self) -> None:
        """Draw the frame, then start what it is for; save on signals."""
        self.push_screen(LaunchScreen())
        if threading.current_thread() is threading.main_thread():
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGHUP):
                loop.add_signal_handler(number, self._on_signal)
        self.call_after_refresh(self._start)

    def close_session(self) -> Path | None:
        """End engine and sampler and save the session, once. Raises StoreError."""
        live, self._live = self._live, None
        if live is not None:
            self.saved = live.close()
        return self.saved

    def _start(self) -> None:
        from edgetop.core.energy.supply import Price  # noqa: PLC0415 - after the first frame
        from edgetop.live.live_session import LiveSession  # noqa: PLC0415 - the same
        from edgetop.tui.live_screen import LiveScreen  # noqa: PLC0415 - the same

        options, store = self._prepare()
        self._live = LiveSession(options, store, self._hear)
        price = None if self._price is None else Price(per_kwh=self._price[0], currency=self._price[1])
        self._live_screen = LiveScreen(self._live, level=self._level, delay_s=self._delay_s, price=price)
        self.switch_screen(self._live_screen)
        for theme in load_themes():
            self.register_theme(theme)
        if self._model is not None:
            self._live_screen.call_after_refresh(self._live_screen.load, self._model, options.engine)
        else:
            self._live_screen.call_after_refresh(self._live_screen.action_choose_model)

    def _hear(self, said: Report | Notice) -> None:
        # While the session is closed its last reports come, and the widgets that would show them are gone.
        if self._live_screen is not None and self._live_screen.is_running:
            self._live_screen.hear(said)

    def _on_signal(self) -> None:
        # The session first: a terminal that has hung up may keep the application from ending in good order.
        self.close_session()
        grace = threading.Timer(HANGUP_GRACE_S, os._exit, (0,))
        grace.daemon = True
        grace.start()
        self.exit()


def run_screen(
    prepare: Callable[[], tuple[LiveOptions, Store]],
    *,
    model: Path | None,
    theme: str | None = None,
    level: GlyphLevel | None = None,
    delay_s: float = 1.0,
    price: tuple[float, str] | None = None,
) -> Path | None:
    """Run the live screen until the person quits; the path of the saved session, if it is kept.

    `prepare` gives the options and the store, and is called after the first frame. `model` of `None` opens the picker.
    `price` is that of a kilowatt-hour and its currency. Raises StoreError when the session could be written nowhere,
    and EdgetopError when the screen ended by a defect of its own.
    """
    app = EdgetopApp(
        prepare,
        model=model,
        level=level or detect_level(without_coerced_locale(os.environ)),
        theme=theme or DEFAULT_THEME,
        delay_s=delay_s,
        price=price,
    )
    try:
        app.run()
    finally:
        app.close_session()
    if app.return_code:
        kept = f"; the session is in {app.saved}" if app.saved is not None else ""
        raise EdgetopError(f"the screen has a defect and had to end{kept}", "report it with what stands above")
    return app.saved
