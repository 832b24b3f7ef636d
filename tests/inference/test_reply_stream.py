from __future__ import annotations

from edgetop.core.records import Tokens
from edgetop.inference.protocol import Report
from edgetop.inference.reply import ReplyBatcher


def stream_of(stamps: list[int], tokens: list[bytes], stop: tuple[str, ...] = ()) -> list[Tokens]:
    reports: list[Report] = []
    stream = ReplyBatcher(3, reports.append, stop=stop)
    for stamp, token in zip(stamps, tokens, strict=True):
        stream.add(stamp, token)
    stream.finish()
    return [report for report in reports if isinstance(report, Tokens)]


def test_the_first_token_leaves_at_once_and_the_others_ten_times_a_second() -> None:
    stamps = [1_000_000 + 10_000 * number for number in range(25)]
    batches = stream_of(stamps, [b"x"] * 25)
    assert [len(batch.t_us) for batch in batches] == [1, 10, 10, 4]
    assert [stamp for batch in batches for stamp in batch.t_us] == stamps
    assert {batch.turn for batch in batches} == {3}


def test_slow_tokens_leave_one_by_one() -> None:
    batches = stream_of([0, 400_000, 800_000], [b"a", b"b", b"c"])
    assert [batch.pieces for batch in batches] == [("a",), ("b",), ("c",)]


def test_reasoning_and_answer_leave_in_records_of_their_own() -> None:
    batches = stream_of([0, 1, 2, 3], [b"<think>", b"why", b"</think>", b"so"])
    said = [
        (batch.part, stamp, text) for batch in batches for stamp, text in zip(batch.t_us, batch.pieces, strict=True)
    ]
    assert said == [("reasoning", 0, ""), ("reasoning", 1, "why"), ("reasoning", 2, ""), ("answer", 3, "so")]


def test_a_stop_string_is_noticed_at_its_last_token() -> None:
    reports: list[Report] = []
    stream = ReplyBatcher(0, reports.append, stop=("END",))
    stream.add(0, b"one ")
    stream.add(1, b"E")
    assert not stream.stopped
    stream.add(2, b"ND")
    assert stream.stopped
