"""What using a model takes, from a recorded session: idle without it, its load, its answers."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from edgetop.core.energy.duty import Duty
from edgetop.core.figures import rows_of, with_duty
from edgetop.core.quantity import Interval
from edgetop.core.records import Event, Record, SourceAdded
from edgetop.session.file import to_file, to_session
from edgetop.session.file_io import decode_file, encode_file
from edgetop.session.session import Session
from edgetop.session.snapshot import snapshot
from tests.support.bench_sessions import counter
from tests.support.recorded_sessions import LOADED, MS, START_US, STARTED, S, fold, sample, turn

LOAD_US, LOADED_US, ASKED_US, END_US = 20 * S, 24 * S, 44 * S, 80 * S
TOKENS = 151
"""Of the answer: one comes with the prompt, the others every 100 ms."""

DONE_US = ASKED_US + 250 * MS + 15 * S
POWERS = ((LOAD_US, 3.0), (LOADED_US, 9.0), (ASKED_US, 3.4), (DONE_US, 8.0), (END_US, 3.4))
"""W until each moment."""


def energy_j(t_us: int) -> float:
    begin_us, total_j = 0, 0.0
    for until_us, power_w in POWERS:
        total_j += power_w * max(0, min(t_us, until_us) - begin_us) / S
        begin_us = until_us
    return total_j


def recorded(*, read_from_us: int = 0, server: str = "", use: Duty = Duty()) -> Session:  # noqa: B008 - frozen
    load = replace(LOADED, t_us=START_US + LOADED_US, load_s=4.0, engine=replace(LOADED.engine, server=server))
    loading = Event(t_us=START_US + LOAD_US, kind="model_loading", text="tiny.gguf")
    board = counter()
    readings: list[Record] = [sample(board, t_us, energy_j(t_us)) for t_us in range(read_from_us, END_US, 100 * MS)]
    answer = turn(at_us=ASKED_US, gaps_us=(100 * MS,) * (TOKENS - 1))
    head: list[Record] = [replace(STARTED, use=use), SourceAdded(source=board), loading, load]
    return fold([*head, *answer, *readings])


def value(found: Interval | None) -> float:
    assert found is not None
    return found.value


def test_idle_power_without_the_model_and_the_energy_of_its_load_are_measured() -> None:
    session = recorded()
    found = snapshot(session, session.end_us).summary.duty
    assert value(found.unloaded_w) == pytest.approx(3.0, rel=0.01)
    assert value(found.load_j) == pytest.approx(36.0, rel=0.03)
    assert value(found.unload_after_s) == pytest.approx((36 - 12) / 0.4, rel=0.1)


def test_an_answer_of_another_length_takes_as_much_more_as_its_tokens() -> None:
    session = recorded()
    summary = snapshot(session, session.end_us).summary
    for tokens in (50, TOKENS, 400):
        truth_j = 8.0 * (0.25 + (tokens - 1) * 0.1)
        found = with_duty(summary, Duty(answer_tokens=tokens)).duty.answer_j
        assert found is not None
        assert found.low <= truth_j <= found.high, tokens
        assert found.value == pytest.approx(truth_j, rel=0.03)


def test_where_decoding_has_no_figure_of_its_own_the_interval_holds_all_that_may_be() -> None:
    session = recorded()
    summary = snapshot(session, session.end_us).summary
    assert summary.energy is not None
    blunt = replace(summary, energy=replace(summary.energy, decode_j_per_token=None))
    found = with_duty(blunt, Duty(answer_tokens=200)).duty.answer_j
    assert found is not None
    assert found.low <= 8.0 * (0.25 + 199 * 0.1) <= found.high
    assert "say too little of 2000" in with_duty(blunt, Duty(answer_tokens=2000)).duty.missing["answer_j"].reason


def test_a_day_is_that_of_the_use_that_was_recorded_and_of_any_other() -> None:
    session = recorded(use=Duty(requests_per_hour=20, battery_wh=50))
    file = decode_file(b"".join(encode_file(to_file(session))))
    assert to_file(to_session(file)).summary == file.summary
    kept_wh = value(file.summary.duty.kept_wh_per_day)
    answer_j, answer_s = 8.0 * (0.25 + 255 * 0.1), 0.25 + 255 * 0.1
    assert kept_wh == pytest.approx(24 * (20 * answer_j + 3.4 * (3600 - 20 * answer_s)) / 3600, rel=0.02)
    assert "energy per day, model kept loaded" in rows_of(file.summary)
    assert "energy per day, model kept loaded" not in rows_of(with_duty(file.summary, Duty()))
    assert value(with_duty(file.summary, Duty(requests_per_hour=40)).duty.kept_wh_per_day) > kept_wh


def test_what_was_not_measured_says_so() -> None:
    session = recorded(read_from_us=22 * S)
    found = snapshot(session, session.end_us).summary.duty
    assert found.load_j is None
    assert "--idle" in found.missing["load_j"].hint
    assert "--idle" in found.missing["unloaded_w"].hint
    served = recorded(server="http://127.0.0.1:8080")
    assert "a server holds" in snapshot(served, served.end_us).summary.duty.missing["unloaded_w"].reason


def test_a_moment_before_the_load_knows_nothing_of_it() -> None:
    session = recorded()
    early = snapshot(session, LOAD_US + S).summary.duty
    assert early.load_j is None
    assert value(early.unloaded_w) == pytest.approx(3.0, rel=0.01)
