"""A relay of HTTP/1.1 between clients and one server, byte for byte, and what it saw of each exchange.

Bytes are passed on before anything is made of them. Of a request the relay changes what names the server, as a client
that is connected to it directly writes it: `Host`, and the path where the server's address has one. Each connection of
a client has one to the server; where either ends, so does the other. What is no HTTP is relayed as long as it comes
from the server, and refused where it comes from a client, as is all of which two programs may not see the same end.
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
from ipaddress import ip_address
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import urlsplit

from edgetop.core.clock import monotonic_us
from edgetop.core.errors import EdgetopError

HEAD_BYTES_MAX: Final = 65536
CONNECTIONS_MAX: Final = 512
HEAD_S: Final = 30.0
"""From the first byte of a request until its head is whole, and for a connection to the server."""
REFUSED_S: Final = 1.0
"""For how long what a client still sends that has its answer is read and dropped."""

STALLED_S: Final = 300.0
"""A client that asks nothing, sends no more of what it began or takes nothing for so long is left."""
SERVER_STALLED_S: Final = 3600.0
"""So long a server may leave a request unread: some take one after the other."""
PIECE_BYTES: Final = 65536
CHUNKED_BYTES: Final = 8192
"""Of a request in chunks, of which each may be a byte: nobody else waits longer than that takes to be read."""
KEPT_BYTES_MAX: Final = 4 * 2**20
"""Of a request that is kept to be read; more is relayed all the same."""
WAITING_BYTES_MAX: Final = 64 * 2**20
"""Of the answers that wait to be read, and of the requests; what is more is relayed and not read."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

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
        fields = [(name.lower(), value.strip(" \t")) for name, _, value in (line.partition(":") for line in lines)]
        if len(parts) < 2 or not all(":" in line for line in lines):
            raise FramingError("no head of HTTP")
        if not all(_TOKEN.fullmatch(name) for name, _ in fields):
            raise FramingError("a field has no name")
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

    @property
    def request_body(self) -> Body:
        """Of a request. Raises FramingError where servers may not agree on its end."""
        if self.first[2] not in {"HTTP/1.1", "HTTP/1.0"}:
            raise FramingError("it is of another version than 1.0 and 1.1")
        codings = [value.lower() for name, value in self.fields if name == "transfer-encoding"]
        if codings and (codings != ["chunked"] or self.first[2] == "HTTP/1.0"):
            raise FramingError("its length is not clear")
        # A request without either has no body.
        length = self.length
        return Body(0 if length is None and not codings else length, chunked=bool(codings), is_request=True)


class Body:
    """Follows a body until it ends."""

    def __init__(self, length: int | None, *, chunked: bool, is_request: bool = False) -> None:
        """A length of `None` without chunks is up to the end of the connection."""
        self._left = length
        self.is_chunked = chunked
        self._is_strict = is_request
        self._line = b""
        self._state: Literal["size", "data", "trailer"] = "size"
        self._trailer_bytes = 0
        self.ended = length == 0 and not chunked
        self.to_end = length is None and not chunked

    def feed(self, data: bytes) -> tuple[list[bytes], bytes]:
        """The content of what came, and what is behind the end. Raises FramingError."""
        if not self.is_chunked:
            return self._plain(data)
        content: list[bytes] = []
        begin = 0
        while begin < len(data) and not self.ended:
            if self._state == "data" and self._left:
                piece = data[begin : begin + self._left]
                content.append(piece)
                self._left -= len(piece)
                begin += len(piece)
                continue
            end = data.find(b"\n", begin) + 1 or len(data)
            line, self._line = self._line + data[begin:end], b""
            if len(line) > HEAD_BYTES_MAX:
                raise FramingError("a line of a chunk does not end")
            if line.endswith(b"\n"):
                self._end_line(line)
            else:
                self._line = line
            begin = end
        return content, data[begin:]

    def _end_line(self, whole: bytes) -> None:
        line = whole.strip()
        if self._is_strict and whole != line + b"\r\n":
            raise FramingError("a line of a chunk ends in another way than HTTP has it")
        if self._state == "data":
            if line:
                raise FramingError("a chunk is longer than it says")
            self._state = "size"
        elif self._state == "trailer":
            self.ended = not line
            self._trailer_bytes += len(line)
            if self._trailer_bytes > HEAD_BYTES_MAX:
                raise FramingError("its trailer does not end")
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
        self.is_ended = self.is_broken = self.is_raw = False
        self.turned = asyncio.Event()
        """It has ended, or what comes is no HTTP any more."""

    def feed_eof(self) -> None:
        super().feed_eof()
        self.is_ended = True
        self.turned.set()

    def set_exception(self, exc: Exception) -> None:
        super().set_exception(exc)
        self.is_ended = self.is_broken = True
        self.turned.set()

    def give_back(self, data: bytes) -> None:
        """Put what was read too far before what comes next."""
        self._buffer[:0] = data  # type: ignore[attr-defined] # it has no way to do so

    def turn_raw(self) -> None:
        """Whatever comes behind the request belongs to no other one."""
        self.is_raw = True
        self.turned.set()


class Relay:
    """Listens in a thread of its own until it is stopped."""

    def __init__(self, upstream: Upstream, host: str, port: int) -> None:
        self.upstream = upstream
        """The server."""
        self._listen = (host, port)
        self.is_for_here = host == "localhost" or _is_loopback(host)
        """Whether only this machine reaches it."""
        self.port = port
        """Where it listens; of a port of 0 the one that was free."""
        self.seen: deque[Seen] = deque()
        """What others are to read: taken out by them from the left."""
        self.taken_bytes = 0
        self.taken_body_bytes = 0
        """What they have taken, of answers and of requests."""
        self._given_bytes = 0
        self._given_body_bytes = 0
        self._failure: OSError | None = None
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Event | None = None
        self.is_ending = False
        self._running: dict[Exchange, None] = {}
        self.idle: dict[_Line, None] = {}
        """Lines without a request, the longest idle one first."""
        self._connections: set[asyncio.Task[None]] = set()
        self._refusals: set[asyncio.Task[None]] = set()
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
        self.is_ending = True
        server.close()
        for exchange in list(self._running):
            self._end(exchange, "proxy ended")
        await _cancel(*self._connections, *self._refusals)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert isinstance(reader, _Reader)  # noqa: S101 - made by `accept`
        is_full = len(self._connections) >= CONNECTIONS_MAX
        if is_full and self.idle:
            next(iter(self.idle)).drop()
            is_full = False
        if is_full and len(self._refusals) >= CONNECTIONS_MAX:
            writer.transport.abort()
            return
        peer = writer.get_extra_info("peername")
        line = _Line(self, reader, writer, str(peer[0]) if isinstance(peer, tuple) else "local")
        if not is_full:
            self.idle[line] = None
        tasks = self._refusals if is_full else self._connections
        task = asyncio.get_running_loop().create_task(self._client(line, is_refused=is_full))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def _client(self, line: _Line, *, is_refused: bool) -> None:
        with contextlib.suppress(OSError, EOFError, asyncio.TimeoutError, asyncio.LimitOverrunError):
            try:
                if is_refused:
                    await line.refuse("503 Service Unavailable", f"more than {CONNECTIONS_MAX} requests at once")
                else:
                    await line.serve()
            finally:
                await line.hang_up()

    # What is kept for whoever reads it

    def begin(self, exchange: Exchange) -> None:
        """An exchange has begun."""
        self._running[exchange] = None
        self.seen.append(Seen(exchange, exchange.begin_us, b""))

    def keep_request(self, exchange: Exchange, data: bytes) -> None:
        """A piece of a request is passed on."""
        if not exchange.body_kept:
            return
        waiting_bytes = self._given_body_bytes - self.taken_body_bytes
        if len(exchange.body) + len(data) <= KEPT_BYTES_MAX and waiting_bytes <= WAITING_BYTES_MAX:
            exchange.body += data
            self._given_body_bytes += len(data)
        else:
            exchange.body_kept = False
            self._given_body_bytes -= len(exchange.body)
            exchange.body.clear()

    def keep(self, exchange: Exchange, t_us: int, data: bytes) -> None:
        """A piece of an answer has been passed on."""
        if not exchange.is_read or not data:
            return
        if self._given_bytes - self.taken_bytes > WAITING_BYTES_MAX:
            exchange.is_read = False
            return
        self._given_bytes += len(data)
        self.seen.append(Seen(exchange, t_us, data))

    def end(self, exchange: Exchange, outcome: Outcome, error: str = "") -> None:
        """An exchange is over; only the first time counts."""
        if exchange in self._running:
            exchange.error = exchange.error or error
            self._end(exchange, outcome)

    def _end(self, exchange: Exchange, outcome: Outcome) -> None:
        del self._running[exchange]
        exchange.end_us, exchange.outcome = monotonic_us(), outcome
        self.seen.append(Seen(exchange, exchange.end_us, b""))


class _Line:
    """One client's connection, and the one to the server that belongs to it."""

    def __init__(self, relay: Relay, reader: _Reader, writer: asyncio.StreamWriter, client: str) -> None:
        self._relay = relay
        self._reader, self._writer = reader, writer
        self._client = client
        self._server: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._answered = 0
        """Pieces of the answer."""

    def drop(self) -> None:
        """Leave a client that asks for nothing."""
        self._relay.idle.pop(self, None)
        self._writer.transport.abort()

    async def hang_up(self) -> None:
        """End both connections, once the client has taken what it is to get."""
        if self._server is not None:
            self._server[1].transport.abort()
        self._writer.close()
        try:
            if not self._relay.is_ending:
                await asyncio.wait_for(self._writer.wait_closed(), STALLED_S)
        finally:
            self._writer.transport.abort()

    async def refuse(self, status: str, why: str) -> None:
        """Answer in the server's place, and end."""
        body = json.dumps({"error": {"message": f"edgetop proxy: {why}", "type": "proxy_error"}}).encode()
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        self._writer.write(head.encode() + b"Connection: close\r\n\r\n" + body)
        await asyncio.wait_for(self._writer.drain(), STALLED_S)
        await self._let_finish()

    async def _let_finish(self) -> None:
        """Read what is left of a request: closed before, a connection is reset, and the answer may be lost."""
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            self._writer.write_eof()
            await asyncio.wait_for(self._discard(), REFUSED_S)

    async def _discard(self) -> None:
        while await self._reader.read(PIECE_BYTES):
            pass

    async def serve(self) -> None:
        """Relay request by request."""
        while await self._exchange():
            pass

    async def _head(self) -> bytes:
        """The next head; empty where no more comes. Ends where the server hangs up meanwhile."""
        self._relay.idle[self] = None
        first = asyncio.ensure_future(self._reader.readexactly(1))
        waits: set[asyncio.Future[bytes]] = {first}
        if self._server is not None:
            waits.add(asyncio.ensure_future(self._server[0].read(1)))
        try:
            done, _ = await asyncio.wait(waits, timeout=STALLED_S, return_when=asyncio.FIRST_COMPLETED)
            if done != {first} or first.exception() is not None:
                return b""
            rest = await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), HEAD_S)
        finally:
            self._relay.idle.pop(self, None)
            await _cancel(*waits)
        return first.result() + rest

    async def _exchange(self) -> bool:
        """Relay one request and its answer; whether another may follow."""
        try:
            raw = await self._head()
            if not raw:
                return False
            head = Head.parse(raw)
            body = head.request_body
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
        self._answered = 0
        from_server, to_server = self._server
        to_server.write(self._for_server(raw, head))
        request = asyncio.ensure_future(self._pass_request(exchange, body, to_server))
        answer = asyncio.ensure_future(self._pass_answer(exchange, head, from_server))
        try:
            await asyncio.wait({request, answer}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done() and not await self._is_whole(exchange, request, answer):
                return False
            again = await answer
        except (ConnectionError, asyncio.TimeoutError):
            self._relay.end(exchange, "client left")
            raise
        finally:
            await _cancel(request, answer)
            self._relay.end(exchange, self._who_left())
        if exchange.outcome == "complete" and not body.ended:
            await self._let_finish()
        return again and body.ended and not self._reader.at_eof()

    async def _is_whole(self, exchange: Exchange, request: asyncio.Future[None], answer: asyncio.Future[bool]) -> bool:
        """Whether nothing is wrong with a request whose end has come; else the client is told, if it may still be."""
        try:
            await request
        except asyncio.TimeoutError:
            why, status = "the rest of the request did not come", "408 Request Timeout"
        except FramingError as error:
            why, status = f"this is no request that can be passed on: {error}", "400 Bad Request"
        except OSError:
            # Where the server takes no more, what it says of that is still to come.
            return not self._reader.is_broken
        else:
            return True
        self._relay.end(exchange, "refused", why)
        answer.cancel()
        if not self._answered:
            await self.refuse(status, why)
        return False

    def _who_left(self) -> Outcome:
        return "client left" if self._reader.is_ended else "server left"

    def _for_server(self, raw: bytes, head: Head) -> bytes:
        """The head as a client of the server itself would have written it."""
        upstream = self._relay.upstream
        lines = raw.split(b"\r\n")
        if upstream.prefix:
            method, target, rest = lines[0].split(b" ", 2)
            lines[0] = b" ".join((method, upstream.prefix.encode() + target, rest))
        # A name that a page of the web has given this machine stays, for the server to refuse it.
        if upstream.authority and (not self._relay.is_for_here or _is_of_here(head.get("host"))):
            host = f"Host: {upstream.authority}".encode()
            lines = [host if line[:5].lower() == b"host:" else line for line in lines]
        return b"\r\n".join(lines)

    async def _pass_request(self, exchange: Exchange, body: Body, server: asyncio.StreamWriter) -> None:
        """The body; then tell the server when the client ends its side.

        Raises FramingError, TimeoutError, and OSError where the server takes no more.
        """
        while not body.ended:
            data = await asyncio.wait_for(
                self._reader.read(CHUNKED_BYTES if body.is_chunked else PIECE_BYTES), STALLED_S
            )
            if not data:
                break
            content, behind = body.feed(data)
            self._relay.keep_request(exchange, b"".join(content))
            self._reader.give_back(behind)
            server.write(data[: len(data) - len(behind)])
            if server.transport.get_write_buffer_size() > 0:
                await asyncio.wait_for(server.drain(), SERVER_STALLED_S)
        await self._reader.turned.wait()
        while self._reader.is_raw and (data := await self._reader.read(PIECE_BYTES)):
            server.write(data)
            await asyncio.wait_for(server.drain(), SERVER_STALLED_S)
        has_more = not self._reader.at_eof()
        if not self._reader.is_broken and (has_more or server.can_write_eof()):
            # Other requests that are behind this one are still to be passed on.
            if not has_more:
                with contextlib.suppress(OSError):
                    server.write_eof()
            # A client that ends its side and one that is gone look alike until something is sent.
            answered = -1
            while answered != self._answered:
                answered = self._answered
                await asyncio.sleep(STALLED_S)
        server.transport.abort()

    async def _drain(self) -> None:
        """Wait for a client that takes its answer slowly. Raises ConnectionError where it has left.

        A client that keeps up is not waited for: the task and the timer of that would be most of what a chunk costs.
        """
        transport = self._writer.transport
        if transport.get_write_buffer_size() > 0 or transport.is_closing():
            try:
                await asyncio.wait_for(self._writer.drain(), STALLED_S)
            except asyncio.TimeoutError:
                transport.abort()
                raise

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
            self._answered += 1
            if not is_opaque:
                try:
                    if body is None:
                        start += data
                        head, start = _answer_head(start)
                        if head is not None:
                            exchange.answer = head
                            body = _answer_body(head, request)
                            data, start = start, b""
                            if head.first[1] == "101":
                                self._reader.turn_raw()
                    if body is not None:
                        content, behind = body.feed(data)
                        self._relay.keep(exchange, t_us, b"".join(content))
                        _require_nothing(behind)
                except FramingError as error:
                    exchange.is_read, exchange.error, is_opaque = False, f"no answer of HTTP: {error}", True
                    self._reader.turn_raw()
            await self._drain()
            if body is not None and body.ended and not is_opaque:
                self._relay.end(exchange, "complete")
                closes = exchange.answer is not None and (
                    exchange.answer.get("connection").lower() == "close" or exchange.answer.first[0] == "HTTP/1.0"
                )
                return not closes and request.get("connection").lower() != "close"


def _is_loopback(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ip_address(host).is_loopback
    return False


def _is_of_here(authority: str) -> bool:
    """Whether a `Host` is an address, or a name that no page of the web can have."""
    try:
        name = urlsplit(f"//{authority}").hostname or ""
    except ValueError:
        return False
    with contextlib.suppress(ValueError):
        ip_address(name)
        return True
    return name in {"localhost", socket.gethostname().lower()} or name.endswith(".localhost")


CANCELLED_S: Final = 0.05


async def _cancel(*tasks: asyncio.Future[Any]) -> None:
    """Cancel, and wait for the end.

    Before Python 3.12 `wait_for` loses a cancellation that comes in the moment in which what it waits for does.
    """
    while running := [task for task in tasks if not task.done()]:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=CANCELLED_S)


def _require_nothing(behind: bytes) -> None:
    if behind:
        raise FramingError("there is more than its length")


def _answer_head(data: bytes) -> tuple[Head | None, bytes]:
    """The head of the final answer, once it is whole, and what is behind it. Raises FramingError."""
    while b"\r\n\r\n" in data:
        raw, _, data = data.partition(b"\r\n\r\n")
        head = Head.parse(raw)
        if not head.first[0].startswith("HTTP/1.") or not re.fullmatch("[0-9]{3}", head.first[1]):
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
