"""How recorded turns and loads are written into a chat."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from edgetop.core.figures import TurnFigures
from edgetop.core.format import format_rate, format_seconds, format_significant
from edgetop.core.records import TurnFinished
from edgetop.live.chat_commands import loaded_line, reasoning_summary, stop_words
from edgetop.session.session import Session
from edgetop.session.turn import Turn, decode_tokens_per_s, first_token_s
from edgetop.tui.glyphs import GlyphLevel, glyphs_for

if TYPE_CHECKING:
    from edgetop.tui.chat.chat_view import ChatView


def figures_line(figures: TurnFigures, finished: TurnFinished, level: GlyphLevel) -> str:
    """What stands below an answer: how much, how fast, its energy once that is final, and why it ended if strange."""
    unit = "tok" if finished.counted or not figures.generated_tokens else "chunks"
    parts = [f"{figures.generated_tokens} {unit}", format_rate(figures.decode_tokens_per_s)]
    energy = figures.energy
    if energy is not None and energy.final and energy.j_per_token is not None:
        parts.append(f"{format_significant(energy.j_per_token.value)} J/tok")
    parts.append(f"first token {format_seconds(figures.first_token_s)}")
    return f" {glyphs_for(level).dot} ".join([*parts, *stop_words(finished)])


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

    def set_level(self, level: GlyphLevel) -> None:
        """Use other characters from now on."""
        self._level = level

    def show(self, t_us: int) -> None:
        """Bring the chat to `t_us`. Going on in the same turn appends; all else writes the chat anew."""
        if t_us == self._t_us:
            return
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
            _finish(self._chat, turn, finished, self._level)
            self._closed = True


def write_turns(chat: ChatView, turns: Sequence[Turn], level: GlyphLevel) -> None:
    """Show whole turns in place of what is shown; one without a prompt went on with the answer before it."""
    with chat.at_once():
        chat.clear()
        for turn in turns:
            if turn.started.prompt:
                chat.add_message("user", turn.started.prompt)
            else:
                chat.continue_reply()
            _append(chat, turn, 0, len(turn.token_t_us))
            if turn.finished is not None:
                _finish(chat, turn, turn.finished, level)


def _append(chat: ChatView, turn: Turn, begin: int, end: int) -> None:
    """Append the tokens from index `begin` to before `end`."""
    for index, text in reply_between(turn, begin, end):
        part = turn.reply[index].part
        if part == "answer" and index and turn.reply[index - 1].part == "reasoning":
            chat.end_reasoning(reasoning_summary(turn, index - 1))
        chat.append_text(text, part)


def _finish(chat: ChatView, turn: Turn, finished: TurnFinished, level: GlyphLevel) -> None:
    if turn.reply and turn.reply[-1].part == "reasoning":
        chat.end_reasoning(reasoning_summary(turn, len(turn.reply) - 1))
    progress = turn.progress(finished.t_us)
    figures = TurnFigures(
        generated_tokens=progress.generated,
        decode_tokens_per_s=decode_tokens_per_s(progress),
        first_token_s=first_token_s(progress),
    )
    chat.finish(figures_line(figures, finished, level))


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
