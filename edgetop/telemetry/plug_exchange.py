"""One question to one device in the local network, and its answer.

Nothing but the address that the user gave is contacted: no proxy, no redirect, no cloud. The exchange as a whole has a
deadline, so a device that answers a byte at a time does not hold its thread, and a limit of size.
"""

from __future__ import annotations

import socket
import struct
import time
from typing import Any

import msgspec

from edgetop.telemetry.source import SourceLost

EXCHANGE_S = 2.0
_ANSWER_BYTES = 65536
_LENGTH = struct.Struct(">I")
_SAME_NETWORK = "check the address, and that this machine is in the plug's network"


class NotThereError(SourceLost):
    """The plug answers, but has nothing under that path."""


class _DeadlineSocket(socket.socket):
    """A connection on which all receiving ends at one deadline, however slowly the bytes come."""

    deadline_s = 0.0

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:  # noqa: ANN401 - any writable buffer
        remaining_s = self.deadline_s - time.monotonic()
        if remaining_s <= 0:
            raise TimeoutError("timed out")
        self.settimeout(remaining_s)
        return super().recv_into(buffer, nbytes, flags)


def _connect(host: str, port: int) -> _DeadlineSocket:
    deadline_s = time.monotonic() + EXCHANGE_S
    plain = socket.create_connection((host, port), timeout=EXCHANGE_S)
    connection = _DeadlineSocket(fileno=plain.detach())
    connection.settimeout(EXCHANGE_S)
    connection.deadline_s = deadline_s
    return connection


def _receive(connection: _DeadlineSocket, size: int) -> bytes:
    received = bytearray(size)
    view = memoryview(received)
    while view:
        count = connection.recv_into(view)
        if count == 0:
            raise ConnectionError("the connection was closed before the end of the answer")
        view = view[count:]
    return bytes(received)


def exchange(host: str, port: int, question: bytes) -> bytes:
    """Send `question` and receive an answer over TCP, each after its length in four bytes.

    Raises ConnectionRefusedError when nobody listens, and SourceLost for everything else that fails.
    """
    try:
        with _connect(host, port) as connection:
            connection.sendall(_LENGTH.pack(len(question)) + question)
            (length,) = _LENGTH.unpack(_receive(connection, _LENGTH.size))
            if length > _ANSWER_BYTES:
                raise SourceLost(f"{host} wants to answer with {length} bytes")
            return _receive(connection, length)
    except ConnectionRefusedError:
        raise
    except OSError as error:
        raise _unreachable(host, error) from error


def get_json(host: str, port: int, path: str) -> object:
    """The JSON at an HTTP path. Raises NotThereError for status 404 and SourceLost for everything else that fails."""
    import http.client  # noqa: PLC0415 - 25 ms, and most people have no plug

    connection = http.client.HTTPConnection(host, port)
    try:
        connection.sock = _connect(host, port)
        connection.request("GET", path, headers={"Connection": "close"})
        response = connection.getresponse()
        body = response.read(_ANSWER_BYTES + 1)
    except OSError as error:
        raise _unreachable(host, error) from error
    except http.client.HTTPException as error:
        raise SourceLost(f"{host} does not speak HTTP: {type(error).__name__}") from error
    finally:
        connection.close()
    if response.status == http.client.NOT_FOUND:
        raise NotThereError(f"{host} has no {path}")
    if response.status == http.client.UNAUTHORIZED:
        raise SourceLost(f"{host} wants a password", "switch its restricted login off, or use --power-exec with curl")
    if response.status != http.client.OK:
        raise SourceLost(f"{host} answers {path} with HTTP status {response.status}")
    return decode_json(host, body)


def decode_json(host: str, body: bytes) -> object:
    """The JSON in an answer of `host`. Raises SourceLost when it is none."""
    if len(body) > _ANSWER_BYTES:
        raise SourceLost(f"{host} answers with more than {_ANSWER_BYTES} bytes")
    try:
        return msgspec.json.decode(body, type=object)
    except (msgspec.DecodeError, RecursionError) as error:
        raise SourceLost(f"{host} does not answer in JSON") from error


def _unreachable(host: str, error: OSError) -> SourceLost:
    if isinstance(error, TimeoutError):
        return SourceLost(f"{host} did not answer within {EXCHANGE_S:g} s", _SAME_NETWORK)
    return SourceLost(f"{host}: {error.strerror or error}", _SAME_NETWORK)
