"""What a session that still goes on teaches of its machine."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from edgetop.core.records import Record, machine_key
from edgetop.live.past_runs import past_runs_of_session
from tests.support.recorded_sessions import CPU, ENGINE, HEAD, LOADED, MS, START_US, STARTED, S, fold, sample, turn


def test_the_turns_of_a_model_are_taken_together() -> None:
    records = [*HEAD, *turn(gaps_us=[100 * MS] * 40), *turn(2, at_us=10 * S, gaps_us=[50 * MS] * 40)]
    (found,) = past_runs_of_session(fold(records), 20 * S)
    assert found.decode_tokens_per_s == pytest.approx(80 / 6)
    assert found.decode_tokens == 82
    assert (found.model_name, found.threads) == ("Tiny Instruct", 2)
    assert found.machine_key == machine_key(STARTED.device)
    assert found.prefill_tokens_per_s is None  # 50 tokens are too few to be told


def test_each_model_teaches_for_itself_the_last_one_first() -> None:
    other = replace(LOADED, t_us=START_US + 8 * S, model=replace(LOADED.model, name="Other"))
    records = [*HEAD, *turn(gaps_us=[100 * MS] * 40), other, *turn(2, at_us=10 * S, gaps_us=[50 * MS] * 40)]
    found = past_runs_of_session(fold(records), 20 * S)
    assert [each.model_name for each in found] == ["Other", "Tiny Instruct"]
    assert [each.decode_tokens_per_s for each in found] == pytest.approx([20, 10])


@pytest.mark.parametrize(
    "records",
    [[], [*HEAD], [*HEAD, *turn(gaps_us=[100 * MS] * 8)], [*HEAD, *turn(gaps_us=[], finished=False)]],
)
def test_too_little_teaches_nothing(records: list[Record]) -> None:
    assert past_runs_of_session(fold(records), 20 * S) == ()


def test_turns_that_something_disturbed_are_left_out_and_others_count() -> None:
    answers = [*turn(gaps_us=[200 * MS] * 40), *turn(2, at_us=20 * S, gaps_us=[100 * MS] * 40)]
    others = [sample(CPU, at_us, 45.0, 0.0) for at_us in range(S, 15 * S, S)]
    records = [*HEAD, *sorted([*answers, *others], key=_when)]
    (found,) = past_runs_of_session(fold(records), 40 * S)
    assert found.decode_tokens_per_s == pytest.approx(10)
    paging = [sample(ENGINE, at_us, 1e9, 0.0, 500.0) for at_us in range(20 * S, 25 * S, S)]
    records = [*HEAD, *sorted([*answers, *others, *paging], key=_when)]
    assert past_runs_of_session(fold(records), 40 * S) == ()


def _when(record: Record) -> int:
    t_us = getattr(record, "t_us", START_US)
    return t_us[0] if isinstance(t_us, tuple) else int(t_us)
