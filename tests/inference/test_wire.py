from __future__ import annotations

import socket
import threading
from contextlib import suppress

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
    ReportSender,
    StreamError,
    encode,
)
from tests.support.eventually import eventually


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


@pytest.mark.parametrize("limited", [True, False])
def test_what_a_server_sends_waits_for_a_parent_that_is_behind_and_what_a_model_says_does_not(limited: bool) -> None:
    ours, theirs = socket.socketpair()
    sender, sent, looks = ReportSender(theirs), [0], [-1]
    if limited:
        sender.limit()

    def send() -> None:
        for _ in range(20_000):
            sender.send(Tokens(turn=0, t_us=(1,), pieces=("x" * 1000,)))
            sent[0] += 1

    def stands() -> bool:
        looks.append(sent[0])
        return looks[-1] == looks[-2] > 0

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    if limited:
        eventually(stands, "it waits")
        assert sent[0] < 20_000
    ours.settimeout(0.05)  # the last message may have been sent and received before the thread ends
    while thread.is_alive() and limited:
        with suppress(TimeoutError):
            ours.recv(2**20)
    eventually(lambda: sent[0] == 20_000, "all is sent")
    ours.close()
    theirs.close()
