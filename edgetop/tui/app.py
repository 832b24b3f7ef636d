"""The applications: chat, watch and one screen alone, on one base.

The base has themes, key remapping, signals, saving on exit, help and the palette.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, ClassVar, Generic, NamedTuple, TypeVar

from textual import events
from textual.app import App, ComposeResult, ReturnType
from textual.binding import Binding, BindingType
from textual.driver import Driver
from textual.screen import Screen, ScreenResultType

from edgetop.core.energy.duty import Price
from edgetop.core.errors import EdgetopError
from edgetop.core.text import one_line
from edgetop.io.files import FILE_SUFFIX
from edgetop.live.watch_session import WatchSession
from edgetop.session.store import Store
from edgetop.tui.glyphs import GlyphLevel, detect_level, without_coerced_locale
from edgetop.tui.keys import TABLES, KeyTables, ScreenKeys
from edgetop.tui.panes.column import LayoutStore, remembered_file
from edgetop.tui.screens.base import keymap
from edgetop.tui.screens.watch import WatchScreen
from edgetop.tui.styled_text import Span, line_of
from edgetop.tui.themes import DEFAULT_THEME, EDGE, QUIET, load_theme, load_themes
from edgetop.tui.widgets import LinesWidget

if TYPE_CHECKING:
    from edgetop.inference.protocol import Report
    from edgetop.live.chat_session import LiveOptions, LiveSession
    from edgetop.live.conversation import Notice
    from edgetop.settings.resolve import Settings
    from edgetop.tui.screens.live import LiveScreen


HANGUP_GRACE_S = 3.0
"""After a hangup the terminal may not take the last bytes of the screen; what was to be kept is safe by then."""

COLOURLESS_MARKS = {"input-cursor-text-style": "reverse", "block-cursor-text-style": "reverse"}
"""How the cursor and the chosen row are told from the rest where there are no colours."""


class InputOptions(NamedTuple):
    """What the screens obey."""

    keys: KeyTables = TABLES
    """The keys of all screens, as the person has chosen them."""
    mouse: bool = True


OWN = InputOptions()
"""Where nobody has chosen otherwise."""


class BaseApp(App[ReturnType]):
    """An application in our themes, which ends in good order when it is told to by a signal."""

    TITLE = "edgetop"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+q", "quit", show=False)]

    def __init__(self, theme: str = DEFAULT_THEME, controls: InputOptions = OWN) -> None:
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


Result = TypeVar("Result")

MakeScreen = Callable[[GlyphLevel], Screen[Result]]
"""Makes the screen, and imports it: the level of the glyphs is known then, and so is NO_COLOR."""


class SingleScreenApp(BaseApp[ScreenResultType], Generic[ScreenResultType]):
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
        controls: InputOptions = OWN,
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
    controls: InputOptions = OWN,
) -> Result | None:
    """Run a screen until it is dismissed or the person quits; what it was dismissed with, or `None`.

    `level` of `None` is what the terminal can draw. Keys that the screen does not bind: Ctrl+C, F10 and q quit. Raises
    EdgetopError when the screen ended by a defect of its own.
    """
    app = SingleScreenApp(
        make_screen,
        level=level or detect_level(without_coerced_locale(os.environ)),
        theme=theme or DEFAULT_THEME,
        controls=controls,
    )
    app.run_to_end()
    return app.return_value


TOLD_S = 10.0

Start = Callable[[Callable[[str], None]], WatchSession]
"""Starts the session; it tells of trouble with the recording through what it is given."""


class WatchApp(BaseApp[None]):
    """Shows the watch screen over one session."""

    def __init__(
        self,
        start: Start,
        *,
        level: GlyphLevel,
        theme: str = DEFAULT_THEME,
        delay_s: float = 1.0,
        price: Price | None = None,
        controls: InputOptions = OWN,
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
    controls: InputOptions = OWN,
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


class LaunchScreen(Screen[None]):
    """One line that says what this is and that it is coming."""

    DEFAULT_CSS = """
    LaunchScreen > LinesWidget { height: 100%; padding: 0 1; }
    """

    def compose(self) -> ComposeResult:
        """The line."""
        yield LinesWidget()

    def on_resize(self, _event: events.Resize) -> None:
        """Draw it as soon as there is a size."""
        self.query_one(LinesWidget).show_lines([line_of(Span("edgetop", "title"), Span("  starting", "dim"))])


class ChatApp(BaseApp[None]):
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
        controls: InputOptions = OWN,
        remembered: LayoutStore | None = None,
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
        from edgetop.core.energy.duty import Price  # noqa: PLC0415 - after the first frame
        from edgetop.live.chat_session import LiveSession  # noqa: PLC0415 - the same
        from edgetop.live.conversation import Notice  # noqa: PLC0415 - the same
        from edgetop.tui.screens.live import LiveScreen  # noqa: PLC0415 - the same

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
    controls: InputOptions = OWN,
    goes_on_with: Path | None = None,
) -> Path | None:
    """Run the live screen until the person quits; the path of the saved session, if it is kept.

    Theme and glyphs that are not given are those that were chosen by key the last time.
    `prepare` gives the options and the store, and is called after the first frame. `model` of `None` opens the picker.
    `price` is that of a kilowatt-hour and its currency. `goes_on_with` is a session file. `settings` are
    what the settings page begins with. Raises StoreError when the session could be written nowhere, and EdgetopError
    when the screen ended by a defect of its own.
    """
    remembered = LayoutStore(remembered_file(), detect_level(without_coerced_locale(os.environ)))
    app = ChatApp(
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


FILE_NAME = "welcomed"


def welcome(store: Store, keys: ScreenKeys) -> str:
    """What to know at first, and only once: empty where sessions were recorded, or where it has been said before."""
    file = _file()
    if file.exists() or any(store.folder.glob(f"*{FILE_SUFFIX}")):
        return ""
    with suppress(OSError):
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.touch()
    panes, theme, prompt = (keys.key_of(name) for name in ("leave_prompt", "next_theme", "enter_prompt"))
    return (
        "Type and press Enter, or type /help.\n"
        f"{panes}, then a key: {keys.key_of('zoom_pane')} zooms, {theme} changes colours; {prompt} types again.\n"
        f"{keys.key_of('help')} shows all keys, {keys.key_of('palette')} finds anything by its name."
    )


def _file() -> Path:
    from platformdirs import user_state_path  # noqa: PLC0415 - where tests look for it

    return user_state_path("edgetop", appauthor=False) / FILE_NAME
