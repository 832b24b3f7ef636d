"""The HTTP client: limits, proxies, redirects, loopback, a stamp for each read.

urllib's own opener follows redirects with every header, the token among them, and knows no limit for the whole request.

A server may take minutes before it says anything, and a person may stop it at any moment, so that nothing here waits
without looking at the stop flag. The kernel's clock is read right after bytes were received: that is the stamp of what
they hold.

A stream is read in two steps, since whoever decodes on the cores of this machine waits for a thread that wakes for each
token: what comes is stamped and put aside, and looked into ten times a second.
"""

from __future__ import annotations

import base64
import http.client
import io
import ipaddress
import select
import socket
import ssl
import threading
import time
import urllib.request
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Literal, TypeVar
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

from msgspec import Struct

from edgetop.core.clock import monotonic_us
from edgetop.core.errors import ModelError
from edgetop.core.text import one_line

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer


REDIRECTS_MAX = 5

_REDIRECTS = frozenset({301, 302, 303, 307, 308})

_PATH_SAFE = "/%:@!$&'()*+,;=~"

_T = TypeVar("_T")


class Timeouts(Struct, frozen=True):
    """How long to wait for a server, in seconds."""

    connect_s: float = 15.0
    idle_s: float = 20.0
    """Without a byte from it."""
    total_s: float = 120.0
    """For the whole of one request, however steadily it drips."""


PATIENCE = Timeouts()


class Credential(Struct, frozen=True):
    """A token, and the only server that may see it."""

    url: str
    """Any address of that server."""
    token: str


class Reply:
    """What a server answers. To be used as a context manager: leaving it closes the connection, read or not."""

    def __init__(
        self, url: str, connection: http.client.HTTPConnection, response: http.client.HTTPResponse, watch: Watch
    ) -> None:
        self.url = url
        """Where the answer came from, after redirects."""
        self.status = response.status
        self.received_bytes = 0
        """Of the body."""
        self._connection = connection
        self._response = response
        self._watch = watch

    def header(self, name: str) -> str:
        """A header's value; empty if the server did not send it."""
        return self._response.headers.get(name, "")

    def read(self, count: int) -> bytes:
        """Read `count` bytes of the body, fewer only at its end. Raises ModelError."""
        data = self._watch.during(lambda: self._response.read(count))
        self.received_bytes += len(data)
        return data

    def __enter__(self) -> Reply:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection, whatever of the body was not read."""
        self._watch.stop()
        self._response.close()
        self._connection.close()


class Watch:
    """Ends a request that takes too long by closing its socket, and says what went wrong in words."""

    def __init__(self, url: str, patience: Timeouts) -> None:
        self._shown = shown(url)
        self._patience = patience
        self._expired = False
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(patience.total_s, self._expire)
        self._timer.daemon = True
        self._timer.start()

    def over(self, connected: socket.socket) -> None:
        """Begin to watch a connected socket."""
        connected.settimeout(self._patience.idle_s)
        self._socket = connected

    def during(self, step: Callable[[], _T]) -> _T:
        """Do one step of the request. Raises ModelError."""
        try:
            done = step()
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._told(error) from error
        if self._expired:
            raise self._told(TimeoutError())
        return done

    def stop(self) -> None:
        """End the watch."""
        self._timer.cancel()

    def _expire(self) -> None:
        self._expired = True
        if self._socket is not None:
            try:
                # The base class: an SSL socket's own method would change it under the reading thread.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
            except OSError:
                return  # closed already

    def _told(self, error: Exception) -> ModelError:
        if self._expired:
            return ModelError(f"{self._shown} took longer than {self._patience.total_s:g} s", "try again later")
        if isinstance(error, TimeoutError):
            return ModelError(f"{self._shown} does not answer", "check the network, or try again later")
        if isinstance(error, ssl.SSLCertVerificationError):
            return ModelError(
                f"{self._shown} has no valid certificate: {one_line(error.verify_message)}",
                "check the address and this machine's clock; SSL_CERT_FILE names other certificates",
            )
        if isinstance(error, http.client.IncompleteRead):
            return ModelError(f"{self._shown} broke off its answer", "try again")
        if isinstance(error, socket.gaierror):
            return ModelError(f"there is no server for {self._shown}", "check the address and the network")
        why = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
        return ModelError(f"{self._shown} cannot be read: {one_line(why)[:200]}", "check the address and the network")


def get(
    url: str, *, headers: Mapping[str, str], credential: Credential | None = None, patience: Timeouts = PATIENCE
) -> Reply:
    """Ask for `url` and follow redirects, never from https to http. Any status is returned. Raises ModelError."""
    watch = Watch(url, patience)
    try:
        for _ in range(REDIRECTS_MAX + 1):
            connection, response = _get_once(url, headers, credential, watch, patience)
            place = response.headers.get("Location", "")
            if response.status not in _REDIRECTS or not place:
                return Reply(url, connection, response, watch)
            response.close()
            connection.close()
            url = _redirected(url, place)
    except BaseException:
        watch.stop()
        raise
    watch.stop()
    raise ModelError(f"{shown(url)} redirects more than {REDIRECTS_MAX} times", "check the address")


def shown(url: str) -> str:
    """An address for a person: without its query, which may hold a signature, and harmless on a terminal."""
    return one_line(url.partition("?")[0].partition("#")[0])


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


def _redirected(url: str, place: str) -> str:
    try:
        target = urljoin(url, place)
    except ValueError:
        target = ""
    parts = parse_url(target)
    if urlsplit(url).scheme == "https" and parts.scheme != "https":
        raise ModelError(f"{shown(url)} redirects from https to http", "such an answer cannot be trusted")
    return target


def _get_once(
    url: str, headers: Mapping[str, str], credential: Credential | None, watch: Watch, patience: Timeouts
) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    parts = parse_url(url)
    sent = {"User-Agent": "edgetop", "Accept-Encoding": "identity", "Connection": "close", **headers}
    if credential is not None and _may_see_token(parts, parse_url(credential.url)):
        sent["Authorization"] = f"Bearer {credential.token}"
    connection, target = _connection(parts, patience, sent)

    def answer() -> http.client.HTTPResponse:
        connection.connect()
        watch.over(connection.sock)
        connection.request("GET", target, headers=sent)
        return connection.getresponse()

    try:
        return connection, watch.during(answer)
    except BaseException:
        connection.close()
        raise


def _may_see_token(parts: SplitResult, owner: SplitResult) -> bool:
    same = (parts.scheme, parts.hostname, parts.port) == (owner.scheme, owner.hostname, owner.port)
    return same and (parts.scheme == "https" or is_loopback(parts.hostname or ""))


def _connection(parts: SplitResult, patience: Timeouts, sent: dict[str, str]) -> tuple[http.client.HTTPConnection, str]:
    """A connection, through the proxy of the environment if there is one, and what to ask for on it."""
    host, port, timeout = parts.hostname or "", parts.port, patience.connect_s
    target = quote(parts.path or "/", safe=_PATH_SAFE) + (f"?{parts.query}" if parts.query else "")
    proxy = _proxy(parts)
    if parts.scheme == "https":
        secure = http.client.HTTPSConnection(
            proxy.hostname or "" if proxy else host,
            proxy.port if proxy else port,
            timeout=timeout,
            context=ssl.create_default_context(),
        )
        if proxy:
            secure.set_tunnel(host, port, _proxy_authorization(proxy))
        return secure, target
    if proxy:
        sent.update(_proxy_authorization(proxy))
        return http.client.HTTPConnection(
            proxy.hostname or "", proxy.port, timeout=timeout
        ), f"http://{parts.netloc}{target}"
    return http.client.HTTPConnection(host, port, timeout=timeout), target


def _proxy(parts: SplitResult) -> SplitResult | None:
    host = parts.hostname or ""
    if is_loopback(host) or urllib.request.proxy_bypass(host):
        return None
    proxies = urllib.request.getproxies()
    named = proxies.get(parts.scheme) or proxies.get("all")
    if not named:
        return None
    proxy = urlsplit(named if "://" in named else f"http://{named}")
    if proxy.scheme != "http" or not proxy.hostname:
        raise ModelError(
            f"the proxy of the environment is of the kind {one_line(proxy.scheme)}",
            "only http:// proxies are supported",
        )
    return proxy


def _proxy_authorization(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    user = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": "Basic " + base64.b64encode(user.encode()).decode()}


TEXT_MAX = 300
"""Characters of a server's own words that are passed on."""

Cause = Literal["unreachable", "refused", "key", "missing", "loading", "context", "broken", "silent", "stopped"]


class RequestError(Exception):
    """A server did not do what it was asked for."""

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


class RequestCancelledError(RequestError):
    """The person stopped it."""

    def __init__(self) -> None:
        super().__init__("It was stopped.", cause="stopped")


def quoted(text: str) -> str:
    """A server's own words, made harmless, in one line of bounded length, without a full stop."""
    line = one_line(text[: 4 * TEXT_MAX])
    return (line if len(line) <= TEXT_MAX else f"{line[:TEXT_MAX]}...").rstrip(".")


_LOOK_MS = 20
"""How soon a stop is noticed."""

_WANT_READ = (BlockingIOError, ssl.SSLWantReadError)

_WANT_WRITE = (BlockingIOError, ssl.SSLWantWriteError)

_BUFFER_BYTES = 65536

_GATHER_BYTES_MAX = 2**20


class InterruptibleSocket(io.RawIOBase):
    """A connected socket. `stopped` is asked again and again while it waits."""

    def __init__(self, connected: socket.socket, *, stopped: Callable[[], bool], silence_s: float) -> None:
        """`silence_s` is how long the other side may send nothing, or take nothing."""
        connected.setblocking(False)
        self._socket = connected
        self._stopped = stopped
        self._silence_s = silence_s
        self._readable = select.poll()
        self._readable.register(connected, select.POLLIN)
        self._holds_back = isinstance(connected, ssl.SSLSocket)
        """Bytes may wait above the socket, where it does not know of them."""
        self._arrived: deque[tuple[int, memoryview]] = deque()
        self._failure: OSError | None = None
        """Comes after what had arrived before it."""
        self._due_us = 0
        self.gather_us = 0
        """How long what arrives may wait for more, after the last time that something was given out."""
        self.received_us = monotonic_us()
        """When the bytes that were given out last had been received."""

    @property
    def is_drained(self) -> bool:
        """Whether everything that arrived has been given out."""
        return not self._arrived

    def makefile(self, _mode: str) -> io.BufferedReader:
        """The file of the answer, as `http.client` asks for it."""
        return io.BufferedReader(self, _BUFFER_BYTES)

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Receive something; 0 at the end. Raises OSError, and ServerFailure when nothing comes or it is to stop."""
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
        """Wait until something has arrived, and for what comes until it is time to look into it."""
        if self._failure is not None:
            raise self._failure
        begin_s = time.monotonic()
        arrived, poll, receive = self._arrived, self._readable.poll, self._socket.recv
        due_us, look_us, size = self._due_us, 0, 0
        # Each token passes here, with cold caches beside a model that decodes: as few calls as can be.
        while True:
            now_us = monotonic_us()
            if arrived and (now_us >= due_us or size >= _GATHER_BYTES_MAX):
                break
            if now_us >= look_us:
                look_us = now_us + _LOOK_MS * 1000
                if self._is_to_stop(begin_s):
                    break
            wait_ms = min(_LOOK_MS, (due_us - now_us) / 1000) if arrived else _LOOK_MS
            # Most chunks have to be waited for; to find that out by trying costs more than to ask.
            if not self._holds_back and not poll(wait_ms):
                continue
            try:
                data = receive(_BUFFER_BYTES)
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

    def _is_to_stop(self, begin_s: float) -> bool:
        """Whether to wait no longer for more than has arrived. Raises Stopped, or ServerFailure, where nothing has."""
        stopped = self._stopped()
        if not self._arrived:
            if stopped:
                raise RequestCancelledError
            self._require_patience(begin_s)
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
                self._require_patience(begin_s)
                writable = select.poll()
                writable.register(self._socket, select.POLLOUT)
                writable.poll(_LOOK_MS)
            else:
                begin_s = time.monotonic()

    def close(self) -> None:
        """Called for the file of each answer; the socket is closed by `hang_up`."""

    def hang_up(self) -> None:
        """Close the connection, which also tells the server to stop."""
        self._socket.close()
        super().close()

    def _require_patience(self, begin_s: float) -> None:
        if time.monotonic() - begin_s > self._silence_s:
            raise RequestError(
                f"The server said nothing for {self._silence_s:g} s.",
                "Look whether it hangs; --server-timeout gives it longer.",
                cause="silent",
            )
