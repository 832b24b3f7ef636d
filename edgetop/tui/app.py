"""The applications: chat, watch and one screen alone, on one base.

The base has themes, key remapping, signals, saving on exit, help and the palette. A frame is drawn first: engine,
sensors and session take as long to import and start as the screen library itself.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, ClassVar, Generic, NamedTuple, Protocol, TypeVar

import platformdirs
from textual import events
from textual.app import ComposeResult, ReturnType
from textual.binding import Binding, BindingType
from textual.driver import Driver
from textual.screen import Screen, ScreenResultType

from edgetop.core.errors import EdgetopError, UsageError
from edgetop.core.text import one_line
from edgetop.io.files import FILE_SUFFIX
from edgetop.io.log import where_trace
from edgetop.io.terminal import Writer, wait_for_foreground
from edgetop.tui.keys import TABLES, KeyTables, ScreenKeys
from edgetop.tui.styled_text import Span, line_of
from edgetop.tui.terminal_driver import BrowserDriver, TerminalApp, TerminalDriver
from edgetop.tui.themes import (
    DEFAULT_THEME,
    EDGE,
    QUIET,
    GlyphLevel,
    default_theme,
    detect_level,
    load_theme,
    load_themes,
    without_coerced_locale,
)
from edgetop.tui.widgets import BaseScreen, LinesWidget, keymap

if TYPE_CHECKING:
    from edgetop.core.energy.duty import Price
    from edgetop.inference.protocol import Report
    from edgetop.live.chat_commands import SlashCommand
    from edgetop.live.chat_session import LiveOptions, LiveSession
    from edgetop.live.conversation import Notice
    from edgetop.live.fleet import FleetSession
    from edgetop.live.live_session import Recorder, WatchSession
    from edgetop.session.store import Store
    from edgetop.settings.resolve import Settings
    from edgetop.tui.panes.column import LayoutStore
    from edgetop.tui.screens.live import LiveScreen


END_GRACE_S = 3.0
"""How long after a signal the application may take to end in good order; then it is ended by force."""

LAST_WORDS_S = 1.0
"""How long the end by force waits for whoever reads what it says."""

COLOURLESS_MARKS = {"input-cursor-text-style": "reverse", "block-cursor-text-style": "reverse"}
"""What marks the cursor and the chosen row where there are no colours."""

WARNING_S = 10.0

QUITTING_EARLY = frozenset({"ctrl+c", "ctrl+q", "f10"})
"""Keys that end edgetop before its screen stands."""

QUIT_AGAIN_S = 3.0
"""Within this time a second Ctrl+C quits."""

FOCUS_WAIT_S = 0.02
"""The focus of a new screen comes a few messages after the screen."""

Result = TypeVar("Result")
MakeScreen = Callable[[GlyphLevel], Screen[Result]]
"""Makes the screen, and imports it: the level of the glyphs is known then, and so is NO_COLOR."""


class Display(NamedTuple):
    """How screens are drawn, and what they get from the user."""

    level: GlyphLevel | None = None
    """`None` for the best that the terminal can draw."""
    theme: str | None = None
    delay_s: float = 1.0
    price: Price | None = None
    keys: KeyTables = TABLES
    """The keys of all screens, as the user has chosen them."""
    mouse: bool = True


USUAL_DISPLAY = Display()


class Closable(Protocol):
    """A session that is saved when it is closed."""

    recorder: Recorder

    def close(self) -> Path | None:
        """End it; the file that it was saved in, where it is recorded. Raises StoreError."""


class BaseApp(TerminalApp[ReturnType]):
    """An application with edgetop's themes and keys, which saves its session however it ends."""

    TITLE = "edgetop"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+q", "quit", show=False)]

    def __init__(self, display: Display = USUAL_DISPLAY) -> None:
        # Otherwise Textual takes NO_COLOR for shades of grey, and writes them as colours.
        super().__init__(ansi_color=True if os.environ.get("NO_COLOR") else None)
        chosen = load_theme(display.theme or default_theme(os.environ)) or load_theme(DEFAULT_THEME)
        if chosen is not None:
            self.register_theme(chosen)
            self.theme = chosen.name
        self.ending = False
        """A signal has come: nothing is to be shown any more."""
        self.signal_code = 0
        """128 + the number of the signal that ends it, SIGINT among them; Ctrl+C on the terminal is a key."""
        self.saved: Path | None = None
        """Where the session was saved, once it was."""
        self.why_not = ""
        """Why it is not in the file that was asked for."""
        self.key_tables = display.keys
        self._level: GlyphLevel = display.level or terminal_level()
        self._session: Closable | None = None
        self._saving = threading.Lock()
        self._loop_of_signals: asyncio.AbstractEventLoop | None = None
        self._mouse = display.mouse
        self._quit_asked_s = -QUIT_AGAIN_S
        """When Ctrl+C last had nothing to stop and to clear."""
        self.set_keymap(keymap(screen for name, screen in self.key_tables.items() if screen != TABLES[name]))

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Colours of edgetop's own variables for themes of others."""
        return {QUIET: "#808080", EDGE: "#808080"}

    def get_css_variables(self) -> dict[str, str]:
        """Those of the theme, with marks in place of colours where there are none."""
        variables = super().get_css_variables()
        return {**variables, **COLOURLESS_MARKS} if self.no_color else variables

    def get_driver_class(self) -> type[Driver]:
        """Edgetop's drivers in place of Textual's for Linux and for browsers."""
        usual = super().get_driver_class()
        return {"LinuxDriver": TerminalDriver, "WebDriver": BrowserDriver}.get(usual.__name__, usual)

    def on_mount(self) -> None:
        """Follow a signal that has come while the application started."""
        self._loop_of_signals = asyncio.get_running_loop()
        if self.signal_code:
            self.exit()

    def _handle_signals(self) -> None:
        def on_signal(number: int, _frame: FrameType | None) -> None:
            self.ending = True
            if self.signal_code:
                return
            self.signal_code = 128 + number
            # Whatever keeps the application from ending in good order.
            grace = threading.Timer(END_GRACE_S, self._end_by_force)
            grace.daemon = True
            grace.start()
            if self._loop_of_signals is not None:
                with suppress(RuntimeError):  # it has ended
                    self._loop_of_signals.call_soon_threadsafe(self.exit)

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, on_signal)

    def register_all_themes(self) -> None:
        """Make every theme available; the chosen one has been from the beginning, since a frame is drawn first."""
        for theme in load_themes():
            self.register_theme(theme)

    def run_to_end(self) -> None:
        """Run until the user quits; what is started in the background waits until it is in the foreground.

        Raises UsageError where that cannot be, StoreError unsaved, and what ended the screen against the user's will.
        """
        if not wait_for_foreground():
            raise UsageError("the screen needs a terminal, and this job is in its background", "start it without &")
        self._handle_signals()
        try:
            self.run(mouse=self._mouse)
        finally:
            saved = self.save_session()
        if self.failure is not None and not self.signal_code:
            if isinstance(self.failure, EdgetopError | OSError | MemoryError):
                raise self.failure
            where = f"; the session is in {saved}" if saved is not None else ""
            what = f"{type(self.failure).__name__}: {self.failure}"
            raise EdgetopError(f"internal error, please report it: {what}{where}", where_trace())

    def save_session(self) -> Path | None:
        """End the session and save it, once; the file, where it is recorded. Raises StoreError."""
        with self._saving:
            session, self._session = self._session, None
            if session is not None:
                self.saved = session.close()
                self.why_not = session.recorder.why_not
            return self.saved

    def warn(self, text: str) -> None:
        """Show a warning over the screen."""
        if self.is_running and not self.ending:
            self.notify(one_line(text), severity="warning", timeout=WARNING_S, markup=False)

    def action_interrupt(self) -> None:
        """Ctrl+C has nothing to stop: it clears what is typed, else quits on the second press."""
        screen, now_s = self.screen, time.monotonic()
        if isinstance(screen, BaseScreen) and screen.clear_draft():
            return
        if now_s - self._quit_asked_s < QUIT_AGAIN_S:
            self.exit()
            return
        self._quit_asked_s = now_s
        key = screen.keys.key_of("interrupt") if isinstance(screen, BaseScreen) else "Ctrl+C"
        saved = "; what was recorded is saved" if self._session is not None else ""
        self.notify(f"{key} again quits{saved}.", timeout=QUIT_AGAIN_S, markup=False)

    def action_help(self) -> None:
        """Show what the keys of the screen do."""
        from edgetop.tui.screens.help import HelpScreen, help_parts  # noqa: PLC0415 - after the first frame

        screen = self.screen
        if isinstance(screen, BaseScreen):
            parts = [*screen.help_notes, *help_parts(screen.keys, screen.SLASH_COMMANDS)]
            self.push_screen(HelpScreen(screen.level, parts))

    def action_palette(self) -> None:
        """Find an action or a command of the screen by typing, and run it."""
        from edgetop.tui.screens.help import PaletteScreen  # noqa: PLC0415 - after the first frame

        screen = self.screen
        if not isinstance(screen, BaseScreen):
            return

        def run(chosen: str | SlashCommand | None) -> None:
            if isinstance(chosen, str):
                screen.call_next(screen.run_action, chosen)
            elif chosen is not None:
                screen.run_command(chosen)

        self.push_screen(PaletteScreen(screen.level, screen.keys, screen.SLASH_COMMANDS), run)

    def _end_by_force(self) -> None:
        """Restore the terminal, save, and end, whatever the main thread hangs in; while it saves, it is waited for."""
        if isinstance(self._driver, TerminalDriver):
            self._driver.restore_terminal()
        main_saves = self._saving.locked() or self._session is None
        code, words = self.signal_code, ""
        try:
            saved = self.save_session()
        except Exception as error:  # noqa: BLE001 - it is reported
            code, words = 1, f"edgetop: {one_line(str(error))}"
        else:
            if saved is not None:
                words = f"session: {saved}{self.why_not and ', '}{self.why_not}"
            code = 1 if self.why_not else code
        if main_saves:
            time.sleep(END_GRACE_S)
        elif words:
            last = Writer()
            last.put(2, f"{words}\n".encode(errors="replace"))
            last.drain(LAST_WORDS_S)
        os._exit(code)


def terminal_level() -> GlyphLevel:
    """The best glyphs that the terminal can draw."""
    return detect_level(without_coerced_locale(os.environ))


class SingleScreenApp(BaseApp[ScreenResultType], Generic[ScreenResultType]):
    """Shows one screen, and ends with what it is dismissed with. What the screen leaves of Ctrl+C, F10 and q quits."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+c", "interrupt", show=False),
        Binding("f10,q", "quit", show=False),
    ]

    def __init__(self, make_screen: MakeScreen[ScreenResultType], display: Display = USUAL_DISPLAY) -> None:
        super().__init__(display)
        self._make_screen = make_screen

    def on_mount(self) -> None:
        """Open the screen."""
        self.push_screen(self._make_screen(self._level), self.exit)
        self.register_all_themes()


class LaunchScreen(Screen[None]):
    """The first frame: one line that says what is starting."""

    DEFAULT_CSS = """
    LaunchScreen > LinesWidget { height: 100%; padding: 0 1; }
    """

    def compose(self) -> ComposeResult:
        """The line."""
        yield LinesWidget()

    def on_resize(self, _event: events.Resize) -> None:
        """Draw it as soon as there is a size."""
        self.query_one(LinesWidget).show_lines([line_of(Span("edgetop", "title"), Span("  starting", "dim"))])


class WatchApp(BaseApp[None]):
    """Shows the watch screen over one session."""

    def __init__(
        self, start: Callable[[Callable[[str], None]], WatchSession | FleetSession], display: Display = USUAL_DISPLAY
    ) -> None:
        """`start` starts the session, and gives it what warns of trouble with the recording."""
        from edgetop.tui.screens.watch import screen_of  # noqa: PLC0415 - few applications need it

        super().__init__(display)
        watch = start(self.warn)
        self._session = watch
        self._watch_screen = screen_of(watch, level=self._level, delay_s=display.delay_s, price=display.price)

    def on_mount(self) -> None:
        """Open the screen."""
        self.push_screen(self._watch_screen)
        self.register_all_themes()


class ChatApp(BaseApp[None]):
    """Shows the live screen over one session, which is started after the first frame."""

    def __init__(
        self,
        prepare: Callable[[], tuple[LiveOptions, Store]],
        *,
        model: Path | None,
        display: Display = USUAL_DISPLAY,
        settings: Settings | None = None,
        layout_store: LayoutStore | None = None,
        resume_from: Path | None = None,
    ) -> None:
        """As for `run_chat`."""
        super().__init__(display)
        self._prepare = prepare
        self._model = model
        self._chosen_display = display
        self._settings = settings
        self._layout_store = layout_store
        self._resume_from = resume_from
        self._live_screen: LiveScreen | None = None
        self._typed_early: list[events.Key | events.Paste] | None = []
        """What was typed before the live screen stood; `None` once it has been given that."""

    async def on_event(self, event: events.Event) -> None:
        """Keep what is typed before there is a prompt for it."""
        if self._typed_early is None or not isinstance(event, events.Key | events.Paste) or event.is_forwarded:
            await super().on_event(event)
        elif isinstance(event, events.Key) and event.key in QUITTING_EARLY:
            self.exit()
        else:
            self._typed_early.append(event)

    async def _replay_typed(self) -> None:
        """Give the screen that stands now what was typed before."""
        if not self.screen_stack:
            return  # it has ended before
        if self.screen is self._live_screen and self.focused is None:
            self.set_timer(FOCUS_WAIT_S, self._replay_typed)
            return
        typed, self._typed_early = self._typed_early or [], None
        for event in typed:
            await super().on_event(event)

    def action_interrupt(self) -> None:
        """Ctrl+C stops what the live screen does, whatever lies over it."""
        if self._live_screen is None or not self._live_screen.interrupt():
            super().action_interrupt()

    def on_mount(self) -> None:
        """Draw the frame, then start what it is for."""
        self.push_screen(LaunchScreen())
        self.call_after_refresh(self._start)

    def _start(self) -> None:
        from edgetop.live.chat_session import LiveSession  # noqa: PLC0415 - after the first frame
        from edgetop.live.conversation import Notice  # noqa: PLC0415 - the same

        options, store = self._prepare()
        live = LiveSession(options, store, self._on_engine_event)
        self._session = live
        screen = self._open_live_screen(live)
        if text := welcome(store, screen.keys):
            screen.call_after_refresh(screen.on_engine_event, Notice(text=text))
        if self._model is not None:
            screen.call_after_refresh(screen.load, self._model, live.settings_for(self._model))
        else:
            screen.call_after_refresh(screen.action_choose_model)
        if self._resume_from is not None:
            screen.call_after_refresh(screen.resume, self._resume_from)
        screen.call_after_refresh(self.call_next, self._replay_typed)

    def _open_live_screen(self, live: LiveSession) -> LiveScreen:
        from edgetop.tui.screens.live import LiveScreen  # noqa: PLC0415 - after the first frame

        display = self._chosen_display
        screen = LiveScreen(
            live, level=self._level, delay_s=display.delay_s, price=display.price, layout_store=self._layout_store
        )
        screen.settings = self._settings
        self._live_screen = screen
        self.switch_screen(screen)
        self.register_all_themes()
        return screen

    def _on_engine_event(self, event: Report | Notice) -> None:
        # While the session is closed its last reports come, and the widgets that would show them are gone.
        if not self.ending and self._live_screen is not None and self._live_screen.is_running:
            self._live_screen.on_engine_event(event)


def run_chat(
    prepare: Callable[[], tuple[LiveOptions, Store]],
    *,
    model: Path | None,
    display: Display,
    settings: Settings | None = None,
    resume_from: Path | None = None,
) -> BaseApp[None]:
    """Run the live screen until the user quits; the application, which knows where the session was saved.

    `prepare` gives the options and the store, and is called after the first frame. `model` of `None` opens the table
    of models, `resume_from` is a session file, and `settings` are what the settings screen begins with. Theme and
    glyphs that are not given are those that were chosen by key the last time. Raises StoreError when the session could
    be written nowhere, and EdgetopError when an error in the screen ended it.
    """
    from edgetop.tui.panes.column import LayoutStore, layout_file  # noqa: PLC0415 - few applications need it

    layout_store = LayoutStore(layout_file(), terminal_level())
    display = display._replace(
        level=display.level or layout_store.level, theme=display.theme or layout_store.layout.theme
    )
    app = ChatApp(
        prepare, model=model, display=display, settings=settings, layout_store=layout_store, resume_from=resume_from
    )
    app.run_to_end()
    return app


WELCOMED_FILE = "welcomed"


def welcome(store: Store, keys: ScreenKeys) -> str:
    """What to know at first, and only once: empty where sessions were recorded, or where it has been said before."""
    file = platformdirs.user_state_path("edgetop", appauthor=False) / WELCOMED_FILE
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
