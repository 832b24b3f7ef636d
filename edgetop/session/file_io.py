"""Session files as bytes on disk; rewriting keeps unknown fields."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import structs

from edgetop.core.errors import EdgetopError
from edgetop.core.records import FORMAT_VERSION, number_problems
from edgetop.core.text import one_line
from edgetop.io import json
from edgetop.io.files import changing, write_atomically
from edgetop.session.file import LONG_PARTS, SessionFile, SessionHead, to_file, to_session, with_current_names
from edgetop.session.session import Session

MESSAGE_LENGTH = 200
DEEPEST = 100
"""Brackets in brackets; a session has about ten."""

LINE_BREAK = b"\n"
_MARKS = re.compile(rb'["\\\[\]{}]')

TITLE_CHARACTERS = 200
_FIRST_PROMPT = re.compile(
    rb'(?:"\w+":\[\],\n)*"turns":\[\n\{"turn":\d+,"prompt":"((?:[^"\\]|\\.){0,%d})' % (4 * TITLE_CHARACTERS), re.DOTALL
)

_HEAD = msgspec.json.Decoder(SessionHead)
_FILE = msgspec.json.Decoder(SessionFile)


class SessionFileError(EdgetopError):
    """A file that is not a session, or not a whole one."""


def encode_file(file: SessionFile | Mapping[str, Any]) -> Iterator[bytes]:
    """The bytes of a session file, in pieces. A mapping is a document with fields that the types do not know."""
    fields: Mapping[str, Any] = file if isinstance(file, Mapping) else structs.asdict(file)
    yield json.encode({name: value for name, value in fields.items() if name not in LONG_PARTS})[:-1]
    for name in LONG_PARTS:
        yield b',\n"%s":[' % name.encode("ascii")
        separator = b"\n"
        for item in fields[name]:
            yield separator + json.encode(item)
            separator = b",\n"
        yield b"]"
    yield b"}\n"


def decode_file(data: bytes) -> SessionFile:
    """The session file in `data`. Raises SessionFileError, which names the place where `data` is not one."""
    try:
        file = _FILE.decode(with_current_names(data))
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise _explained(error, data) from None
    require_version(file)
    return file


def decode_head(line: bytes) -> SessionHead:
    """The first line of a session file, which must end with the line break. Raises SessionFileError."""
    try:
        head = _HEAD.decode(with_current_names(line.rstrip(b"\r\n,") + b"}"))
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise _explained(error, line) from None
    require_version(head)
    return head


def decode_document(data: bytes) -> dict[str, Any]:
    """Everything in a session file, known or not, as plain Python objects. Raises SessionFileError."""
    try:
        return msgspec.json.decode(with_current_names(data), type=dict[str, Any])
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
        shown = str(head.version)[:20]
        raise SessionFileError(
            f"$.version: it is a session of format {shown}, and this edgetop reads format {FORMAT_VERSION}",
            "a newer edgetop reads it",
        )


def _explained(error: Exception, data: bytes) -> SessionFileError:
    """The error in one line that begins with the place: a path from the root `$`, a line, or an offset in bytes."""
    message = str(error)
    if isinstance(error, RecursionError):
        message = f"byte {_too_deep_at(data)}: it is nested too deeply for a session"
    elif isinstance(error, UnicodeDecodeError):
        message = f"byte {_not_utf8_at(data)}: it is not UTF-8"
    elif (found := re.fullmatch(r"(?P<what>.*) - at `(?P<place>\$.*)`", message, re.DOTALL)) is not None:
        message = f"{found['place']}: {found['what']}"
    elif (byte := re.search(r"\(byte (\d+)\)", message)) is not None:
        message = f"line {data.count(LINE_BREAK, 0, int(byte[1])) + 1}: {message}"
    elif "truncated" in message:
        message = f"byte {len(data)}: {message}"
    else:
        message = f"$: {message}"
    return SessionFileError(one_line(message[:MESSAGE_LENGTH]))


def _not_utf8_at(data: bytes) -> int:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return error.start
    return 0


def _too_deep_at(data: bytes) -> int:
    """Where the brackets that are open become more than any session has."""
    depth, after = 0, 0
    in_text = False
    for found in _MARKS.finditer(data):
        mark, at = found[0], found.start()
        if at < after:
            continue
        if mark == b"\\":
            after = at + 2
        elif mark == b'"':
            in_text = not in_text
        elif not in_text:
            depth += 1 if mark in b"[{" else -1
        if depth > DEEPEST:
            return at
    return 0


Head = TypeVar("Head", bound=SessionHead)
LARGEST_FILE_BYTES = 2**30
"""More than four days at ten samples a second in ten channels; what is larger is not read."""

USUAL_HEAD_BYTES, LONGEST_HEAD_BYTES = 16 * 2**10, 256 * 2**10
"""The first line of a session has some kilobytes; of a file without one, the whole is read."""


def load(path: Path) -> Session:
    """The session in a file. Raises SessionFileError, one line that names the file and the place in it."""
    file = load_file(path)
    try:
        return to_session(file)
    except ValueError as error:
        raise SessionFileError(f"{path}: {one_line(str(error)[:MESSAGE_LENGTH])}") from None


def load_file(path: Path) -> SessionFile:
    """A session file as its types. Raises SessionFileError."""
    try:
        return decode_file(read_bytes(path))
    except SessionFileError as error:
        raise _at(path, error) from None


def load_head(path: Path) -> SessionHead:
    """Everything of a session file but its long parts. Raises SessionFileError."""
    return load_titled(path)[0]


def load_titled(path: Path) -> tuple[SessionHead, str]:
    """The head of a session file, and the beginning of its first prompt; empty where there is none.

    Raises SessionFileError.
    """
    try:
        with _open_regular(path) as fd:
            data = os.read(fd, USUAL_HEAD_BYTES)
            if b"\n" not in data:
                data += os.read(fd, LONGEST_HEAD_BYTES)
            line, line_break, rest = data.partition(b"\n")
    except OSError as error:
        raise SessionFileError(f"{path}: {error.strerror}") from None
    except SessionFileError as error:
        raise _at(path, error) from None
    if line_break and line.endswith(b","):
        with suppress(SessionFileError):
            return _sound(path, decode_head(line)), _first_prompt(rest)
    file = _sound(path, load_file(path))
    return file, ((file.turns[0].prompt or "") if file.turns else "")[:TITLE_CHARACTERS]


def _first_prompt(rest: bytes) -> str:
    """The beginning of the first turn's prompt, which stands at the beginning of what follows the head."""
    found = _FIRST_PROMPT.match(rest)
    if found is None:
        return ""
    # A longer prompt is cut within a character or an escape at the worst, which is then left out.
    text = found[1]
    for end in range(len(text), max(0, len(text) - len("\\ud83d\\ude00")), -1):
        with suppress(msgspec.MsgspecError, ValueError):
            return msgspec.json.decode(b'"' + text[:end] + b'"', type=str)[:TITLE_CHARACTERS]
    return ""


def _sound(path: Path, head: Head) -> Head:
    for problem in number_problems(head):
        raise SessionFileError(f"{path}: {one_line(problem[:MESSAGE_LENGTH])}")
    return head


def save(path: Path, session: Session, *, labels: SessionHead | None = None) -> None:
    """Write a session to a file, with the tags and the note of `labels`. Raises OSError."""
    file = to_file(session)
    if labels is not None:
        file = structs.replace(file, tags=labels.tags, notes=labels.notes)
    write_atomically(path, encode_file(file))


def rewrite(path: Path, change: Callable[[SessionFile], SessionFile]) -> None:
    """Change a session file and keep what a newer edgetop wrote into it. Raises SessionFileError or OSError.

    `change` is given the file as it is, while no other edgetop changes it; the same file back leaves it as it is.
    """
    with changing(path.parent):
        try:
            data = read_bytes(path)
            file = decode_file(data)
            original = decode_document(data)
        except SessionFileError as error:
            raise _at(path, error) from None
        changed = change(file)
        if changed is not file:
            document = carry_over(original, to_document(file), to_document(changed))
            write_atomically(path, encode_file(document))


def read_bytes(path: Path) -> bytes:
    """The bytes of a session file. Raises SessionFileError if there is none or it is larger than any session."""
    try:
        with _open_regular(path) as fd:
            size_bytes = os.fstat(fd).st_size
            if size_bytes > LARGEST_FILE_BYTES:
                raise SessionFileError(f"it has {size_bytes / 2**20:.0f} MiB, more than any session")
            with os.fdopen(os.dup(fd), "rb") as file:
                return file.read(LARGEST_FILE_BYTES)
    except OSError as error:
        raise SessionFileError(error.strerror or "it cannot be read") from None


@contextmanager
def _open_regular(path: Path) -> Iterator[int]:
    """A descriptor of a regular file. Raises SessionFileError for a pipe or a device, which may never end."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise SessionFileError("it is not a regular file")
        yield fd
    finally:
        os.close(fd)


def _at(path: Path, error: SessionFileError) -> SessionFileError:
    return SessionFileError(f"{path}: {error.what}", error.hint)
