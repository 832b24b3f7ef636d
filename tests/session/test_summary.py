"""Sums over turns and their gaps, and what a benchmark's warm-up does not count for."""

from __future__ import annotations

import tracemalloc
from array import array
from collections.abc import Iterable
from itertools import accumulate
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from edgetop.bench.plan import TokenTest
from edgetop.core.quantity import Interval
from edgetop.core.records import Event, ModelLoaded, Predicted, Record, SessionStarted, SourceAdded, Tokens, TurnStarted
from edgetop.core.sources import Channel, SourceInfo
from edgetop.session import summary
from edgetop.session.file import to_file, to_session
from edgetop.session.file_io import decode_file, encode_file, load_file
from edgetop.session.snapshot import snapshot
from edgetop.session.summary import turn_result
from edgetop.session.turn import Turn
from tests.support.bench_sessions import PREFILL_W, MadeSession
from tests.support.demo_session import NOW_US, demo_records, ended_records
from tests.support.recorded_power import SENSORS, record
from tests.support.recorded_sessions import HEAD, LOADED, MS, START_US, STARTED, S, event, fold, sample, turn


@given(
    st.lists(st.tuples(st.booleans(), st.lists(st.integers(0, 30), max_size=12)), min_size=1, max_size=12),
    st.lists(st.tuples(st.integers(0, 11), st.integers(0, 13)), max_size=12),
)
def test_gaps_until_any_moment_are_sorted_pieces_that_hold_them_whole(
    made: list[tuple[bool, list[int]]], asked: list[tuple[int, int]]
) -> None:
    turns = []
    for number, (warmup, gaps_us) in enumerate(made):
        turns.append(Turn(TurnStarted(turn=number, t_us=0, prompt=None, warmup=warmup)))
        turns[-1].token_t_us = array("q", accumulate(gaps_us, initial=100))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(summary, "MERGED_AT", 4)
        patch.setattr(summary, "MARKED_AT", 9)
        row = summary.TokenGapRow()
        for index, generated in asked:
            if index >= len(turns):
                continue
            own = made[index][1][: max(0, generated - 1)]
            before = [gap_us for warmup, gaps_us in made[:index] if not warmup for gap_us in gaps_us]
            for pieces, expected in (
                (row.of_turn(turns, index, generated), own),
                (row.until(turns, index, generated), before if made[index][0] else [*before, *own]),
            ):
                assert all(list(piece) == sorted(piece) for piece in pieces)
                assert sorted(value for piece in pieces for value in piece) == sorted(expected)


def test_gaps_of_a_long_session_take_no_memory_each() -> None:
    turns = []
    for number in range(300):
        turns.append(Turn(TurnStarted(turn=number, t_us=0, prompt=None)))
        turns[-1].token_t_us = array("q", range(0, 1000 * 100, 100))
    row = summary.TokenGapRow()
    used: list[int] = []
    tracemalloc.start()
    try:
        for index in range(len(turns)):
            pieces = row.until(turns, index, 1000)
            if index in {150, 299}:
                used.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert sum(map(len, pieces)) == 300 * 999
    assert used[1] - used[0] < 150 * 999


def as_warmups(records: Iterable[Record], numbers: Iterable[int]) -> list[Record]:
    """With some turns marked."""
    marked = set(numbers)
    return [
        msgspec.structs.replace(each, warmup=True) if isinstance(each, TurnStarted) and each.turn in marked else each
        for each in records
    ]


@given(st.lists(st.tuples(st.booleans(), st.integers(20, 200)), min_size=1, max_size=5), st.integers(0, 60))
def test_rates_gaps_and_counts_are_those_of_the_other_turns(turns: list[tuple[bool, int]], seconds: int) -> None:
    records = [list(turn(k, at_us=10 * k * S, gaps_us=(gap * MS,) * 5)) for k, (_, gap) in enumerate(turns, 1)]
    warmups = [k for k, (is_warmup, _) in enumerate(turns, 1) if is_warmup]
    session = fold([*HEAD, *as_warmups((each for of in records for each in of), warmups)])
    without = fold([*HEAD, *(each for k, of in enumerate(records, 1) if k not in warmups for each in of)])
    for t_us in (seconds * S, 100 * S):
        ours, theirs = (snapshot(each, t_us).summary for each in (session, without))
        for name in (
            "turns", "decode_tokens_per_s", "prefill_tokens_per_s", "first_token_s", "token_gap_ms", "prompt_tokens",
            "generated_tokens", "limited_by",
        ):  # fmt: skip
            assert getattr(ours, name) == getattr(theirs, name), (name, t_us)


def test_a_warm_up_has_its_own_figures() -> None:
    session = fold([*HEAD, *as_warmups([*turn(1, gaps_us=(50 * MS,) * 4), *turn(2, at_us=9 * S)], [1])])
    snapshot(session, session.end_us)
    figures = turn_result(session, 0, session.end_us).figures
    assert figures.decode_tokens_per_s == pytest.approx(20)
    assert figures.token_gap_ms is not None
    assert figures.token_gap_ms.p50 == pytest.approx(50)


def test_a_prompt_alone_has_its_energy_and_counts_for_none_of_the_session(tmp_path: Path) -> None:
    made = MadeSession()
    made.tokens(TokenTest(n_prompt=500))
    made.tokens(TokenTest(n_gen=60))
    file = load_file(made.save(tmp_path / "x.json"))
    prompt, reply = (one.figures.energy for one in file.turns)
    whole = file.summary.energy
    assert prompt is not None
    assert reply is not None
    assert whole is not None
    assert prompt.gross_j.value == pytest.approx(5.0 * PREFILL_W, rel=0.02)
    assert prompt.prefill_j_per_token is not None
    assert prompt.prefill_j_per_token.value == pytest.approx(PREFILL_W / 100.0, rel=0.02)
    assert prompt.j_per_token is None
    assert whole.j_per_token == reply.j_per_token, "what a prompt took says nothing of a token"


@pytest.mark.parametrize("kind", ["counter", "fast point"])
def test_the_energy_of_a_session_is_without_its_warm_up(kind: str) -> None:
    made = record(SENSORS[kind], 3, (6.0, 4.0))
    ended = event("session_ended", 60 * S)
    session = fold([*as_warmups(made.records, [1]), ended])
    whole, second = snapshot(session, 60 * S).summary.energy, turn_result(session, 1, 60 * S).figures.energy
    assert whole is not None
    assert second is not None
    assert (whole.gross_j, whole.net_j, whole.j_per_token) == (second.gross_j, second.net_j, second.j_per_token)
    again = to_session(decode_file(b"".join(encode_file(to_file(session)))))
    assert snapshot(again, 60 * S).summary == snapshot(session, 60 * S).summary


def test_memory_that_was_read_before_the_model_was_loaded_is_not_its_peak() -> None:
    engine = SourceInfo(
        name="engine",
        driver="procfs",
        period_s=1.0,
        channels=(Channel(name="engine.rss", unit="B"), Channel(name="engine.rss_peak", unit="B")),
    )
    memory = SourceInfo(
        name="memory", driver="procfs", period_s=1.0, channels=(Channel(name="memory.available", unit="B"),)
    )
    load = msgspec.structs.replace(LOADED, t_us=START_US + 2 * S)
    session = fold([STARTED, SourceAdded(source=engine), SourceAdded(source=memory)])
    session.apply(sample(engine, 1 * S, 29e6, 29e6))
    session.apply(sample(memory, 1 * S, 8e9))
    session.apply(load)
    before = snapshot(session, session.end_us).summary.memory
    assert (before.rss_peak_bytes, before.available_min_bytes) == (None, None)
    session.apply(sample(engine, 3 * S, 150e6, 153e6))
    session.apply(sample(memory, 3 * S, 7e9))
    after = snapshot(session, session.end_us).summary.memory
    assert (after.rss_peak_bytes, after.available_min_bytes) == (153_000_000, 7_000_000_000)


@pytest.mark.parametrize(
    ("threads", "cores", "advice"), [(2, 2, "all cores"), (1, 2, "more threads"), (2, None, "more threads")]
)
def test_more_threads_are_advised_only_where_there_are_more_cores(threads: int, cores: int | None, advice: str) -> None:
    slow = Interval(value=0.1, low=0.1, high=0.1, u_systematic=0.0, u_random=0.0)
    records: list[Record] = []
    for record_ in demo_records():
        each: Record = record_
        if isinstance(each, SessionStarted):
            each = replace(each, device=replace(each.device, cores_physical=cores, cores_logical=cores))
        elif isinstance(each, ModelLoaded):
            each = replace(each, settings=replace(each.settings, n_threads=threads))
        elif isinstance(each, Predicted):
            faster = replace(each.prediction, limited_by="compute", bandwidth_bytes_per_s=1e12)
            each = replace(each, prediction=replace(faster, decode_tokens_per_s=slow))
        records.append(each)
    limit = snapshot(fold(records), NOW_US).limit
    assert limit.name == "compute"
    assert advice in limit.hint


@pytest.mark.parametrize("predicted", [True, False])
@pytest.mark.parametrize("ended", [True, False])
def test_why_a_bottleneck_is_not_known_is_true(predicted: bool, ended: bool) -> None:
    fast = Interval(value=120.0, low=100.0, high=140.0, u_systematic=0.0, u_random=0.0)
    records: list[Record] = []
    for each in ended_records() if ended else demo_records():
        if not isinstance(each, Predicted):
            records.append(each)
        elif predicted:
            slow = replace(each.prediction, bandwidth_bytes_per_s=1e12, decode_tokens_per_s=fast)
            records.append(replace(each, prediction=slow))
    session = fold(records)
    limit = snapshot(session, session.end_us if ended else NOW_US).limit
    assert limit.name == "unknown"
    assert limit.sentence == (
        "Below the predicted 100 tok/s; no cause found."
        if predicted
        else f"Bottleneck: not known{'' if ended else ' yet'}."
    )


def test_speed_without_the_pauses_stands_beside_the_speed() -> None:
    gaps_us = [100 * MS] * 10 + [20 * S] + [100 * MS] * 9
    records = turn(gaps_us=gaps_us)
    tokens = [record for record in records if isinstance(record, Tokens)]
    paused = Event(t_us=tokens[11].t_us[0], kind="paused", text="", data={"paused_s": 19.9})
    session = fold([*HEAD, *records, paused, *turn(2, at_us=60 * S, gaps_us=[100 * MS] * 10)])
    first, second = (turn_result(session, index, session.end_us).figures for index in (0, 1))
    assert first.decode_tokens_per_s == pytest.approx(20 / 21.9)
    assert first.paused_s == pytest.approx(19.9)
    assert first.decode_unpaused_tokens_per_s == pytest.approx(10.0)
    assert (second.paused_s, second.decode_unpaused_tokens_per_s) == (None, None)
    summary = snapshot(session, session.end_us).summary
    assert summary.paused_s == pytest.approx(19.9)
    assert summary.decode_unpaused_tokens_per_s == pytest.approx(10.0)
    # Before it is over, nobody knows of it.
    assert turn_result(session, 0, tokens[10].t_us[0] - START_US).figures.paused_s is None


def test_a_pause_before_the_first_token_is_told_and_no_part_of_decoding() -> None:
    records = turn(prefill_us=5 * S, gaps_us=[100 * MS] * 10)
    first_us = next(record for record in records if isinstance(record, Tokens)).t_us[0]
    paused = Event(t_us=first_us - S, kind="paused", text="", data={"paused_s": 3.0})
    session = fold([*HEAD, *records, paused])
    figures = turn_result(session, 0, session.end_us).figures
    assert (figures.paused_s, figures.decode_unpaused_tokens_per_s) == (3.0, None)
    assert figures.decode_tokens_per_s == pytest.approx(10.0)
    assert figures.prefill_tokens_per_s is not None
    assert figures.prefill_unpaused_tokens_per_s == pytest.approx(figures.prefill_tokens_per_s * 5 / 2)
    summary = snapshot(session, session.end_us).summary
    assert (summary.paused_s, summary.prefill_unpaused_tokens_per_s) == (3.0, figures.prefill_unpaused_tokens_per_s)


@pytest.mark.parametrize("data", [{}, {"paused_s": "long"}, {"paused_s": -5.0}, {"paused_s": 1e300}])
def test_an_event_that_says_no_length_is_no_pause(data: dict[str, str | float | bool]) -> None:
    records = turn(gaps_us=[100 * MS] * 10)
    event = Event(t_us=START_US + 2 * S, kind="paused", text="", data=data)
    session = fold([*HEAD, *records, event])
    assert turn_result(session, 0, session.end_us).figures.paused_s is None
