"""What every application of edgetop is around its screens: themes, colours, signals, and how it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from types import FrameType
from typing import ClassVar, NamedTuple

from textual.app import App, ReturnType
from textual.binding import Binding, BindingType
from textual.driver import Driver

from edgetop.core.errors import EdgetopError
from edgetop.tui.bindings import keymap
from edgetop.tui.key_tables import TABLES, KeyTables
from edgetop.tui.themes import DEFAULT_THEME, EDGE, QUIET, load_theme

HANGUP_GRACE_S = 3.0
"""After a hangup the terminal may not take the last bytes of the screen; what was to be kept is safe by then."""
COLOURLESS_MARKS = {"input-cursor-text-style": "reverse", "block-cursor-text-style": "reverse"}
"""How the cursor and the chosen row are told from the rest where there are no colours."""


class Controls(NamedTuple):
    """What the screens obey."""

    keys: KeyTables = TABLES
    """The keys of all screens, as the person has chosen them."""
    mouse: bool = True


OWN = Controls()
"""Where nobody has chosen otherwise."""


class ThemedApp(App[ReturnType]):
    """An application in our themes, which ends in good order when it is told to by a signal."""

    TITLE = "edgetop"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+q", "quit", show=False)]

    def __init__(self, theme: str = DEFAULT_THEME, controls: Controls = OWN) -> None:
        # Otherwise Textual understands NO_COLOR as shades of grey, and writes them as colours.
        super().__init__(ansi_color=True if os.environ.get("NO_COLOR") else None)
        chosen = load_theme(theme) or load_theme(DEFAULT_THEME)
        if chosen is not None:
            self.register_theme(chosen)
            self.theme = chosen.name
        self.ending = False
        """Told to end by a signal: nothing is to be shown any more."""
        self._keeping = threading.Lock()
        self.key_tables = controls.keys
        self._mouse = controls.mouse
        self.set_keymap(keymap(screen for name, screen in self.key_tables.items() if screen != TABLES[name]))

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Colours of our own for themes that are not ours."""
        return {QUIET: "#808080", EDGE: "#808080"}

    def get_css_variables(self) -> dict[str, str]:
        """The theme's, with what stands in for colours where there are none."""
        variables = super().get_css_variables()
        return {**variables, **COLOURLESS_MARKS} if self.no_color else variables

    def get_driver_class(self) -> type[Driver]:
        """Ours in place of the one that it stands on."""
        usual = super().get_driver_class()
        if usual.__name__ != "LinuxDriver":
            return usual
        from edgetop.tui.terminal_driver import TerminalDriver  # noqa: PLC0415 - not where there are no such terminals

        return TerminalDriver

    def on_mount(self) -> None:
        """Hear signals."""
        if threading.current_thread() is threading.main_thread():
            loop = asyncio.get_running_loop()

            def told_to_end(_number: int, _frame: FrameType | None) -> None:
                # A terminal that takes nothing any more holds the loop up, and with it everything that waits for it.
                grace = threading.Timer(HANGUP_GRACE_S, self._end_by_force)
                grace.daemon = True
                grace.start()
                loop.call_soon_threadsafe(self._end)

            for number in (signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, told_to_end)

    def run_to_end(self) -> None:
        """Run until the person quits. Raises EdgetopError when a defect of the screen ended it."""
        try:
            self.run(mouse=self._mouse)
        finally:
            kept = self.keep()
        if self.return_code:
            told = f"the screen has a defect and had to end{f'; {kept}' if kept else ''}"
            raise EdgetopError(told, "report it with what stands above")

    def keep(self) -> str:
        """Bring to safety what is to be kept, when the application ends; in words for a person where that is."""
        return ""

    def _end(self) -> None:
        """First what is kept: a terminal that has hung up may keep the application from ending in good order."""
        self._keep_silently()
        self.exit()

    def _end_by_force(self) -> None:
        self._keep_silently()
        os._exit(0)

    def _keep_silently(self) -> None:
        """Keep, without a word to the screen, which may be stuck; whoever comes second waits for the first."""
        self.ending = True
        with self._keeping:
            self.keep()
