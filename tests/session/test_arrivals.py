"""Figures of turns whose tokens arrived from a server: several at a time, counted or not."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetop.core.records import Record, Tokens, TurnFinished, TurnStarted
from edgetop.session.file import SessionFile, to_file, to_session
from edgetop.session.session import Session
from edgetop.session.snapshot import TurnView, snapshot
from tests.support.recorded_sessions import LOADED, MS, START_US, STARTED, S, fold


def arriving(
    chunks: list[tuple[int, int]], *, counted: bool = True, total: int | None = None, ended: bool = True
) -> Session:
    """A turn with chunks at so many milliseconds that hold so many tokens each.

    Not `counted`, a chunk is one entry; `total` is what the server says at the end, if it does.
    """
    records: list[Record] = [STARTED, LOADED, TurnStarted(turn=1, t_us=START_US + S, prompt="?")]
    entries = 0
    for at_ms, tokens in chunks:
        entries += 1 if not counted else tokens
        stamps = (START_US + S + at_ms * MS,) * (tokens if counted else 1)
        records.append(Tokens(turn=1, t_us=stamps, pieces=("x", *[""] * (len(stamps) - 1)), counted=counted))
    if ended:
        records.append(
            TurnFinished(
                turn=1,
                t_us=START_US + 100 * S,
                stop_reason="end_of_generation",
                prompt_tokens=0 if total is None and not counted else 9,
                cached_tokens=0,
                generated_tokens=entries if total is None else total,
                context_used=9,
                counted=counted or total is not None,
            )
        )
    return fold(records)


def last_turn(session: Session) -> TurnView:
    turn = snapshot(session, 100 * S).turn
    assert turn is not None
    return turn


def test_tokens_of_the_first_chunk_are_left_out_together() -> None:
    figures = last_turn(arriving([(0, 4), (1000, 4), (2000, 4)])).figures
    assert figures.generated_tokens == 12
    assert figures.decode_tokens_per_s == pytest.approx(8 / 2)


def test_gaps_are_those_of_tokens_or_none() -> None:
    single = arriving([(at_ms, 1) for at_ms in range(0, 20_000, 100)])
    gaps = last_turn(single).figures.token_gap_ms
    assert gaps is not None
    assert gaps.p50 == pytest.approx(100)
    assert last_turn(arriving([(0, 1), (100, 2), (200, 1)])).figures.token_gap_ms is None
    assert snapshot(single, 100 * S).summary.token_gap_ms == gaps


def test_two_tokens_that_came_together_once_in_a_long_reply_spoil_no_percentile() -> None:
    chunks = [(at_ms, 1) for at_ms in range(0, 20_000, 100)]
    chunks[7] = (700, 2)
    gaps = last_turn(arriving(chunks)).figures.token_gap_ms
    assert gaps is not None
    assert (gaps.p50, gaps.p99) == pytest.approx((100, 100))


def test_chunks_that_nobody_counts_give_no_rate_of_tokens() -> None:
    for ended in (False, True):
        turn = last_turn(arriving([(0, 1), (1000, 1), (2000, 1)], counted=False, ended=ended))
        assert not turn.counted
        assert turn.figures.decode_tokens_per_s is None
        assert turn.figures.token_gap_ms is None
        assert turn.figures.prompt_tokens is None
        assert "how many tokens" in turn.figures.energy_missing or "power" in turn.figures.energy_missing
    summary = snapshot(arriving([(0, 1), (1000, 1)], counted=False), 100 * S).summary
    assert (summary.decode_tokens_per_s, summary.token_gap_ms) == (None, None)


def test_the_number_that_the_server_tells_at_the_end_counts() -> None:
    session = arriving([(0, 1), (1000, 1), (2000, 1)], counted=False, total=30)
    turn = last_turn(session)
    assert turn.counted
    assert turn.figures.generated_tokens == 30
    # The first chunk is taken to hold a third of them.
    assert turn.figures.decode_tokens_per_s == pytest.approx(20 / 2)
    assert turn.figures.token_gap_ms is None
    assert snapshot(session, 100 * S).summary.generated_tokens == 30


def test_as_many_tokens_as_chunks_are_tokens() -> None:
    figures = last_turn(arriving([(0, 1), (1000, 1), (2000, 1)], counted=False, total=3)).figures
    assert figures.decode_tokens_per_s == pytest.approx(1)
    assert figures.token_gap_ms is not None


@given(
    st.lists(st.tuples(st.integers(1, 5000), st.integers(1, 9)), min_size=2, max_size=30),
    st.booleans(),
    st.none() | st.integers(1, 500),
)
def test_a_file_keeps_the_figures(steps: list[tuple[int, int]], counted: bool, total: int | None) -> None:
    at_ms, chunks = 0, []
    for gap_ms, tokens in steps:
        at_ms += gap_ms
        chunks.append((min(at_ms, 90_000), tokens))
    session = arriving(chunks, counted=counted, total=None if counted else total)
    file = to_file(session)
    again = to_session(msgspec.json.decode(msgspec.json.encode(file), type=SessionFile))
    assert to_file(again) == file
    rate = file.turns[0].figures.decode_tokens_per_s
    first_ms, last_ms = chunks[0][0], chunks[-1][0]
    if counted and last_ms > first_ms:
        after = sum(tokens for chunk_ms, tokens in chunks if chunk_ms > first_ms)
        assert rate == pytest.approx(after / (last_ms - first_ms) * 1000)
