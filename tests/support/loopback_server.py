"""A server on loopback that answers with the very bytes it is given, and misbehaves as it is told."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import NamedTuple

Step = bytes | Callable[[socket.socket], None]
"""Bytes to send, or something to do with the connection."""


class Request(NamedTuple):
    line: str
    """Such as `GET /props`."""
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> dict[str, object]:
        loaded: dict[str, object] = json.loads(self.body)
        return loaded


class LoopbackServer:
    """What it answers, and what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, Sequence[Step]] = {}
        """By method and path; a path that is not there is a 404."""
        self.requests: list[Request] = []
        self.held = threading.Event()
        """What a hanging answer waits for."""
        self.hung_up = threading.Event()
        """The other side closed a connection while an answer hung."""
        self.url = ""

    @property
    def asked(self) -> list[str]:
        return [request.line for request in self.requests]

    def last(self, line: str) -> Request:
        """The last request of this kind."""
        return next(request for request in reversed(self.requests) if request.line == line)

    def hang(self, connection: socket.socket) -> None:
        """Say nothing more until the other side hangs up, or the test ends."""
        connection.settimeout(0.05)
        while not self.held.is_set():
            try:
                if not connection.recv(1):
                    self.hung_up.set()
                    return
            except TimeoutError:
                continue
            except OSError:
                self.hung_up.set()
                return


def without_end(data: bytes, pause_s: float = 0.0) -> Step:
    """Send it again and again until the other side hangs up."""

    def send(connection: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection.sendall(data)
                if pause_s:
                    threading.Event().wait(pause_s)

    return send


def reset(connection: socket.socket) -> None:
    """Break the connection off, as a server that is killed."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def head(status: str = "200 OK", media: str = "application/json", **headers: str) -> bytes:
    lines = [
        f"HTTP/1.1 {status}",
        f"Content-Type: {media}",
        *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def document(value: object, status: str = "200 OK", media: str = "application/json", **headers: str) -> list[Step]:
    """A whole answer."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return [head(status, media, Content_Length=str(len(body)), **headers) + body]


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def stream(*pieces: Step, media: str = "text/event-stream", end: bool = True) -> list[Step]:
    """An answer in pieces, each of them a chunk of its own; without `end` it stays open."""
    steps: list[Step] = [head(media=media, Transfer_Encoding="chunked")]
    steps += [chunk(piece) if isinstance(piece, bytes) else piece for piece in pieces]
    return [*steps, b"0\r\n\r\n"] if end else steps


class _Server(ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128
    wire: LoopbackServer


class _Handler(StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        wire = self.server.wire
        first = self.rfile.readline().decode("latin-1").split()
        if len(first) < 2:
            return
        headers = {}
        while line := self.rfile.readline().decode("latin-1").strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        body = self.rfile.read(int(headers.get("content-length", "0")))
        request = Request(" ".join(first[:2]), headers, body)
        wire.requests.append(request)
        answer = wire.answers.get(request.line, document({"error": "not found"}, "404 Not Found"))
        with suppress(OSError):
            for step in answer:
                if isinstance(step, bytes):
                    self.connection.sendall(step)
                else:
                    step(self.connection)


@contextmanager
def loopback_server() -> Iterator[LoopbackServer]:
    """A running server."""
    wire = LoopbackServer()
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.wire = wire
        wire.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield wire
        finally:
            wire.held.set()
            server.shutdown()
            thread.join()
