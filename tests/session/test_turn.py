from __future__ import annotations

from edgetop.core.figures import TokenGaps
from edgetop.session.turn import (
    TurnProgress,
    decode_tokens_per_s,
    first_token_s,
    prefill_tokens_per_s,
    recent_tokens_per_s,
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
