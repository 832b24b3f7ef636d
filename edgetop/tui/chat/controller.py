"""Prompts and commands to the engine, its events to the chat, final energy, context warnings, copying."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from edgetop.core.clock import US_PER_S
from edgetop.core.engine_settings import EngineSettings
from edgetop.core.figures import TurnFigures
from edgetop.core.records import ModelLoaded, Tokens, TurnFinished
from edgetop.core.sources import Unavailable
from edgetop.inference.protocol import LoadFailed, Report
from edgetop.live.chat_commands import BUSY, ChatCommands
from edgetop.live.chat_session import SETTLE_S, LiveSession
from edgetop.live.conversation import Notice
from edgetop.live.history import code_blocks, estimate_context, harmless
from edgetop.session.energy import energy_of
from edgetop.session.snapshot import Snapshot
from edgetop.session.turn import Turn
from edgetop.tui.chat.chat_view import ChatView
from edgetop.tui.chat.prompt import Prompt
from edgetop.tui.chat.turns import figures_line, loaded_line, reasoning_summary, write_turns
from edgetop.tui.glyphs import GlyphLevel
from edgetop.tui.terminal_output import (
    TEXT_MAX_BYTES,
    TooLongError,
    clipboard_requirement,
    clipboard_sequence,
    write_to_terminal,
)

NOTICE_S = 4.0
"""How long a notice lies over the part of the chat that is being read."""

CONTEXT_WARNING_SHARE = 0.8
"""From this share on an answer of some length may not fit into the rest of the context."""


class PendingEnergy(NamedTuple):
    """An answer that has ended, and whose energy still waits for readings."""

    reply: int
    figures: TurnFigures
    finished: TurnFinished


class ChatController:
    """Prompts and commands into a conversation, its answers into a chat view."""

    def __init__(self, live: LiveSession, chat: ChatView, prompt: Prompt, level: GlyphLevel) -> None:
        self.level: GlyphLevel = level
        self._live = live
        self._chat = chat
        self._prompt = prompt
        self._commands = ChatCommands(live, self)
        self._reasons = False
        """The text that came last was reasoning."""
        self._waiting_prompt: str | None = None
        self._warned_of_context = False
        self._pending: list[PendingEnergy] = []
        self._sent_anyway: str | None = None
        """A prompt that was refused because it does not fit; sent once more, it goes to the engine."""

    # Events of the engine

    def on_engine_event(self, event: Report | Notice) -> None:
        """Show what the engine reports; text is drawn by the next `flush`."""
        match event:
            case Tokens():
                if event.part == "answer":
                    self._end_reasoning()
                self._reasons = event.part == "reasoning"
                if text := "".join(event.pieces):
                    self._chat.append_text(text, event.part, show=False)
            case TurnFinished():
                self._end_reasoning()
                now = self._live.snapshot()
                reply = self._chat.finish("" if now.turn is None else figures_line(now.turn.figures, event, self.level))
                if now.turn is not None:
                    self._pending.append(PendingEnergy(reply, now.turn.figures, event))
                if event.stop_reason == "context_full" and not event.generated_tokens and event.error:
                    self.say(f"{event.error} /undo takes the last prompt back.")
                self._warn_of_context(now)
            case ModelLoaded():
                self._loaded(event)
            case LoadFailed():
                self._load_failed(event)
            case Notice():
                self._tell(event.text, event.hint)
            case _:
                pass

    def flush(self) -> None:
        """Draw the text that has come since the last time."""
        self._chat.show_text()

    def show_final_energy(self, t_us: int) -> None:
        """Put the energy below the answers for which it has become final by `t_us`."""
        for answer in self._pending[:]:
            session = self._live.session
            turn = next(turn for turn in reversed(session.turns) if turn.started.turn == answer.finished.turn)
            energy = energy_of(session, t_us).turn(turn)
            if isinstance(energy, Unavailable):
                done = t_us - session.relative(answer.finished.t_us) > SETTLE_S * US_PER_S
            else:
                done = energy.final
                if done:
                    figures = replace(answer.figures, energy=energy)
                    self._chat.set_figures(answer.reply, figures_line(figures, answer.finished, self.level))
            if done:
                self._pending.remove(answer)

    def _end_reasoning(self) -> None:
        """Fold the reasoning that has just ended, and say how long it was."""
        if self._reasons:
            self._reasons = False
            turn = self._live.session.turns[-1]
            parts = [span.part for span in turn.reply]
            self._chat.end_reasoning(reasoning_summary(turn, len(parts) - 1 - parts[::-1].index("reasoning")))

    def _loaded(self, loaded: ModelLoaded) -> None:
        self.say(loaded_line(loaded))
        if loaded.model.template_note:
            self.say(loaded.model.template_note)
        self._commands.offer_power()
        self._warned_of_context = False
        prompt, self._waiting_prompt = self._waiting_prompt, None
        if prompt is not None:
            self._submit(prompt)

    def _load_failed(self, failed: LoadFailed) -> None:
        if failed.reason == "cancelled":
            self.say("Loading was stopped; F4 or /model chooses a model.")
        else:
            self._tell(failed.message, failed.hint)
        prompt, self._waiting_prompt = self._waiting_prompt, None
        if prompt is not None and not self._prompt.text:
            self._prompt.put(prompt)

    def _warn_of_context(self, now: Snapshot) -> None:
        """Say once that the context is nearly full, before an answer is cut short by it."""
        used, n_ctx = now.context_used, now.n_ctx
        if used is None or not n_ctx or used < CONTEXT_WARNING_SHARE * n_ctx:
            self._warned_of_context = False
        elif not self._warned_of_context and now.load is not None:
            self._warned_of_context = True
            shifts = now.load.settings.full_context == "shift"
            then = "its oldest half is dropped when it is" if shifts else "answers end where it is; /clear starts over"
            self.say(f"The context is nearly full ({used} of {n_ctx} tokens): {then}.")

    # Prompts and commands

    def ask(self, prompt: str, *, instead: bool = False) -> None:
        """Send a prompt, now or when the model is loaded; where it cannot be sent, give it back and say why.

        With `instead` it replaces the last one.
        """
        refusal = ""
        match self._live.conversation.phase:
            case "ready":
                self._submit(prompt, instead=instead)
            case "starting" | "loading" if instead:
                refusal = "The model is still being loaded."
            case "starting" | "loading" if self._waiting_prompt is None:
                self._waiting_prompt = prompt
                self.say("The model is still being loaded; your prompt is sent when it is there.")
            case "starting" | "loading":
                refusal = "One prompt is waiting for the model already."
            case "answering" | "stopping":
                refusal = BUSY
            case "dead":
                refusal = "The engine is gone; /reload starts it again."
            case _:
                refusal = "No model is loaded; F4 or /model chooses one."
        if refusal:
            self.say(refusal)
            self.edit(prompt) if instead else self.put(prompt)

    def run_slash_command(self, name: str, argument: str) -> None:
        """Run a command that needs nothing of the screen."""
        if not self._commands.run_slash_command(name, argument):
            self.say(f"There is no command /{name}; /help lists them. Two slashes begin a prompt with one.")
            self._prompt.put(f"/{name} {argument}".rstrip())

    def load(self, path: Path, settings: EngineSettings) -> None:
        """Load a model, in place of the one there is."""
        self._commands.load(path, settings)

    def resume(self, path: Path) -> None:
        """Resume the conversation in a session file."""
        self._commands.resume(path)
        self._chat.action_to_end()

    def copy_in_view(self, *, code: bool) -> None:
        """Copy the answer in view or its last code; where the view follows the end, those of the conversation."""
        answer = self._chat.answer_in_view or ""
        text = (code_blocks(answer) or [""])[-1] if code else answer
        if text:
            self.copy(harmless(text), "the code in view" if code else "the answer in view")
        else:
            self._commands.run_slash_command("copy", "code" if code else "")

    # What the commands do to the screen (`chat_commands.ChatView`)

    def put(self, text: str) -> None:
        """Put a text into the prompt, to edit and to send."""
        self._prompt.put(text)

    def edit(self, text: str) -> None:
        """Put the last prompt back; what is sent then replaces it."""
        self._prompt.edit_last(text)

    def clear_chat(self) -> None:
        """Remove what was shown."""
        self._chat.clear()
        self._warned_of_context = False

    def remove_last_turn(self) -> None:
        """Remove the last prompt and what followed it."""
        self._chat.remove_last_turn()

    def go_on_with_answer(self) -> None:
        """What comes next belongs to the last answer."""
        self._chat.continue_reply()

    def show_turns(self, turns: Sequence[Turn]) -> None:
        """Show turns of an earlier session in place of what is shown."""
        write_turns(self._chat, turns, self.level)
        self._warned_of_context = False

    def growing_answer(self) -> str:
        """What has come of the answer that is being given."""
        return self._chat.growing_answer

    def copy(self, text: str, what: str) -> None:
        """Send a harmless text to the terminal's clipboard, and say so."""
        try:
            sequence = clipboard_sequence(text, os.environ)
        except TooLongError:
            self.say(
                f"{what[0].upper()}{what[1:]} is longer than terminals take into their clipboard "
                f"({TEXT_MAX_BYTES} bytes); /save FILE writes the conversation to a file."
            )
            return
        write_to_terminal(self._chat.app, sequence)
        count = f"{len(text)} character{'' if len(text) == 1 else 's'}"
        if not self._chat.following:  # the note will be out of view
            self._chat.app.notify(f"Copied {what}, {count}.", timeout=NOTICE_S, markup=False)
        self.say(f"Copied {what}, {count}; {clipboard_requirement(os.environ)}.")

    def say(self, text: str) -> None:
        """A note in the chat."""
        self._chat.add_message("note", text)

    def _tell(self, what: str, hint: str) -> None:
        """What happened in one line, and what to do in another."""
        again = "/reload starts the engine again." if self._live.conversation.phase == "dead" else ""
        self.say("\n".join(line for line in (what, f"{hint} {again}".strip()) if line))

    def _submit(self, prompt: str, *, instead: bool = False) -> None:
        conversation = self._live.conversation
        if instead and conversation.replace_prompt(prompt):
            self._chat.remove_last_turn()
            self._chat.add_message("user", prompt)
            return
        if prompt != self._sent_anyway and (refusal := self._refusal_of_size(prompt)):
            self._sent_anyway = prompt
            self.say(refusal)
            self._prompt.put(prompt)
            return
        self._sent_anyway = None
        self._chat.add_message("user", prompt)
        conversation.submit(prompt)

    def _refusal_of_size(self, prompt: str) -> str:
        """Why a prompt cannot fit into the context; empty where it may."""
        conversation, now = self._live.conversation, self._live.snapshot()
        if now.n_ctx is None or now.load is None or now.load.settings.full_context == "shift":
            return ""
        room = estimate_context(
            prompt,
            conversation.history.messages,
            conversation.system,
            counted_tokens=conversation.history.counted_tokens,
            session=self._live.session,
            n_ctx=now.n_ctx,
        )
        if not room.cannot_fit:
            return ""
        return (
            f"This does not fit: the conversation would have about {room.needed} tokens, {room.excess} too many for "
            f"the context of {room.n_ctx}.\n/clear starts over, /undo removes the last turn, a shorter prompt may "
            "fit; press Enter again to send it anyway."
        )
