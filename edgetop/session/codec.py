"""Session files as bytes: JSON whose first line holds everything but the long parts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import structs

from edgetop.core.errors import EdgetopError
from edgetop.core.records import FORMAT_VERSION
from edgetop.core.text import one_line
from edgetop.session.file import LONG_PARTS, SessionFile, SessionHead

MESSAGE_LENGTH = 200
_SURROGATES = re.compile("[\ud800-\udfff]")
_HEAD = msgspec.json.Decoder(SessionHead)
_FILE = msgspec.json.Decoder(SessionFile)


class SessionFileError(EdgetopError):
    """A file that is not a session, or not a whole one."""


def encode_value(value: object) -> bytes:
    """JSON of anything msgspec knows. Lone surrogates, which no file can hold, become U+FFFD."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return msgspec.json.encode(_without_surrogates(msgspec.to_builtins(value)))


def encode_file(file: SessionFile | Mapping[str, Any]) -> Iterator[bytes]:
    """The bytes of a session file, in pieces. A mapping is a document with fields that the types do not know."""
    fields: Mapping[str, Any] = file if isinstance(file, Mapping) else structs.asdict(file)
    yield encode_value({name: value for name, value in fields.items() if name not in LONG_PARTS})[:-1]
    for name in LONG_PARTS:
        yield b',\n"%s":[' % name.encode("ascii")
        separator = b"\n"
        for item in fields[name]:
            yield separator + encode_value(item)
            separator = b",\n"
        yield b"]"
    yield b"}\n"


def decode_file(data: bytes) -> SessionFile:
    """The session file in `data`. Raises SessionFileError, which names the place where `data` is not one."""
    try:
        file = _FILE.decode(data)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise _explained(error, data) from None
    require_version(file)
    return file


def decode_head(line: bytes) -> SessionHead:
    """The first line of a session file, which must end with the line break. Raises SessionFileError."""
    try:
        head = _HEAD.decode(line.rstrip(b"\r\n,") + b"}")
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise _explained(error, b"") from None
    require_version(head)
    return head


def decode_document(data: bytes) -> dict[str, Any]:
    """Everything in a session file, known or not, as plain Python objects. Raises SessionFileError."""
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise _explained(error, data) from None


def carry_over(original: Any, understood: Any, changed: Any) -> Any:  # noqa: ANN401 (any JSON)
    """`changed` with what was in `original` but not `understood`, at any depth: fields of a newer edgetop.

    All three are plain Python objects of the same document: as it was read, as the types had it, and as the types
    have it now. Items of lists belong together by their index. `original` is not changed, `changed` may be.
    """
    if isinstance(original, dict) and isinstance(understood, dict) and isinstance(changed, dict):
        for name, value in original.items():
            if name not in understood:
                changed.setdefault(name, value)
            elif name in changed:
                changed[name] = carry_over(value, understood[name], changed[name])
    elif isinstance(original, list) and isinstance(understood, list) and isinstance(changed, list):
        if not (original and isinstance(original[0], dict | list)):
            return changed
        for index, (was, knew) in enumerate(zip(original, understood, strict=False)):
            if index < len(changed):
                changed[index] = carry_over(was, knew, changed[index])
    return changed


def to_document(file: SessionFile) -> dict[str, Any]:
    """What the types hold of a file, as plain Python objects."""
    return decode_document(b"".join(encode_file(file)))


def require_version(head: SessionHead) -> None:
    """Refuse a file of a newer format. Raises SessionFileError."""
    if head.version > FORMAT_VERSION or head.version < 1:
        raise SessionFileError(
            f"$.version: it is a session of format {head.version}, and this edgetop reads format {FORMAT_VERSION}",
            "a newer edgetop reads it",
        )


def _explained(error: Exception, data: bytes) -> SessionFileError:
    if isinstance(error, RecursionError):
        return SessionFileError("it is nested too deeply for a session")
    message = str(error)
    place = re.fullmatch(r"(?P<what>.*) - at `(?P<place>\$.*)`", message, re.DOTALL)
    if place is not None:
        message = f"{place['place']}: {place['what']}"
    byte = re.search(r"\(byte (\d+)\)", message)
    if byte is not None:
        line = data.count(b"\n", 0, int(byte[1])) + 1
        message = f"line {line}: {message}"
    return SessionFileError(one_line(message[:MESSAGE_LENGTH]))


def _without_surrogates(value: Any) -> Any:  # noqa: ANN401 (any JSON)
    if isinstance(value, str):
        return _SURROGATES.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_without_surrogates(name): _without_surrogates(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_surrogates(each) for each in value]
    return value
