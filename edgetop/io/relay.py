"""A relay of HTTP/1.1 between clients and one server, byte for byte, and what it saw of each exchange.

Bytes are passed on before anything is made of them. Of a request the relay changes what names the server, as a client
that is connected to it directly writes it: `Host`, and the path where the server's address has one. Each connection of
a client has one to the server; where either ends, so does the other. What is no HTTP is relayed as long as it comes
from the server, and refused where it comes from a client.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import socket
import ssl
import struct
import threading
from collections import deque
from typing import Final, Literal, NamedTuple

from edgetop.core.clock import monotonic_us
from edgetop.core.errors import EdgetopError

HEAD_BYTES_MAX: Final = 65536
CONNECTIONS_MAX: Final = 512
HEAD_S: Final = 30.0
"""From the first byte of a request until its head is whole, and for a connection to the server."""
REFUSED_S: Final = 1.0
"""For how long what a refused client still sends is read and dropped."""

STALLED_S: Final = 300.0
"""A client that asks nothing or takes nothing for so long is left."""
PIECE_BYTES: Final = 65536
KEPT_BYTES_MAX: Final = 4 * 2**20
"""Of a request that is kept to be read; more is relayed all the same."""
WAITING_BYTES_MAX: Final = 64 * 2**20
"""Of all answers together that wait to be read, and as much of requests; what is more is relayed and not read."""

Outcome = Literal["complete", "client left", "server left", "refused", "unreachable", "proxy ended"]


class FramingError(Exception):
    """A message whose end cannot be known."""


class Head(NamedTuple):
    """The head of a request or of an answer."""

    first: tuple[str, str, str]
    """Method, target and version, or version, status and reason."""
    fields: list[tuple[str, str]]
    """Names in small letters."""

    @classmethod
    def parse(cls, data: bytes) -> Head:
        """Raises FramingError."""
        if any(byte in data.replace(b"\r\n", b"") for byte in b"\r\n\0"):
            raise FramingError("a line ends in another way than HTTP has it")
        first, *lines = data.decode("latin-1").rstrip("\r\n").split("\r\n")
        parts = first.split(" ", 2)
        if len(parts) < 2 or any(line[:1] in {" ", "\t"} or ":" not in line for line in lines):
            raise FramingError("no head of HTTP")
        fields = [(name.strip().lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        return cls((parts[0], parts[1], parts[2] if len(parts) > 2 else ""), fields)

    def get(self, name: str) -> str:
        """The last value of a field; empty without it."""
        return next((value for each, value in reversed(self.fields) if each == name), "")

    @property
    def length(self) -> int | None:
        """Of the body; `None` where it is chunked or up to the end. Raises FramingError where that is not clear."""
        lengths = {value for name, value in self.fields if name == "content-length"}
        if not lengths:
            return None
        (value, *others) = lengths
        if others or self.is_chunked or not (value.isascii() and value.isdecimal() and len(value) < 16):
            raise FramingError("its length is not clear")
        return int(value)

    @property
    def is_chunked(self) -> bool:
        """Whether the body comes in chunks."""
        return self.get("transfer-encoding").lower().rpartition(",")[2].strip() == "chunked"


class Body:
    """Follows a body until it ends."""

    def __init__(self, length: int | None, *, chunked: bool) -> None:
        """A length of `None` without chunks is up to the end of the connection."""
        self._left = length
        self._chunked = chunked
        self._line = b""
        self._state: Literal["size", "data", "gap", "trailer"] = "size"
        self.ended = length == 0 and not chunked
        self.to_end = length is None and not chunked

    def feed(self, data: bytes) -> tuple[list[bytes], bytes]:
        """The content of what came, and what is behind the end. Raises FramingError."""
        if not self._chunked:
            return self._plain(data)
        content: list[bytes] = []
        while data and not self.ended:
            if self._state == "data" and self._left:
                piece, data = data[: self._left], data[self._left :]
                content.append(piece)
                self._left -= len(piece)
                continue
            line, end, rest = (self._line + data).partition(b"\n")
            if not end:
                self._line, data = line, b""
                if len(line) > HEAD_BYTES_MAX:
                    raise FramingError("a line of a chunk does not end")
                break
            self._line, data = b"", rest
            self._end_line(line.strip())
        return content, data

    def _end_line(self, line: bytes) -> None:
        if self._state == "data":
            if line:
                raise FramingError("a chunk is longer than it says")
            self._state = "size"
        elif self._state == "trailer":
            self.ended = not line
        else:
            size = line.partition(b";")[0].strip()
            if not size or len(size) > 8 or not all(byte in b"0123456789abcdefABCDEF" for byte in size):
                raise FramingError("a chunk has no size")
            self._left = int(size, 16)
            self._state = "data" if self._left else "trailer"

    def _plain(self, data: bytes) -> tuple[list[bytes], bytes]:
        if self._left is None:
            return [data], b""
        piece, rest = data[: self._left], data[self._left :]
        self._left -= len(piece)
        self.ended = self._left == 0
        return [piece] if piece else [], rest


class Exchange:
    """A request and its answer, as far as they have come; written by the relay's thread alone."""

    def __init__(self, client: str, head: Head, begin_us: int) -> None:
        self.client = client
        """The client's address, without its port."""
        self.head = head
        self.begin_us = begin_us
        self.end_us = 0
        self.body = bytearray()
        """Of the request, at most `KEPT_BYTES_MAX`."""
        self.body_kept = True
        self.answer: Head | None = None
        self.outcome: Outcome | None = None
        self.error = ""
        self.is_read = True
        """False: not all of the answer was kept for whoever reads it."""


class Seen(NamedTuple):
    """A piece of an answer; the last one of an exchange has no data."""

    exchange: Exchange
    t_us: int
    data: bytes


class Upstream(NamedTuple):
    """The server."""

    host: str
    port: int
    prefix: str = ""
    authority: str = ""
    """What `Host` says."""
    tls: bool = False
    unix: str = ""

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Raises OSError."""
        if self.unix:
            return await asyncio.open_unix_connection(self.unix, limit=HEAD_BYTES_MAX)
        context = ssl.create_default_context() if self.tls else None
        return await asyncio.open_connection(self.host, self.port, ssl=context, limit=HEAD_BYTES_MAX)


class _Reader(asyncio.StreamReader):
    """A stream that says when the other side has ended it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(limit=HEAD_BYTES_MAX, loop=loop)
        self.ended = asyncio.Event()
        self.broken = asyncio.Event()

    def feed_eof(self) -> None:
        super().feed_eof()
        self.ended.set()

    def set_exception(self, exc: Exception) -> None:
        super().set_exception(exc)
        self.ended.set()
        self.broken.set()


class Relay:
    """Listens in a thread of its own until it is stopped."""

    def __init__(self, upstream: Upstream, host: str, port: int) -> None:
        self._upstream = upstream
        self._listen = (host, port)
        self.port = port
        """Where it listens; of a port of 0 the one that was free."""
        self.seen: deque[Seen] = deque()
        """What others are to read: taken out by them from the left."""
        self.taken_bytes = 0
        self._given_bytes = 0
        self._bodies_bytes = 0
        self._lock = threading.Lock()
        self._failure: OSError | None = None
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Event | None = None
        self._running: dict[Exchange, None] = {}
        self._connections: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, name="edgetop-proxy", daemon=True)

    def start(self) -> None:
        """Listen. Raises EdgetopError where that cannot be."""
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            host, port = self._listen
            raise EdgetopError(
                f"cannot listen on {host}:{port}: {self._failure.strerror or self._failure}",
                "choose another address with --listen, such as 127.0.0.1:8090",
            )

    def stop(self) -> None:
        """Hang up on everybody, and end."""
        loop, ended = self._loop, self._ended
        if loop is not None and ended is not None and not loop.is_closed():
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(ended.set)
        self._thread.join(timeout=5)

    def _run(self) -> None:
        # It warns on stderr of each client that has left.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        self._loop, self._ended = loop, asyncio.Event()

        def accept() -> asyncio.StreamReaderProtocol:
            reader = _Reader(loop)
            return asyncio.StreamReaderProtocol(reader, self._accepted, loop=loop)

        try:
            server = await loop.create_server(accept, *self._listen, backlog=CONNECTIONS_MAX, reuse_address=True)
        except OSError as error:
            self._failure = error
            self._ready.set()
            return
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._ended.wait()
        server.close()
        for exchange in list(self._running):
            self._end(exchange, "proxy ended")
        tasks = list(self._connections)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert isinstance(reader, _Reader)  # noqa: S101 - made by `accept`
        task = asyncio.get_running_loop().create_task(
            self._client(reader, writer, has_room=len(self._connections) < CONNECTIONS_MAX)
        )
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _client(self, reader: _Reader, writer: asyncio.StreamWriter, *, has_room: bool) -> None:
        peer = writer.get_extra_info("peername")
        line = _Line(self, reader, writer, str(peer[0]) if isinstance(peer, tuple) else "local")
        try:
            if not has_room:
                await line.refuse("503 Service Unavailable", f"more than {CONNECTIONS_MAX} connections")
            else:
                await line.serve()
        except (OSError, EOFError, asyncio.TimeoutError, asyncio.LimitOverrunError):
            pass
        finally:
            line.hang_up()

    # What is kept for whoever reads it

    def begin(self, exchange: Exchange) -> None:
        """An exchange has begun."""
        self._running[exchange] = None
        self.seen.append(Seen(exchange, exchange.begin_us, b""))

    def keep(self, exchange: Exchange, t_us: int, data: bytes) -> None:
        """A piece of an answer has been passed on."""
        if not exchange.is_read or not data:
            return
        if self._given_bytes - self.taken_bytes > WAITING_BYTES_MAX:
            exchange.is_read = False
            return
        self._given_bytes += len(data)
        self.seen.append(Seen(exchange, t_us, data))

    def keep_body(self, exchange: Exchange, piece: bytes) -> None:
        """A piece of a request has been passed on."""
        if not exchange.body_kept:
            return
        with self._lock:
            has_room = self._bodies_bytes + len(piece) <= WAITING_BYTES_MAX
            if has_room and exchange.outcome is None and len(exchange.body) + len(piece) <= KEPT_BYTES_MAX:
                self._bodies_bytes += len(piece)
                exchange.body += piece
                return
            # A part of a request says nothing.
            self._bodies_bytes -= len(exchange.body)
            exchange.body, exchange.body_kept = bytearray(), False

    def take_body(self, exchange: Exchange) -> bytes:
        """What was kept of a request that is over, for whoever reads it; once."""
        with self._lock:
            body, exchange.body = bytes(exchange.body), bytearray()
            self._bodies_bytes -= len(body)
        return body

    def end(self, exchange: Exchange, outcome: Outcome, error: str = "") -> None:
        """An exchange is over; only the first time counts."""
        if exchange in self._running:
            exchange.error = error or exchange.error
            self._end(exchange, outcome)

    def _end(self, exchange: Exchange, outcome: Outcome) -> None:
        del self._running[exchange]
        exchange.end_us, exchange.outcome = monotonic_us(), outcome
        self.seen.append(Seen(exchange, exchange.end_us, b""))

    @property
    def upstream(self) -> Upstream:
        """The server."""
        return self._upstream


class _Line:
    """One client's connection, and the one to the server that belongs to it."""

    def __init__(self, relay: Relay, reader: _Reader, writer: asyncio.StreamWriter, client: str) -> None:
        self._relay = relay
        self._reader, self._writer = reader, writer
        self._client = client
        self._server: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    def hang_up(self) -> None:
        """End both connections."""
        for writer in (self._writer, *(() if self._server is None else (self._server[1],))):
            with contextlib.suppress(OSError, RuntimeError):
                writer.close()

    async def refuse(self, status: str, why: str) -> None:
        """Answer in the server's place, and end."""
        body = json.dumps({"error": {"message": f"edgetop proxy: {why}", "type": "proxy_error"}}).encode()
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        self._writer.write(head.encode() + b"Connection: close\r\n\r\n" + body)
        await asyncio.wait_for(self._writer.drain(), STALLED_S)
        # Closed with bytes of the request unread, the connection is reset, and the answer may be lost on its way.
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            self._writer.write_eof()
            await asyncio.wait_for(self._discard(), REFUSED_S)

    async def _discard(self) -> None:
        while await self._reader.read(65536):
            pass

    async def serve(self) -> None:
        """Relay request by request."""
        while await self._exchange():
            pass

    async def _head(self) -> bytes:
        """The next head; empty where no more comes. Ends where the server hangs up meanwhile."""
        first = asyncio.ensure_future(self._reader.readexactly(1))
        waits: set[asyncio.Future[bytes]] = {first}
        if self._server is not None:
            waits.add(asyncio.ensure_future(self._server[0].read(1)))
        try:
            done, _ = await asyncio.wait(waits, timeout=STALLED_S, return_when=asyncio.FIRST_COMPLETED)
            if done != {first} or first.exception() is not None:
                return b""
        finally:
            for each in waits:
                each.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        rest = await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), HEAD_S)
        return first.result() + rest

    async def _exchange(self) -> bool:
        """Relay one request and its answer; whether another may follow."""
        try:
            raw = await self._head()
            if not raw:
                return False
            head = Head.parse(raw)
            # A request without either has no body.
            if head.get("transfer-encoding") and not head.is_chunked:
                await self.refuse("400 Bad Request", "the length of the request is not clear")
                return False
            body = Body(0 if head.length is None and not head.is_chunked else head.length, chunked=head.is_chunked)
        except (FramingError, asyncio.LimitOverrunError) as error:
            await self.refuse("400 Bad Request", f"this is no request that can be passed on: {error}")
            return False
        exchange = Exchange(self._client, head, monotonic_us())
        self._relay.begin(exchange)
        if self._server is None:
            try:
                self._server = await asyncio.wait_for(self._relay.upstream.connect(), HEAD_S)
            except (OSError, asyncio.TimeoutError) as error:
                why = getattr(error, "strerror", None) or str(error) or "no answer"
                self._relay.end(exchange, "unreachable", why)
                await self.refuse("502 Bad Gateway", f"the server cannot be reached: {why}")
                return False
        self._server[1].write(self._for_server(raw, head))
        request = asyncio.ensure_future(self._pass_request(exchange, body, self._server[1]))
        try:
            again = await self._pass_answer(exchange, head, self._server[0])
        except ConnectionError:
            self._relay.end(exchange, "client left")
            raise
        finally:
            whole = request.done() and not request.cancelled() and request.exception() is None and body.ended
            request.cancel()
            await asyncio.gather(request, return_exceptions=True)
            self._relay.end(exchange, self._who_left())
        return again and whole and not self._reader.ended.is_set()

    def _who_left(self) -> Outcome:
        return "client left" if self._reader.ended.is_set() else "server left"

    def _for_server(self, raw: bytes, head: Head) -> bytes:
        """The head as a client of the server itself would have written it."""
        upstream = self._relay.upstream
        lines = raw.split(b"\r\n")
        if upstream.prefix:
            method, target, rest = lines[0].split(b" ", 2)
            lines[0] = b" ".join((method, upstream.prefix.encode() + target, rest))
        if upstream.authority and head.get("host"):
            host = f"Host: {upstream.authority}".encode()
            lines = [host if line[:5].lower() == b"host:" else line for line in lines]
        return b"\r\n".join(lines)

    async def _pass_request(self, exchange: Exchange, body: Body, server: asyncio.StreamWriter) -> None:
        """The body; then tell the server when the client ends its side."""
        while not body.ended:
            data = await self._reader.read(PIECE_BYTES)
            if not data:
                break
            server.write(data)
            content, behind = body.feed(data)
            for piece in content:
                self._relay.keep_body(exchange, piece)
            await server.drain()
            if behind:  # a second request before the answer: no client of these APIs does that
                raise FramingError("requests one behind the other")
        await self._reader.ended.wait()
        if self._reader.broken.is_set() or not server.can_write_eof():
            server.close()
        else:
            with contextlib.suppress(OSError):
                server.write_eof()

    async def _drain(self) -> None:
        """Wait for a client that takes its answer slowly. Raises ConnectionError where it has left.

        A client that keeps up is not waited for: the task and the timer of that would be most of what a chunk costs.
        """
        transport = self._writer.transport
        if transport.get_write_buffer_size() > 0 or transport.is_closing():
            await asyncio.wait_for(self._writer.drain(), STALLED_S)

    async def _pass_answer(self, exchange: Exchange, request: Head, server: asyncio.StreamReader) -> bool:
        """The answer, byte for byte; whether the connections can be used again."""
        start, body = b"", None
        is_opaque = False
        while True:
            try:
                data = await server.read(PIECE_BYTES)
            except OSError:
                # A reset is passed on as one: an answer up to the end of the connection would look whole.
                client = self._writer.get_extra_info("socket")
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self._relay.end(exchange, self._who_left())
                return False
            t_us = monotonic_us()
            if not data:
                done = body is not None and (body.to_end or body.ended)
                self._relay.end(exchange, "complete" if done else self._who_left())
                return False
            self._writer.write(data)
            if not is_opaque:
                try:
                    if body is None:
                        start += data
                        head, start = _answer_head(start)
                        if head is not None:
                            exchange.answer = head
                            body = _answer_body(head, request)
                            data, start = start, b""
                    if body is not None:
                        content, behind = body.feed(data)
                        self._relay.keep(exchange, t_us, b"".join(content))
                        _require_nothing(behind)
                except FramingError as error:
                    exchange.is_read, exchange.error, is_opaque = False, f"no answer of HTTP: {error}", True
            await self._drain()
            if body is not None and body.ended and not is_opaque:
                self._relay.end(exchange, "complete")
                closes = exchange.answer is not None and (
                    exchange.answer.get("connection").lower() == "close" or exchange.answer.first[0] == "HTTP/1.0"
                )
                return not closes and request.get("connection").lower() != "close"


_STATUS: Final = re.compile(r"[1-9][0-9]{2}")


def _require_nothing(behind: bytes) -> None:
    if behind:
        raise FramingError("there is more than its length")


def _answer_head(data: bytes) -> tuple[Head | None, bytes]:
    """The head of the final answer, once it is whole, and what is behind it. Raises FramingError."""
    while b"\r\n\r\n" in data:
        raw, _, data = data.partition(b"\r\n\r\n")
        head = Head.parse(raw)
        if not head.first[0].startswith("HTTP/1.") or not _STATUS.fullmatch(head.first[1]):
            raise FramingError("it has no status")
        if not head.first[1].startswith("1") or head.first[1] == "101":
            return head, data
    if len(data) > HEAD_BYTES_MAX:
        raise FramingError("its head does not end")
    return None, data


def _answer_body(head: Head, request: Head) -> Body:
    status = head.first[1]
    if request.first[0] == "HEAD" or status in {"204", "304"}:
        return Body(0, chunked=False)
    return Body(head.length, chunked=head.is_chunked and status != "101")
