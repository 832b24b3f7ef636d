"""The live screen: chat, meters and panes over a session that grows.

One timer drives everything: it takes in what the engine and the sampler have sent, appends text to the chat, and every
so many ticks draws the panes. Nothing else wakes this process up while a model decodes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from msgspec.structs import replace
from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.screen import Screen
from textual.timer import Timer

from edgetop.core.clock import US_PER_S
from edgetop.core.energy.supply import Price
from edgetop.core.engine import EngineSettings
from edgetop.core.records import ModelLoaded, Tokens, TurnFinished
from edgetop.inference.protocol import LoadFailed, LoadProgress, Log, Report
from edgetop.inference.server.address import ServerChoice
from edgetop.live.conversation import UNRESPONSIVE_AFTER_S, Notice
from edgetop.live.live_session import LiveSession
from edgetop.tui import slash
from edgetop.tui.dialogue import Dialogue
from edgetop.tui.glyphs import LEVELS, GlyphLevel
from edgetop.tui.help_screen import HelpScreen
from edgetop.tui.keymap import bindings
from edgetop.tui.model_picker import ModelChoice, ModelPicker
from edgetop.tui.themes import next_theme
from edgetop.tui.view import Recording, View, view_of
from edgetop.tui.widgets import energy_pane, memory_pane, power_pane, tokens_pane
from edgetop.tui.widgets.chat_view import ChatView
from edgetop.tui.widgets.key_line import KeyLine
from edgetop.tui.widgets.pane import Pane
from edgetop.tui.widgets.prompt import Prompt
from edgetop.tui.widgets.top_meters import Layout, TopMeters

if TYPE_CHECKING:
    from edgetop.tui.check_screen import CheckChoice

TICK_S = 0.25
"""Text is appended this often; more would cost tokens, less would look like stuttering."""
IDLE_TICK_S = 0.5
DELAYS_S = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Refresh intervals of the panes that the keys walk through."""
WIDE_COLUMNS, WIDE_ROWS = 100, 24
TALL_ROWS = 32
SMALL_COLUMNS, SMALL_ROWS = 60, 16


class LiveScreen(Screen[None]):
    """Chat with the model, and watch it."""

    BINDINGS: ClassVar[list[Binding]] = bindings()  # type: ignore[assignment]
    DEFAULT_CSS = """
    LiveScreen {
        layout: vertical;
        #body { height: 1fr; }
        #chat-box { width: 1fr; border: round $panel-lighten-2; padding: 0 1;
            border-title-style: bold; border-title-color: $foreground; }
        #chat-box.block { border: solid $panel-lighten-2; }
        #chat-box.ascii { border: ascii $panel-lighten-2; }
        #panes { width: 50; }
        #tokens { height: 1fr; }
        #memory, #power { height: 5; }
        #energy { height: 4; }
        &.tall #power { height: 8; }
        &.tall #energy { height: 7; }
        &.folded #panes { display: none; }
        &.small KeyLine { display: none; }
        &.small #chat-box { border: none; padding: 0; }
    }
    """

    def __init__(
        self, live: LiveSession, *, level: GlyphLevel, delay_s: float = 1.0, price: Price | None = None
    ) -> None:
        super().__init__()
        self._live = live
        self._level: GlyphLevel = level
        self._delay_s = delay_s
        self._price = price
        self._paused = False
        self._timer: Timer | None = None
        self._timer_s = 0.0
        self._since_draw_s = 0.0
        self._since_check_s = 0.0
        self._chat = ChatView(level, id="chat")
        self._prompt = Prompt(level, completions=slash.completions, id="prompt")
        self._dialogue = Dialogue(live, self._chat, self._prompt, level)
        self._stop_asked_us: int | None = None
        """When the person last asked for a stop that has not happened yet."""

    def compose(self) -> ComposeResult:
        """Meters, chat and panes, key line."""
        yield TopMeters(id="top")
        with Horizontal(id="body"):
            with Vertical(id="chat-box"):
                yield self._chat
                yield self._prompt
            with Vertical(id="panes"):
                yield Pane(tokens_pane.TITLE, tokens_pane.draw, id="tokens")
                yield Pane(memory_pane.TITLE, memory_pane.draw, id="memory")
                yield Pane(power_pane.TITLE, power_pane.draw, id="power")
                yield Pane(energy_pane.TITLE, energy_pane.draw, id="energy")
        yield KeyLine(id="keys")

    def on_mount(self) -> None:
        """Begin to tick."""
        self.query_one("#chat-box").border_title = "chat"
        self._apply_glyphs()
        self._prompt.focus()
        self._tick_every(TICK_S)
        self.call_after_refresh(self._draw)

    def on_resize(self, event: events.Resize) -> None:
        """Choose the layout that the new size has room for."""
        columns, rows = event.size
        small = columns < SMALL_COLUMNS or rows < SMALL_ROWS
        folded = small or columns < WIDE_COLUMNS or rows < WIDE_ROWS
        self.set_class(small, "small")
        self.set_class(folded, "folded")
        self.set_class(rows >= TALL_ROWS, "tall")
        self.call_after_refresh(self._draw)

    # Time

    def _tick_every(self, interval_s: float) -> None:
        if interval_s == self._timer_s:
            return
        if self._timer is not None:
            self._timer.stop()
        self._timer_s = interval_s
        self._timer = self.set_interval(interval_s, self._tick)

    def _tick(self) -> None:
        self._live.pump()
        self._dialogue.flush()
        self._since_check_s += self._timer_s
        if self._since_check_s >= 1.0:
            self._since_check_s = 0.0
            self._live.check()
        self._since_draw_s += self._timer_s
        if self._since_draw_s >= self._delay_s and not self._paused:
            self._draw()
        busy = self._live.conversation.phase in {"answering", "stopping", "loading", "starting"}
        self._tick_every(min(TICK_S, self._delay_s) if busy else min(IDLE_TICK_S, self._delay_s))

    def _draw(self) -> None:
        self._since_draw_s = 0.0
        if not self.is_mounted or not self.size.width:
            return
        view = self._view()
        self.query_one(TopMeters).show(view, self._layout)
        if not self.has_class("folded"):
            for pane in self.query(Pane):
                pane.show(view)
        self.query_one(KeyLine).show(view, delay_s=self._delay_s)

    def _view(self) -> View:
        live = self._live
        recorder = live.recorder
        recording: Recording = "off" if not recorder.kept else "trouble" if recorder.trouble else "recording"
        phase = live.conversation.phase
        view = view_of(
            live.session,
            live.now_us(),
            self._level,
            recording=recording,
            load_fraction=live.conversation.load_fraction if phase == "loading" else None,
            paused=self._paused,
            hidden=frozenset(pane.title for pane in self.query(Pane) if not pane.display),
            price=self._price,
        )
        if phase == "no_model" and view.snapshot.phase == "starting":
            # The engine waits for a model that nobody has chosen yet, which is nothing that a session records.
            view = replace(view, snapshot=replace(view.snapshot, phase="no_model"))
        return view

    @property
    def _layout(self) -> Layout:
        return "small" if self.has_class("small") else "narrow" if self.has_class("folded") else "wide"

    def hear(self, said: Report | Notice) -> None:
        """Show what the conversation has to tell."""
        self._dialogue.hear(said)
        if isinstance(said, TurnFinished | ModelLoaded | LoadFailed):
            self._stop_asked_us = None
        if not isinstance(said, Tokens | Log | LoadProgress):
            self._draw_soon()

    @on(Prompt.Submitted)
    def _on_submitted(self, message: Prompt.Submitted) -> None:
        text = message.text
        match slash.parse(text):
            case None:
                self._dialogue.ask(text.removeprefix("/") if text.startswith("//") else text)
            case ("help", _):
                self.action_help()
            case ("model", ""):
                self.action_choose_model()
            case ("quit", _):
                self.app.exit()
            case (name, argument):
                self._dialogue.carry_out(name, argument)
        self._wake()

    def load(self, path: Path, settings: EngineSettings) -> None:
        """Load a model, in place of the one there is."""
        self._dialogue.load(path, settings)
        self._wake()

    def _wake(self) -> None:
        """Something begins: look soon what has come of it."""
        self._tick_every(min(TICK_S, self._delay_s))
        self._draw_soon()

    # Actions of the keys

    def action_interrupt(self) -> None:
        """Stop what is under way; quit when nothing is, or when it is asked for twice.

        An engine that does not react to the stop is ended, so that the session can go on.
        """
        now_us = self._live.now_us()
        if self._live.conversation.phase not in {"answering", "stopping", "loading"}:
            self.app.exit()
        elif self._stop_asked_us is None:
            self.action_stop()
        elif now_us - self._stop_asked_us > UNRESPONSIVE_AFTER_S * US_PER_S:
            self._live.conversation.kill()
        else:
            self.app.exit()

    def action_stop(self) -> None:
        """Stop the answer or the load."""
        self._live.conversation.stop()
        self._stop_asked_us = self._live.now_us()

    def action_quit(self) -> None:
        """Leave; the session is saved on the way out."""
        self.app.exit()

    def action_help(self) -> None:
        """Show keys and commands."""
        self.app.push_screen(HelpScreen(self._level))

    def action_choose_model(self) -> None:
        """Show the models of this machine, and load the chosen one."""
        options = self._live.options
        server = ServerChoice.of_engine(options.engine_name)
        self.app.push_screen(ModelPicker(self._level, options.model_folders, server), self._chosen)

    def action_sessions(self) -> None:
        """Show what was recorded, to compare and to replay it."""
        from edgetop.tui.session_pages import open_sessions  # noqa: PLC0415 - few sessions need it

        open_sessions(self.app, self._live.store, self._level, self._price)

    def action_check(self) -> None:
        """Show how the models of this machine would do, and load the chosen one."""
        from edgetop.tui.check_page import check_page  # noqa: PLC0415 - few sessions need it

        self.app.push_screen(check_page(self._live, self._level, self._price), self._checked)

    def _checked(self, choice: CheckChoice | None) -> None:
        if choice is not None:
            self.load(choice.path, replace(self._live.settings_for(choice.path), n_ctx=choice.n_ctx))

    def _chosen(self, choice: ModelChoice | None) -> None:
        if choice is not None:
            self.load(choice.path, self._live.settings_for(choice.path))

    def action_leave_prompt(self) -> None:
        """Give the keyboard to the panes."""
        self._chat.focus()
        self.query_one(KeyLine).in_panes = True
        self._draw_soon()

    def action_enter_prompt(self) -> None:
        """Give the keyboard to the prompt."""
        self._prompt.focus()
        self.query_one(KeyLine).in_panes = False
        self._draw_soon()

    def action_pause(self) -> None:
        """Freeze the display or let it go on."""
        self._paused = not self._paused
        self._draw()

    def action_slower(self) -> None:
        """Draw the panes less often."""
        self._change_delay(1)

    def action_faster(self) -> None:
        """Draw the panes more often."""
        self._change_delay(-1)

    def _change_delay(self, step: int) -> None:
        nearest = min(range(len(DELAYS_S)), key=lambda index: abs(DELAYS_S[index] - self._delay_s))
        self._delay_s = DELAYS_S[min(max(nearest + step, 0), len(DELAYS_S) - 1)]
        self._draw()

    def action_toggle_pane(self, number: int) -> None:
        """Show or hide a pane."""
        pane = self.query(Pane)[number - 1]
        pane.display = not pane.display
        self.query_one("#panes").display = any(each.display for each in self.query(Pane))
        self._draw_soon()

    def action_next_theme(self) -> None:
        """Change to the next theme."""
        next_theme(self.app)
        self._draw_soon()

    def action_next_glyphs(self) -> None:
        """Change between braille, block and ASCII."""
        self._level = LEVELS[(LEVELS.index(self._level) + 1) % len(LEVELS)]
        self._apply_glyphs()
        self._draw_soon()

    def _apply_glyphs(self) -> None:
        box = self.query_one("#chat-box")
        box.remove_class(*LEVELS).add_class(self._level)
        self._dialogue.level = self._level
        self._chat.set_level(self._level)
        self._prompt.set_level(self._level)

    def action_screenshot(self) -> None:
        """Save what is on the screen as SVG in the working folder."""
        try:
            path = self.app.save_screenshot()
        except OSError as error:
            self._dialogue.say(f"The picture could not be saved: {error.strerror}.")
        else:
            self._dialogue.say(f"The screen is saved as {path}.")

    def action_scroll_chat(self, lines: int) -> None:
        """Move the chat by lines."""
        self._chat.action_move(lines)

    def action_page_chat(self, pages: int) -> None:
        """Move the chat by pages."""
        self._chat.action_page(pages)

    def action_chat_top(self) -> None:
        """Show the beginning of the chat."""
        self._chat.action_to_top()

    def action_chat_end(self) -> None:
        """Show the end of the chat."""
        self._chat.action_to_end()

    def _draw_soon(self) -> None:
        self.call_after_refresh(self._draw)
