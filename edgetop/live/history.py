"""Messages folded from records: live, resumed, counted, as Markdown.

Only the engine can count; it lives in another process and may be busy. What it has generated in this session tells how
many bytes of text a token of this model and this subject has.

The turns of a session are not its messages: some were retried, some undone, some only continued the answer
before them, and the conversation may have been cleared or be that of a still earlier session. The records
say all of that.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import NamedTuple

from msgspec import Struct

from edgetop.core.errors import EdgetopError
from edgetop.inference.protocol import ChatMessage
from edgetop.session.file_io import load
from edgetop.session.session import Session
from edgetop.session.store import Store, StoreError
from edgetop.session.turn import Turn

OF_EARLIER_SESSION = 0
"""In place of the turn of a prompt that another session asked."""


class ChatHistory:
    """Prompts and answers in order, without the system prompt."""

    def __init__(self) -> None:
        self.messages: list[ChatMessage] = []
        self.counted_tokens: int | None = None
        """Tokens of the messages, as the engine has counted them; `None` while it has not."""
        self._turns: list[int] = []
        """Of the prompts."""

    @property
    def last_prompt(self) -> str | None:
        """What was asked last."""
        return next((message.content for message in reversed(self.messages) if message.role == "user"), None)

    @property
    def ends_with_answer(self) -> bool:
        """Whether there is an answer to go on with."""
        return bool(self.messages) and self.messages[-1].role == "assistant"

    @property
    def turn_of_last_prompt(self) -> int | None:
        """In which it was asked; OF_EARLIER_SESSION for one of another session, `None` where there is none."""
        return self._turns[-1] if self._turns else None

    def ask(self, prompt: str, turn: int) -> None:
        """Append a prompt that is asked in a turn."""
        self.messages.append(ChatMessage("user", prompt))
        self._turns.append(turn)

    def ask_again(self, prompt: str, turn: int) -> None:
        """Put a prompt, which may be the same one, in place of the last one and of what followed that."""
        self.undo()
        self.ask(prompt, turn)

    def answer(self, text: str, *, continued: bool) -> None:
        """Append an answer, or what an answer went on with."""
        if continued:
            text = self.messages.pop().content + text
        self.messages.append(ChatMessage("assistant", text))

    def drop_answer(self) -> None:
        """Forget the answer at the end."""
        self.messages.pop()

    def undo(self) -> None:
        """Forget the last prompt and what followed it."""
        while self.messages.pop().role != "user":
            pass
        self._turns.pop()
        self.counted_tokens = None

    def replace(self, messages: Sequence[ChatMessage]) -> None:
        """Go on with the messages of an earlier session."""
        self.messages = list(messages)
        self._turns = [OF_EARLIER_SESSION for message in messages if message.role == "user"]
        self.counted_tokens = None


USUAL_BYTES_PER_TOKEN = 4.0
"""In the vocabulary of SmolLM2 the README of edgetop has 3.5 of them, its Python 3.8, its licence 5.1."""

LEAST_TOKENS = 100
"""Fewer generated tokens than these say little about a text."""

BYTES_PER_TOKEN_BOUNDS = (1.5, 6.0)
MESSAGE_TOKENS = 6
"""What a chat template adds to each message: marks of its role, its beginning and its end."""

SURE_SHARE = 0.7
"""Texts differ; so much of an estimate is taken to be certain."""


class ContextEstimate(Struct, frozen=True, kw_only=True):
    """A conversation with one more prompt, against the context. Tokens, estimated unless the engine counted them."""

    needed: int
    certain: int
    """At least so many of them."""
    n_ctx: int

    @property
    def cannot_fit(self) -> bool:
        """Whether the engine would refuse it."""
        return self.certain >= self.n_ctx

    @property
    def excess(self) -> int:
        """How many tokens there are too many; one must be left for the answer."""
        return max(0, self.needed - self.n_ctx + 1)


def bytes_per_token(session: Session) -> float:
    """Bytes of UTF-8 in a token, as measured with the text of this session; the usual number where that is short."""
    tokens = size_bytes = 0
    loaded_us = session.loads[-1].t_us if session.loads else 0
    for turn in reversed(session.turns):
        if turn.started.t_us < loaded_us or tokens > 50 * LEAST_TOKENS:
            break
        if turn.counted:
            tokens += len(turn.token_t_us)
            size_bytes += _size_bytes(turn.text)
    if tokens < LEAST_TOKENS:
        return USUAL_BYTES_PER_TOKEN
    least, most = BYTES_PER_TOKEN_BOUNDS
    return min(max(size_bytes / tokens, least), most)


def estimated_tokens(text: str, session: Session) -> int:
    """About how many tokens a text is."""
    return round(_size_bytes(text) / bytes_per_token(session))


def estimate_context(
    prompt: str,
    messages: Sequence[ChatMessage],
    system: str | None,
    *,
    counted_tokens: int | None,
    session: Session,
    n_ctx: int,
) -> ContextEstimate:
    """What the context would have to hold with `prompt`; `counted_tokens` are those of system prompt and messages."""
    texts = [prompt]
    if counted_tokens is None:
        texts += [message.content for message in messages] + ([system] if system else [])
    counted, estimated = counted_tokens or 0, estimated_tokens("".join(texts), session)
    return ContextEstimate(
        needed=counted + estimated + MESSAGE_TOKENS * len(texts),
        certain=counted + int(SURE_SHARE * estimated),
        n_ctx=n_ctx,
    )


def _size_bytes(text: str) -> int:
    return len(text.encode("utf-8", "replace"))


_FENCE = re.compile(r" {0,3}(?P<fence>`{3,}|~{3,})(?P<info>.*)")
_KEPT = frozenset("\n\t\u200c\u200d")
"""Line breaks and tabs; zero-width joiners, which hold emoji and words of some scripts together."""

_LEFT_OUT = frozenset({"Cc", "Cf", "Cs"})
"""Controls, invisible characters that change the order of a line or hide text, lone surrogates (Unicode categories)."""


def harmless(text: str) -> str:
    """`text` without what would act on a terminal or hide when it is pasted; line breaks and tabs stay."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\u2028", "\n").replace("\u2029", "\n")
    if text.isascii() and text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return "".join(each for each in text if each in _KEPT or unicodedata.category(each) not in _LEFT_OUT)


def as_markdown(messages: Sequence[ChatMessage], *, system: str | None, model: str) -> str:
    """The whole conversation, a heading before each message, harmless to show and to paste."""
    names = {"system": "System", "user": "You", "assistant": model or "Assistant"}
    head = [ChatMessage("system", system)] if system else []
    parts = [f"## {names[message.role]}\n\n{message.content.strip()}\n" for message in (*head, *messages)]
    return harmless("\n".join(parts))


def code_blocks(text: str) -> list[str]:
    """What stands in the fences of a Markdown text, the first first; a fence that is not closed goes to the end.

    As CommonMark 0.31.2 has it (4.5): of backticks or tildes, indented by up to three blanks, closed by a fence that is
    no shorter. Fences inside of lists are found as well, with the indentation of the opening one taken away.
    """
    blocks: list[str] = []
    fence, indent = "", 0
    lines: list[str] = []
    for line in text.splitlines():
        if not fence:
            opening = _FENCE.fullmatch(line.lstrip() if line.startswith("    ") else line)
            if opening is not None and not (opening["fence"][0] == "`" and "`" in opening["info"]):
                fence, indent, lines = opening["fence"], len(line) - len(line.lstrip(" ")), []
            continue
        closing = _FENCE.fullmatch(line[min(indent, len(line) - len(line.lstrip(" "))) :])
        if closing is not None and closing["fence"].startswith(fence) and not closing["info"].strip():
            blocks.append("\n".join(lines))
            fence = ""
        else:
            lines.append(line[min(indent, len(line) - len(line.lstrip(" "))) :])
    if fence and lines:
        blocks.append("\n".join(lines))
    return blocks


CLEARED, UNDONE, RESUMED = "conversation_cleared", "turn_taken_back", "conversation_resumed"
"""Kinds of the events that say what the messages are besides the turns; by them a session can be gone on with."""

EARLIER_MAX = 20
"""Sessions that went on one after the other; more than these are a file that was made to have no end."""

NAME_LENGTH = 8
"""Of an id, as in the names of session files."""


class ResumptionError(EdgetopError):
    """A session that has no conversation to go on with."""


class RecordedTurn(NamedTuple):
    """A turn, and the session that has its readings."""

    session: Session
    turn: Turn


class Exchange(Struct, frozen=True):
    """A prompt, and the turns that answered it: the first one, and those that went on with a stopped answer."""

    prompt: str
    turns: tuple[RecordedTurn, ...]

    @property
    def answer(self) -> str:
        """All that was answered, without the reasoning."""
        return "".join(each.turn.answer for each in self.turns)


class RecordedConversation(Struct, frozen=True, kw_only=True):
    """What was said and still counted at the end of a session."""

    session_id: str
    exchanges: tuple[Exchange, ...]
    system: str | None
    context_used: int | None
    """Tokens in the KV cache after the last turn; `None` where they are not those of these messages."""
    lacking: str = ""
    """The session that a part of the conversation was in, if that cannot be found."""

    @property
    def name(self) -> str:
        """As much of the id as a person needs."""
        return self.session_id[:NAME_LENGTH]

    @property
    def messages(self) -> list[ChatMessage]:
        """The messages, without the system prompt."""
        return [
            message
            for each in self.exchanges
            for message in (ChatMessage("user", each.prompt), ChatMessage("assistant", each.answer))
        ]


def recorded_conversation(session: Session, find: Callable[[str], Session]) -> RecordedConversation:
    """The conversation of a session. `find` gives an earlier session by its id and raises EdgetopError without one.

    Raises ResumptionError when nothing was said, or when what was said was not recorded.
    """
    exchanges, system, lacking = _fold(session, find, EARLIER_MAX)
    if not exchanges:
        raise ResumptionError(
            f"Session {_name(session)} has no conversation.", "Choose one in which something was asked."
        )
    turn = exchanges[-1].turns[-1].turn
    last = turn.finished
    is_of_the_end = bool(session.turns) and turn is session.turns[-1]
    return RecordedConversation(
        session_id="" if session.header is None else session.header.session_id,
        exchanges=tuple(exchanges),
        system=system,
        context_used=last.context_used if last is not None and is_of_the_end else None,
        lacking=lacking,
    )


def find_in(store: Store) -> Callable[[str], Session]:
    """Finds sessions of a store by their ids. What it gives raises EdgetopError where there is none."""

    def find(session_id: str) -> Session:
        for each in store.list():
            if each.head is not None and each.head.id == session_id:
                return load(each.path)
        raise StoreError(f"There is no session {session_id}.")

    return find


def _fold(
    session: Session, find: Callable[[str], Session], earlier_left: int
) -> tuple[list[Exchange], str | None, str]:
    """The exchanges that counted at the end, the last system prompt, and the session that is lacking."""
    exchanges: list[Exchange] = []
    system: str | None = None
    lacking = ""
    entries = [(event.t_us, 0, index) for index, event in enumerate(session.events)]
    entries += [(turn.started.t_us, 1, index) for index, turn in enumerate(session.turns)]
    for _, is_turn, index in sorted(entries):
        if is_turn:
            system = session.turns[index].started.system
            _add(exchanges, session.turns[index], session)
            continue
        event = session.events[index]
        if event.kind == CLEARED:
            exchanges, lacking = [], ""
        elif event.kind == UNDONE:
            del exchanges[-1:]
        elif event.kind == RESUMED:
            earlier_id = str(event.data.get("session", ""))
            try:
                if earlier_left <= 0:
                    raise ResumptionError("There are too many earlier sessions.")
                exchanges, system, lacking = _fold(find(earlier_id), find, earlier_left - 1)
            except EdgetopError:
                exchanges, lacking = [], earlier_id
    return exchanges, system, lacking


def _add(exchanges: list[Exchange], turn: Turn, session: Session) -> None:
    started = turn.started
    if started.task or started.warmup:
        return
    if started.prompt is None:
        raise ResumptionError(
            f"The texts of session {_name(session)} were not recorded.", "Only with them can it be gone on with."
        )
    if not started.prompt:
        if exchanges:
            exchanges[-1] = Exchange(exchanges[-1].prompt, (*exchanges[-1].turns, RecordedTurn(session, turn)))
        return
    if started.retry_of is not None:
        del exchanges[-1:]
    exchanges.append(Exchange(started.prompt, (RecordedTurn(session, turn),)))


def _name(session: Session) -> str:
    return "" if session.header is None else session.header.session_id[:NAME_LENGTH]
