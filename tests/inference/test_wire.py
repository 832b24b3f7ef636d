from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetop.core.engine_settings import SamplingSettings
from edgetop.core.records import Tokens
from edgetop.inference.protocol import (
    ChatMessage,
    Command,
    FrameReader,
    Generate,
    Log,
    Quit,
    Report,
    StreamError,
    encode,
)


@given(st.lists(st.text(max_size=40), max_size=6), st.integers(1, 50))
def test_messages_arrive_whole_and_in_order_however_the_stream_is_cut(texts: list[str], size: int) -> None:
    messages = [Log(level="error", text=text.encode("utf-8", "ignore").decode()) for text in texts]
    stream = b"".join(encode(message) for message in messages)
    reader = FrameReader[Report](Report)
    arrived = [message for at in range(0, len(stream), size) for message in reader.feed(stream[at : at + size])]
    assert arrived == messages


def test_a_lone_surrogate_is_sent_as_a_replacement_character() -> None:
    said = Generate(turn=1, messages=(ChatMessage("user", "a\ud800b\U0001f600"),), sampling=SamplingSettings())
    (arrived,) = FrameReader[Command](Command).feed(encode(said))
    assert isinstance(arrived, Generate)
    assert arrived.messages[0].content == "a\ufffdb\U0001f600"
    assert arrived.turn == 1


def test_a_report_is_not_a_command() -> None:
    frame = encode(Tokens(turn=0, t_us=(1,), pieces=("a",)))
    with pytest.raises(StreamError):
        FrameReader[Command](Command).feed(frame)


def test_a_frame_of_absurd_length_ends_the_stream_before_it_is_buffered() -> None:
    with pytest.raises(StreamError):
        FrameReader[Command](Command).feed(b"\xff\xff\xff\xff" + encode(Quit()))
