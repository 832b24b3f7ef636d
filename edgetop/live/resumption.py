"""A recorded session as a conversation that can be gone on with.

The turns of a session are not its messages: some were answered once more, some taken back, some only went on with the
answer before them, and the conversation may have been begun anew or be that of a still earlier session. The records
say all of that.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from edgetop.core.errors import EdgetopError
from edgetop.inference.protocol import ChatMessage
from edgetop.live.conversation import CLEARED, RESUMED, TAKEN_BACK
from edgetop.session.session import Session
from edgetop.session.store import Store, StoreError
from edgetop.session.turn import Turn

EARLIER_MAX = 20
"""Sessions that went on one after the other; more than these are a file that was made to have no end."""
NAME_LENGTH = 8
"""Of an id, as in the names of session files."""


class ResumptionError(EdgetopError):
    """A session that has no conversation to go on with."""


class Exchange(Struct, frozen=True):
    """A prompt, and the turns that answered it: the first one, and those that went on with a stopped answer."""

    prompt: str
    turns: tuple[Turn, ...]

    @property
    def answer(self) -> str:
        """All that was answered, without the reasoning."""
        return "".join(span.text for turn in self.turns for span in turn.reply if span.part == "answer")


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
    last = exchanges[-1].turns[-1].finished
    is_of_the_end = bool(session.turns) and exchanges[-1].turns[-1] is session.turns[-1]
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
        from edgetop.session.disk import load  # noqa: PLC0415 - only sessions that went on with another one need it

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
    happenings = [(event.t_us, 0, index) for index, event in enumerate(session.events)]
    happenings += [(turn.started.t_us, 1, index) for index, turn in enumerate(session.turns)]
    for _, is_turn, index in sorted(happenings):
        if is_turn:
            system = session.turns[index].started.system
            _add(exchanges, session.turns[index], session)
            continue
        event = session.events[index]
        if event.kind == CLEARED:
            exchanges, lacking = [], ""
        elif event.kind == TAKEN_BACK:
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
            exchanges[-1] = Exchange(exchanges[-1].prompt, (*exchanges[-1].turns, turn))
        return
    if started.retry_of is not None:
        del exchanges[-1:]
    exchanges.append(Exchange(started.prompt, (turn,)))


def _name(session: Session) -> str:
    return "" if session.header is None else session.header.session_id[:NAME_LENGTH]
