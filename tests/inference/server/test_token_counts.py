"""One count that never falls, whatever servers do."""

from __future__ import annotations

from collections.abc import Hashable

from hypothesis import given
from hypothesis import strategies as st

from edgetop.core.sources import Unavailable
from edgetop.inference.server.usage import (
    ENDED,
    NOT_RUNNING,
    STARTED_ANEW,
    ReportedCount,
    RequestCount,
    RunningCount,
    TokenSum,
)

SILENT = Unavailable("it does not answer")
steps = st.lists(st.tuples(st.integers(0, 500), st.booleans()), min_size=1, max_size=30)


@given(steps, st.integers(0, 10_000))
def test_missed_looks_lose_no_token(steps: list[tuple[int, bool]], begin: int) -> None:
    total = TokenSum()
    assert total.update({"a": begin}) == 0
    truth = begin
    for grown, answers in steps:
        truth += grown
        told = total.update({"a": truth if answers else SILENT})
        assert told == (truth - begin if answers else SILENT)


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), max_size=20))
def test_the_sum_is_that_of_all_servers(grown: list[tuple[int, int]]) -> None:
    total, first, second = TokenSum(), 1000, 5
    total.update({"a": first, "b": second})
    for one, other in grown:
        first, second = first + one, second + other
        total.update({"a": first, "b": second})
    assert total.total == sum(map(sum, grown))


told = st.one_of(st.integers(0, 1000), st.just(NOT_RUNNING), st.just(SILENT))


@given(st.lists(st.dictionaries(st.sampled_from("abc"), told), max_size=40))
def test_the_sum_never_falls(looks: list[dict[Hashable, ReportedCount]]) -> None:
    total, before = TokenSum(), 0
    for look in looks:
        found = total.update(look)
        assert total.total >= before
        assert isinstance(found, Unavailable) or found == total.total
        before = total.total


def test_a_server_started_anew_is_told_and_then_counts_on() -> None:
    total = TokenSum()
    assert total.update({"a": 700}) == 0
    assert total.update({"a": 750}) == 50
    assert total.update({"a": 20}) is STARTED_ANEW
    assert total.update({"a": 30}) == 60


def test_a_server_that_ended_generates_nothing_and_counts_from_0_when_it_is_back() -> None:
    total = TokenSum()
    total.update({"a": 700})
    assert total.update({"a": NOT_RUNNING}) is ENDED
    assert total.update({"a": NOT_RUNNING}) == 0
    assert total.update({"a": 8}) == 8
    assert total.update({"a": NOT_RUNNING}) is ENDED
    assert total.update({"a": 300}) is STARTED_ANEW, "it was not gone after all, or more than can be known"


def test_what_a_server_generated_before_it_was_first_seen_does_not_count() -> None:
    total = TokenSum()
    total.update({"a": 10})
    assert total.update({"a": 15, "b": 9000}) == 5
    assert total.update({"b": 9001}) == 6


@st.composite
def traffic(draw: st.DrawFn) -> list[tuple[int, dict[int, int]]]:
    """Looks at a server that runs requests to their ends: its own count of ended ones, and the running ones."""
    lengths = draw(st.lists(st.integers(1, 60), min_size=1, max_size=12))
    starts = draw(st.lists(st.integers(0, 80), min_size=len(lengths), max_size=len(lengths)))
    moments = sorted(draw(st.sets(st.integers(0, 150), max_size=20)))
    looks = []
    for moment in moments:
        done = [min(max(moment - start, 0), length) for start, length in zip(starts, lengths, strict=True)]
        ended = sum(length for count, length in zip(done, lengths, strict=True) if count == length)
        running = {
            number: count
            for number, (count, start, length) in enumerate(zip(done, starts, lengths, strict=True))
            if start < moment and count < length
        }
        looks.append((ended, running))
    return looks


@given(traffic())
def test_ended_and_running_requests_make_every_token_count_once(looks: list[tuple[int, dict[int, int]]]) -> None:
    count = RequestCount()
    for ended, running in looks:
        assert count.update(ended, running) == ended + sum(running.values())


def test_a_cancelled_request_keeps_the_tokens_that_were_seen() -> None:
    count = RequestCount()
    assert count.update(100, {}) == 100
    assert count.update(100, {7: 40}) == 140
    assert count.update(100, {8: 5}) == 145, "7 was cancelled: the server never counts it"
    assert count.update(130, {}) == 170, "8 ended with 30"
    assert count.update(3, {}) == 3, "started anew"


@given(traffic())
def test_running_requests_alone_give_no_more_than_the_truth_and_say_what_they_miss(
    looks: list[tuple[int, dict[int, int]]],
) -> None:
    count = RunningCount()
    seen = 0
    for ended, running in looks:
        found = count.update(running)
        assert seen <= found <= ended + sum(running.values())
        seen = found


def test_the_end_of_a_request_goes_unseen_where_only_running_ones_are_told() -> None:
    count = RunningCount()
    assert count.update({1: 10}) == 10
    assert count.update({1: 25}) == 25
    assert count.unseen == 0
    assert count.update({}) == 25
    assert count.unseen == 15
