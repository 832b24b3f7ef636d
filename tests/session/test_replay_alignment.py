from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetop.session.replay import ALIGNMENTS, AlignmentName, aligned, token_after, token_before, tokens_until
from edgetop.session.session import Session
from tests.support.recorded_sessions import HEAD, MS, S, event, fold, recordings, turn

_sessions = st.lists(recordings().map(fold), min_size=1, max_size=3)


def quick() -> Session:
    """Turns from 1 s and from 4 s on, three tokens each, the end at 6 s."""
    return fold([*HEAD, *turn(1, at_us=S, gaps_us=[100 * MS] * 2), *turn(2, at_us=4 * S, gaps_us=[100 * MS] * 2),
                 event("session_ended", 6 * S)])  # fmt: skip


def slow() -> Session:
    """A turn from 2 s on, five tokens a second apart, the end at 9 s."""
    return fold([*HEAD, *turn(1, at_us=2 * S, gaps_us=[S] * 4), event("session_ended", 9 * S)])


def test_by_time_the_shorter_one_stays_at_its_end() -> None:
    by_time = aligned("time", [quick(), slow()])
    assert by_time.length == 9 * S
    assert by_time.moments(5 * S) == (5 * S, 5 * S)
    assert by_time.moments(8 * S) == (6 * S, 8 * S)
    assert by_time.turn_begins() == [S, 2 * S, 4 * S]


def test_by_turn_each_turn_begins_together_and_the_quicker_one_waits() -> None:
    by_turn = aligned("turn", [quick(), slow()])
    # Before the first turn 2 s, the first turn 3 s or 7 s, the second 2 s or none.
    assert by_turn.turn_begins() == [2 * S, 9 * S]
    assert by_turn.length == 11 * S
    assert by_turn.moments(2 * S) == (S, 2 * S)
    assert by_turn.moments(1.5 * S) == (S - 1, 1_500 * MS)
    assert by_turn.moments(4 * S) == (3 * S, 4 * S)
    assert by_turn.moments(8 * S) == (4 * S - 1, 8 * S)
    assert by_turn.moments(9 * S) == (4 * S, 9 * S)
    assert by_turn.moments(11 * S) == (6 * S, 9 * S)


def test_by_token_each_is_at_the_moment_when_it_had_got_so_many() -> None:
    by_token = aligned("token", [quick(), slow()])
    assert by_token.length == 6
    assert by_token.moments(0) == (0, 0)
    assert by_token.moments(2) == (1_351 * MS, 3_251 * MS)
    assert by_token.moments(4) == (4_251 * MS, 5_251 * MS)
    assert by_token.moments(5) == (4_351 * MS, 9 * S)  # the slow one has no sixth
    assert by_token.moments(6) == (6 * S, 9 * S)
    assert by_token.turn_begins() == [1, 4]


def test_while_it_plays_by_token_the_head_keeps_the_pace_of_the_one_with_most_tokens() -> None:
    by_token = aligned("token", [slow(), quick()])
    assert by_token.later(1, 100 * MS) == 2
    assert by_token.later(1, 150 * MS) == pytest.approx(2.5)
    assert by_token.later(by_token.later(3, 1_300 * MS), 1_500 * MS) == pytest.approx(by_token.later(3, 2_800 * MS))
    assert by_token.later(5, 60 * S) == 6


@pytest.mark.parametrize("name", ALIGNMENTS)
@given(sessions=_sessions, shares=st.lists(st.floats(0, 1), min_size=2, max_size=8))
def test_moments_go_on_with_the_position_from_the_beginning_to_the_end(
    name: AlignmentName, sessions: list[Session], shares: list[float]
) -> None:
    alignment = aligned(name, sessions)
    rows = [alignment.moments(share * alignment.length) for share in sorted(shares)]
    for moments in zip(*rows, strict=True):
        assert list(moments) == sorted(moments)
    assert alignment.moments(alignment.length) == tuple(max(0, session.end_us) for session in sessions)
    if alignment.length:
        assert all(t_us == 0 or not session.turns for session, t_us in zip(sessions, alignment.moments(0), strict=True)
                   if any(turn.token_t_us for turn in session.turns))  # fmt: skip


@pytest.mark.parametrize("name", ALIGNMENTS)
@given(sessions=_sessions, share=st.floats(0, 1))
def test_a_position_is_found_again_by_the_moment_of_a_session(
    name: AlignmentName, sessions: list[Session], share: float
) -> None:
    alignment = aligned(name, sessions)
    position = share * alignment.length
    for index, t_us in enumerate(alignment.moments(position)):
        again = alignment.moments(alignment.position_of(index, t_us))[index]
        assert again == t_us if name != "token" else again >= t_us or t_us == sessions[index].end_us


@given(recordings().map(fold), st.integers(0, 60 * S))
def test_the_tokens_around_a_moment_are_those_of_all_turns(session: Session, t_us: int) -> None:
    stamps_us = [stamp for each in session.turns for stamp in each.token_t_us]
    assert tokens_until(session, t_us) == sum(stamp <= t_us for stamp in stamps_us)
    assert token_after(session, t_us) == min((stamp for stamp in stamps_us if stamp > t_us), default=None)
    assert token_before(session, t_us) == max((stamp for stamp in stamps_us if stamp < t_us), default=None)
