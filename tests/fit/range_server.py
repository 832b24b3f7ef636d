"""A web server on loopback that gives files with or without ranges, and misbehaves as it is told."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CHUNK_BYTES = 64 * 1024


class RangeServer:
    """What it serves, how, and what came of it."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.ranges = True
        self.faults: dict[str, Callable[[Handler], None]] = {}
        """By path: what answers instead."""
        self.total = ""
        """What Content-Range and Content-Length say of the size, instead of the truth."""
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.sent_bytes = 0
        """Of bodies, as far as the other end took them."""
        self.done = threading.Semaphore(0)
        """Released when a request has been dealt with."""
        self.held = threading.Event()
        """What a hanging answer waits for."""
        self.url = ""
        self.wrap: Callable[[ssl.SSLContext], None] = lambda context: None
        """Begin to speak TLS."""

    def paths(self) -> list[str]:
        return [path for path, _ in self.requests]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: RangeServer

    def do_GET(self) -> None:
        self.served.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        path = self.path.partition("?")[0]
        try:
            if path in self.served.faults:
                self.served.faults[path](self)
            elif path in self.served.files:
                self.give(self.served.files[path])
            else:
                self.status(404)
        except OSError:
            self.close_connection = True  # the other end has read enough
        finally:
            self.served.done.release()

    def give(self, body: bytes) -> None:
        """Answer with a file, or with the range of it that is asked for."""
        wanted = self.headers.get("Range", "")
        total = self.served.total or str(len(body))
        if self.served.ranges and wanted:
            first, last = (int(number or total) for number in wanted.removeprefix("bytes=").split("-"))
            if first >= len(body):
                self.status(416)
                return
            last = min(last, len(body) - 1)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{last}/{total}")
            self.send_header("Content-Length", str(last + 1 - first))
            body = body[first : last + 1]
        else:
            self.send_response(200)
            if total != "*":
                self.send_header("Content-Length", total)
        self.end_headers()
        self.body(body)

    def body(self, body: bytes) -> None:
        for start in range(0, len(body), CHUNK_BYTES):
            self.wfile.write(body[start : start + CHUNK_BYTES])
            self.served.sent_bytes += len(body[start : start + CHUNK_BYTES])
        self.close_connection = True

    def status(self, status: int, **headers: str) -> None:
        """Answer without a body."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def get_request(self) -> tuple[socket.socket, str]:
        connection, address = super().get_request()
        # So that what was sent and what was taken differ by little.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, CHUNK_BYTES)
        return connection, address


@contextmanager
def range_server(host: str = "127.0.0.1") -> Iterator[RangeServer]:
    served = RangeServer()
    server = _Server((host, 0), type("BoundHandler", (Handler,), {"served": served}))
    served.url = f"http://{host}:{server.server_address[1]}"

    def wrap(context: ssl.SSLContext) -> None:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)

    served.wrap = wrap
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        served.held.set()
        server.shutdown()
        server.server_close()
        thread.join()
