from __future__ import annotations

from math import isnan

import pytest
from hypothesis import given
from msgspec.structs import replace

from edgetop.core.records import Prefill, Record, SourceAdded, Tokens
from edgetop.core.sources import Unavailable
from edgetop.session.file import to_file
from edgetop.session.session import REFUSED, Session
from edgetop.session.turn import Turn
from tests.support.recorded_sessions import (
    CPU,
    HEAD,
    MEMORY,
    MS,
    START_US,
    STARTED,
    S,
    event,
    fold,
    recordings,
    sample,
    turn,
)  # fmt: skip


def test_stamps_count_from_the_beginning_of_the_session() -> None:
    session = fold([*HEAD, *turn(at_us=1 * S)])
    only = session.turns[0]
    assert session.relative(START_US + 7) == 7
    assert session.loads[0].t_us == 500 * MS
    assert only.started.t_us == 1 * S
    assert list(only.prefill_t_us) == [1_050 * MS, 1_250 * MS]
    assert only.token_t_us[0] == 1_251 * MS
    assert session.end_us == only.last_us == 1_653 * MS


def test_the_reply_keeps_its_parts_and_the_length_of_every_piece() -> None:
    begin, *_ = turn(finished=False)
    session = fold([
        *HEAD,
        begin,
        Tokens(turn=1, t_us=(START_US + 2 * S, START_US + 3 * S), pieces=("let ", "me"), part="reasoning"),
        Tokens(turn=1, t_us=(START_US + 4 * S, START_US + 5 * S), pieces=("", "é!")),
    ])  # fmt: skip
    only = session.turns[0]
    assert [(span.part, span.tokens, span.text) for span in only.reply] == [
        ("reasoning", 2, "let me"),
        ("answer", 2, "é!"),
    ]
    assert list(only.token_chars) == [4, 2, 0, 2]
    assert only.text == "let meé!"


def test_a_missing_reading_keeps_its_reason_and_is_no_number() -> None:
    session = fold([
        *HEAD,
        sample(MEMORY, 1 * S, 7.0, None, reasons=("", "no swap")),
        sample(MEMORY, 2 * S, None, None, reasons=("asleep", "no swap")),
        sample(MEMORY, 3 * S, None, 5.4),
        sample(MEMORY, 4 * S, 9.0, 6.0),
    ])  # fmt: skip
    available, swap = session.series["memory"].columns
    assert [available.at(index) for index in range(4)] == [
        7.0, Unavailable("asleep"), Unavailable("the sensor gave no value"), 9.0,
    ]  # fmt: skip
    assert [swap.at(index) for index in range(4)] == [Unavailable("no swap"), Unavailable("no swap"), 5.0, 6.0]
    assert len(swap.runs) == 1
    stamps, values = session.window("memory.available", 2 * S, 4 * S)
    assert list(stamps) == [2 * S, 3 * S, 4 * S]
    assert [isnan(value) for value in values] == [True, True, False]


def test_values_are_rounded_to_the_digits_of_their_channel() -> None:
    session = fold([*HEAD, sample(CPU, 1 * S, 12.3456, 99.96)])
    assert [column.values[0] for column in session.series["cpu"].columns] == [12.3, 100.0]


def test_streams_may_arrive_late_beside_each_other() -> None:
    early, late = sample(MEMORY, 1 * S, 1.0, 1.0), sample(MEMORY, 2 * S, 2.0, 2.0)
    conversation = turn(at_us=1 * S)
    in_order = fold([*HEAD, early, *conversation, late, event("a", 1 * S), event("b", 3 * S)])
    late_samples = fold([*HEAD, event("b", 3 * S), *conversation, early, late, event("a", 1 * S)])
    assert to_file(in_order) == to_file(late_samples)


def _refusals(session: Session) -> list[str]:
    return [each.text for each in session.events if each.kind == REFUSED]


def test_a_record_that_does_not_fit_is_left_out_and_told_once() -> None:
    begin, *rest = turn()
    early_token = Tokens(turn=1, t_us=(START_US,), pieces=("x",))
    session = fold([
        *HEAD,
        begin,
        early_token,
        early_token,
        *rest,
        Prefill(turn=1, t_us=START_US + 9 * S, done=0, total=1, cached=0),
        sample(MEMORY, 5 * S, 1.0),
    ])  # fmt: skip
    clean = fold([*HEAD, *turn()])
    assert to_file(session).turns == to_file(clean).turns
    assert _refusals(session) == [
        "A record was left out: it is stamped before its predecessor.",
        "A record was left out: it belongs to a turn that is not running.",
        "A record was left out: a reading of memory has not one value per channel.",
    ]


def test_numbers_beyond_any_clock_or_counter_are_left_out() -> None:
    begin, *_ = turn(finished=False)
    session = fold([
        *HEAD,
        begin,
        Tokens(turn=1, t_us=(10**30,), pieces=("x",)),
        Prefill(turn=1, t_us=START_US + 2 * S, done=10**30, total=1, cached=0),
        replace(turn()[-1], t_us=10**30),
    ])  # fmt: skip
    assert not session.turns[0].token_t_us
    assert not session.turns[0].prefill_t_us
    assert session.turns[0].finished is None


def test_a_source_that_comes_back_goes_on_and_another_one_of_its_name_does_not() -> None:
    other = SourceAdded(source=CPU)
    impostor: Record = SourceAdded(source=type(CPU)(name="cpu", driver="x", period_s=1.0, channels=MEMORY.channels))
    session = fold([STARTED, other, sample(CPU, 1, 1.0, 1.0), other, impostor, sample(CPU, 2, 2.0, 2.0)])
    assert list(session.series["cpu"].columns[0].values) == [1.0, 2.0]
    assert len(_refusals(session)) == 1


@given(recordings())
def test_a_fold_never_raises_and_its_streams_ascend(records: list[Record]) -> None:
    session = fold(records)
    for each in session.turns:
        assert list(each.token_t_us) == sorted(each.token_t_us)
        assert sum(span.tokens for span in each.reply) == len(each.token_t_us) == len(each.token_chars)
    for series in session.series.values():
        assert list(series.t_us) == sorted(series.t_us)
        assert {len(column.values) for column in series.columns} == {len(series.t_us)}
    assert [each.t_us for each in session.events] == sorted(each.t_us for each in session.events)


@given(recordings())
def test_turns_that_are_packed_change_nothing(records: list[Record]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgetop.session.session.UNPACKED_TURNS", 1)
        packed = fold(records)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Turn, "pack", lambda _turn: None)
        assert to_file(packed) == to_file(fold(records))
