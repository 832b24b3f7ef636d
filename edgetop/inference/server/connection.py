"""HTTP client for model servers: their errors, JSON, SSE and NDJSON.

Only the address that the user gave is contacted: no proxy is used, and no redirect is followed.
"""

from __future__ import annotations

import http
import json
import math
import time
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from edgetop.inference.server.address import Address
from edgetop.io.http import Cause, HttpResponse, RequestCancelledError, RequestError, Timeouts, quoted, send

CONNECT_S = 5.0

STOP_CHECK_S = 0.02
"""How soon a stop is noticed."""

RETRY_S = 0.5
"""How soon a server that still loads is asked again."""

DOCUMENT_BYTES_MAX = 16 * 2**20
"""Ollama returns the whole vocabulary of a model in one document, if it is asked to."""

ERROR_BYTES_MAX = 65536

ERROR_START_BYTES = 400

T = TypeVar("T")


class ServerClient:
    """Sends requests to one server."""

    def __init__(
        self,
        address: Address,
        *,
        key: str = "",
        idle_s: float,
        stopped: Callable[[], bool],
        on_loading: Callable[[], None] = lambda: None,
    ) -> None:
        """`stopped` is checked while waiting; `idle_s` is how long the server may send nothing.

        `on_loading` is called once if the server is found still loading its model.
        """
        self.address = address
        self._key = key
        self._idle_s = idle_s
        self._stopped = stopped
        self._on_loading = on_loading

    def request(self, method: str, path: str, body: object = None, *, idle_s: float | None = None) -> HttpResponse:
        """Send a request and wait for the head of the answer, whatever its status. Raises RequestError."""
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        if body is not None:
            headers["Content-Type"] = "application/json"
        return send(
            method,
            f"{self.address}{path}",
            where=f"the server at {self.address}",
            headers=headers,
            body=None if body is None else json.dumps(body).encode("ascii"),
            timeouts=Timeouts(CONNECT_S, self._idle_s if idle_s is None else idle_s, math.inf),
            stopped=self._stopped,
            idle_hint="Check whether it hangs; --server-timeout sets how long to wait.",
        )

    def get(self, path: str, kind: type[T]) -> T:
        """The document at a path. Raises RequestError, also for any status but 200."""
        return self._document("GET", path, None, kind, None)

    def post(self, path: str, body: object, kind: type[T], *, idle_s: float | None = None) -> T:
        """The document that answers another one. Raises RequestError, also for any status but 200."""
        return self._document("POST", path, body, kind, idle_s)

    def _document(self, method: str, path: str, body: object, kind: type[T], idle_s: float | None) -> T:
        with self.request(method, path, body, idle_s=idle_s) as response:
            self.raise_for_status(response)
            return decode(response.read_all(DOCUMENT_BYTES_MAX), kind)

    def wait_for_model(self) -> None:
        """Wait a little before a server that still loads its model is asked again. Raises RequestCancelledError."""
        on_loading, self._on_loading = self._on_loading, lambda: None
        on_loading()
        end_s = time.monotonic() + RETRY_S
        while (remaining_s := end_s - time.monotonic()) > 0:
            if self._stopped():
                raise RequestCancelledError
            time.sleep(min(STOP_CHECK_S, remaining_s))

    def raise_for_status(self, response: HttpResponse) -> None:
        """Raise RequestError for any status but 200."""
        if response.status == http.HTTPStatus.OK:
            return
        try:
            words = error_words(response.read_all(ERROR_BYTES_MAX))
        except RequestCancelledError:
            raise
        except RequestError:
            words = ""
        raise error_of_status(self.address, response.status, words, response.header)


def decode(data: bytes, kind: type[T]) -> T:
    """A document of a kind. Raises RequestError where it is none."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        pass
    # A second, slower try: half a surrogate pair or a broken character is no reason to drop a reply.
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
    """The message of an error document, in the forms that servers use; else the beginning of the answer."""
    try:
        document = decode(data, _ErrorDocument)
    except RequestError:
        return quoted(data[:ERROR_START_BYTES].decode("utf-8", "replace"))
    error: Any = document.error
    words = error.message if isinstance(error, _ErrorObject) else error
    return quoted(str(words or document.message or document.detail or ""))


_CONTEXT_WORDS = ("exceed_context", "context size", "context length", "maximum context", "context window", "n_ctx")


def is_context_error(words: str) -> bool:
    """Whether an error says that the conversation is too long."""
    lower = words.lower()
    return any(word in lower for word in _CONTEXT_WORDS)


def error_of_status(address: Address, status: int, words: str, header: Callable[[str], str]) -> RequestError:
    """What a status other than 200 means."""
    quote = f": {words}." if words else "."
    if 300 <= status < 400:
        to = quoted(header("Location"))
        return RequestError(
            f"The server at {address} redirects to {to or 'another address'}; redirects are not followed.",
            "Give that address to --server if it is the right one.",
            cause="refused",
        )
    what, hint, cause = _meaning(address, status, words, header("Retry-After"))
    return RequestError(f"{what}{quote}", hint, cause=cause)


def _meaning(address: Address, status: int, words: str, retry_after: str) -> tuple[str, str, Cause]:
    if status in {400, 413, 422} and is_context_error(words):
        hint = "Clear it, or start the server with a longer context."
        return "The conversation does not fit the server's context", hint, "context"
    if status in {401, 403}:
        hint = "Put its key into EDGETOP_SERVER_KEY, or name a file that holds it with --server-key-file."
        return f"The server at {address} does not accept the key ({status})", hint, "key"
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
        "Check its log.",
        "broken" if status >= 500 else "refused",
    )


LINE_BYTES_MAX = 4 * 2**20
"""A chunk of a reply is far below a kilobyte; a list of log-probabilities may make it some more."""


class LineSplitter:
    """Cuts a stream into lines that end with LF, CR or CR LF."""

    def __init__(self) -> None:
        self._partial = bytearray()
        self._after_cr = False

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` ends, without their ends. Raises RequestError for one that does not end."""
        if self._after_cr and data:
            self._after_cr = False
            data = data.removeprefix(b"\n")
        if data.endswith(b"\r"):
            self._after_cr = True
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if b"\n" not in data:
            self._append(data)
            return []
        first, *others = data.split(b"\n")
        lines = [bytes(self._partial) + first, *others[:-1]]
        self._partial.clear()
        self._append(others[-1])
        return lines

    def finish(self) -> bytes:
        """The last line, where the stream ended without an end of line."""
        rest = bytes(self._partial)
        self._partial.clear()
        return rest

    def _append(self, data: bytes) -> None:
        self._partial += data
        if len(self._partial) > LINE_BYTES_MAX:
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
        return [line for line in (self._lines.finish(),) if line.strip()]


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
