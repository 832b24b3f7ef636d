"""The live screen: engine events, chat keys, loading, stop and quit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace
from textual import events, on, work

from edgetop.core.clock import US_PER_S
from edgetop.core.energy.duty import Price
from edgetop.core.engine_settings import EngineSettings
from edgetop.core.errors import EdgetopError
from edgetop.core.records import ModelLoaded, Tokens, TurnFinished
from edgetop.core.text import one_line
from edgetop.inference.protocol import LoadFailed, LoadProgress, Log, Report
from edgetop.live import chat_commands
from edgetop.live.chat_session import IDLE_PHASES, LiveSession
from edgetop.live.conversation import UNRESPONSIVE_AFTER_S, Notice
from edgetop.live.in_turn import Contestant, InTurn
from edgetop.tui.chat.controller import ChatController
from edgetop.tui.chat.prompt import ChatPanel, Prompt
from edgetop.tui.keys import LIVE
from edgetop.tui.panes.column import LayoutStore
from edgetop.tui.panes.pane import View
from edgetop.tui.screens.models import ModelChoice, models_screen
from edgetop.tui.screens.monitor import DisplayOptions, KeyLine, Monitor, RecordingScreen
from edgetop.tui.themes import GlyphLevel

if TYPE_CHECKING:
    from edgetop.settings.resolve import Settings
    from edgetop.tui.screens.settings import SettingsEditor

LOADING_TICK_S, IDLE_TICK_S = 0.25, 0.5
ASKING_IN_TURN = "Models are being asked in turn; stop that first."

DECODING, BEGINNING = frozenset({"answering", "stopping"}), frozenset({"loading", "starting"})
"""Phases of a conversation in which something changes all the time."""


class LiveScreen(RecordingScreen):
    """Chat with the model, and watch it."""

    TABLE = LIVE
    AUTO_FOCUS = "#prompt"
    SLASH_COMMANDS = chat_commands.SLASH_COMMANDS

    def __init__(
        self,
        live: LiveSession,
        *,
        level: GlyphLevel,
        delay_s: float = 1.0,
        price: Price | None = None,
        layout_store: LayoutStore | None = None,
    ) -> None:
        box = ChatPanel(level, completions=chat_commands.Completion(live), id="chat-box")
        super().__init__(live, Monitor(box, "chat", level), level=level, delay_s=delay_s, price=price)
        self._live = live
        self.settings: Settings | None = None
        """What edgetop was started with."""
        self.settings_editor: SettingsEditor | None = None
        """The settings with their changes, once the settings screen has been opened."""
        self._box, self._chat, self._prompt = box, box.chat, box.prompt
        self._controller = ChatController(live, self._chat, self._prompt, level)
        self._layout_store = layout_store or LayoutStore()
        self._panes.apply_layout(self._layout_store.layout)
        self._stop_requested_us: int | None = None
        """When the user last requested a stop that has not happened yet."""
        self._in_turn: InTurn | None = None
        """Models that are being asked the same, one after the other."""

    def on_mount(self) -> None:
        """Start the timer."""
        self.set_level(self._level)
        self._prompt.focus()
        self._tick_every(LOADING_TICK_S)

    # Time

    def _next_tick_s(self) -> float:
        phase = self._live.conversation.phase
        tick_s = (
            self._budget.text_every_s if phase in DECODING else LOADING_TICK_S if phase in BEGINNING else IDLE_TICK_S
        )
        return min(LOADING_TICK_S if self._in_turn else tick_s, self._delay_s)

    def _pump(self) -> None:
        self._live.pump()
        self._controller.flush()

    @property
    def _draw_every_s(self) -> float:
        return super()._draw_every_s if self._live.conversation.phase in DECODING else self._delay_s

    def _view(self) -> View:
        view, conversation = super()._view(), self._live.conversation
        if conversation.phase == "loading":
            return replace(view, load_fraction=conversation.load_fraction)
        if conversation.phase == "no_model" and view.snapshot.phase == "starting":
            # The engine waits for the choice of a model, which no session records.
            return replace(view, snapshot=replace(view.snapshot, phase="no_model"))
        return view

    def _idle_actions(self) -> frozenset[str]:
        phase = self._live.conversation.phase
        idle = (
            frozenset[str]()
            if phase in {"answering", "loading"} or self._in_turn or self._live.downloading
            else frozenset({"stop"})
        )
        if not self._chat.has("assistant"):
            idle |= {"copy_answer", "copy_code", "search"}
        if not self._chat.has("user") or phase != "ready":
            idle |= {"retry", "edit"}
        return idle if self._chat.has("reasoning") else idle | {"toggle_reasoning"}

    def _drawn(self, view: View) -> None:
        live = self._live
        self._prompt.show_progress(
            self._in_turn.doing if self._in_turn else live.downloading or live.conversation.doing
        )
        self._controller.show_final_energy(view.snapshot.t_us)

    def on_engine_event(self, event: Report | Notice) -> None:
        """Show an event of the engine."""
        self._controller.on_engine_event(event)
        if isinstance(event, TurnFinished | ModelLoaded | LoadFailed):
            self._stop_requested_us = None
        if not isinstance(event, Tokens | Log | LoadProgress):
            self.draw_soon()

    @on(Prompt.Submitted)
    def _on_submitted(self, message: Prompt.Submitted) -> None:
        text = message.text
        if self._in_turn is not None:
            self._controller.note(ASKING_IN_TURN)
            self._prompt.put(text)
            return
        match chat_commands.parse_slash_command(text):
            case None:
                prompt = text.removeprefix("/") if text.startswith("//") else text
                self._controller.ask(prompt, instead=message.instead)
            case ("help", _):
                self.call_next(self.run_action, "app.help")
            case ("model", ""):
                self.action_choose_model()
            case ("open", ""):
                self.action_sessions()
            case ("quit", _):
                self.app.exit()
            case (name, argument):
                self._controller.run_slash_command(name, argument)
        self.wake()

    def run_command(self, command: chat_commands.SlashCommand) -> None:
        """Run a command; one that needs an argument is put into the prompt."""
        if command.argument and not command.argument.startswith("["):
            self.action_enter_prompt()
            self._prompt.put(f"/{command.name} ")
        else:
            self.post_message(Prompt.Submitted(f"/{command.name}"))

    def load(self, path: Path, settings: EngineSettings) -> None:
        """Load a model in place of the current one."""
        if self._in_turn is not None:
            self._controller.note(ASKING_IN_TURN)
            return
        self._controller.load(path, settings)
        self.wake()

    def resume(self, path: Path) -> None:
        """Continue the conversation of a recorded session."""
        self._controller.resume(path)
        self.wake()

    def wake(self) -> None:
        """Tick soon: something begins."""
        self._tick_every(min(LOADING_TICK_S, self._delay_s))
        self.draw_soon()

    # Engine and models

    def interrupt(self) -> bool:
        """Stop the answer or the load; whether there was one that had not been asked to stop.

        An engine that does not react to the stop is killed, so that the session can go on.
        """
        now_us, asked_us = self._live.now_us(), self._stop_requested_us
        if self._live.conversation.phase not in {"answering", "stopping", "loading"} and self._in_turn is None:
            return False
        if asked_us is None:
            self.action_stop()
            return True
        if self._in_turn is None and now_us - asked_us > UNRESPONSIVE_AFTER_S * US_PER_S:
            self._live.conversation.kill()
            return True
        return False

    def clear_draft(self) -> bool:
        """Clear the prompt, or leave the edit of an earlier one."""
        if not self._prompt.text:
            return False
        if not self._prompt.cancel_edit():
            self._prompt.put("")
        return True

    def action_stop(self) -> None:
        """Stop the answer or the load, or asking in turn."""
        if self._in_turn is not None:
            self._in_turn.stop()
        if self._live.downloading:
            self._live.stop_download()
            self._controller.note("The download is stopped; what has come of it is kept.")
        self._live.conversation.stop()
        self._stop_requested_us = self._live.now_us()

    def action_choose_model(self) -> None:
        """Show the models there are, the cursor on the loaded one, and load the chosen one."""
        self.app.push_screen(models_screen(self._live, self._level, self._price, self.ask_in_turn), self._load_chosen)

    action_check = action_choose_model

    def _load_chosen(self, choice: ModelChoice | None) -> None:
        if choice is None:
            return
        if str(choice.path).startswith("hf:"):
            self._download(str(choice.path), choice.n_ctx)
            return
        settings = self._live.settings_for(choice.path)
        self.load(choice.path, settings if choice.n_ctx is None else replace(settings, n_ctx=choice.n_ctx))

    def _download(self, name: str, n_ctx: int | None) -> None:
        """Download a model, and load it; how far it is stands above the prompt."""

        def done(result: Callable[[], Path]) -> None:
            try:
                path = result()
            except EdgetopError as error:
                self._controller.note_with_hint(error.what, error.hint)
            else:
                self._load_chosen(ModelChoice(path, n_ctx))

        self._controller.note(f"Downloading {one_line(name)}; {self.keys.key_of('stop')} stops.")
        self._live.download(name, lambda _words: None, done)

    def action_sessions(self) -> None:
        """Show recorded sessions, to compare and to replay them."""
        from edgetop.tui.screens.sessions import SessionsScreen  # noqa: PLC0415 - few sessions need it

        self.app.push_screen(
            SessionsScreen(
                self._live.store,
                self._level,
                price=self._price,
                resume=self.resume,
                ask_in_turn=self.ask_in_turn,
            )
        )

    def ask_in_turn(self, contestants: Sequence[Contestant], prompt: str) -> None:
        """Ask models the same, one after the other, and replay the answers side by side; the chat's model waits."""
        live = self._live
        if self._in_turn is not None or live.conversation.phase not in IDLE_PHASES:
            self._controller.note(ASKING_IN_TURN if self._in_turn else "The model is busy; stop it first.")
        elif not live.options.record:
            self._controller.note("Nothing is recorded (--no-record), so answers cannot be seen side by side.")
        else:
            stop = self.keys.key_of("leave_prompt")
            self._controller.note(f"Asking {len(contestants)} in turn: {one_line(prompt)}\n{stop} stops.")
            live.conversation.unload("Other models are asked in turn.")
            self._in_turn = InTurn(contestants, prompt, live.options, live.store)
            self._run_in_turn(self._in_turn)
            self.wake()

    @work(thread=True, exclusive=True, group="in_turn")
    def _run_in_turn(self, in_turn: InTurn) -> None:
        problem, paths = "", list[Path]()
        try:
            paths = in_turn.run()
        except EdgetopError as error:
            problem = f"{error.what} {error.hint}"
        self.call_from_worker(self._show_answers, paths, problem)

    def _show_answers(self, paths: list[Path], problem: str) -> None:
        """Load the chat's model again, and replay the answers."""
        from edgetop.tui.screens.sessions import open_replay  # noqa: PLC0415 - few sessions need it

        self._in_turn, self._stop_requested_us = None, None
        self._live.conversation.reload()
        self.wake()
        if problem:
            self._controller.note(problem)
        else:
            open_replay(self.app, paths, self._level, self._price)

    def on_unmount(self) -> None:
        """Stop what goes on in a thread."""
        if self._in_turn is not None:
            self._in_turn.stop()

    # Prompt and panes

    def action_leave_prompt(self) -> None:
        """Stop the answer, or give the keyboard to the panes; this ends a search, and the edit of the last prompt."""
        if self._live.conversation.phase == "answering" or self._in_turn is not None or self._live.downloading:
            self.action_stop()
        else:
            self._leave_prompt()

    def _leave_prompt(self) -> None:
        self._prompt.cancel_edit()
        self._change_mode()
        self._chat.focus()

    def action_enter_prompt(self) -> None:
        """Give the keyboard to the prompt."""
        self._change_mode()
        self._prompt.focus()

    def action_focus_pane(self, step: int) -> None:
        """Focus another pane, from the prompt as well: while an answer streams, Esc stops it."""
        self._chat.focus()
        super().action_focus_pane(step)

    def _change_mode(self) -> None:
        self._box.end_search()
        self._panes.zoom(on=False)
        self.panes_changed()

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """The keys of the panes work while the prompt does not have the keyboard."""
        self._panes.has_keys = self.query_one(KeyLine).in_panes = event.widget is not self._prompt
        self.panes_changed()

    def give_keys_to_panes(self) -> None:
        """Take the keyboard from the prompt."""
        self._chat.focus()

    def panes_changed(self) -> None:
        """Apply, save and draw what the keys have changed."""
        super().panes_changed()
        self._layout_store.change(**self._panes.layout_fields)

    # Display

    @property
    def display_options(self) -> DisplayOptions:
        """How it is drawn now."""
        return DisplayOptions(self._level, self._delay_s, self._price)

    def apply_display(self, options: DisplayOptions) -> None:
        """Draw it in another way."""
        self._delay_s, self._price = options.delay_s, options.price
        self.set_level(options.level)

    def set_level(self, level: GlyphLevel) -> None:
        """Draw with other glyphs."""
        super().set_level(level)
        self._controller.level = level
        self._box.set_level(level)

    def action_next_theme(self) -> None:
        """Change to the next theme."""
        super().action_next_theme()
        self._layout_store.change(theme=self.app.theme)

    def action_next_glyphs(self) -> None:
        """Change between braille, block and ASCII."""
        super().action_next_glyphs()
        self._layout_store.choose_level(self._level)

    def action_settings(self) -> None:
        """Show the settings, to change and save them."""
        from edgetop.tui.screens.settings import open_settings  # noqa: PLC0415 - few sessions need it

        open_settings(self, self._live)

    # Chat

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
        """Search the chat."""
        self._leave_prompt()
        self._box.begin_search()

    def action_search_on(self, step: int) -> None:
        """Move to the next match, or to the one before."""
        self._box.search_on(step)

    def action_copy_answer(self) -> None:
        """Copy the answer in view, or the last one."""
        self._controller.copy_in_view(code=False)

    def action_copy_code(self) -> None:
        """Copy the last code block of the answer in view, or of the last answer that has one."""
        self._controller.copy_in_view(code=True)

    def action_edit(self) -> None:
        """Edit the last prompt, and ask again in its place."""
        self.action_enter_prompt()
        self._controller.run_slash_command("edit", "")

    def action_retry(self) -> None:
        """Answer the last prompt again."""
        self._controller.run_slash_command("retry", "")
        self.wake()

    def action_advice(self) -> None:
        """Say what to change, in the chat."""
        self._controller.run_slash_command("advice", "")

    def action_toggle_reasoning(self) -> None:
        """Open or fold the reasoning in view."""
        if not self._box.chat.toggle_reasoning():
            self.notify_text("There is no reasoning in this chat.")
