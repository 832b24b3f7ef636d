"""One HTTP GET: redirects, proxies, time limits, and a token that goes to one host only.

urllib's own opener follows redirects with every header, the token among them, and knows no limit for the whole request.
"""

from __future__ import annotations

import base64
import http.client
import ipaddress
import socket
import ssl
import threading
import urllib.request
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TypeVar
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

from msgspec import Struct

from edgetop.core.errors import ModelError
from edgetop.core.text import one_line

REDIRECTS_MAX = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PATH_SAFE = "/%:@!$&'()*+,;=~"
_T = TypeVar("_T")


class Patience(Struct, frozen=True):
    """How long to wait for a server, in seconds."""

    connect_s: float = 15.0
    idle_s: float = 20.0
    """Without a byte from it."""
    total_s: float = 120.0
    """For the whole of one request, however steadily it drips."""


PATIENCE = Patience()


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

    def __init__(self, url: str, patience: Patience) -> None:
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
    url: str, *, headers: Mapping[str, str], credential: Credential | None = None, patience: Patience = PATIENCE
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
    url: str, headers: Mapping[str, str], credential: Credential | None, watch: Watch, patience: Patience
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


def _connection(parts: SplitResult, patience: Patience, sent: dict[str, str]) -> tuple[http.client.HTTPConnection, str]:
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
