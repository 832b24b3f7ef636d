"""Prompts and commands to the engine; its events and recorded turns to the chat; final energy, warnings, copying."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from edgetop.core.clock import US_PER_S
from edgetop.core.figures import TurnFigures
from edgetop.core.format import format_rate, format_seconds, format_significant, plural
from edgetop.core.records import ModelLoaded, ReplyPart, TurnFinished
from edgetop.core.sources import Unavailable
from edgetop.inference.protocol import LoadFailed, Report
from edgetop.live.chat_commands import Chat, loaded_line, reasoning_summary, stop_words
from edgetop.live.chat_session import SETTLE_S, LiveSession
from edgetop.live.conversation import Notice
from edgetop.live.history import RecordedTurn, code_blocks, estimate_context, harmless
from edgetop.session.energy import NOT_REACHED, energy_of
from edgetop.session.session import Session
from edgetop.session.snapshot import Snapshot
from edgetop.session.turn import Turn, decode_tokens_per_s, first_token_s
from edgetop.tui.chat.chat_view import ChatView
from edgetop.tui.chat.prompt import Prompt
from edgetop.tui.terminal_output import (
    TEXT_MAX_BYTES,
    TooLongError,
    clipboard_requirement,
    clipboard_sequence,
    write_to_terminal,
)
from edgetop.tui.themes import GlyphLevel, glyphs_for


def figures_line(figures: TurnFigures, finished: TurnFinished, level: GlyphLevel) -> str:
    """What stands below an answer: how much, how fast, its energy once that is final, and why it ended if strange."""
    unit = "tok" if finished.counted or not figures.generated_tokens else "chunks"
    parts = [f"{figures.generated_tokens} {unit}", format_rate(figures.decode_tokens_per_s)]
    energy = figures.energy
    if energy is not None and energy.final and energy.j_per_token is not None:
        parts.append(f"{format_significant(energy.j_per_token.value)} J/tok")
    parts.append(f"first token {format_seconds(figures.first_token_s)}")
    return f" {glyphs_for(level).dot} ".join([*parts, *stop_words(finished)])


class PendingEnergy(NamedTuple):
    """An answer that has ended, and whose energy still waits for readings."""

    reply: int
    figures: TurnFigures
    finished: TurnFinished


def _show_final_energy(
    chat: ChatView, pending: list[PendingEnergy], session: Session, t_us: int, level: GlyphLevel
) -> None:
    """Put the energy below the answers for which it has become final by `t_us`, or will not come; they wait no more."""
    for answer in pending[:]:
        turn = next(turn for turn in reversed(session.turns) if turn.started.turn == answer.finished.turn)
        energy = energy_of(session, t_us).turn(turn)
        if isinstance(energy, Unavailable):
            ended = turn.finished
            done = energy is not NOT_REACHED and ended is not None and t_us - ended.t_us > SETTLE_S * US_PER_S
        elif done := energy.final:
            figures = replace(answer.figures, energy=energy)
            chat.set_figures(answer.reply, figures_line(figures, answer.finished, level))
        if done:
            pending.remove(answer)


TURNS_SHOWN = 20
"""Of a long session, so many turns before the play head can be scrolled to; what is before them is sought instead."""

NOT_RECORDED = "(the text was not recorded)"


class RecordedChat:
    """Keeps a chat view at one moment of a session after the other."""

    def __init__(self, session: Session, chat: ChatView, level: GlyphLevel) -> None:
        self._session = session
        self._chat = chat
        self._level: GlyphLevel = level
        self._t_us = -1
        self._turn: int | None = None
        """Index of the turn that is written last."""
        self._tokens = 0
        """Of that turn, which are written."""
        self._closed = True
        """That turn's end is written, too."""
        self._pending: list[PendingEnergy] = []

    def set_level(self, level: GlyphLevel) -> None:
        """Use other characters from now on."""
        self._level = level

    def show(self, t_us: int) -> None:
        """Bring the chat to `t_us`. Going on in the same turn appends; all else writes the chat anew."""
        if t_us != self._t_us:
            self._move(t_us)
        _show_final_energy(self._chat, self._pending, self._session, t_us, self._level)

    def _move(self, t_us: int) -> None:
        index = self._session.turn_at(t_us)
        goes_on = t_us > self._t_us >= 0 and index == self._turn and not self._loaded_since(t_us)
        self._t_us = t_us
        if not goes_on:
            with self._chat.at_once():
                self._write(index, t_us)
        elif index is not None and not self._closed:
            self._go_on(self._session.turns[index], t_us)

    def _loaded_since(self, t_us: int) -> bool:
        return any(self._t_us < load.t_us <= t_us for load in self._session.loads)

    def _write(self, index: int | None, t_us: int) -> None:
        chat, session = self._chat, self._session
        chat.clear()
        self._pending.clear()
        self._turn, self._tokens, self._closed = index, 0, True
        first = 0 if index is None else max(0, index + 1 - TURNS_SHOWN)
        if first:
            chat.add_message("note", f"{first} earlier turn{'s are' if first > 1 else ' is'} further back.")
        loads = [load for load in session.loads if load.t_us <= t_us]
        turns = () if index is None else session.turns[first : index + 1]
        if first:
            loads = [load for load in loads if load.t_us >= session.turns[first].started.t_us]
        for turn in turns:
            while loads and loads[0].t_us <= turn.started.t_us:
                chat.add_message("note", loaded_line(loads.pop(0)))
            chat.add_message("user", turn.started.prompt if turn.started.prompt is not None else NOT_RECORDED)
            self._tokens, self._closed = 0, False
            self._go_on(turn, t_us)
        for load in loads:
            chat.add_message("note", loaded_line(load))

    def _go_on(self, turn: Turn, t_us: int) -> None:
        """Append what the turn has got until `t_us`."""
        tokens = bisect_right(turn.token_t_us, t_us)
        _append(self._chat, turn, self._tokens, tokens)
        self._tokens = tokens
        finished = turn.finished_at(t_us)
        if finished is not None:
            self._pending.append(_finish(self._chat, turn, finished, self._level))
            self._closed = True


def write_turns(chat: ChatView, turns: Sequence[RecordedTurn], level: GlyphLevel) -> None:
    """Show whole turns in place of what is shown; one without a prompt went on with the answer before it."""
    with chat.at_once():
        chat.clear()
        for session, turn in turns:
            if turn.started.prompt:
                chat.add_message("user", turn.started.prompt)
            else:
                chat.continue_reply()
            _append(chat, turn, 0, len(turn.token_t_us))
            if turn.finished is not None:
                ended = _finish(chat, turn, turn.finished, level)
                _show_final_energy(chat, [ended], session, session.end_us, level)


def _append(chat: ChatView, turn: Turn, begin: int, end: int) -> None:
    """Append the tokens from index `begin` to before `end`."""
    for index, text in reply_between(turn, begin, end):
        part = turn.reply[index].part
        if part == "answer" and index and turn.reply[index - 1].part == "reasoning":
            chat.end_reasoning(reasoning_summary(turn, index - 1))
        chat.append_text(text, part)


def _finish(chat: ChatView, turn: Turn, finished: TurnFinished, level: GlyphLevel) -> PendingEnergy:
    if turn.reply and turn.reply[-1].part == "reasoning":
        chat.end_reasoning(reasoning_summary(turn, len(turn.reply) - 1))
    progress = turn.progress(finished.t_us)
    figures = TurnFigures(
        generated_tokens=progress.generated,
        decode_tokens_per_s=decode_tokens_per_s(progress),
        first_token_s=first_token_s(progress),
    )
    return PendingEnergy(chat.finish(figures_line(figures, finished, level)), figures, finished)


def reply_between(turn: Turn, begin: int, end: int) -> Iterator[tuple[int, str]]:
    """The text of the tokens from index `begin` to before `end`, and which span of the reply each part of it is of."""
    first = 0
    for index, span in enumerate(turn.reply):
        low, high = max(begin, first), min(end, first + span.tokens)
        if low < high:
            chars = turn.token_chars
            start = sum(chars[first:low])
            text = span.text[start : start + sum(chars[low:high])]
            if text:
                yield index, text
        first += span.tokens


NOTICE_S = 6.0
"""How long a notice lies over the chat."""

CONTEXT_WARNING_SHARE = 0.8
"""From this share on an answer of some length may not fit into the rest of the context."""


class ChatController(Chat):
    """Prompts and commands into a conversation, its answers into a chat view."""

    HOW_TO_CHOOSE = "F4 or /model"

    def __init__(self, live: LiveSession, chat: ChatView, prompt: Prompt, level: GlyphLevel) -> None:
        super().__init__(live)
        self.level: GlyphLevel = level
        self._chat = chat
        self._prompt = prompt
        self._waiting_prompt: str | None = None
        self._warned_of_context = False
        self._pending: list[PendingEnergy] = []
        self._sent_anyway: str | None = None
        """A prompt that was refused because it does not fit; sent once more, it goes to the engine."""

    # Events of the engine; text is drawn by the next `flush`

    def on_engine_event(self, event: Report | Notice) -> None:
        """Show what the engine reports, and send or give back the prompt that waited for the model."""
        super().on_engine_event(event)
        if not isinstance(event, ModelLoaded | LoadFailed):
            return
        prompt, self._waiting_prompt = self._waiting_prompt, None
        if isinstance(event, ModelLoaded):
            self._warned_of_context = False
            if prompt is not None:
                self._submit(prompt)
        elif prompt is not None and not self._prompt.text:
            self._prompt.put(prompt)

    def add_reply(self, text: str, part: ReplyPart) -> None:
        """Append a piece of the reply."""
        self._chat.append_text(text, part, show=False)

    def turn_into_reasoning(self) -> None:
        """Show the reply so far as reasoning."""
        self._chat.turn_into_reasoning()

    def end_reasoning(self, summary: str) -> None:
        """Fold the reasoning."""
        self._chat.end_reasoning(summary)

    def end_reply(self, finished: TurnFinished) -> None:
        """Put the figures below the answer; its energy follows when it is final."""
        now = self.live.snapshot()
        reply = self._chat.finish("" if now.turn is None else figures_line(now.turn.figures, finished, self.level))
        if now.turn is not None:
            self._pending.append(PendingEnergy(reply, now.turn.figures, finished))
        if finished.stop_reason == "context_full" and not finished.generated_tokens and finished.error:
            self.note(f"{finished.error} /undo takes the last prompt back.")
        self._warn_of_context(now)

    def flush(self) -> None:
        """Draw the text that has come since the last time."""
        self._chat.show_text()

    def show_final_energy(self, t_us: int) -> None:
        """Put the energy below the answers for which it has become final by `t_us`."""
        _show_final_energy(self._chat, self._pending, self.live.session, t_us, self.level)

    def _warn_of_context(self, now: Snapshot) -> None:
        """Say once that the context is nearly full, before an answer is cut short by it."""
        used, n_ctx = now.context_used, now.n_ctx
        if used is None or not n_ctx or used < CONTEXT_WARNING_SHARE * n_ctx:
            self._warned_of_context = False
        elif not self._warned_of_context and now.load is not None:
            self._warned_of_context = True
            shifts = now.load.settings.full_context == "shift"
            then = "its oldest half is dropped when it is" if shifts else "answers end where it is; /clear starts over"
            self.note(f"The context is nearly full ({used} of {n_ctx} tokens): {then}.")

    # Prompts and commands

    def ask(self, prompt: str, *, instead: bool = False) -> None:
        """Send a prompt, now or when the model is loaded; where it cannot be sent, give it back and say why.

        With `instead` it replaces the last one.
        """
        loading = self.live.conversation.phase in {"starting", "loading"} and not instead
        refusal = self.refusal
        if not refusal:
            self._submit(prompt, instead=instead)
        elif loading and self._waiting_prompt is None:
            self._waiting_prompt = prompt
            self.note("The model is still being loaded; your prompt is sent when it is there.")
        else:
            self.note("One prompt is waiting for the model already." if loading else refusal)
            self.edit_prompt(prompt) if instead else self.fill_prompt(prompt)

    def run_slash_command(self, name: str, argument: str) -> bool:
        """Run a command that needs nothing of the screen; one that there is not is given back."""
        found = super().run_slash_command(name, argument)
        if not found:
            self._prompt.put(f"/{name} {argument}".rstrip())
        return found

    def resume(self, path: Path) -> None:
        """Resume the conversation in a session file."""
        super().resume(path)
        self._chat.action_to_end()

    def copy_in_view(self, *, code: bool) -> None:
        """Copy the answer in view or its last code; where the view follows the end, those of the conversation."""
        answer = self._chat.answer_in_view or ""
        text = (code_blocks(answer) or [""])[-1] if code else answer
        if text:
            self.copy(harmless(text), "the code in view" if code else "the answer in view")
        else:
            self.run_slash_command("copy", "code" if code else "")

    # What commands do to the screen

    def fill_prompt(self, text: str) -> None:
        """Put a text into the prompt, to edit and to send."""
        self._prompt.put(text)

    def edit_prompt(self, text: str) -> None:
        """Put the last prompt back; what is sent then replaces it."""
        self._prompt.edit_last(text)

    def clear_chat(self) -> None:
        """Remove what was shown."""
        self._chat.clear()
        self._warned_of_context = False

    def remove_last_turn(self) -> None:
        """Remove the last prompt and what followed it."""
        self._chat.remove_last_turn()

    def continue_reply(self) -> None:
        """What comes next belongs to the last answer."""
        self._chat.continue_reply()

    def show_turns(self, turns: Sequence[RecordedTurn]) -> None:
        """Show turns of an earlier session in place of what is shown."""
        write_turns(self._chat, turns, self.level)
        self._warned_of_context = False

    @property
    def partial_answer(self) -> str:
        """What has come of the answer that is being given."""
        return self._chat.growing_answer

    def copy(self, text: str, what: str) -> None:
        """Send a harmless text to the terminal's clipboard, and say so."""
        try:
            sequence = clipboard_sequence(text, os.environ)
        except TooLongError:
            self.note(
                f"{what[0].upper()}{what[1:]} is longer than terminals take into their clipboard "
                f"({TEXT_MAX_BYTES} bytes); /save FILE writes the conversation to a file."
            )
            return
        write_to_terminal(self._chat.app, sequence)
        count = plural(len(text), "character")
        text = f"Copied {what}, {count}; {clipboard_requirement(os.environ)}."
        self._chat.app.notify(text, timeout=NOTICE_S, markup=False)

    def note(self, text: str) -> None:
        """Show a message in the chat."""
        self._chat.add_message("note", text)

    def _submit(self, prompt: str, *, instead: bool = False) -> None:
        conversation = self.live.conversation
        if instead and conversation.replace_prompt(prompt):
            self._chat.remove_last_turn()
            self._chat.add_message("user", prompt)
            return
        if prompt != self._sent_anyway and (refusal := self._refusal_of_size(prompt)):
            self._sent_anyway = prompt
            self.note(refusal)
            self._prompt.put(prompt)
            return
        self._sent_anyway = None
        self._chat.add_message("user", prompt)
        conversation.submit(prompt)

    def _refusal_of_size(self, prompt: str) -> str:
        """Why a prompt cannot fit into the context; empty where it may."""
        conversation, now = self.live.conversation, self.live.snapshot()
        if now.n_ctx is None or now.load is None or now.load.settings.full_context == "shift":
            return ""
        room = estimate_context(
            prompt,
            conversation.history.messages,
            conversation.system,
            counted_tokens=conversation.history.counted_tokens,
            session=self.live.session,
            n_ctx=now.n_ctx,
        )
        if not room.cannot_fit:
            return ""
        return (
            f"This does not fit: the conversation would have about {room.needed} tokens, {room.excess} too many for "
            f"the context of {room.n_ctx}.\n/clear starts over, /undo removes the last turn, a shorter prompt may "
            "fit; press Enter again to send it anyway."
        )
