from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from edgetop.core.records import BenchRun, Event, Prediction, Record, SessionStarted, TurnStarted
from edgetop.fit.speed import sustained_words
from edgetop.live import past_runs
from edgetop.live.past_runs import outcome_of, past_run_of, records_of
from edgetop.live.this_machine import PAST_RUNS_FILE_NAME, past_runs_in
from edgetop.session.compare.reading import session_result
from edgetop.session.compare.result import flags_of
from edgetop.session.file import to_file, to_session
from edgetop.session.file_io import load, load_head, save
from edgetop.session.session import REFUSED, Session
from edgetop.session.snapshot import Snapshot, snapshot
from tests.support.recorded_sessions import (
    CPU,
    ENGINE,
    HEAD,
    LOADED,
    MS,
    PREDICTED,
    PREDICTION,
    START_US,
    S,
    figure_around,
    fold,
    sample,
    turn,
)

TENTH = 100 * MS
"""The gap between two tokens: ten a second."""


def session_of(*records: Record, prediction: Prediction = PREDICTION, gaps: int = 40) -> Session:
    predicted = replace(PREDICTED, prediction=prediction)
    return fold([*HEAD, predicted, *turn(gaps_us=(TENTH,) * gaps), *records])


def test_the_share_of_the_bandwidth_is_what_had_to_be_read_over_what_can_be() -> None:
    now = _last(session_of())
    read_bytes = 100_000_000 + 10_000 * (60 + 41 / 2)  # prompt, and half of the answer
    assert now.summary.bandwidth_use == pytest.approx(read_bytes * 10 / 2e9)
    assert now.summary.bandwidth_use_missing == ""


def test_turns_of_a_model_nobody_predicted_say_nothing_of_the_bandwidth() -> None:
    without = fold([*HEAD, *turn(gaps_us=(TENTH,) * 40)])
    assert _last(without).summary.bandwidth_use is None
    assert "edgetop check" in _last(without).summary.bandwidth_use_missing
    assert _last(without).limit.name == "unknown"
    reloaded = replace(LOADED, t_us=START_US + 20 * S)
    both = session_of(reloaded, *turn(2, at_us=21 * S, gaps_us=(TENTH // 4,) * 40))
    assert both.prediction_at(25 * S) is None
    assert _last(both).summary.bandwidth_use == _last(session_of()).summary.bandwidth_use


@pytest.mark.parametrize(
    ("change", "limit"),
    [
        ({}, "memory-bandwidth"),
        ({"limited_by": "compute"}, "compute"),
        ({"limited_by": "compute", "bandwidth_bytes_per_s": 1.2e9}, "memory-bandwidth"),
        ({"decode_tokens_per_s": figure_around(50.0)}, "unknown"),
        ({"bandwidth_bytes_per_s": None}, "unknown"),
        ({"limited_by": "unknown"}, "unknown"),
    ],
)
def test_what_the_machine_limits_follows_from_use_and_prediction(change: dict[str, object], limit: str) -> None:
    session = session_of(prediction=replace(PREDICTION, **change))
    assert _last(session).limit.name == limit
    assert _last(session).summary.limited_by == limit


def test_somebody_else_s_work_is_named_before_the_machine_s_own_limits() -> None:
    samples = [sample(CPU, at * S, 40.0, 0.0) for at in range(1, 6)]
    session = fold([*HEAD, PREDICTED, *samples, *turn(gaps_us=(TENTH,) * 40)])
    assert _last(session).limit.name == "contention"


def test_a_running_turn_says_at_once_that_it_is_memory_bound() -> None:
    session = session_of()
    moment = snapshot(session, 3 * S)
    assert moment.turn is not None
    assert moment.turn.running
    assert moment.limit.name == "memory-bandwidth"
    assert moment.limit.sentence == "Memory-bound: 50 % of the memory bandwidth is used."


def test_a_prediction_survives_the_file_to_the_digit(tmp_path: Path) -> None:
    session = session_of()
    path = tmp_path / "session.json"
    save(path, session)
    assert load_head(path).predictions[0].prediction == PREDICTION
    assert to_file(load(path)) == to_file(session)
    assert _last(to_session(to_file(session))).limit == _last(session).limit


def test_what_sessions_taught_is_kept_until_one_of_them_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, kept = tmp_path / "sessions", tmp_path / PAST_RUNS_FILE_NAME
    folder.mkdir()
    first, (header, *_) = session_of(), HEAD
    assert isinstance(header, SessionStarted)
    save(folder / "a.json", first)
    (run,) = past_runs_in(folder, header.device)
    assert run.decode_tokens_per_s == pytest.approx(10)

    monkeypatch.setattr(past_runs, "outcomes_in", lambda *_, **__: [])
    assert past_runs_in(folder, header.device) == (run,), "no session was read"
    assert past_runs_in(folder, replace(header.device, power_mode="another")) == ()
    monkeypatch.undo()

    assert past_runs_in(folder, header.device) == (run,)
    save(folder / "b.json", session_of(gaps=80))
    assert len(past_runs_in(folder, header.device)) == 2
    (folder / "a.json").unlink()
    assert len(past_runs_in(folder, header.device)) == 1
    for spoilt in (b"", b"[1", b'{"edgetop":1}'):
        kept.write_bytes(spoilt)
        assert len(past_runs_in(folder, header.device)) == 1


def test_a_second_prediction_of_the_same_load_is_left_out() -> None:
    session = session_of(replace(PREDICTED, t_us=START_US + 30 * S))
    assert len(session.predictions) == 1
    assert [event.kind for event in session.events] == [REFUSED]


def test_a_prediction_before_any_model_is_left_out() -> None:
    session = fold([HEAD[0], replace(PREDICTED, t_us=START_US + 1)])
    assert not session.predictions
    assert isinstance(session.events[0], Event)


def test_an_outcome_holds_each_figure_against_its_prediction_at_the_depth_that_was_measured() -> None:
    outcome = outcome_of(to_file(session_of(sample(ENGINE, 2 * S, 450_000_000.0, 0.0, 0.0))))
    assert outcome is not None
    held = {each.quantity: each for each in outcome.held}
    assert set(held) == {"memory", "decode"}  # a prompt of 50 tokens is too short for the others
    assert held["memory"].error == pytest.approx(500 / 450 - 1)
    assert held["memory"].inside is None
    depth = 60 + 41 / 2
    assert outcome.measured.depth_tokens == depth
    assert held["decode"].predicted == pytest.approx(1 / (1 / 11.0 - 1e-5 * (500 - depth)))
    assert held["decode"].measured == pytest.approx(10.0)
    assert held["decode"].inside


def test_a_disturbed_session_teaches_nothing() -> None:
    samples = [sample(CPU, at * S, 40.0, 0.0) for at in range(1, 6)]
    session = fold([*HEAD, PREDICTED, *samples, *turn(gaps_us=(TENTH,) * 40)])
    assert outcome_of(to_file(session)) is None


def test_a_benchmark_is_judged_by_the_turns_that_count() -> None:
    session = fold([*HEAD, PREDICTED, *turn(gaps_us=(TENTH * 3,) * 40), *turn(2, at_us=20 * S, gaps_us=(TENTH,) * 40)])
    first = session.turns[0].started
    session.turns[0].started = TurnStarted(turn=1, t_us=first.t_us, prompt="", warmup=True)
    file = to_file(session)
    outcome = outcome_of(file, file.turns)
    assert outcome is not None
    assert outcome.measured.decode_tokens_per_s == pytest.approx(10.0)
    assert outcome.measured.depth_tokens == pytest.approx(60 + 41 / 2)


def test_a_soak_is_judged_by_its_first_minute_and_remembered_by_its_last() -> None:
    """`check` predicts a cool device, and says what this one kept up; `compare` knows the two apart."""
    slow = turn(2, at_us=600 * S, gaps_us=(TENTH * 2,) * 40)
    file = to_file(fold([*HEAD, PREDICTED, *turn(gaps_us=(TENTH,) * 40), *slow]))
    soak = replace(file, bench=BenchRun(plan="p", setting="s", round=1, soak_s=600.0))
    cool, warm = outcome_of(file, file.turns), outcome_of(soak, soak.turns)
    assert cool is not None
    assert warm is not None
    assert cool.sustained_tokens_per_s is None
    assert warm.measured.decode_tokens_per_s == pytest.approx(10.0)
    assert warm.sustained_tokens_per_s == pytest.approx(5.0)
    run = past_run_of(warm)
    assert run is not None
    words = sustained_words(run)
    assert words == f"; kept up 5 tok/s after 9 min 59 s of a soak on {run.measured_at[:10]}"
    flags = {flag.name for flag in flags_of(session_result(soak, Path("soak")), session_result(file, Path("cool")))}
    assert "other length" in flags
    assert "other length" not in {flag.name for flag in flags_of(*[session_result(file, Path("cool"))] * 2)}


def test_records_give_the_median_error_and_how_often_the_band_held() -> None:
    rates = (10.0, 11.0, 15.0)
    outcomes = [outcome_of(to_file(session_of(prediction=_rate(rate)))) for rate in rates]
    record = next(each for each in records_of(filter(None, outcomes)) if each.quantity == "decode")
    assert record.count == 3
    assert record.median_error == pytest.approx(0.1, abs=0.01)
    assert record.median_bias == pytest.approx(0.1, abs=0.01)
    assert record.inside == 2  # 15 ± 20 % does not reach down to 10


@given(depth=st.integers(0, 100_000), slope=st.floats(0, 1e-3), rate=st.floats(0.01, 10_000), off=st.floats(0.01, 0.9))
def test_a_rate_at_another_depth_keeps_its_relative_band(depth: int, slope: float, rate: float, off: float) -> None:
    prediction = replace(PREDICTION, decode_tokens_per_s=figure_around(rate, off), decode_s_per_position=slope)
    moved = prediction.decode_at(depth)
    if moved is None:
        assert 1 / rate <= slope * (PREDICTION.depth_tokens - depth) * (1 + 1e-9)
    else:
        assert 0 < moved.low <= moved.value <= moved.high
        assert moved.high / moved.value == pytest.approx(1 + off)
        assert (moved.value < rate * (1 + 1e-9)) or depth < PREDICTION.depth_tokens


def _rate(tokens_per_s: float) -> Prediction:
    return replace(PREDICTION, decode_tokens_per_s=figure_around(tokens_per_s), decode_s_per_position=0.0)


def _last(session: Session) -> Snapshot:
    return snapshot(session, session.end_us)
