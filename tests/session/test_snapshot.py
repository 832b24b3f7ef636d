from __future__ import annotations

from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetop.core.figures import TokenGaps
from edgetop.core.records import ModelLoaded, Prefill, Record, Sampled, SourceAdded, SourceMissing, Tokens, TurnStarted
from edgetop.core.sources import Channel, SourceInfo, Unavailable
from edgetop.session.file import to_file
from edgetop.session.session import Session
from edgetop.session.snapshot import Reading, Snapshot, snapshot
from tests.support.recorded_sessions import (
    CPU,
    ENGINE,
    HEAD,
    LOADED,
    MEMORY,
    MS,
    OWN,
    START_US,
    STARTED,
    S,
    event,
    fold,
    recordings,
    sample,
    turn,
)  # fmt: skip


def _now(session: Session) -> Snapshot:
    return snapshot(session, session.end_us)


def test_the_phase_follows_the_model_the_turn_and_the_events() -> None:
    session = fold([
        STARTED, event("model_loading", 100 * MS), LOADED, *turn(at_us=1 * S), event("engine_died", 5 * S),
    ])  # fmt: skip
    session.apply(
        ModelLoaded(
            t_us=LOADED.t_us + 9 * S, load_s=0.1, model=LOADED.model, engine=LOADED.engine, settings=LOADED.settings
        )
    )
    session.apply(event("session_ended", 20 * S))
    at = {
        moment: snapshot(session, moment).phase for moment in (0, 200 * MS, 600 * MS, 1 * S, 1_300 * MS, 2 * S, 5 * S)
    }
    assert at == {
        0: "starting",
        200 * MS: "loading",
        600 * MS: "ready",
        1 * S: "prefill",
        1_300 * MS: "decode",
        2 * S: "ready",
        5 * S: "dead",
    }
    assert snapshot(session, 10 * S).phase == "ready"
    assert snapshot(session, 20 * S).phase == "ended"


def test_the_figures_of_a_turn_are_those_of_their_definitions() -> None:
    figures = _now(fold([*HEAD, *turn(gaps_us=(100 * MS, 50 * MS, 150 * MS))])).turn
    assert figures is not None
    assert not figures.running
    assert figures.recent_tokens_per_s is None
    assert figures.figures.decode_tokens_per_s == 3 / 0.3
    assert figures.figures.prefill_tokens_per_s == 50 / 0.2
    assert figures.figures.first_token_s == 0.251
    assert figures.figures.token_gap_ms == TokenGaps(p50=100.0, p95=145.0, p99=149.0, max=150.0)
    assert (figures.figures.prompt_tokens, figures.figures.cached_tokens, figures.figures.generated_tokens) == (
        60,
        10,
        4,
    )
    assert figures.figures.stop_reason == "end_of_generation"


def test_a_running_turn_tells_how_far_its_prefill_and_its_reply_have_come() -> None:
    begin, first, last, *tokens = turn(finished=False)
    half = Prefill(turn=1, t_us=START_US + 1_150 * MS, done=20, total=50, cached=10)
    session = fold([*HEAD, begin, first, half, last, *tokens])
    view = snapshot(session, 1_150 * MS).turn
    assert view is not None
    assert view.running
    assert (view.prefill_done, view.prefill_total) == (20, 50)
    assert view.figures.prefill_tokens_per_s == 20 / 0.1
    assert view.figures.prompt_tokens == 60
    assert view.figures.first_token_s is None
    assert snapshot(session, 1_150 * MS).context_used == 30
    decoding = snapshot(session, 1_451 * MS)
    assert decoding.turn is not None
    assert decoding.turn.recent_tokens_per_s == 10.0
    assert decoding.context_used == 63
    assert decoding.n_ctx == 4096


def test_the_context_is_empty_after_a_model_was_loaded_anew() -> None:
    session = fold([*HEAD, *turn()])
    assert _now(session).context_used == 65
    again = ModelLoaded(
        t_us=LOADED.t_us + 9 * S, load_s=0.1, model=LOADED.model, engine=LOADED.engine, settings=LOADED.settings
    )
    session.apply(again)
    assert _now(session).context_used == 0


def test_the_session_divides_total_tokens_by_total_time_and_pools_the_gaps() -> None:
    session = fold(
        [*HEAD, *turn(1, at_us=1 * S, gaps_us=(100 * MS,) * 3), *turn(2, at_us=20 * S, gaps_us=(50 * MS,) * 8)]
    )
    summary = _now(session).summary
    assert summary.decode_tokens_per_s == 11 * S / (700 * MS)
    assert summary.prefill_tokens_per_s == 100 / 0.4
    assert summary.first_token_s == median((0.251, 0.251))
    assert summary.token_gap_ms == TokenGaps(p50=50.0, p95=100.0, p99=100.0, max=100.0)
    assert (summary.turns, summary.prompt_tokens, summary.cached_tokens, summary.generated_tokens) == (2, 120, 20, 13)
    assert summary.load_s == 0.5


def test_a_session_without_turns_has_no_figures_rather_than_zeros() -> None:
    summary = _now(fold([STARTED])).summary
    assert summary.decode_tokens_per_s is None
    assert summary.prefill_tokens_per_s is None
    assert summary.first_token_s is None
    assert summary.token_gap_ms is None
    assert summary.load_s is None
    assert summary.prompt_tokens is None
    assert summary.memory.rss_peak_bytes is None
    assert summary.own_cost.cpu_percent is None
    assert summary.bandwidth_use is None
    assert summary.energy is None
    assert summary.energy_missing


def test_readings_have_their_age_and_missing_ones_their_reason() -> None:
    session = fold([*HEAD, sample(MEMORY, 1 * S, 8e9, None, reasons=("", "no swap"))])
    now = snapshot(session, 1_400 * MS)
    assert now.readings["memory.available"] == Reading(8e9, 400 * MS)
    assert now.readings["swap.used"] == Unavailable("no swap")
    assert isinstance(now.readings["cpu.others"], Unavailable)
    assert now.absent["power"].hint == "use an external meter"


def test_memory_is_told_apart_and_its_extremes_are_kept() -> None:
    session = fold([
        *HEAD,
        sample(ENGINE, 1 * S, 140e6, 0.0, 0.0),
        sample(MEMORY, 1 * S, 3e9, 0.0),
        sample(OWN, 1 * S, 1.0, 40e6),
        sample(ENGINE, 2 * S, 130e6, 0.0, 0.0),
        sample(MEMORY, 2 * S, 4e9, 5e6),
        sample(OWN, 2 * S, 3.0, 30e6),
    ])  # fmt: skip
    now = _now(session)
    assert (now.memory.weights_bytes, now.memory.rss_bytes, now.memory.rest_bytes) == (
        100_000_000,
        130_000_000,
        5_000_000,
    )
    assert now.summary.memory.rss_peak_bytes == 140_000_000
    assert now.summary.memory.available_min_bytes == 3_000_000_000
    assert now.summary.memory.swap_peak_bytes == 5_000_000
    assert (now.own_cost.cpu_percent, now.own_cost.rss_bytes) == (3.0, 30_000_000)
    assert (now.summary.own_cost.cpu_percent, now.summary.own_cost.rss_bytes) == (2.0, 40_000_000)


def test_reserved_memory_that_is_not_all_resident_leaves_the_rest_unknown() -> None:
    session = fold([*HEAD, sample(ENGINE, 1 * S, 60e6, 0.0, 0.0)])
    assert _now(session).memory.rest_bytes is None


THROTTLE = SourceInfo(
    name="throttle",
    driver="test",
    period_s=1.0,
    channels=(
        Channel(name="throttle.soft_temperature", unit="1"),
        Channel(name="throttle.throttled_since_boot", unit="1"),
    ),
)


@pytest.mark.parametrize(
    ("readings", "limited_by", "said"),
    [
        ([sample(THROTTLE, 1_500 * MS, 1.0, 1.0), sample(CPU, 1_500 * MS, 90.0, 0.0)], "throttled", "soft temperature"),
        ([sample(ENGINE, 1_500 * MS, 1e8, 0.0, 300.0)], "paging", "300 major page faults"),
        ([sample(ENGINE, 1_500 * MS, 1e8, 64 * 2**20, 300.0)], "swap", "64 MiB"),
        ([sample(CPU, 1_500 * MS, 42.0, 1.0)], "contention", "Other processes used 41 %"),
        ([sample(CPU, 1_500 * MS, 30.0, 30.0)], "contention", "withheld 30 %"),
        ([sample(THROTTLE, 1_500 * MS, 0.0, 1.0), sample(CPU, 1_500 * MS, 3.0, 0.0)], "unknown", "not known"),
        ([sample(CPU, 1_500 * MS, None, None)], "unknown", "not known"),
        ([sample(CPU, 900 * MS, 99.0, 0.0)], "unknown", "not known"),
    ],
)
def test_what_limits_the_speed_is_read_from_the_time_of_the_turn(
    readings: list[Sampled], limited_by: str, said: str
) -> None:
    session = fold([*HEAD, SourceAdded(source=THROTTLE), *readings, *turn(at_us=1 * S)])
    now = _now(session)
    assert now.limit.name == limited_by
    assert said in now.limit.sentence
    assert now.summary.limited_by == limited_by
    assert now.turn is not None
    assert now.turn.figures.limited_by == limited_by


def test_what_limits_a_running_turn_now_forgets_what_is_over() -> None:
    begin, *rest = turn(gaps_us=(1 * S,) * 9, finished=False)
    session = fold(
        [*HEAD, sample(CPU, 2 * S, 90.0, 0.0), *(sample(CPU, at * S, 1.0, 0.0) for at in range(3, 11)), begin, *rest]
    )
    assert snapshot(session, 2_500 * MS).limit.name == "contention"
    assert snapshot(session, 10 * S).limit.name == "unknown"


def _stamp(record: Record) -> int:
    if isinstance(record, SourceAdded | SourceMissing):
        return 0
    return record.t_us[-1] if isinstance(record, Tokens) else record.t_us


@given(recordings(), st.data())
def test_nothing_that_happens_later_shows(records: list[Record], data: st.DataObject) -> None:
    cut_us = max(START_US, _stamp(data.draw(st.sampled_from(records))))
    t_us = cut_us - START_US
    known = [record for record in records if _stamp(record) <= cut_us]
    assert snapshot(fold(records), t_us) == snapshot(fold(known), t_us)


@given(recordings(), st.lists(st.integers(0, 60 * S), max_size=8))
def test_looking_at_other_moments_first_changes_nothing(records: list[Record], moments: list[int]) -> None:
    session = fold(records)
    for t_us in (*moments, session.end_us):
        assert snapshot(session, t_us) == snapshot(fold(records), t_us)


@given(recordings())
def test_watching_a_session_grow_ends_at_the_figures_of_its_file(records: list[Record]) -> None:
    session = Session()
    for record in records:
        session.apply(record)
        snapshot(session, session.end_us)
    file = to_file(fold(records))
    last = snapshot(session, session.end_us)
    assert last.summary == file.summary
    if last.turn is not None:
        assert last.turn.figures == file.turns[-1].figures


def test_a_turn_keeps_the_readings_that_come_a_little_after_the_next_one_began() -> None:
    first, second = turn(1, at_us=1 * S), turn(2, at_us=1_700 * MS)
    late = sample(CPU, 1_500 * MS, 80.0, 0.0)
    session = fold([*HEAD, *first])
    session.apply(second[0])
    snapshot(session, 1_700 * MS)
    session.apply(late)
    for record in second[1:]:
        session.apply(record)
    assert _now(session).summary == to_file(fold([*HEAD, late, *first, *second])).summary


def test_a_turn_is_found_by_the_moment() -> None:
    session = fold([*HEAD, *turn(1, at_us=1 * S), *turn(2, at_us=4 * S)])
    numbers = [None if (view := snapshot(session, at * S).turn) is None else view.number for at in range(6)]
    assert numbers == [None, 1, 1, 1, 2, 2]
    assert isinstance(session.turns[0].started, TurnStarted)
