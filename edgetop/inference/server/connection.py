"""HTTP client for model servers: their errors, JSON, SSE and NDJSON.

Only the address that the person gave is contacted: no proxy is used, and no redirect is followed.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

import msgspec

from edgetop.inference.reply import FLUSH_PERIOD_US
from edgetop.inference.server.address import Address
from edgetop.io.http import Cause, InterruptibleSocket, RequestCancelledError, RequestError, quoted

CONNECT_S = 5.0

LOOK_S = 0.02
"""How soon a stop is noticed."""

AGAIN_S = 0.5
"""How soon a server that still loads is asked again."""

PIECE_BYTES = 65536

DOCUMENT_BYTES_MAX = 16 * 2**20
"""Ollama tells the whole vocabulary of a model in one document, if it is asked to."""

ERROR_BYTES_MAX = 65536

WORDS_BYTES_MAX = 400

_USER_AGENT = "edgetop"

T = TypeVar("T")


class HttpResponse:
    """What a server answers. Use it in a `with`, which hangs up at the end."""

    def __init__(self, response: http.client.HTTPResponse, channel: InterruptibleSocket) -> None:
        self._response = response
        self._channel = channel
        self.status = response.status

    def header(self, name: str) -> str:
        """A header; empty if there is none."""
        return self._response.headers.get(name) or ""

    @property
    def received_us(self) -> int:
        """When the bytes of the last piece were received."""
        return self._channel.received_us

    @property
    def is_drained(self) -> bool:
        """Whether the last piece was all that has come so far."""
        return self._channel.is_drained

    def stream(self) -> Iterator[bytes]:
        """The body as it comes, a few pieces together, each with its stamp. Raises ServerFailure if it breaks off."""
        self._channel.gather_us = FLUSH_PERIOD_US
        yield from self.pieces()

    def pieces(self) -> Iterator[bytes]:
        """The body as it comes. Raises ServerFailure where it breaks off."""
        try:
            while piece := self._response.read1(PIECE_BYTES):
                yield piece
        except (http.client.HTTPException, OSError, ValueError) as error:
            raise _broken_off() from error
        if self._response.length:
            raise _broken_off()

    def document(self, limit: int = DOCUMENT_BYTES_MAX) -> bytes:
        """The whole body. Raises ServerFailure when it is longer than `limit` bytes."""
        body = bytearray()
        for piece in self.pieces():
            body += piece
            if len(body) > limit:
                raise RequestError(f"The server's answer is longer than {limit // 2**20} MiB.")
        return bytes(body)

    def hang_up(self) -> None:
        """Close the connection."""
        self._response.close()
        self._channel.hang_up()

    def __enter__(self) -> HttpResponse:
        return self

    def __exit__(self, *_: object) -> None:
        self.hang_up()


class HttpClient:
    """Asks one server."""

    def __init__(
        self,
        address: Address,
        *,
        key: str = "",
        silence_s: float,
        stopped: Callable[[], bool],
        on_loading: Callable[[], None] = lambda: None,
    ) -> None:
        """`stopped` is asked while waiting; `silence_s` is how long the server may say nothing.

        `on_loading` is called once if the server is found still loading its model.
        """
        self._on_loading = on_loading
        self.address = address
        self._key = key
        self._silence_s = silence_s
        self._stopped = stopped

    def ask(self, method: str, path: str, body: object = None, *, silence_s: float | None = None) -> HttpResponse:
        """Send a request and wait for the head of the answer, whatever its status. Raises ServerFailure."""
        channel = self._connect(self._silence_s if silence_s is None else silence_s)
        try:
            return self._ask(channel, method, path, body)
        except RequestError:
            channel.hang_up()
            raise
        except (http.client.HTTPException, OSError, ValueError) as error:
            channel.hang_up()
            raise self._no_answer(error) from error

    def get(self, path: str, kind: type[T], *, silence_s: float | None = None) -> T:
        """The document at a path. Raises ServerFailure, also for any status but 200."""
        with self.ask("GET", path, silence_s=silence_s) as answer:
            self.require_success(answer)
            return decode(answer.document(), kind)

    def post(self, path: str, body: object, kind: type[T], *, silence_s: float | None = None) -> T:
        """The document that answers another one. Raises ServerFailure, also for any status but 200."""
        with self.ask("POST", path, body, silence_s=silence_s) as answer:
            self.require_success(answer)
            return decode(answer.document(), kind)

    def wait_for_model(self) -> None:
        """Wait a little before a server that still loads its model is asked again. Raises Stopped."""
        on_loading, self._on_loading = self._on_loading, lambda: None
        on_loading()
        self._rest(AGAIN_S)

    def _rest(self, wait_s: float) -> None:
        end_s = time.monotonic() + wait_s
        while (remaining_s := end_s - time.monotonic()) > 0:
            if self._stopped():
                raise RequestCancelledError
            time.sleep(min(LOOK_S, remaining_s))

    def require_success(self, answer: HttpResponse) -> None:
        """Raise ServerFailure for any status but 200."""
        if answer.status == http.HTTPStatus.OK:
            return
        try:
            words = error_words(answer.document(ERROR_BYTES_MAX))
        except RequestCancelledError:
            raise
        except RequestError:
            words = ""
        raise failure_of_status(self.address, answer.status, words, answer.header)

    def _ask(self, channel: InterruptibleSocket, method: str, path: str, body: object) -> HttpResponse:
        connection = http.client.HTTPConnection(self.address.host, self.address.port)
        connection.sock = cast("socket.socket", channel)
        connection.auto_open = 0
        headers = {"User-Agent": _USER_AGENT, "Accept": "*/*", "Connection": "close"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        data = None
        if body is not None:
            data = json.dumps(body).encode("ascii")
            headers["Content-Type"] = "application/json"
        connection.request(method, self.address.prefix + path, body=data, headers=headers)
        return HttpResponse(connection.getresponse(), channel)

    def _connect(self, silence_s: float) -> InterruptibleSocket:
        address = self.address
        connected = None
        try:
            connected = socket.create_connection((address.host, address.port), CONNECT_S)
            with contextlib.suppress(OSError):
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if address.scheme == "https":
                connected = ssl.create_default_context().wrap_socket(connected, server_hostname=address.host)
        except ssl.SSLCertVerificationError as error:
            self._close(connected)
            words = quoted(error.verify_message)
            raise self._unreachable(
                f"its certificate is not trusted: {words}", "Name its CA in SSL_CERT_FILE."
            ) from error
        except socket.gaierror as error:
            raise self._unreachable("there is no host of that name", "Check the address after --server.") from error
        except ConnectionRefusedError as error:
            raise self._unreachable("nobody listens there", "Start the server, or check the port.") from error
        except TimeoutError as error:
            self._close(connected)
            reason = f"it does not answer within {CONNECT_S:g} s"
            raise self._unreachable(reason, "Check the address, and whether the machine is on.") from error
        except (OSError, ValueError) as error:
            self._close(connected)
            words = quoted(getattr(error, "strerror", None) or str(error))
            raise self._unreachable(words, "Check the address after --server.") from error
        return InterruptibleSocket(connected, stopped=self._stopped, silence_s=silence_s)

    @staticmethod
    def _close(connected: socket.socket | None) -> None:
        if connected is not None:
            connected.close()

    def _unreachable(self, why: str, hint: str) -> RequestError:
        return RequestError(f"The server at {self.address} cannot be reached: {why}.", hint, cause="unreachable")

    def _no_answer(self, error: Exception) -> RequestError:
        if isinstance(error, http.client.RemoteDisconnected | ConnectionError):
            return RequestError(
                f"The server at {self.address} hung up without an answer.", "Look into its log.", cause="unreachable"
            )
        return RequestError(
            f"What listens at {self.address} does not speak HTTP.", "Check the address after --server.", cause="refused"
        )


def decode(data: bytes, kind: type[T]) -> T:
    """A document of a kind. Raises ServerFailure where it is none."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        pass
    # A second, slower look: half a surrogate pair or a broken character is no reason to give a reply up.
    try:
        return msgspec.convert(json.loads(data.decode("utf-8", "replace")), kind)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        start = quoted(data[:80].decode("utf-8", "replace"))
        raise RequestError(
            f"The server sent what cannot be read: {start}.", "Is it the kind of server that --server-kind says?"
        ) from None


class _ErrorObject(msgspec.Struct):
    message: object = None
    n_ctx: object = None
    type: object = None


class _ErrorDocument(msgspec.Struct):
    error: _ErrorObject | str | None = None
    message: object = None
    detail: object = None


def error_words(data: bytes) -> str:
    """What a server says of an error, in the forms that servers have for it; else the beginning of its answer."""
    try:
        document = decode(data, _ErrorDocument)
    except RequestError:
        return quoted(data[:WORDS_BYTES_MAX].decode("utf-8", "replace"))
    error: Any = document.error
    words = error.message if isinstance(error, _ErrorObject) else error
    return quoted(str(words or document.message or document.detail or ""))


_CONTEXT_WORDS = ("exceed_context", "context size", "context length", "maximum context", "context window", "n_ctx")


def is_of_context(words: str) -> bool:
    """Whether an error says that the conversation is too long."""
    lower = words.lower()
    return any(word in lower for word in _CONTEXT_WORDS)


def failure_of_status(address: Address, status: int, words: str, header: Callable[[str], str]) -> RequestError:
    """What a status other than 200 means for a person."""
    told = f": {words}." if words else "."
    if 300 <= status < 400:
        to = quoted(header("Location"))
        return RequestError(
            f"The server at {address} sends us on to {to or 'another address'}, which nobody asked for.",
            "Give that address to --server if it is what you mean.",
            cause="refused",
        )
    what, hint, cause = _meaning(address, status, words, header("Retry-After"))
    return RequestError(f"{what}{told}", hint, cause=cause)


def _meaning(address: Address, status: int, words: str, retry_after: str) -> tuple[str, str, Cause]:
    if status in {400, 413, 422} and is_of_context(words):
        hint = "Clear it, or start the server with a longer context."
        return "The conversation does not fit the server's context", hint, "context"
    if status in {401, 403}:
        hint = "Put its key into EDGETOP_SERVER_KEY, or name a file that holds it with --server-key-file."
        return f"The server at {address} wants another key ({status})", hint, "key"
    if status == 404:
        hint = "Choose one of its models with --model (`edgetop models --server URL` lists them)."
        return f"The server at {address} does not have it (404)", hint, "missing"
    if status == 503 and not retry_after:
        return "The server is not ready (503)", "Wait until it has loaded its model.", "loading"
    if status in {429, 503}:
        when = f"in {retry_after} s" if retry_after.isdecimal() and len(retry_after) < 6 else "later"
        return f"The server takes no more requests now ({status})", f"Try again {when}.", "refused"
    return (
        f"The server answered with an error ({status})",
        "Look into its log.",
        "broken" if status >= 500 else "refused",
    )


def _broken_off() -> RequestError:
    return RequestError(
        "The connection to the server broke off in the middle of its answer.", "Look whether it still runs."
    )


LINE_BYTES_MAX = 4 * 2**20
"""A chunk of a reply is far below a kilobyte; a list of log-probabilities may make it some more."""


class LineSplitter:
    """Cuts a stream into lines that end with LF, CR or CR LF."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._after_cr = False

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` ends, without their ends. Raises ServerFailure for one that does not end."""
        if self._after_cr and data:
            self._after_cr = False
            data = data.removeprefix(b"\n")
        if data.endswith(b"\r"):
            self._after_cr = True
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if b"\n" not in data:
            self._keep(data)
            return []
        first, *others = data.split(b"\n")
        lines = [bytes(self._rest) + first, *others[:-1]]
        self._rest.clear()
        self._keep(others[-1])
        return lines

    def finish(self) -> bytes:
        """The last line, where the stream ended without an end of line."""
        rest = bytes(self._rest)
        self._rest.clear()
        return rest

    def _keep(self, data: bytes) -> None:
        self._rest += data
        if len(self._rest) > LINE_BYTES_MAX:
            raise RequestError(f"The server sent a line of more than {LINE_BYTES_MAX // 2**20} MiB.")


class NdjsonReader:
    """The documents of a stream that has one in each line."""

    def __init__(self) -> None:
        self._lines = LineSplitter()

    def feed(self, data: bytes) -> list[bytes]:
        """The documents that `data` completes."""
        return [line for line in self._lines.feed(data) if line.strip()]

    def finish(self) -> list[bytes]:
        """What the end of the stream completes."""
        rest = self._lines.finish()
        return [rest] if rest.strip() else []


class SseReader:
    """The data of server-sent events (WHATWG HTML, section 9.2.6), comments and all other fields left out.

    An event that the end of the stream cuts off is given out too: some servers leave out the last empty line.
    """

    def __init__(self) -> None:
        self._lines = LineSplitter()
        self._data: list[bytes] = []
        self._size = 0
        self._first = True

    def feed(self, data: bytes) -> list[bytes]:
        """The data of the events that `data` completes."""
        events = []
        for line in self._lines.feed(data):
            if self._first:
                self._first = False
                line = line.removeprefix(b"\xef\xbb\xbf")  # noqa: PLW2901 - a byte order mark is no part of the line
            if not line:
                events += self._take()
            elif line.startswith(b"data:"):
                self._add(line[5:].removeprefix(b" "))
            elif line == b"data":
                self._add(b"")
        return events

    def finish(self) -> list[bytes]:
        """What the end of the stream completes."""
        rest = self._lines.finish()
        if rest.startswith(b"data:"):
            self._add(rest[5:].removeprefix(b" "))
        return self._take()

    def _add(self, data: bytes) -> None:
        self._data.append(data)
        self._size += len(data) + 1
        if self._size > LINE_BYTES_MAX:
            raise RequestError(f"The server sent an event of more than {LINE_BYTES_MAX // 2**20} MiB.")

    def _take(self) -> list[bytes]:
        data, self._data, self._size = b"\n".join(self._data), [], 0
        return [data] if data else []


class DocumentReader:
    """The one document that a whole answer is."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Nothing is complete before the end."""
        self._data += data
        if len(self._data) > LINE_BYTES_MAX:
            raise RequestError(f"The server sent a document of more than {LINE_BYTES_MAX // 2**20} MiB.")
        return []

    def finish(self) -> list[bytes]:
        """What the end of the stream completes."""
        data = bytes(self._data)
        self._data.clear()
        return [data] if data.strip() else []
