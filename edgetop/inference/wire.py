"""Frames over the socket; sending that never waits."""

from __future__ import annotations

import contextlib
import select
import socket
from typing import Any, Generic, TypeVar

import msgspec

from edgetop.inference.protocol import Report

HEADER_BYTES = 4
FRAME_BYTES_MAX = 64 * 2**20
"""A longer frame can only be a broken stream: a conversation is far below a megabyte."""

MessageT = TypeVar("MessageT")


class StreamError(Exception):
    """The bytes are no frame of ours; nothing after them can be read."""


def encode(message: msgspec.Struct) -> bytes:
    """One frame. Lone surrogates, which UTF-8 cannot carry, are sent as U+FFFD."""
    try:
        body = msgspec.msgpack.encode(message)
    except UnicodeEncodeError:
        body = msgspec.msgpack.encode(_without_surrogates(msgspec.to_builtins(message)))
    if len(body) > FRAME_BYTES_MAX:
        raise ValueError(f"a message of {len(body)} bytes is too long to send")
    return len(body).to_bytes(HEADER_BYTES, "big") + body


def _without_surrogates(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_surrogates(item) for item in value]
    return value


class FrameReader(Generic[MessageT]):
    """Turns the bytes of a stream, in pieces of any size, into messages of one type."""

    def __init__(self, message_type: Any) -> None:  # noqa: ANN401 - a union is no type to the type checker
        self._decoder: msgspec.msgpack.Decoder[MessageT] = msgspec.msgpack.Decoder(message_type)
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[MessageT]:
        """The messages that `data` completes, in order.

        Raises StreamError when the bytes are no frame of ours.
        """
        self._buffer += data
        messages: list[MessageT] = []
        begin = 0
        while len(self._buffer) - begin >= HEADER_BYTES:
            size = int.from_bytes(self._buffer[begin : begin + HEADER_BYTES], "big")
            if size > FRAME_BYTES_MAX:
                raise StreamError(f"a frame of {size} bytes")
            end = begin + HEADER_BYTES + size
            if len(self._buffer) < end:
                break
            try:
                messages.append(self._decoder.decode(bytes(self._buffer[begin + HEADER_BYTES : end])))
            except msgspec.DecodeError as error:
                raise StreamError(str(error)) from error
            begin = end
        del self._buffer[:begin]
        return messages


SEND_BUFFER_BYTES = 4 * 2**20
"""Asked of the kernel, which may give less; the rest waits here."""


class ParentGoneError(Exception):
    """Nobody is at the other end any more."""


class ReportSender:
    """Reports on their way through a non-blocking socket."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self._socket = connection
        self._backlog = bytearray()

    def send(self, report: Report) -> None:
        """Send as much as the socket takes and buffer the rest. Raises ParentGoneError."""
        self._backlog += encode(report)
        self._push()

    def wait(self) -> None:
        """Return when everything has left. Raises ParentGoneError."""
        poll = select.poll()
        poll.register(self._socket, select.POLLOUT)
        while self._backlog:
            poll.poll()
            self._push()

    def _push(self) -> None:
        try:
            while self._backlog:
                sent = self._socket.send(self._backlog)
                del self._backlog[:sent]
        except BlockingIOError:
            return
        except (BrokenPipeError, ConnectionError) as error:
            raise ParentGoneError from error
