"""HTTP client for model servers: their errors, JSON, SSE and NDJSON; what they say is checked before it is believed.

Only the address that the user gave is contacted: no proxy is used, and no redirect is followed.
"""

from __future__ import annotations

import http
import json
import math
import time
from collections.abc import Callable
from types import UnionType
from typing import Annotated, Any, Final, TypeVar, Union, cast, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

from edgetop.core.records import TOKENS_MAX
from edgetop.inference.server.address import Address
from edgetop.io.http import Cause, HttpResponse, RequestCancelledError, RequestError, Timeouts, quoted, send

T = TypeVar("T")

Count = Annotated[int, Meta(ge=0, le=TOKENS_MAX)]
"""Tokens of one answer, prompt or context."""

Total = Annotated[int, Meta(ge=0, le=2**53)]
"""Tokens since a server was started, parameters, bytes."""

Milliseconds = Annotated[float, Meta(ge=0, le=1e9)]
"""At most eleven days: a reply on a slow device takes hours."""

Nanoseconds = Annotated[int, Meta(ge=0, le=10**15)]

Rate = Annotated[float, Meta(ge=0, le=1e6)]
"""Per second."""

Note = Callable[[str], None]
"""Takes a sentence about something that was left out."""

NAME_CHARACTERS: Final = 200
"""Of a name that is shown or recorded; what is longer is cut."""

_SHOWN_CHARACTERS = 40
_WHOLE_DIGITS = 20


class UnreadableError(RequestError):
    """What came is no document of the kind that it should be."""

    def __init__(self, data: bytes) -> None:
        start = quoted(data[:80].decode("utf-8", "replace"))
        hint = "Is it the kind of server that --server-kind says?"
        super().__init__(f"The server sent what cannot be read: {start}.", hint)


def ignore_note(_note: str) -> None:
    """For where nobody would read a note."""


def decode(data: bytes, kind: type[T], note: Note = ignore_note) -> T:
    """A document of a kind, its odd fields left out. Raises UnreadableError where it is none."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        pass
    # A second, slower try: half a surrogate pair, NaN or one odd field.
    try:
        document = json.loads(data.decode("utf-8", "replace"), parse_int=_whole)
        return cast("T", _kept(document, kind, "", note))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise UnreadableError(data) from None


def _whole(digits: str) -> int | float:
    """A whole number; one of more digits than any has is as good as none."""
    return int(digits) if len(digits) <= _WHOLE_DIGITS else math.inf


def _kept(value: object, kind: Any, place: str, note: Note) -> object:  # noqa: ANN401 - a type, or a form of typing
    """What of a value is of a kind. Raises ValidationError or ValueError where nothing is."""
    try:
        kept: object = msgspec.convert(value, kind)
    except (msgspec.MsgspecError, ValueError):
        pass
    else:
        if not isinstance(kept, float) or math.isfinite(kept):
            return kept
        raise ValueError
    for each in get_args(kind) if get_origin(kind) in {Union, UnionType} else (kind,):
        if isinstance(value, dict) and isinstance(each, type) and issubclass(each, Struct):
            return _struct(value, each, place, note)
        if isinstance(value, list) and get_origin(each) is list:
            return _list(value, get_args(each)[0], place, note)
    if isinstance(value, float) and value.is_integer():
        return cast("object", msgspec.convert(int(value), kind))
    raise ValueError


def _struct(value: dict[str, object], kind: type[Struct], place: str, note: Note) -> Struct:
    kept = {}
    for field in msgspec.structs.fields(kind):
        if field.encode_name not in value:
            continue
        given, inner = value[field.encode_name], f"{place}.{field.encode_name}".lstrip(".")
        try:
            kept[field.name] = _kept(given, field.type, inner, note)
        except (msgspec.MsgspecError, ValueError):
            if given is not None:
                note(f"The server's {inner} was left out: {_shown(given)} cannot be.")
    try:
        return kind(**kept)
    except TypeError:
        raise ValueError from None


def _list(values: list[object], kind: Any, place: str, note: Note) -> list[object]:  # noqa: ANN401 - the same
    kept = []
    for number, value in enumerate(values):
        try:
            kept.append(_kept(value, kind, f"{place}[{number}]", note))
        except (msgspec.MsgspecError, ValueError):
            note(f"The server's {place}[{number}] was left out: {_shown(value)} cannot be.")
    return kept


def _shown(value: object) -> str:
    return quoted(repr(value)[:_SHOWN_CHARACTERS])


def named(name: str) -> str:
    """A name as it is shown and recorded."""
    return name if len(name) <= NAME_CHARACTERS else f"{name[: NAME_CHARACTERS - 3]}..."


def with_short_names(value: T) -> T:
    """The same with every text cut to the length of a name. Goes through structs, tuples and mappings."""
    match value:
        case str():
            return cast("T", named(value))
        case Struct():
            given = {name: getattr(value, name) for name in value.__struct_fields__}
            short = {name: with_short_names(each) for name, each in given.items()}
            changed = {name: each for name, each in short.items() if each is not given[name]}
            return cast("T", msgspec.structs.replace(value, **changed)) if changed else value
        case tuple():
            shorter = tuple(map(with_short_names, value))
            return cast("T", shorter) if any(a is not b for a, b in zip(shorter, value, strict=True)) else value
        case dict():
            return cast("T", {named(name): with_short_names(each) for name, each in value.items()})
    return value


def text_in(content: object, note: Note) -> str:
    """The text of a message's content, which is a text or a list of parts."""
    match content:
        case None:
            return ""
        case str():
            return content
        case list():
            return "".join(text_in(part, note) for part in content)
        case {"text": str() as text}:
            return text
    note(f"The server sent content that is no text: {_shown(content)}.")
    return ""


CONNECT_S = 5.0

DOCUMENT_S = 30.0
"""How long a document may take, once the server has been waited for."""

STOP_CHECK_S = 0.02
"""How soon a stop is noticed."""

RETRY_S = 0.5
"""How soon a server that still loads is asked again."""

DOCUMENT_BYTES_MAX = 16 * 2**20
"""Ollama returns the whole vocabulary of a model in one document, if it is asked to."""

ERROR_BYTES_MAX = 65536

NOTES_MAX = 5
"""Things that were left out which are named."""

ERROR_START_BYTES = 400


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
        self.idle_s = idle_s
        self._stopped = stopped
        self._on_loading = on_loading
        self.answered = False
        """Set when an answer begins."""
        self.notes: list[str] = []
        """What was left out of documents."""

    def request(
        self, method: str, path: str, body: object = None, *, idle_s: float | None = None, is_reply: bool = False
    ) -> HttpResponse:
        """Send a request and wait for the head of the answer, whatever its status. Raises RequestError.

        A reply takes as long as it takes; anything else has a time for all of it.
        """
        idle_s = self.idle_s if idle_s is None else idle_s
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        if body is not None:
            headers["Content-Type"] = "application/json"
        answer = send(
            method,
            f"{self.address.url}{path}",
            where=f"the server at {self.address}",
            headers=headers,
            body=None if body is None else json.dumps(body).encode("ascii"),
            timeouts=Timeouts(CONNECT_S, idle_s, math.inf if is_reply else idle_s + DOCUMENT_S),
            stopped=self._stopped,
            idle_hint="Check whether it hangs; --server-timeout sets how long to wait.",
        )
        self.answered = True
        return answer

    def get(self, path: str, kind: type[T]) -> T:
        """The document at a path. Raises RequestError, also for any status but 200."""
        return self._document("GET", path, None, kind, None)

    def post(self, path: str, body: object, kind: type[T], *, idle_s: float | None = None) -> T:
        """The document that answers another one. Raises RequestError, also for any status but 200."""
        return self._document("POST", path, body, kind, idle_s)

    def _document(self, method: str, path: str, body: object, kind: type[T], idle_s: float | None) -> T:
        with self.request(method, path, body, idle_s=idle_s) as response:
            self.raise_for_status(response)
            return decode(response.read_all(DOCUMENT_BYTES_MAX), kind, self._note)

    def _note(self, text: str) -> None:
        if len(self.notes) < NOTES_MAX and text not in self.notes:
            self.notes.append(text)

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
        raise error_of_status(self.address, response.status, words, response.header, with_key=bool(self._key))


def error_words(data: bytes) -> str:
    """The message of an error document, in the forms that servers use; else the beginning of the answer."""
    try:
        document = decode(data, object)
    except RequestError:
        document = None
    words = _words(document)
    if not words and document not in ({}, []):
        words = data[:ERROR_START_BYTES].decode("utf-8", "replace")
    if isinstance(document, dict) and isinstance(where := document.get("signin_url"), str):
        words = f"{words}; sign in at {where}"
    return quoted(words)


_ERRORS_DEEP = 4
_ERROR_NAMES = ("error", "message", "detail", "msg")


def _words(document: object, deep: int = _ERRORS_DEEP) -> str:
    match document:
        case str():
            return document
        case dict() if deep:
            return next((words for name in _ERROR_NAMES if (words := _words(document.get(name), deep - 1))), "")
        case list() if deep:
            return "; ".join(filter(None, (_words(each, deep - 1) for each in document[:3])))
    return ""


_CONTEXT_WORDS = ("exceed_context", "context size", "context length", "maximum context", "context window", "n_ctx")


def is_context_error(words: str) -> bool:
    """Whether an error says that the conversation is too long."""
    lower = words.lower()
    return any(word in lower for word in _CONTEXT_WORDS)


def error_of_status(
    address: Address, status: int, words: str, header: Callable[[str], str], *, with_key: bool = False
) -> RequestError:
    """What a status other than 200 means."""
    quote = f": {words}." if words else "."
    if 300 <= status < 400:
        to = quoted(header("Location"))
        return RequestError(
            f"The server at {address} redirects to {to or 'another address'}; redirects are not followed.",
            "Give that address to --server if it is the right one.",
            cause="refused",
        )
    what, hint, cause = _meaning(address, status, words, header("Retry-After"), with_key=with_key)
    return RequestError(f"{what}{quote}", hint, cause=cause)


def _meaning(address: Address, status: int, words: str, retry_after: str, *, with_key: bool) -> tuple[str, str, Cause]:
    if status in {400, 413, 422} and is_context_error(words):
        hint = "Clear it, or start the server with a longer context."
        return "The conversation does not fit the server's context", hint, "context"
    if status in {401, 403}:
        hint = "Put its key into EDGETOP_SERVER_KEY, or name a file that holds it with --server-key-file."
        has_key = "does not accept the key" if with_key else "needs a key"
        return f"The server at {address} {has_key} ({status})", hint, "key"
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


class JsonReader:
    """The documents of a stream that has one in each line, or one over several lines."""

    def __init__(self) -> None:
        self._lines = LineSplitter()
        self._begun: list[bytes] = []
        """Lines of a document that has not ended."""
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The documents that `data` completes."""
        return [document for line in self._lines.feed(data) for document in self._add(line)]

    def finish(self) -> list[bytes]:
        """What the end of the stream completes."""
        return [*self._add(self._lines.finish()), *self._completed()]

    def _add(self, line: bytes) -> list[bytes]:
        stripped = line.strip()
        is_whole = line[:1] == b"{" and stripped[-1:] == b"}"
        if is_whole or (not self._begun and stripped[:1] not in {b"{", b"["}):
            return [*self._completed(), *([line] if stripped else [])]
        self._begun.append(line)
        self._size += len(line) + 1
        if self._size > LINE_BYTES_MAX:
            raise RequestError(f"The server sent a document of more than {LINE_BYTES_MAX // 2**20} MiB.")
        return self._completed() if line[:1] == b"}" else []

    def _completed(self) -> list[bytes]:
        data, self._begun, self._size = b"\n".join(self._begun), [], 0
        return [data] if data.strip() else []


class SseReader:
    """The data of server-sent events (WHATWG HTML, section 9.2.6), comments and all other fields left out.

    An event that the end of the stream cuts off is given out too: some servers leave out the last empty line. What an
    event or a field of the name `error` holds is given out as an error document.
    """

    def __init__(self) -> None:
        self._lines = LineSplitter()
        self._data: list[bytes] = []
        self._size = 0
        self._is_error = False

    def feed(self, data: bytes) -> list[bytes]:
        """The data of the events that `data` completes."""
        return [event for line in self._lines.feed(data) for event in self._add(line)]

    def finish(self) -> list[bytes]:
        """What the end of the stream completes."""
        return [*self._add(self._lines.finish()), *self._completed()]

    def _add(self, line: bytes) -> list[bytes]:
        if not line:
            return self._completed()
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            # Some proxies put the mark before each line once more.
            value = value.removeprefix(b"data: ")
            self._data.append(value)
            self._size += len(value) + 1
            if self._size > LINE_BYTES_MAX:
                raise RequestError(f"The server sent an event of more than {LINE_BYTES_MAX // 2**20} MiB.")
        elif name == b"event":
            self._is_error = value.strip() == b"error"
        elif name == b"error":
            return [*self._completed(), _error_document(value)]
        return []

    def _completed(self) -> list[bytes]:
        data, self._data, self._size = b"\n".join(self._data), [], 0
        is_error, self._is_error = self._is_error, False
        if not data:
            return []
        return [_error_document(data) if is_error else data]


def _error_document(data: bytes) -> bytes:
    try:
        msgspec.json.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        data = json.dumps(data.decode("utf-8", "replace")).encode()
    return b'{"error":' + data + b"}"


_BOM = b"\xef\xbb\xbf"


class StreamReader:
    """Server-sent events or JSON documents: which of them, the first byte that is no white space says.

    The type that a server names is no help: `text/plain` and `application/json` have been seen for events.
    """

    def __init__(self) -> None:
        self._start = b""
        self._chosen: SseReader | JsonReader | None = None

    def feed(self, data: bytes) -> list[bytes]:
        """The documents that `data` completes."""
        if self._chosen is None:
            self._start = (self._start + data).lstrip()
            if len(self._start) < len(_BOM) and _BOM.startswith(self._start):
                return []
            data, self._start = self._start.removeprefix(_BOM).lstrip(), b""
            if not data:
                return []
            self._chosen = JsonReader() if data[:1] in {b"{", b"["} else SseReader()
        return self._chosen.feed(data)

    def finish(self) -> list[bytes]:
        """What the end of the stream completes."""
        return [] if self._chosen is None else self._chosen.finish()
