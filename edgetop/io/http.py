"""The HTTP client for model servers, model files on the web and smart plugs.

urllib's own opener sends every header, a token among them, wherever it is redirected, and has no limit for a whole
request; httpx takes 0.3 s to import and gives no stamp per read.

A server may take minutes until it answers, and the user may stop it at any moment, so every wait checks the stop
flag. The kernel's clock is read right after bytes were received: that is their stamp.

A stream is read in two steps, since a thread that wakes for each token slows down a model that decodes on the same
cores: what arrives is stamped and queued, and parsed ten times a second.
"""

from __future__ import annotations

import base64
import http.client
import io
import ipaddress
import math
import select
import socket
import ssl
import time
import urllib.request
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Literal, cast
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

from msgspec import Struct

from edgetop.core.clock import monotonic_us
from edgetop.core.errors import ModelError
from edgetop.core.text import one_line
from edgetop.io.log import log

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

REDIRECTS_MAX = 5

TEXT_MAX = 300
"""Characters of a server's own text that are passed on."""

PIECE_BYTES = 65536

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PATH_SAFE = "/%:@!$&'()*+,;=~"

Cause = Literal["unreachable", "refused", "key", "missing", "loading", "context", "broken", "silent", "stopped"]


class RequestError(Exception):
    """A request that failed, in words."""

    def __init__(self, what: str, hint: str = "", *, cause: Cause = "broken") -> None:
        super().__init__(what)
        self.what = what
        """One line, a sentence."""
        self.hint = hint
        """One line, a sentence; may be empty."""
        self.cause: Cause = cause

    @property
    def sentence(self) -> str:
        """Both lines together."""
        return f"{self.what} {self.hint}".strip()

    @property
    def reason(self) -> tuple[str, str]:
        """Both lines as other errors have them: without a capital at the beginning and a full stop."""
        what, hint = ((text[:1].lower() + text[1:]).rstrip(".") for text in (self.what, self.hint))
        return what, hint


class RequestCancelledError(RequestError):
    """The user stopped the request."""

    def __init__(self) -> None:
        super().__init__("It was stopped.", cause="stopped")


class Timeouts(Struct, frozen=True):
    """How long to wait for a server, in seconds."""

    connect_s: float = 15.0
    idle_s: float = 20.0
    """Without a byte from it, without one that it accepts, and until the head of its answer has come."""
    total_s: float = 120.0
    """For a whole request, redirects included, however steadily it drips."""


class Credential(Struct, frozen=True):
    """A token, and the only server that may see it."""

    url: str
    """Any address of that server."""
    token: str


class HttpResponse:
    """The answer to a request. Use it in a `with`, which closes the connection, read or not."""

    def __init__(
        self, url: str, where: str, connection: http.client.HTTPConnection, connected: InterruptibleSocket
    ) -> None:
        """Wait for the head of the answer."""
        self.url = url
        """Where it came from, after redirects."""
        self._where = where
        self._connection = connection
        connected.begin_part()
        self._response = connection.getresponse()
        self.status = self._response.status
        self._socket = connected

    def header(self, name: str) -> str:
        """A header's value; empty if the server did not send it."""
        return self._response.headers.get(name) or ""

    @property
    def received_us(self) -> int:
        """When the bytes of the last piece were received."""
        return self._socket.received_us

    @property
    def is_drained(self) -> bool:
        """Whether the last piece was all that has arrived so far."""
        return self._socket.is_drained

    def read(self, count: int) -> bytes:
        """Read `count` bytes of the body, fewer only at its end. Raises RequestError."""
        body = bytearray()
        try:
            while len(body) < count:
                self._socket.begin_part()
                piece = self._response.read1(count - len(body))
                if not piece:
                    break
                body += piece
        except (http.client.HTTPException, OSError, ValueError) as error:
            raise self._broken_off() from error
        return bytes(body)

    def pieces(self, gather_us: int = 0) -> Iterator[bytes]:
        """The body as it arrives, each piece with its stamp. Raises RequestError where it breaks off.

        `gather_us` is how long pieces may wait in the queue for others.
        """
        self._socket.gather_us = gather_us
        try:
            while True:
                self._socket.begin_part()
                piece = self._response.read1(PIECE_BYTES)
                if not piece:
                    break
                yield piece
        except (http.client.HTTPException, OSError, ValueError) as error:
            raise self._broken_off() from error
        if self._response.length:
            raise self._broken_off()

    def read_all(self, limit: int) -> bytes:
        """Read the whole body. Raises RequestError when it is longer than `limit` bytes."""
        body = bytearray()
        for piece in self.pieces():
            body += piece
            if len(body) > limit:
                size = f"{limit // 2**20} MiB" if limit >= 2**20 else f"{limit} bytes"
                raise RequestError(f"The answer of {self._where} is longer than {size}.")
        return bytes(body)

    def close(self) -> None:
        """Close the connection, which also tells the server to stop."""
        self._response.close()
        self._connection.close()
        self._socket.hang_up()

    def __enter__(self) -> HttpResponse:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _broken_off(self) -> RequestError:
        return RequestError(
            f"The connection to {self._where} broke off in the middle of the answer.",
            "Check whether it still runs, and try again.",
        )


def send(
    method: str,
    url: str,
    *,
    where: str,
    headers: Mapping[str, str],
    body: bytes | None = None,
    timeouts: Timeouts,
    stopped: Callable[[], bool] = lambda: False,
    deadline_s: float = math.inf,
    proxied: bool = False,
    idle_hint: str = "Check the network, or try again later.",
) -> HttpResponse:
    """Send a request and wait for the head of the answer, whatever its status. Raises RequestError.

    `where` names the server in errors. `stopped` is checked while waiting, `deadline_s` is on the monotonic clock.
    Redirects are not followed; a proxy of the environment is used only with `proxied`.
    """
    deadline_s = min(deadline_s, time.monotonic() + timeouts.total_s)
    sent = {"User-Agent": "edgetop", "Accept": "*/*", "Connection": "close", **headers}
    connection, target = _connection(urlsplit(url), timeouts.connect_s, sent, proxied=proxied)
    try:
        connection.connect()
    except (http.client.HTTPException, OSError, ValueError) as error:
        connection.close()
        log("servers", f"{method} {shown(url)}: {error}")
        raise _unreachable(error, where, timeouts.connect_s) from error
    connected = InterruptibleSocket(
        connection.sock, stopped=stopped, timeouts=timeouts, deadline_s=deadline_s, where=where, idle_hint=idle_hint
    )
    connection.sock = cast("socket.socket", connected)
    connection.auto_open = 0
    try:
        connection.request(method, target, body=body, headers=sent)
        response = HttpResponse(url, where, connection, connected)
    except BaseException as error:
        connection.close()
        connected.hang_up()
        if isinstance(error, http.client.HTTPException | OSError | ValueError):
            raise _no_answer(error, where) from error
        raise
    log("servers", f"{method} {shown(url)}: {response.status}")
    return response


def get(
    url: str,
    *,
    headers: Mapping[str, str],
    credential: Credential | None = None,
    timeouts: Timeouts,
    stopped: Callable[[], bool] = lambda: False,
) -> HttpResponse:
    """Ask for a file and follow redirects, never from https to http. Any status is returned.

    Raises RequestError, and ModelError for an address that is none.
    """
    deadline_s = time.monotonic() + timeouts.total_s
    for _ in range(REDIRECTS_MAX + 1):
        parts = parse_url(url)
        sent = dict(headers)
        if credential is not None and _may_see_token(parts, parse_url(credential.url)):
            sent["Authorization"] = f"Bearer {credential.token}"
        response = send(
            "GET",
            url,
            where=shown(url),
            headers=sent,
            timeouts=timeouts,
            stopped=stopped,
            deadline_s=deadline_s,
            proxied=True,
        )
        location = response.header("Location")
        if response.status not in _REDIRECTS or not location:
            return response
        response.close()
        url = _redirected(url, location)
    raise RequestError(f"{shown(url)} redirects more than {REDIRECTS_MAX} times.", "Check the address.")


def connect(host: str, port: int, total_s: float) -> InterruptibleSocket:
    """A plain TCP connection for one exchange, which may take `total_s` seconds. Raises RequestError."""
    deadline_s = time.monotonic() + total_s
    try:
        connected = socket.create_connection((host, port), total_s)
    except (OSError, ValueError) as error:
        raise _unreachable(error, host, total_s) from error
    return InterruptibleSocket(connected, timeouts=Timeouts(total_s=total_s), deadline_s=deadline_s, where=host)


def shown(url: str) -> str:
    """An address for a person: without its query, which may hold a signature, and harmless on a terminal."""
    return one_line(url.partition("?")[0].partition("#")[0])


def quoted(text: str) -> str:
    """A server's own text, made harmless, in one line of bounded length, without a full stop."""
    line = one_line(text[: 4 * TEXT_MAX])
    return (line if len(line) <= TEXT_MAX else f"{line[:TEXT_MAX]}...").rstrip(".")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.endswith(".localhost")


def parse_url(url: str) -> SplitResult:
    """Take an address apart. Raises ModelError unless it is http or https, with a host and without a password."""
    try:
        parts = urlsplit(url)
        fine = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        fine = False
    if not fine or any(character <= " " or character == "\x7f" for character in url):
        raise ModelError(f"{shown(url)} is no address of a file", "write https://host/path/model.gguf")
    if parts.username is not None:
        raise ModelError("the address holds a user name", "leave it out; for the Hugging Face hub set HF_TOKEN")
    return parts


def _redirected(url: str, location: str) -> str:
    try:
        target = urljoin(url, location)
    except ValueError:
        target = ""
    parts = parse_url(target)
    if urlsplit(url).scheme == "https" and parts.scheme != "https":
        raise RequestError(f"{shown(url)} redirects from https to http.", "Such an answer cannot be trusted.")
    return target


def _may_see_token(parts: SplitResult, owner: SplitResult) -> bool:
    same = (parts.scheme, parts.hostname, parts.port) == (owner.scheme, owner.hostname, owner.port)
    return same and (parts.scheme == "https" or is_loopback(parts.hostname or ""))


def _connection(
    parts: SplitResult, timeout_s: float, sent: dict[str, str], *, proxied: bool
) -> tuple[http.client.HTTPConnection, str]:
    """A connection that is not open yet, and the request target."""
    host, port = parts.hostname or "", parts.port
    target = quote(parts.path or "/", safe=_PATH_SAFE) + (f"?{parts.query}" if parts.query else "")
    proxy = _proxy(parts) if proxied else None
    to_host, to_port = (host, port) if proxy is None else (proxy.hostname or "", proxy.port)
    if parts.scheme == "http+unix":
        return _UnixConnection(unquote(parts.netloc), timeout_s), target
    if parts.scheme == "https":
        context = ssl.create_default_context()
        secure = http.client.HTTPSConnection(to_host, to_port, timeout=timeout_s, context=context)
        if proxy is not None:
            secure.set_tunnel(host, port, _proxy_authorization(proxy))
        return secure, target
    if proxy is not None:
        sent.update(_proxy_authorization(proxy))
        target = f"http://{parts.netloc}{target}"
    return http.client.HTTPConnection(to_host, to_port, timeout=timeout_s), target


class _UnixConnection(http.client.HTTPConnection):
    """To a socket that has a path."""

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Connect. Raises OSError."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _proxy(parts: SplitResult) -> SplitResult | None:
    host = parts.hostname or ""
    if is_loopback(host) or urllib.request.proxy_bypass(host):
        return None
    proxies = urllib.request.getproxies()
    named = proxies.get(parts.scheme) or proxies.get("all")
    if not named:
        return None
    try:
        proxy = urlsplit(named if "://" in named else f"http://{named}")
        proxy.port  # noqa: B018 - it is read here
    except ValueError as error:
        raise RequestError(
            f"The environment's {parts.scheme}_proxy is no address: {one_line(str(error))}.",
            "Write it as http://HOST:PORT, or unset it.",
        ) from None
    if proxy.scheme != "http" or not proxy.hostname:
        raise RequestError(
            f"The environment's {parts.scheme}_proxy is no http:// proxy.",
            "Only http://HOST:PORT is supported; without a proxy, unset it.",
        )
    return proxy


def _proxy_authorization(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    user = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": "Basic " + base64.b64encode(user.encode()).decode()}


def _unreachable(error: Exception, where: str, connect_s: float) -> RequestError:
    why, hint = quoted(getattr(error, "strerror", None) or str(error)), "Check the address and the network."
    match error:
        case ssl.SSLCertVerificationError():
            why = f"its certificate is not trusted ({quoted(error.verify_message)})"
            hint = "Check this machine's clock; SSL_CERT_FILE names other certificates."
        case socket.gaierror():
            why = "there is no host of that name"
        case ConnectionRefusedError():
            why, hint = "nobody listens there", "Start the server, or check the port."
        case TimeoutError():
            why = f"no answer within {connect_s:g} s"
            hint = "Check the address and the network, and whether the machine is on."
    return RequestError(f"Cannot reach {where}: {why}.", hint, cause="unreachable")


def _no_answer(error: Exception, where: str) -> RequestError:
    if isinstance(error, http.client.RemoteDisconnected | ConnectionError):
        return RequestError(f"No answer from {where}: it closed the connection.", "Check its log.", cause="unreachable")
    return RequestError(f"What listens at {where} does not speak HTTP.", "Check the address.", cause="refused")


_STOP_CHECK_MS = 20
"""How soon a stop is noticed."""

_WANT_READ = (BlockingIOError, ssl.SSLWantReadError)
_WANT_WRITE = (BlockingIOError, ssl.SSLWantWriteError)

_GATHER_BYTES_MAX = 2**20


class InterruptibleSocket(io.RawIOBase):
    """A connected socket whose waiting ends with a stop, with silence and at a deadline."""

    def __init__(
        self,
        connected: socket.socket,
        *,
        timeouts: Timeouts,
        stopped: Callable[[], bool] = lambda: False,
        deadline_s: float = math.inf,
        where: str = "the server",
        idle_hint: str = "Check the network, or try again later.",
    ) -> None:
        """See `send`."""
        connected.setblocking(False)
        self._socket = connected
        self._stopped = stopped
        self._timeouts = timeouts
        self._deadline_s = deadline_s
        self._where = where
        self._idle_hint = idle_hint
        self._readable = select.poll()
        self._readable.register(connected, select.POLLIN)
        self._is_buffered = isinstance(connected, ssl.SSLSocket)
        """TLS: received bytes may wait above the socket, where `poll` does not see them."""
        self._arrived: deque[tuple[int, memoryview]] = deque()
        self._failure: OSError | None = None
        """Raised after what had arrived before it was given out."""
        self._due_us = 0
        self._part_by_s = math.inf
        self.gather_us = 0
        """How long what arrives may wait for more, counted from when something was last given out."""
        self.received_us = monotonic_us()
        """When the bytes that were given out last had been received."""

    def begin_part(self) -> None:
        """Give the server as long for the head, or the next piece of the body, as it may be silent.

        What HTTP skips, such as interim answers and trailers, is as good as nothing, however much of it comes.
        """
        self._part_by_s = time.monotonic() + self._timeouts.idle_s

    @property
    def is_drained(self) -> bool:
        """Whether everything that arrived has been given out."""
        return not self._arrived

    def makefile(self, _mode: str) -> io.BufferedReader:
        """The file of the answer, for `http.client`."""
        return io.BufferedReader(self, PIECE_BYTES)

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Receive something; 0 at the end. Raises OSError, and RequestError on silence or a stop."""
        if not self._arrived:
            self._gather()
        self.received_us, data = self._arrived.popleft()
        into = memoryview(buffer).cast("B")
        size = min(len(data), len(into))
        into[:size] = data[:size]
        if size < len(data):
            self._arrived.appendleft((self.received_us, data[size:]))
        return size

    def _gather(self) -> None:
        """Wait until something has arrived, and for more until `gather_us` is over."""
        if self._failure is not None:
            raise self._failure
        begin_s = time.monotonic()
        arrived, poll, receive = self._arrived, self._readable.poll, self._socket.recv
        due_us, check_us, size = self._due_us, 0, 0
        # Runs for each token, with cold caches next to a model that decodes: as few calls as possible.
        while True:
            now_us = monotonic_us()
            if arrived and (now_us >= due_us or size >= _GATHER_BYTES_MAX):
                break
            if now_us >= check_us:
                check_us = now_us + _STOP_CHECK_MS * 1000
                if self._must_stop(begin_s):
                    break
            wait_ms = min(_STOP_CHECK_MS, (due_us - now_us) / 1000) if arrived else _STOP_CHECK_MS
            # Most chunks have to be waited for: poll costs less than a recv that fails.
            if not self._is_buffered and not poll(wait_ms):
                continue
            try:
                data = receive(PIECE_BYTES)
            except _WANT_READ:
                poll(wait_ms)
                continue
            except OSError as error:
                if not arrived:
                    raise
                self._failure = error
                break
            arrived.append((monotonic_us(), memoryview(data)))
            size += len(data)
            if not data:
                break
        self._due_us = monotonic_us() + self.gather_us

    def _must_stop(self, begin_s: float) -> bool:
        """Whether to wait no longer for more than has arrived. Raises RequestError where nothing has."""
        stopped = self._stopped()
        if not self._arrived:
            if stopped:
                raise RequestCancelledError
            self._require_time(begin_s)
        return stopped

    def sendall(self, data: ReadableBuffer) -> None:
        """Send all of it."""
        remaining = memoryview(data)
        begin_s = time.monotonic()
        while remaining:
            if self._stopped():
                raise RequestCancelledError
            try:
                remaining = remaining[self._socket.send(remaining) :]
            except _WANT_WRITE:
                self._require_time(begin_s)
                writable = select.poll()
                writable.register(self._socket, select.POLLOUT)
                writable.poll(_STOP_CHECK_MS)
            else:
                begin_s = time.monotonic()

    def close(self) -> None:
        """Called for the file of each answer; the socket is closed by `hang_up`."""

    def hang_up(self) -> None:
        """Close the connection, which also tells the server to stop."""
        self._socket.close()
        super().close()

    def _require_time(self, begin_s: float) -> None:
        now_s = time.monotonic()
        if now_s > self._deadline_s:
            what = f"The request to {self._where} took longer than {self._timeouts.total_s:g} s."
        elif now_s - begin_s > self._timeouts.idle_s or now_s > self._part_by_s:
            what = f"No data from {self._where} for {self._timeouts.idle_s:g} s."
        else:
            return
        raise RequestError(what, self._idle_hint, cause="silent")
