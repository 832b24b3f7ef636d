"""Energy of requests that run side by side: the parts add up, and what is not known stands in the interval."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from edgetop.core.clock import US_PER_S
from edgetop.core.records import Event, RequestServed, Sampled, SourceAdded
from edgetop.core.sources import Channel, SourceInfo
from edgetop.session.file import to_file, to_session
from edgetop.session.requests import (
    CONCURRENCY_EVENT,
    PROXY_EVENT,
    ClientFigures,
    client_figures,
    energy_note,
    failures_line,
    knee_line,
    level_figures,
    level_rows,
    passed_figures,
    reread_figures,
    reread_line,
)
from edgetop.session.session import Session
from tests.support.recorded_sessions import START_US, STARTED

BOARD = SourceInfo(
    name="board",
    driver="fake",
    period_s=0.1,
    channels=(Channel(name="power.board", unit="W", digits=3, scope="board_input"),),
)
WATTS = 10.0


def served(begin_s: float, end_s: float, client: str = "a", **fields: object) -> RequestServed:
    """A request of 100 tokens."""
    usual: dict[str, object] = {
        "t_us": START_US + round(end_s * US_PER_S),
        "took_us": round(end_s * US_PER_S) - round(begin_s * US_PER_S),
        "client": client,
        "model": "m",
        "status": 200,
        "outcome": "complete",
        "generated_tokens": 100,
    }
    return RequestServed(**(usual | fields))  # type: ignore[arg-type]


def proxied(*requests: RequestServed, length_s: int = 30, power: bool = True, no_energy: str = "") -> Session:
    """A proxy's session on a board that draws 10 W all the time."""
    session = Session()
    session.apply(replace(STARTED, kind="watch"))
    session.apply(Event(t_us=START_US, kind=PROXY_EVENT, text="", data={"no_energy": no_energy}))
    if power:
        session.apply(SourceAdded(source=BOARD))
        for step in range(-10, 10 * length_s):
            session.apply(Sampled(t_us=START_US + step * 100_000, source="board", values=(WATTS,)))
    for request in sorted(requests, key=lambda each: each.t_us):
        session.apply(request)
    return session


def figures(session: Session) -> dict[str, ClientFigures]:
    return {row.client: row for row in client_figures(session, session.end_us)}


def test_what_ran_alone_is_its_own() -> None:
    (row,) = figures(proxied(served(5, 7), served(8, 9))).values()
    assert row.gross_j is not None
    assert row.j_per_token is not None
    assert abs(row.gross_j.value - 30) < 0.3
    assert abs(row.j_per_token.value - 0.15) < 0.002
    assert (row.requests, row.generated_tokens, row.shared) == (2, 200, 0)


def test_what_ran_together_is_shared_equally_and_may_be_nothing_or_twice() -> None:
    rows = figures(proxied(served(5, 9, "a"), served(7, 9, "b")))
    a, b = rows["a"].gross_j, rows["b"].gross_j
    assert a is not None
    assert b is not None
    assert abs(a.value - 30) < 0.5
    assert abs(b.value - 10) < 0.5
    assert b.low == 0
    assert b.high >= 19.5
    assert a.low < 20.5
    assert a.high > 39.5
    assert (rows["a"].shared, rows["b"].shared) == (0.5, 1)
    assert "equal parts" in energy_note(tuple(rows.values()))


def test_a_clients_own_requests_side_by_side_leave_nothing_open() -> None:
    alone = figures(proxied(served(5, 9)))["a"].gross_j
    together = figures(proxied(served(5, 9), served(6, 8)))["a"].gross_j
    assert alone is not None
    assert together is not None
    assert abs(alone.value - together.value) < 0.5
    assert together.high - together.low < 2 * (alone.high - alone.low)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(10, 200), st.integers(1, 80), st.sampled_from("abc")), min_size=1, max_size=12))
def test_the_parts_add_up_to_what_was_taken(given_spans: list[tuple[int, int, str]]) -> None:
    spans = [(begin / 10, (begin + length) / 10, client) for begin, length, client in given_spans]
    busy = {tenth for begin, length, _ in given_spans for tenth in range(begin, begin + length)}
    rows = figures(proxied(*(served(*span) for span in spans)))
    parts = [row.gross_j for row in rows.values()]
    assert all(part is not None for part in parts)
    total = sum(part.value for part in parts if part is not None)
    assert abs(total - WATTS * len(busy) / 10) < 0.02 * total
    assert all(part.low <= part.value <= part.high for part in parts if part is not None)


def test_the_first_chunk_holds_as_many_tokens_as_the_mean_one() -> None:
    fields: dict[str, Any] = {"first_token_us": 500_000, "last_token_us": 1_500_000}
    for chunks, rate in ((100, 99), (2, 50), (1, None), (0, None)):
        assert figures(proxied(served(1, 3, chunks=chunks, **fields)))["a"].tokens_per_s == rate
    uncounted = served(1, 3, chunks=100, counted=False, **fields)
    assert figures(proxied(uncounted))["a"].tokens_per_s is None


def test_without_power_or_on_another_machine_there_is_a_reason() -> None:
    assert figures(proxied(served(1, 2), power=False))["a"].energy_missing
    row = figures(proxied(served(1, 2), no_energy="the server is on pi2:8080"))["a"]
    assert (row.gross_j, row.energy_missing) == (None, "the server is on pi2:8080")


def test_a_request_that_was_not_measured_is_left_out_with_its_tokens() -> None:
    row = figures(proxied(served(5, 7), served(29, 45), length_s=30))["a"]
    assert row.j_per_token is not None
    assert abs(row.j_per_token.value - 0.2) < 0.005
    assert row.generated_tokens == 200


def test_all_that_passed_is_what_a_session_says_where_the_server_counts_nothing() -> None:
    watch = to_file(proxied(served(5, 7), served(8, 9, counted=False), served(8, 9, generated_tokens=None))).watch
    assert watch is not None
    assert (watch.generated_tokens, watch.at_least, watch.generating_s) == (200, True, 3.0)
    assert watch.energy is not None
    assert abs(watch.energy.gross_j.value - 30) < 0.3
    assert abs(watch.energy.j_per_token.value - 0.15) < 0.002
    assert watch.energy.net_j is None
    assert "between requests" in watch.energy.missing["waiting_j_per_token"].reason
    for session in (proxied(served(5, 7), power=False), proxied(served(5, 7), no_energy="it is elsewhere")):
        watch = to_file(session).watch
        assert watch is not None
        assert watch.generated_tokens == 100
        assert watch.energy is None
        assert watch.energy_missing
    assert to_file(proxied()).watch.generated_tokens is None  # type: ignore[union-attr]


def test_what_passed_is_brought_up_to_date_at_the_end() -> None:
    session = proxied(*(served(number / 100, number / 100 + 0.005) for number in range(1, 1001)))
    assert passed_figures(session, 5 * US_PER_S, exact=False).generated_tokens == 100 * 499
    assert passed_figures(session, 5_010_000, exact=False).generated_tokens == 100 * 499
    assert passed_figures(session, 5_010_000, exact=True).generated_tokens == 100 * 500


def test_failures_are_told_and_the_file_holds_all() -> None:
    session = proxied(served(1, 2), served(3, 4, outcome="client left", counted=False), served(5, 6, status=500))
    (row,) = figures(session).values()
    assert (row.requests, row.failed, row.at_least) == (3, 2, True)
    file = to_file(session)
    assert [each.took_us for each in file.requests] == [US_PER_S] * 3
    assert to_file(to_session(file)) == file


def test_what_was_read_again_has_its_seconds_and_joules() -> None:
    again: dict[str, Any] = {
        "prompt_tokens": 400,
        "cached_tokens": 0,
        "reread_tokens": 200,
        "reread_why": "why",
        "prefill_us": 2_000_000,
    }
    alone = proxied(served(5, 9, first_token_us=2_000_000, **again))
    (row,) = reread_figures(alone, alone.end_us)
    assert (row.why, row.tokens, row.prompt_tokens, row.seconds) == ("why", 200, 400, 1)
    assert row.energy_j is not None
    assert abs(row.energy_j.value - 10) < 0.2
    beside = proxied(served(5, 9, first_token_us=2_000_000, **again), served(4, 9, "b"))
    (row,) = reread_figures(beside, beside.end_us)
    assert row.energy_j is not None
    assert abs(row.energy_j.value - 5) < 0.2
    assert row.energy_j.low == 0
    assert "about 200 prompt tokens, 1.00 s" in reread_line((row,))
    unsaid = proxied(served(5, 9, **{**again, "prefill_us": None}))
    assert reread_figures(unsaid, unsaid.end_us)[0].seconds is None
    assert to_file(unsaid).rereads


def level(at_once: int, begin_s: float, length_s: float, **fields: object) -> list[RequestServed]:
    """So many answers at once of 11 tokens each, evenly spaced after the first one in the middle."""
    first_us, gap_us = round(length_s / 2 * US_PER_S), round(length_s / 20 * US_PER_S)
    stamps = tuple(first_us + gap_us * number for number in range(11))
    usual: dict[str, object] = {
        "at_once": at_once,
        "generated_tokens": 11,
        "chunks": 11,
        "chunk_us": stamps,
        "first_token_us": stamps[0],
        "last_token_us": stamps[-1],
    }
    return [served(begin_s, begin_s + length_s, f"{at_once} at once", **(usual | fields)) for _ in range(at_once)]


def test_levels_have_throughput_percentiles_energy_and_the_knee() -> None:
    session = proxied(*level(1, 2, 2.0), *level(2, 6, 2.0), *level(4, 10, 3.9), *level(8, 16, 7.8))
    one, two, four, eight = level_figures(session, session.end_us)
    assert [each.requests for each in (one, two, four, eight)] == [1, 2, 4, 8]
    assert one.tokens_per_s == 11 / 2.0
    assert four.tokens_per_s == 44 / 3.9
    assert (one.first_token_p50_s, one.gap_p50_ms, one.gap_p99_ms) == (1.0, 100.0, 100.0)
    assert one.tokens_per_s_each == 10.0
    assert [each.is_knee for each in (one, two, four, eight)] == [False, True, False, False]
    for each, joules in ((one, 20.0), (eight, 78.0)):
        assert each.gross_j is not None
        assert each.j_per_token is not None
        assert abs(each.gross_j.value - joules) < 0.5
        assert abs(each.j_per_token.value - joules / 11 / each.at_once) < 0.1
        assert each.j_per_token.low < each.j_per_token.value < each.j_per_token.high
    assert knee_line((one, two, four, eight)).startswith("knee: 2 at once, 11.0 tok/s, 98 % of the most (11.3 with 4)")
    assert "least energy per token with" in knee_line((one, two, four, eight))
    assert level_rows((one, two))[2][0] == "2 knee"


def test_a_throughput_that_still_grows_has_no_knee_and_failures_are_named() -> None:
    lost = level(4, 16, 1.0, error="It takes no more.", generated_tokens=None, chunk_us=(), chunks=0, status=429)
    session = proxied(*level(1, 2, 2.0), *level(2, 6, 2.0), *lost, power=False)
    one, two, four = level_figures(session, session.end_us)
    assert [each.is_knee for each in (one, two, four)] == [False] * 3
    assert (four.failed, four.tokens_per_s, four.gap_p50_ms) == (4, None, None)
    assert knee_line((one, two, four)) == "knee: not reached with 2 at once"
    assert failures_line(session.requests) == "4 requests failed: It takes no more."
    assert all(each.j_per_token is None and each.energy_missing for each in (one, two, four))


def test_pieces_of_many_tokens_tell_no_gaps_and_a_server_elsewhere_no_energy() -> None:
    session = proxied(*level(1, 2, 2.0, generated_tokens=40))
    session.apply(Event(t_us=START_US, kind=CONCURRENCY_EVENT, text="", data={"no_energy": "the server is on far"}))
    (one,) = level_figures(session, session.end_us)
    assert one.gap_p50_ms is None
    assert one.tokens_per_s == 20.0
    assert (one.j_per_token, one.energy_missing) == (None, "the server is on far")
    again = to_session(to_file(session))
    assert level_figures(again, again.end_us) == (one,)
