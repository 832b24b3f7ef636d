"""What every application of edgetop is around its screens: themes, colours, signals, and how it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from typing import ClassVar

from textual.app import App, ReturnType
from textual.binding import Binding, BindingType

from edgetop.core.errors import EdgetopError
from edgetop.tui.themes import DEFAULT_THEME, QUIET, load_theme

HANGUP_GRACE_S = 3.0
"""After a hangup the terminal may not take the last bytes of the screen; what was to be kept is safe by then."""
COLOURLESS_MARKS = {"input-cursor-text-style": "reverse", "block-cursor-text-style": "reverse"}
"""How the cursor and the chosen row are told from the rest where there are no colours."""


class ThemedApp(App[ReturnType]):
    """An application in our themes, which ends in good order when it is told to by a signal."""

    TITLE = "edgetop"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+q", "quit", show=False)]

    def __init__(self, theme: str = DEFAULT_THEME) -> None:
        # Otherwise Textual understands NO_COLOR as shades of grey, and writes them as colours.
        super().__init__(ansi_color=True if os.environ.get("NO_COLOR") else None)
        chosen = load_theme(theme) or load_theme(DEFAULT_THEME)
        if chosen is not None:
            self.register_theme(chosen)
            self.theme = chosen.name

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Colours of our own for themes that are not ours."""
        return {QUIET: "#808080"}

    def get_css_variables(self) -> dict[str, str]:
        """The theme's, with what stands in for colours where there are none."""
        variables = super().get_css_variables()
        return {**variables, **COLOURLESS_MARKS} if self.no_color else variables

    def on_mount(self) -> None:
        """Hear signals."""
        if threading.current_thread() is threading.main_thread():
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGHUP):
                loop.add_signal_handler(number, self._on_signal)

    def run_to_end(self) -> None:
        """Run until the person quits. Raises EdgetopError when a defect of the screen ended it."""
        try:
            self.run()
        finally:
            kept = self.keep()
        if self.return_code:
            told = f"the screen has a defect and had to end{f'; {kept}' if kept else ''}"
            raise EdgetopError(told, "report it with what stands above")

    def keep(self) -> str:
        """Bring to safety what is to be kept, when the application ends; in words for a person where that is."""
        return ""

    def _on_signal(self) -> None:
        # First what is kept: a terminal that has hung up may keep the application from ending in good order.
        self.keep()
        grace = threading.Timer(HANGUP_GRACE_S, os._exit, (0,))
        grace.daemon = True
        grace.start()
        self.exit()
