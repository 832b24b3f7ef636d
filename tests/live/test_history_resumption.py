"""Sessions that are recorded by real conversations with a scripted engine, and gone on with."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from msgspec.structs import replace

from edgetop.core.records import DeviceInfo, SessionStarted, TurnStarted
from edgetop.inference.protocol import ChatMessage
from edgetop.inference.scripted import Reply, Script
from edgetop.live.history import EARLIER_MAX, RecordedConversation, ResumptionError, find_in, recorded_conversation
from edgetop.session.session import Session
from edgetop.session.store import Store, StoreError
from tests.live.conftest import Talk

Begin = Callable[[Script], Talk]
NUMBERED = Script(replies=tuple(Reply(text=f"<think>Hm.</think>Answer {number}.") for number in range(1, 9)))


def none_there(session_id: str) -> Session:
    raise StoreError(f"There is no session {session_id}.")


def session_of(chat: Talk, session_id: str = "first", *, text: bool = True) -> Session:
    """What was recorded, as a session."""
    session = Session()
    begun_us = min(record.t_us for record in chat.begun) - 10_000_000
    session.apply(
        SessionStarted(
            t_us=begun_us,
            session_id=session_id,
            started_at="2026-11-21T10:00:00+00:00",
            edgetop_version="1",
            device=DeviceInfo(hostname="board"),
            text_recorded=text,
        )
    )
    for record in chat.records:
        session.apply(replace(record, prompt=None) if isinstance(record, TurnStarted) and not text else record)
    return session


def said_in(found: RecordedConversation) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in found.messages]


def test_what_counts_at_the_end_is_what_the_model_would_be_told(talk: Begin) -> None:
    chat = talk(NUMBERED)
    chat.load()
    chat.ask("Forgotten?")
    chat.conversation.clear()
    chat.ask("First?")
    chat.ask("Second?")
    chat.conversation.replace_prompt("Second, changed?")
    chat.reach("ready")
    chat.conversation.system = "Be brief."
    chat.ask("Third?")
    chat.conversation.undo()
    chat.conversation.retry()
    chat.reach("ready")
    chat.conversation.continue_answer()
    chat.reach("ready")
    found = recorded_conversation(session_of(chat), none_there)
    assert said_in(found) == chat.said
    assert chat.said[2:] == [("user", "Second, changed?"), ("assistant", "Answer 6.Answer 7.")]
    assert found.system == "Be brief."
    assert found.context_used == chat.ended[-1].context_used
    assert [len(exchange.turns) for exchange in found.exchanges] == [1, 2]


def test_after_a_turn_was_taken_back_the_tokens_are_not_known(talk: Begin) -> None:
    chat = talk(NUMBERED)
    chat.load()
    chat.ask("First?")
    chat.ask("Second?")
    chat.conversation.undo()
    found = recorded_conversation(session_of(chat), none_there)
    assert said_in(found) == chat.said
    assert found.context_used is None


def test_a_session_that_went_on_with_another_one_begins_with_it(talk: Begin) -> None:
    first = talk(NUMBERED)
    first.load()
    first.ask("First?")
    first.ask("Second?")
    earlier = session_of(first)
    second = talk(NUMBERED)
    second.load()
    found = recorded_conversation(earlier, none_there)
    second.conversation.resume(found.messages, system=found.system, session_id="first")
    second.conversation.replace_prompt("Second, elsewhere?")
    second.reach("ready")
    later = session_of(second, "second")
    together = recorded_conversation(later, {"first": earlier}.__getitem__)
    assert said_in(together) == second.said
    assert together.lacking == ""
    alone = recorded_conversation(later, none_there)
    assert alone.lacking == "first"
    assert said_in(alone) == second.said[-2:]


def test_sessions_that_go_on_with_each_other_for_ever_come_to_an_end(talk: Begin) -> None:
    chat = talk(NUMBERED)
    chat.load()
    chat.conversation.resume([ChatMessage("user", "a")], system=None, session_id="first")
    chat.ask("First?")
    session = session_of(chat)
    asked = count()

    def find(session_id: str) -> Session:
        next(asked)
        return session

    found = recorded_conversation(session, find)
    assert next(asked) == EARLIER_MAX
    assert len(found.exchanges) == EARLIER_MAX + 1
    assert found.lacking == "first"


def test_without_text_or_without_a_turn_there_is_nothing_to_go_on_with(talk: Begin) -> None:
    chat = talk(NUMBERED)
    chat.load()
    chat.ask("First?")
    with pytest.raises(ResumptionError, match="not recorded"):
        recorded_conversation(session_of(chat, text=False), none_there)
    chat.conversation.undo()
    with pytest.raises(ResumptionError, match="no conversation"):
        recorded_conversation(session_of(chat), none_there)


def test_an_earlier_session_is_found_in_the_store_by_its_id(talk: Begin, tmp_path: Path) -> None:
    chat = talk(NUMBERED)
    chat.load()
    chat.ask("First?")
    store = Store(tmp_path)
    session = session_of(chat, "0123456789ab")
    journal = store.new_journal("0123456789ab", "2026-11-21T10:00:00+00:00")
    store.finish(session, journal)
    assert said_in(recorded_conversation(find_in(store)("0123456789ab"), none_there)) == chat.said
    with pytest.raises(StoreError):
        find_in(store)("01")
