from __future__ import annotations

import json
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetop.core.text import one_line
from edgetop.inference.server.backend import AnswerStream
from edgetop.inference.server.connection import JsonReader, LineSplitter, SseReader
from edgetop.inference.server.ollama import chat_stream as ollama_stream
from edgetop.inference.server.openai import chat_stream
from edgetop.io.http import RequestError
from tests.support import server_replies
from tests.support.mutated_streams import STREAMS, examine, mutated, readers

MESSY = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.sampled_from(
            [b"data: ", b"data:", b"\n", b"\r", b"\r\n", b": ping\n\n", b"event: error\n", b"[DONE]", b"{}"]
        ),
        st.sampled_from(
            [
                *server_replies.LLAMA_CHAT,
                *server_replies.VLLM_COUNTED,
                server_replies.OLLAMA_CHAT,
                server_replies.OLLAMA_SHOW,
            ]
        ),
    ),
    max_size=12,
).map(b"".join)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({min(place, len(data)) for place in places} | {len(data)})
    return [data[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]


@given(MESSY, st.lists(st.integers(0, 4000), max_size=8))
def test_where_a_stream_is_cut_makes_no_difference_to_its_lines(data: bytes, places: list[int]) -> None:
    whole, pieces = LineSplitter(), LineSplitter()
    lines = [*whole.feed(data), whole.finish()]
    cut_lines = [line for piece in cut(data, places) for line in pieces.feed(piece)] + [pieces.finish()]
    assert cut_lines == lines
    assert b"".join(lines) == data.replace(b"\r", b"").replace(b"\n", b"")


@given(MESSY, st.lists(st.integers(0, 4000), max_size=8))
def test_where_a_stream_is_cut_makes_no_difference_to_its_events(data: bytes, places: list[int]) -> None:
    for make in (SseReader, JsonReader):
        whole, pieces = make(), make()
        events = [*whole.feed(data), *whole.finish()]
        assert [event for piece in cut(data, places) for event in pieces.feed(piece)] + pieces.finish() == events


def failure_words(stream: AnswerStream, data: bytes) -> str:
    """What a reader says of bytes that it cannot read; any other exception is the test's failure."""
    try:
        list(stream.feed(data))
        list(stream.finish())
    except RequestError as failure:
        return failure.sentence
    return ""


@given(MESSY)
def test_no_bytes_make_a_reader_fail_otherwise_than_in_words(data: bytes) -> None:
    for stream in (chat_stream("timings"), chat_stream("usage"), chat_stream(), ollama_stream()):
        words = failure_words(stream, data)
        assert one_line(words) == words
        assert len(words) < 1000


KEYS = (
    "choices", "delta", "content", "usage", "error", "message", "timings", "prompt_progress", "predicted_n", "done",
    "total", "processed", "reasoning_content", "finish_reason", "completion_tokens", "x",
)  # fmt: skip
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


@given(ANYTHING)
def test_no_document_makes_a_reader_fail_otherwise_than_in_words(value: object) -> None:
    document = json.dumps(value).encode()
    for stream, data in (
        (chat_stream("timings"), b"data: " + document + b"\n\n"),
        (chat_stream("usage"), b"data: " + document + b"\n\n"),
        (ollama_stream(), document + b"\n"),
    ):
        words = failure_words(stream, data)
        assert one_line(words) == words


def test_events_are_read_as_the_standard_says() -> None:
    reader = SseReader()
    data = b"data: one\n: a comment\nid: 7\ndata:two\ndata\n\nretry: 5\n\ndata:  kept blank\r\n\r\ndata: last"
    assert reader.feed(data) == [b"one\ntwo\n", b" kept blank"]
    assert reader.finish() == [b"last"]


@pytest.mark.parametrize("reader", [SseReader(), JsonReader()])
def test_a_line_that_does_not_end_is_given_up(reader: SseReader | JsonReader) -> None:
    def go_on() -> None:
        while True:
            reader.feed(b"x" * 2**16)

    with pytest.raises(RequestError, match="4 MiB"):
        go_on()


def test_each_recorded_stream_is_read_by_a_reader() -> None:
    chance = random.Random(0)  # noqa: S311 - to be repeated
    assert all("read" in examine(data, chance) for data in STREAMS)


@pytest.mark.parametrize("seed", range(4))
def test_mutated_streams_are_read_or_refused_in_words(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - to be repeated
    outcomes = Counter(outcome for _ in range(250) for outcome in examine(mutated(chance), chance))
    assert outcomes.total() == 250 * len(readers())
    assert min(outcomes.values()) > 100, outcomes
