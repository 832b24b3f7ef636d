"""The live screen: engine events, chat keys, loading, stop and quit.

One timer drives everything: it takes in what the engine and the sampler have sent, appends text to the chat, and every
so many ticks draws the panes. Nothing else wakes this process up while a model decodes.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from msgspec.structs import replace
from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal
from textual.timer import Timer

from edgetop.core.clock import US_PER_S
from edgetop.core.energy.duty import Price
from edgetop.core.engine_settings import EngineSettings
from edgetop.core.records import ModelLoaded, Tokens, TurnFinished
from edgetop.inference.protocol import LoadFailed, LoadProgress, Log, Report
from edgetop.inference.server.address import ServerChoice
from edgetop.live.chat_session import LiveSession
from edgetop.live.conversation import UNRESPONSIVE_AFTER_S, Notice
from edgetop.settings.options import DELAY
from edgetop.tui.chat import slash_commands
from edgetop.tui.chat.controller import ChatController
from edgetop.tui.chat.prompt import ChatPanel, Prompt
from edgetop.tui.chat.slash_commands import Completion
from edgetop.tui.glyphs import LEVELS, GlyphLevel
from edgetop.tui.keys import LIVE
from edgetop.tui.panes.column import LayoutStore, PaneColumn
from edgetop.tui.panes.meters import Layout, TopMeters
from edgetop.tui.panes.view import Recording, View, view_of
from edgetop.tui.screens.base import BaseScreen, bindings
from edgetop.tui.screens.models import ModelChoice, ModelPicker
from edgetop.tui.screens.monitor import (
    BEGINNING,
    DECODING,
    DELAYS_S,
    IDLE_TICK_S,
    SMALL_COLUMNS,
    SMALL_ROWS,
    TICK_S,
    WIDE_COLUMNS,
    WIDE_ROWS,
    DisplayOptions,
    KeyLine,
    PaneActions,
    RedrawBudget,
)
from edgetop.tui.terminal_output import batched_paint
from edgetop.tui.themes import next_theme

if TYPE_CHECKING:
    from edgetop.settings.resolve import Settings
    from edgetop.tui.screens.models import CheckChoice
    from edgetop.tui.screens.settings import SettingsEditor


class ChatActions:
    """Mixed into a screen with a chat."""

    _box: ChatPanel
    _dialogue: ChatController

    @abstractmethod
    def action_leave_prompt(self) -> None:
        """Give the keyboard to the panes."""

    @abstractmethod
    def action_enter_prompt(self) -> None:
        """Give the keyboard to the prompt."""

    @abstractmethod
    def wake(self) -> None:
        """Something begins: look soon what has come of it."""

    def action_scroll_chat(self, lines: int) -> None:
        """Move the chat by lines."""
        self._box.chat.action_move(lines)

    def action_page_chat(self, pages: int) -> None:
        """Move the chat by pages."""
        self._box.chat.action_page(pages)

    def action_chat_top(self) -> None:
        """Show the beginning of the chat."""
        self._box.chat.action_to_top()

    def action_chat_end(self) -> None:
        """Show the end of the chat."""
        self._box.chat.action_to_end()

    def action_search(self) -> None:
        """Ask for words to search the chat for."""
        self.action_leave_prompt()
        self._box.begin_search()

    def action_search_on(self, step: int) -> None:
        """Go on to the next match, or back to the one before."""
        self._box.search_on(step)

    def action_copy_answer(self) -> None:
        """Copy the answer in view, or the last one."""
        self._dialogue.copy_read_answer()

    def action_copy_code(self) -> None:
        """Copy the last code of the answer in view, or of the last answer that has some."""
        self._dialogue.copy_read_code()

    def action_edit(self) -> None:
        """Change the last prompt, to ask again in its place."""
        self.action_enter_prompt()
        self._dialogue.carry_out("edit", "")

    def action_retry(self) -> None:
        """Answer the last prompt once more."""
        self._dialogue.carry_out("retry", "")
        self.wake()

    def action_toggle_thoughts(self) -> None:
        """Open or fold the reasoning in view."""
        if not self._box.chat.toggle_thoughts():
            self._dialogue.say("There is no reasoning in this chat.")


class LiveScreen(PaneActions, ChatActions, BaseScreen[None]):
    """Chat with the model, and watch it."""

    TABLE = LIVE
    SLASH_COMMANDS = slash_commands.COMMANDS
    BINDINGS: ClassVar[list[Binding]] = bindings(LIVE)  # type: ignore[assignment]
    DEFAULT_CSS = """
    LiveScreen {
        layout: vertical;
        #body { height: 1fr; }
        #chat-box { width: 1fr; border: round $edge; padding: 0 1;
            border-title-style: bold; border-title-color: $foreground; }
        #chat-box.block { border: solid $edge; }
        #chat-box.ascii { border: ascii $edge; }
        #panes { width: 50; }
        &.folded #panes { display: none; }
        &.zoomed #panes { display: block; width: 1fr; }
        &.zoomed #chat-box { display: none; }
        &.small KeyLine { display: none; }
        &.small #chat-box { border: none; padding: 0; }
    }
    """

    def __init__(
        self,
        live: LiveSession,
        *,
        level: GlyphLevel,
        delay_s: float = 1.0,
        price: Price | None = None,
        remembered: LayoutStore | None = None,
    ) -> None:
        super().__init__()
        self._live = live
        self._level: GlyphLevel = level
        self._delay_s = delay_s
        self._price = price
        self.settings: Settings | None = None
        """What edgetop was started with."""
        self.desk: SettingsEditor | None = None
        """The settings as they were changed, once their page has been opened."""
        self._pace = RedrawBudget(DELAY.default)
        self._paused = False
        self._timer: Timer | None = None
        self._timer_s = 0.0
        self._since_draw_s = 0.0
        self._since_check_s = 0.0
        self._box = ChatPanel(level, completions=Completion(live), id="chat-box")
        self._chat, self._prompt = self._box.chat, self._box.prompt
        self._dialogue = ChatController(live, self._chat, self._prompt, level)
        self._remembered = remembered or LayoutStore()
        self._panes = PaneColumn(id="panes")
        self._panes.take(self._remembered.arrangement)
        self._stop_asked_us: int | None = None
        """When the person last asked for a stop that has not happened yet."""

    def compose(self) -> ComposeResult:
        """Meters, chat and panes, key line."""
        yield TopMeters(id="top")
        with Horizontal(id="body"):
            yield self._box
            yield self._panes
        yield KeyLine(id="keys")

    def on_mount(self) -> None:
        """Begin to tick."""
        self._box.border_title = "chat"
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
        with self._pace.measured(), batched_paint(self):
            self._take_in()
        phase = self._live.conversation.phase
        tick_s = self._pace.text_every_s if phase in DECODING else TICK_S if phase in BEGINNING else IDLE_TICK_S
        self._tick_every(min(tick_s, self._delay_s))

    def _take_in(self) -> None:
        self._live.pump()
        self._dialogue.flush()
        self._since_check_s += self._timer_s
        if self._since_check_s >= 1.0:
            self._since_check_s = 0.0
            self._live.check()
        self._since_draw_s += self._timer_s
        if self._since_draw_s >= self._draw_every_s and not self._paused:
            self._draw()

    @property
    def _draw_every_s(self) -> float:
        if self._live.conversation.phase in DECODING:
            return self._pace.panes_every_s(self._delay_s)
        return self._delay_s

    def _draw(self) -> None:
        self._since_draw_s = 0.0
        self._pace.draws()
        if not self.is_whole:
            return
        view = self._panes.with_layout(self._view())
        self.query_one(TopMeters).show(view, self._layout)
        if self._panes.zoomed or not self.has_class("folded"):
            self._panes.show(view)
        self.query_one(KeyLine).show(view, delay_s=self._draw_every_s, keys=self.keys)
        self._dialogue.settle(view.snapshot.t_us)

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
            price=self._price,
            traces=self._panes.traces,
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
        match slash_commands.parse(text):
            case None:
                prompt = text.removeprefix("/") if text.startswith("//") else text
                self._dialogue.ask(prompt, instead=message.instead)
            case ("help", _):
                self.action_help()
            case ("model", ""):
                self.action_choose_model()
            case ("open", ""):
                self.action_sessions()
            case ("quit", _):
                self.app.exit()
            case (name, argument):
                self._dialogue.carry_out(name, argument)
        self.wake()

    def run_command(self, command: slash_commands.SlashCommand) -> None:
        """Carry out a command, or begin one that needs an argument in the prompt."""
        if command.argument and not command.argument.startswith("["):
            self.action_enter_prompt()
            self._prompt.put(f"/{command.name} ")
        else:
            self.post_message(Prompt.Submitted(f"/{command.name}"))

    def load(self, path: Path, settings: EngineSettings) -> None:
        """Load a model, in place of the one there is."""
        self._dialogue.load(path, settings)
        self.wake()

    def resume(self, path: Path) -> None:
        """Go on with the conversation of a recorded session."""
        self._dialogue.resume(path)
        self.wake()

    def wake(self) -> None:
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

    def action_choose_model(self) -> None:
        """Show the models of this machine, and load the chosen one."""
        options = self._live.options
        server = ServerChoice.of_engine(options.engine_name)
        self.app.push_screen(ModelPicker(self._level, options.model_folders, server), self._chosen)

    def action_sessions(self) -> None:
        """Show what was recorded, to compare and to replay it."""
        from edgetop.tui.screens.sessions import open_sessions  # noqa: PLC0415 - few sessions need it

        open_sessions(self.app, self._live.store, self._level, self._price, go_on=self.resume)

    def action_check(self) -> None:
        """Show how the models of this machine would do, and load the chosen one."""
        from edgetop.tui.screens.models import check_page  # noqa: PLC0415 - few sessions need it

        self.app.push_screen(check_page(self._live, self._level, self._price), self._checked)

    def _checked(self, choice: CheckChoice | None) -> None:
        if choice is not None:
            self.load(choice.path, replace(self._live.settings_for(choice.path), n_ctx=choice.n_ctx))

    def _chosen(self, choice: ModelChoice | None) -> None:
        if choice is not None:
            self.load(choice.path, self._live.settings_for(choice.path))

    def action_leave_prompt(self) -> None:
        """Give the keyboard to the panes; a search and a change of the last prompt end with it."""
        self._box.end_search()
        self._prompt.give_up_change()
        self._panes.zoom(on=False)
        self.panes_changed()
        self._chat.focus()
        self._draw_soon()

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """The keys of the panes work while the prompt does not have the keyboard."""
        self._panes.has_keys = self.query_one(KeyLine).in_panes = event.widget is not self._prompt
        self.panes_changed()

    def action_enter_prompt(self) -> None:
        """Give the keyboard to the prompt."""
        self._box.end_search()
        self._panes.zoom(on=False)
        self.panes_changed()
        self._prompt.focus()
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

    def action_next_theme(self) -> None:
        """Change to the next theme."""
        next_theme(self.app)
        self._remembered.change(theme=self.app.theme)
        self._draw_soon()

    def action_next_glyphs(self) -> None:
        """Change between braille, block and ASCII."""
        self.look(self.looks._replace(level=LEVELS[(LEVELS.index(self._level) + 1) % len(LEVELS)]))
        self._remembered.choose_level(self._level)

    def action_settings(self) -> None:
        """Show the settings, to change and to write them."""
        from edgetop.tui.screens.settings import open_settings  # noqa: PLC0415 - few sessions need it

        open_settings(self, self._live)

    @property
    def looks(self) -> DisplayOptions:
        """How it is drawn now."""
        return DisplayOptions(self._level, self._delay_s, self._price)

    def look(self, looks: DisplayOptions) -> None:
        """Draw it in another way."""
        self._level, self._delay_s, self._price = looks
        self._apply_glyphs()
        self._draw_soon()

    def _apply_glyphs(self) -> None:
        self._dialogue.level = self._level
        self._box.set_level(self._level)

    def action_screenshot(self) -> None:
        """Save what is on the screen as SVG in the working folder."""
        try:
            path = self.app.save_screenshot()
        except OSError as error:
            self._dialogue.say(f"The picture could not be saved: {error.strerror}.")
        else:
            self._dialogue.say(f"The screen is saved as {path}.")

    def pane_columns(self) -> Sequence[PaneColumn]:
        """What the keys of the panes act upon."""
        return (self._panes,)

    def give_keys_to_panes(self) -> None:
        """Take the keyboard from the prompt."""
        self._chat.focus()

    def panes_changed(self) -> None:
        """Make room for a zoomed pane, or take it back, and remember the rest."""
        self.set_class(bool(self._panes.zoomed), "zoomed")
        self._remembered.change(**self._panes.arrangement)
        self._draw_soon()

    def _draw_soon(self) -> None:
        self.call_after_refresh(self._draw)
