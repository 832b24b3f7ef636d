from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from edgetop.core.engine_settings import EnginePerf
from edgetop.core.figures import TokenGaps
from edgetop.core.records import ReplyPart, Tokens, TurnFinished, TurnStarted
from edgetop.session.turn import (
    PIECES_APART,
    Span,
    Turn,
    TurnProgress,
    decode_tokens_per_s,
    first_token_s,
    pause_of,
    prefill_tokens_per_s,
    recent_tokens_per_s,
    server_words,
    token_gaps,
)

MS = 1000
S = 1_000_000


def test_the_decode_rate_leaves_out_the_first_token() -> None:
    progress = TurnProgress(submitted_us=0, generated=11, first_us=5 * S, last_us=7 * S)
    assert decode_tokens_per_s(progress) == 5.0


def test_the_prefill_rate_counts_what_was_evaluated_from_its_beginning() -> None:
    progress = TurnProgress(
        submitted_us=0, prefill_begin_us=1 * S, prefill_end_us=3 * S, evaluated=300, to_evaluate=600, cached=100
    )
    assert prefill_tokens_per_s(progress) == 150.0
    assert progress.prompt_tokens == 700


def test_the_first_token_is_counted_from_submitting() -> None:
    assert first_token_s(TurnProgress(submitted_us=2 * S, generated=1, first_us=2_250 * MS, last_us=2_250 * MS)) == 0.25


def test_what_cannot_be_computed_is_missing_and_not_zero() -> None:
    nothing = TurnProgress(submitted_us=0)
    one = TurnProgress(submitted_us=0, generated=1, first_us=S, last_us=S)
    begun = TurnProgress(submitted_us=0, prefill_begin_us=S, prefill_end_us=S, to_evaluate=9, cached=0)
    assert decode_tokens_per_s(nothing) is None
    assert decode_tokens_per_s(one) is None
    assert first_token_s(nothing) is None
    assert prefill_tokens_per_s(begun) is None
    assert token_gaps([]) is None
    assert recent_tokens_per_s([S], 1, 2 * S) is None


def test_gaps_are_told_in_milliseconds() -> None:
    assert token_gaps([10 * MS, 20 * MS, 40 * MS]) == TokenGaps(p50=20.0, p95=38.0, p99=39.6, max=40.0)


def test_the_recent_rate_forgets_what_is_older_than_two_seconds() -> None:
    slow = [index * S for index in range(11)]
    fast = [10 * S + index * 100 * MS for index in range(1, 31)]
    assert recent_tokens_per_s([*slow, *fast], 41, 13 * S) == 10.0


def test_rare_tokens_still_have_a_recent_rate() -> None:
    assert recent_tokens_per_s([0, 4 * S, 8 * S], 3, 9 * S) == 0.25


def test_a_stall_shows_in_the_recent_rate_while_it_lasts() -> None:
    stamps = [index * 100 * MS for index in range(21)]
    assert recent_tokens_per_s(stamps, 21, 2_200 * MS) == 10.0
    stalled = recent_tokens_per_s(stamps, 21, 12 * S)
    longer = recent_tokens_per_s(stamps, 21, 22 * S)
    assert stalled is not None
    assert longer is not None
    assert longer < stalled < 1.0


def test_hidden_reasoning_and_bursts_do_not_make_a_rate() -> None:
    """Twenty tokens a second, of which the server counts a hundred more that it never showed."""
    turn = Turn(TurnStarted(turn=1, t_us=0, prompt=""))
    stamps = tuple(3_000_000 + 50_000 * number for number in range(20))
    turn.add_tokens(Tokens(turn=1, t_us=stamps, pieces=("w",) * 20, counted=False), stamps)
    turn.finished = TurnFinished(
        turn=1, t_us=stamps[-1], stop_reason="end_of_generation", prompt_tokens=10, cached_tokens=None,
        generated_tokens=120, hidden_tokens=100, context_used=130,
    )  # fmt: skip
    assert decode_tokens_per_s(turn.progress(stamps[-1])) == pytest.approx(20)
    burst = Turn(TurnStarted(turn=1, t_us=0, prompt=""))
    stamps = tuple(1_000_000 + 40 * number for number in range(20))
    burst.add_tokens(Tokens(turn=1, t_us=stamps, pieces=("w",) * 20, counted=False), stamps)
    burst.finished = replace(turn.finished, t_us=stamps[-1], generated_tokens=20, hidden_tokens=0)
    assert decode_tokens_per_s(burst.progress(stamps[-1])) is None


def test_a_servers_own_rate_is_marked_where_it_differs_by_more_than_five_percent() -> None:
    perf = EnginePerf(
        prefill_ms=100, prefill_tokens=50, decode_ms=1000, decode_tokens=100, draft_tokens=50, draft_accepted=40,
        load_ms=2900,
    )  # fmt: skip
    assert server_words(perf, 99.0, 500.0) == (
        "server says decode 100 tok/s, prefill 500 tok/s, 40 of 50 draft tokens accepted, 1.67 tokens a step, "
        "loading 2.9 s"
    )
    assert "decode 100 tok/s!" in server_words(perf, 110.0, 500.0)
    assert server_words(None, 1.0, 1.0) == ""


@given(st.lists(st.lists(st.text(max_size=3), max_size=400), max_size=8), st.integers(0, 8))
def test_a_replys_text_is_its_pieces_however_they_are_kept(batches: list[list[str]], asked_at: int) -> None:
    span, pieces = Span("answer"), list[str]()
    for number, batch in enumerate(batches):
        span.extend(batch)
        pieces += batch
        if number == asked_at:
            assert span.text == "".join(pieces)
    assert (span.text, span.tokens) == ("".join(pieces), len(pieces))


def test_a_long_reply_keeps_no_string_for_each_token() -> None:
    span = Span("answer")
    for number in range(10_000):
        span.extend([f" {number}"])
    assert len(span._pieces) < 2 * PIECES_APART


@pytest.mark.parametrize(
    ("gap_us", "others_us", "paused_us"),
    [
        (20 * S, [50_000] * 20, 20 * S - 50_000),
        (1_900_000, [10_000] * 20, 0),  # a token that waits for the disk
        (20 * S, [3 * S] * 20, 0),  # a slow machine
        (20 * S, [50_000] * 90 + [4 * S] * 10, 0),  # one that often waits
        (20 * S, [50_000] * 7, None),
        (20 * S, [], None),
    ],
)
def test_a_pause_is_far_longer_than_what_is_usual(gap_us: int, others_us: list[int], paused_us: int | None) -> None:
    assert pause_of(gap_us, others_us) == paused_us


@given(
    gaps_us=st.lists(st.integers(0, 2**33), max_size=20),
    pieces=st.lists(st.text(max_size=300) | st.just("a\udcffb"), min_size=20, max_size=20),
    part=st.sampled_from(["answer", "reasoning"]),
)
def test_a_packed_turn_says_what_it_said(gaps_us: list[int], pieces: list[str], part: ReplyPart) -> None:
    turn = Turn(TurnStarted(turn=1, t_us=-5, prompt="x"))
    for t_us, piece in zip(accumulate(gaps_us, initial=7), pieces, strict=False):
        turn.add_tokens(Tokens(turn=1, t_us=(t_us,), pieces=(piece,), part=part), [t_us])
        part = "answer"
    before = list(turn.token_t_us), list(turn.token_chars), turn.text, turn.answer
    turn.pack()
    assert turn.token_t_us is turn.token_t_us  # One that goes on is not packed.
    end = TurnFinished(
        turn=1, t_us=2**40, stop_reason="max_tokens", prompt_tokens=1, cached_tokens=0, generated_tokens=len(pieces),
        context_used=9,
    )  # fmt: skip
    turn.finish(end)
    progress = turn.progress(2**39)
    for _ in range(2):
        turn.pack()
        assert (list(turn.token_t_us), list(turn.token_chars), turn.text, turn.answer) == before
        assert turn.progress(2**39) == progress
