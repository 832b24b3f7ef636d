from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetop.core.records import DeviceInfo, SessionStarted, Tokens, TurnFinished, TurnStarted
from edgetop.inference.protocol import ChatMessage
from edgetop.live.history import (
    BYTES_PER_TOKEN_BOUNDS,
    USUAL_BYTES_PER_TOKEN,
    ContextEstimate,
    bytes_per_token,
    estimate_context,
    estimated_tokens,
)
from edgetop.session.session import Session


def session_of(pieces: tuple[str, ...] = ()) -> Session:
    session = Session()
    session.apply(
        SessionStarted(t_us=0, session_id="a", started_at="", edgetop_version="1", device=DeviceInfo(hostname="board"))
    )
    if pieces:
        session.apply(TurnStarted(turn=1, t_us=1, prompt="?"))
        session.apply(Tokens(turn=1, t_us=tuple(range(2, 2 + len(pieces))), pieces=pieces))
    return session


def test_a_token_has_the_bytes_that_it_had_in_this_session() -> None:
    assert bytes_per_token(session_of(("ab ",) * 200)) == 3.0
    assert estimated_tokens("x" * 300, session_of(("ab ",) * 200)) == 100
    assert bytes_per_token(session_of(("中",) * 200)) == 3.0


def test_a_short_session_says_nothing_and_a_strange_one_little() -> None:
    assert bytes_per_token(session_of()) == bytes_per_token(session_of(("a",) * 20)) == USUAL_BYTES_PER_TOKEN
    assert bytes_per_token(session_of(("",) * 200)) == BYTES_PER_TOKEN_BOUNDS[0]
    assert bytes_per_token(session_of((" " * 90,) * 200)) == BYTES_PER_TOKEN_BOUNDS[1]


def test_a_chunk_is_no_token() -> None:
    session = session_of()
    session.apply(TurnStarted(turn=1, t_us=1, prompt="?"))
    session.apply(Tokens(turn=1, t_us=tuple(range(2, 202)), pieces=("many words ",) * 200, counted=False))
    assert bytes_per_token(session) == USUAL_BYTES_PER_TOKEN


def room(
    prompt: str, *, counted: int | None = None, messages: tuple[ChatMessage, ...] = (), n_ctx: int = 1000
) -> ContextEstimate:
    return estimate_context(prompt, messages, None, counted_tokens=counted, session=session_of(), n_ctx=n_ctx)


def test_only_what_surely_does_not_fit_is_refused() -> None:
    assert not room("x" * 4000).cannot_fit  # about 1000 tokens, perhaps fewer
    assert room("x" * 6000).cannot_fit
    assert not room("Hello?", counted=900).cannot_fit
    assert room("x" * 800, counted=900).cannot_fit
    assert room("x" * 800, counted=900).excess == 900 + 206 - 1000 + 1


def test_messages_that_the_engine_has_not_counted_are_estimated() -> None:
    said = (ChatMessage("user", "x" * 4000), ChatMessage("assistant", "x" * 4000))
    assert room("Hello?", messages=said).cannot_fit
    assert not room("Hello?", messages=said, counted=500).cannot_fit


@given(st.text(st.characters(codec=None), max_size=200), st.integers(1, 5000), st.none() | st.integers(0, 5000))
def test_what_is_certain_is_never_more_than_what_is_needed(text: str, n_ctx: int, counted: int | None) -> None:
    found = room(text, counted=counted, n_ctx=n_ctx)
    assert 0 <= found.certain <= found.needed
    assert found.excess > 0 or not found.cannot_fit


@pytest.mark.parametrize("size", [0, 1, 100])
def test_a_finished_turn_counts_like_a_growing_one(size: int) -> None:
    session = session_of(("ab ",) * 200)
    ended = TurnFinished(
        turn=1, t_us=900, stop_reason="end_of_generation", prompt_tokens=1, cached_tokens=0, generated_tokens=200,
        context_used=201,
    )  # fmt: skip
    before = estimated_tokens("x" * size, session)
    session.apply(ended)
    assert estimated_tokens("x" * size, session) == before
