from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetop.session.replay import ALIGNMENTS, REST_US, SPEEDS, AlignmentName, Differences, Player, differences
from edgetop.session.session import Session
from edgetop.session.snapshot import snapshot
from tests.session.test_replay_alignment import quick, slow
from tests.support.recorded_sessions import ENGINE, HEAD, MS, S, fold, recordings, sample, turn


def test_time_passes_only_while_it_plays_and_at_its_speed() -> None:
    player = Player([quick(), slow()])
    player.advance(S)
    assert player.moments == (0, 0)
    player.play_or_pause()
    player.advance(S)
    assert player.moments == (S, S)
    player.change_speed(2)
    player.advance(S)
    assert player.moments == (5 * S, 5 * S)
    player.change_speed(-5)
    assert player.speed == 0.25
    player.advance(S)
    assert player.moments == (5_250 * MS, 5_250 * MS)
    player.play_or_pause()
    player.advance(S)
    assert player.moments == (5_250 * MS, 5_250 * MS)


def test_a_session_without_a_turn_is_no_idle_time() -> None:
    player = Player([fold([*HEAD, sample(ENGINE, 9 * S, 150e6, 0.0, 0.0)])], cuts_idle=True)
    player.play_or_pause()
    player.advance(S)
    assert (player.playing, player.cuts_idle, player.moments) == (True, False, (S,))


def test_it_stops_at_the_end_and_starts_over_from_there() -> None:
    player = Player([quick()])
    player.play_or_pause()
    player.advance(100 * S)
    assert (player.playing, player.moments) == (False, (6 * S,))
    player.play_or_pause()
    assert (player.playing, player.moments) == (True, (0,))


def test_speed_goes_from_a_quarter_to_64_times() -> None:
    player = Player([quick()])
    player.change_speed(-99)
    assert player.speed == SPEEDS[0] == 0.25
    player.change_speed(99)
    assert player.speed == SPEEDS[-1] == 64.0


def test_steps_lead_from_token_to_token_of_any_session() -> None:
    player = Player([quick(), slow()])
    seen = []
    for _ in range(12):
        player.step(1)
        seen.append(player.position / S)
    assert seen == [1.251, 1.351, 1.451, 2.251, 3.251, 4.251, 4.351, 4.451, 5.251, 6.251, 9.0, 9.0]
    player.step(-1)
    assert player.position / S == 6.251
    player.seek(0)
    player.step(-1)
    assert player.position == 0


def test_jumps_lead_to_the_beginnings_of_turns() -> None:
    player = Player([quick()])
    seen = []
    for direction in (1, 1, 1, -1, -1, -1):
        player.jump_turn(direction)
        seen.append(player.position / S)
    assert seen == [1, 4, 6, 4, 1, 0]


def test_two_jumps_back_while_it_plays_lead_to_the_turn_before() -> None:
    player = Player([quick()])
    player.seek(5.5 * S)
    player.play_or_pause()
    player.jump_turn(-1)
    assert player.position == 4 * S
    player.advance(300 * MS)
    player.jump_turn(-1)
    assert player.position == S


def test_another_alignment_leaves_the_first_session_where_it_was() -> None:
    player = Player([quick(), slow()])
    player.seek(4_351 * MS)
    for _ in ALIGNMENTS:
        player.align_next()
        assert player.moments[0] == 4_351 * MS
    player.seek(player.length)
    player.align("token")
    assert player.moments == (6 * S, 9 * S)


@pytest.mark.parametrize("name", ALIGNMENTS)
@given(
    sessions=st.lists(recordings().map(fold), min_size=1, max_size=3),
    orders=st.lists(st.sampled_from(("on", "back", "next", "before", "play", "wait", "align", "end", "start"))),
)
def test_whatever_is_asked_the_head_stays_on_its_way(
    name: AlignmentName, sessions: list[Session], orders: list[str]
) -> None:
    player = Player(sessions, name)
    for order in orders:
        before = player.position
        match order:
            case "on" | "back":
                player.step(1 if order == "on" else -1)
            case "next" | "before":
                player.jump_turn(1 if order == "next" else -1)
            case "play":
                player.play_or_pause()
            case "wait":
                player.advance(250 * MS)
            case "align":
                player.align_next()
            case _:
                player.seek_share(1.0 if order == "end" else 0.0)
        assert 0 <= player.position <= player.length
        assert all(0 <= t_us <= each.end_us for t_us, each in zip(player.moments, sessions, strict=True))
        if order in {"on", "next"}:
            assert player.position > before or before == player.length
        if order in {"back", "before"}:
            assert player.position < before or before == 0


@given(recordings().map(fold))
def test_stepping_through_a_session_meets_each_of_its_stamps_once(session: Session) -> None:
    player = Player([session])
    stamps = {stamp for each in session.turns for stamp in each.token_t_us if stamp > 0}
    met = []
    while player.position < player.length:
        player.step(1)
        met.append(player.position)
    assert met == sorted(stamps | ({session.end_us} if session.end_us > 0 else set()))


def test_the_difference_is_the_other_less_the_first_where_both_have_the_figure() -> None:
    first = fold([*HEAD, sample(ENGINE, S, 150e6, 0.0, 0.0), *turn(gaps_us=[100 * MS] * 4)])
    other = fold([*HEAD, sample(ENGINE, S, 120e6, 0.0, 0.0), *turn(gaps_us=[50 * MS] * 4)])
    found = differences(snapshot(first, 3 * S), snapshot(other, 3 * S))
    assert found == Differences(decode_tokens_per_s=10.0, j_per_token=None, rss_bytes=-30_000_000)
    assert differences(snapshot(first, 0), snapshot(other, 3 * S)).decode_tokens_per_s is None


def test_where_idle_time_is_cut_it_goes_on_with_the_next_prompt() -> None:
    turns = [*turn(1, at_us=10 * S, gaps_us=[S] * 4), *turn(2, at_us=60 * S, gaps_us=[S] * 4)]
    session = fold([*HEAD, *turns, sample(ENGINE, 100 * S, 1.0)])
    player = Player([session, session], "turn", cuts_idle=True)
    player.jump_turn(1)
    player.play_or_pause()
    assert player.moments == (10 * S, 10 * S)
    seen = []
    while player.playing:
        player.advance(S / 4)
        seen.append(player.moments[0])
    first_end_us, last_end_us = (played.finished.t_us for played in session.turns if played.finished is not None)
    assert max(t_us for t_us in seen if t_us < 60 * S) < first_end_us + REST_US
    assert 60 * S in seen
    assert [t_us for t_us in seen if t_us >= last_end_us + REST_US] == [session.end_us]
