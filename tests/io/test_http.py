"""A connection puts aside what arrives, each piece with its own stamp, and loses none of it."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from edgetop.core.clock import monotonic_us
from edgetop.io.http import InterruptibleSocket, RequestCancelledError, RequestError, Timeouts

FOREVER_US = 3_600_000_000
RESET = struct.pack("ii", 1, 0)
Step = Callable[[socket.socket], bool]
"""What the server does while the channel waits, and whether the person stops then."""


def say(data: bytes) -> Step:
    def step(server: socket.socket) -> bool:
        server.sendall(data)
        return False

    return step


def end(server: socket.socket) -> bool:
    server.close()
    return False


def reset(server: socket.socket) -> bool:
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    return end(server)


def stop(_server: socket.socket) -> bool:
    return True


@contextmanager
def channel_to(*steps: Step, idle_s: float = 60) -> Iterator[InterruptibleSocket]:
    """A channel to a server that takes one step each time that the channel looks whether to stop."""
    listener = socket.create_server(("127.0.0.1", 0))
    connected = socket.create_connection(listener.getsockname())
    server, _ = listener.accept()
    remaining = iter(steps)
    channel = InterruptibleSocket(
        connected, stopped=lambda: next(remaining, lambda _: False)(server), timeouts=Timeouts(idle_s=idle_s)
    )
    channel.gather_us = FOREVER_US
    try:
        yield channel
    finally:
        channel.hang_up()
        server.close()
        listener.close()


def received(channel: InterruptibleSocket, size: int = 100) -> bytes:
    buffer = bytearray(size)
    return bytes(buffer[: channel.readinto(buffer)])


def test_what_comes_first_is_given_out_at_once() -> None:
    begin_us = monotonic_us()
    with channel_to(say(b"one"), end) as channel:
        assert received(channel) == b"one"
        assert begin_us <= channel.received_us <= monotonic_us()
        assert channel.is_drained


def test_what_comes_later_is_put_aside_with_the_stamp_of_each_piece() -> None:
    with channel_to(say(b"one"), say(b"two"), say(b"three"), end) as channel:
        pieces, stamps, drained = [], [], []
        while piece := received(channel):
            pieces.append(piece)
            stamps.append(channel.received_us)
            drained.append(channel.is_drained)
        assert pieces == [b"one", b"two", b"three"]
        assert stamps == sorted(set(stamps))
        assert drained == [True, False, False]  # the end was put aside too
        assert received(channel) == b""


def test_pieces_are_given_out_when_they_have_waited_long_enough() -> None:
    with channel_to(say(b"one"), say(b"two"), end) as channel:
        channel.gather_us = 0
        for piece in (b"one", b"two"):
            assert received(channel) == piece
            assert channel.is_drained


def test_a_piece_longer_than_the_buffer_comes_in_parts() -> None:
    with channel_to(say(b"abcde")) as channel:
        assert received(channel, 2) == b"ab"
        stamp_us = channel.received_us
        assert not channel.is_drained
        assert received(channel, 2) == b"cd"
        assert received(channel, 2) == b"e"
        assert channel.received_us == stamp_us


def test_a_stop_comes_after_what_had_arrived() -> None:
    with channel_to(say(b"one"), say(b"two"), stop, stop) as channel:
        assert received(channel) == b"one"
        assert received(channel) == b"two"
        with pytest.raises(RequestCancelledError):
            received(channel)


def test_a_connection_that_breaks_gives_out_what_had_arrived() -> None:
    with channel_to(say(b"one"), say(b"two"), reset) as channel:
        assert received(channel) == b"one"
        assert received(channel) == b"two"
        for _ in range(2):
            with pytest.raises(ConnectionResetError):
                received(channel)


def test_silence_ends_the_waiting() -> None:
    with channel_to(idle_s=0) as channel, pytest.raises(RequestError, match="No data from the server"):
        received(channel)
